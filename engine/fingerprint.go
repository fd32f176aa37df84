package engine

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// fingerprint tells whether inputs are the same as before, without holding them. It is keyed with the state's own salt; inputs with
// sensitive values with a salt that is encrypted like them, since from a short secret's fingerprint the secret could be guessed. It is
// empty where there is no such salt yet and where a value is not known.
func (s *State) fingerprint(version string, inputs map[string]any) string {
	if HasUnknown(inputs) {
		return ""
	}
	if HasSensitive(inputs) {
		return s.keyed(true, version, Reveal(inputs))
	}
	return s.keyed(false, version, inputs)
}

// keyed is a fingerprint of a value that JSON can hold.
func (s *State) keyed(sensitive bool, context string, v any) string {
	salt := s.salt
	if sensitive {
		if salt = s.secretSalt(); salt == "" {
			return ""
		}
	}
	data, err := json.Marshal(v)
	if err != nil {
		return "" // a value that is no JSON is looked at every time
	}
	mac := hmac.New(sha256.New, []byte(salt))
	fmt.Fprintf(mac, "%d:%s", len(context), context)
	mac.Write(data)
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// mark is how a state holds a driver's mark: keyed, as marks of secrets are made of their values.
func (s *State) mark(inputs map[string]any, mark string) string {
	if mark == "" {
		return ""
	}
	return s.keyed(HasSensitive(inputs) || HasExternal(inputs), "mark", mark)
}

func (s *State) secretSalt() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.secret
}

// ensureSecretSalt makes the salt for sensitive values on first use. Without keys there is none: writing such values is refused.
func (s *State) ensureSecretSalt() error {
	if s.sealer == nil || s.secretSalt() != "" {
		return nil
	}
	return s.append(&entry{Op: "salt", SecretSalt: rand.Text()})
}
