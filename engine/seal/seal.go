// Package seal encrypts the sensitive values of a state with age, to one or more recipients, so that a team and its CI can
// read one state. It must not know what the values are.
package seal

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"filippo.io/age"
)

// MaxValue is the size of the largest value, in bytes.
const MaxValue = 32 << 20

// Keys are what values are encrypted to and decrypted with. They implement engine.Sealer.
type Keys struct {
	recipients []age.Recipient
	names      []string
	identities []age.Identity

	mu     sync.Mutex
	fresh  *dataKey            // what this process encrypts with, nil before the first value
	opened map[string]*dataKey // by their wrapped form, so that each is unwrapped once
}

// New takes recipients in age's form (age1...) and identities (AGE-SECRET-KEY-1...). Without recipients it encrypts to the
// identities' own. Without identities it can only encrypt.
func New(recipients, identities []string) (*Keys, error) {
	k := &Keys{}
	for _, text := range identities {
		id, err := age.ParseX25519Identity(strings.TrimSpace(text))
		if err != nil {
			return nil, errors.New("an identity is no age secret key (AGE-SECRET-KEY-1...)") // the error would show it
		}
		k.identities = append(k.identities, id)
		if len(recipients) == 0 {
			k.add(id.Recipient())
		}
	}
	for _, text := range recipients {
		r, err := age.ParseX25519Recipient(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("the recipient %q is no age public key (age1...): %w", text, err)
		}
		k.add(r)
	}
	if len(k.recipients) == 0 {
		return nil, errors.New("neither a recipient nor an identity to encrypt to")
	}
	return k, nil
}

func (k *Keys) add(r *age.X25519Recipient) {
	k.recipients = append(k.recipients, r)
	k.names = append(k.names, r.String())
}

// Recipients returns the public keys that values are encrypted to.
func (k *Keys) Recipients() []string { return k.names }

// encrypt encrypts to the recipients by age and returns base64 text.
func (k *Keys) encrypt(plain []byte) (string, error) {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, k.recipients...)
	if err == nil {
		if _, err = w.Write(plain); err == nil {
			err = w.Close()
		}
	}
	if err != nil {
		return "", fmt.Errorf("encrypt a value: %w", err)
	}
	return base64.StdEncoding.EncodeToString(out.Bytes()), nil
}

// decrypt is the inverse of encrypt.
func (k *Keys) decrypt(sealed string) ([]byte, error) {
	data, err := base64.StdEncoding.Strict().DecodeString(sealed)
	if err != nil {
		return nil, errDamaged
	}
	if len(k.identities) == 0 {
		return nil, errors.New("an encrypted value cannot be read: there is no identity, only recipients")
	}
	r, err := age.Decrypt(bytes.NewReader(data), k.identities...)
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return nil, fmt.Errorf("an encrypted value cannot be read: it is for none of the keys at hand (%s); ask somebody who can read it to add yours and encrypt anew",
			strings.Join(k.names, ", "))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	plain, err := io.ReadAll(io.LimitReader(r, MaxValue+1))
	if err != nil || len(plain) > MaxValue {
		return nil, errDamaged
	}
	return plain, nil
}

// UserIdentity returns the identity in the file, which is made on first use, readable by its owner alone. A file that
// others can read is refused.
func UserIdentity(path string) (string, error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return makeIdentity(path)
	}
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s can be read by others: chmod 600 it, and make a new key if it was exposed", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return line, nil
		}
	}
	return "", fmt.Errorf("%s holds no identity", path)
}

func makeIdentity(path string) (string, error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	// Written aside and linked, so that two first uses at once end with one key.
	aside, err := os.CreateTemp(filepath.Dir(path), ".identity-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(aside.Name())
	_, err = fmt.Fprintf(aside, "# public key: %s\n%s\n", id.Recipient(), id)
	if err = errors.Join(err, aside.Sync(), aside.Close()); err != nil {
		return "", err
	}
	err = os.Link(aside.Name(), path)
	if errors.Is(err, os.ErrExist) {
		return UserIdentity(path)
	}
	return id.String(), err
}
