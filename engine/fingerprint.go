package engine

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// fingerprint tells whether inputs are the same as before, without holding them. It is keyed with the state's own salt.
// Inputs with sensitive values have none: from a short secret's fingerprint the secret could be guessed, so such
// resources are compared by value.
func fingerprint(salt, version string, inputs map[string]any) string {
	if HasSensitive(inputs) || HasUnknown(inputs) {
		return ""
	}
	data, err := json.Marshal(inputs)
	if err != nil {
		return "" // a value that is no JSON is looked at every time
	}
	mac := hmac.New(sha256.New, []byte(salt))
	fmt.Fprintf(mac, "%d:%s", len(version), version)
	mac.Write(data)
	return hex.EncodeToString(mac.Sum(nil)[:16])
}
