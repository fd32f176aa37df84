package seal

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

// A sealed value is text in one of two forms. The first is an age file in base64. The second, which is written, has three parts,
//
//	2.KEY.VALUE
//
// where KEY is a data key of 32 bytes, encrypted with age to the recipients, and VALUE a nonce of 24 bytes and the value under
// XChaCha20-Poly1305 with that key, both in base64. A process makes one data key: encrypting to a recipient costs some hundred
// microseconds, which a state with many secrets would pay for each of them.
const envelope = "2."

var errDamaged = errors.New("an encrypted value is damaged")

// dataKey encrypts values; wrapped is its encrypted form.
type dataKey struct {
	wrapped string
	aead    cipher.AEAD
}

// Seal encrypts a value and returns text without dots, quotes and white space but the form's own.
func (k *Keys) Seal(plain []byte) (string, error) {
	if len(plain) > MaxValue {
		return "", fmt.Errorf("a value of %d bytes is larger than %d", len(plain), MaxValue)
	}
	key, err := k.freshKey()
	if err != nil {
		return "", err
	}
	nonce := make([]byte, chacha20poly1305.NonceSizeX, chacha20poly1305.NonceSizeX+len(plain)+chacha20poly1305.Overhead)
	if _, err := rand.Read(nonce); err != nil {
		return "", err
	}
	return envelope + key.wrapped + "." + base64.StdEncoding.EncodeToString(key.aead.Seal(nonce, nonce, plain, nil)), nil
}

// Open decrypts what Seal made, in either form.
func (k *Keys) Open(sealed string) ([]byte, error) {
	rest, ok := strings.CutPrefix(sealed, envelope)
	if !ok {
		return k.decrypt(sealed)
	}
	wrapped, value, ok := strings.Cut(rest, ".")
	if !ok {
		return nil, errDamaged
	}
	key, err := k.unwrap(wrapped)
	if err != nil {
		return nil, err
	}
	data, err := base64.StdEncoding.Strict().DecodeString(value)
	if err != nil || len(data) < chacha20poly1305.NonceSizeX {
		return nil, errDamaged
	}
	plain, err := key.aead.Open(nil, data[:chacha20poly1305.NonceSizeX], data[chacha20poly1305.NonceSizeX:], nil)
	if err != nil {
		return nil, errDamaged
	}
	return plain, nil
}

// freshKey makes the process's data key on first use.
func (k *Keys) freshKey() (*dataKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fresh != nil {
		return k.fresh, nil
	}
	secret := make([]byte, chacha20poly1305.KeySize)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	wrapped, err := k.encrypt(secret)
	if err != nil {
		return nil, err
	}
	key, err := newDataKey(wrapped, secret)
	k.fresh = key
	return key, err
}

func (k *Keys) unwrap(wrapped string) (*dataKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if key := k.opened[wrapped]; key != nil {
		return key, nil
	}
	secret, err := k.decrypt(wrapped)
	if err != nil {
		return nil, err
	}
	key, err := newDataKey(wrapped, secret)
	if err != nil {
		return nil, err
	}
	if k.opened == nil {
		k.opened = map[string]*dataKey{}
	}
	k.opened[wrapped] = key
	return key, nil
}

func newDataKey(wrapped string, secret []byte) (*dataKey, error) {
	aead, err := chacha20poly1305.NewX(secret)
	if err != nil {
		return nil, errDamaged
	}
	return &dataKey{wrapped, aead}, nil
}
