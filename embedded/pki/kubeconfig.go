package pki

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Kubeconfig says what a kubeconfig file is to hold.
type Kubeconfig struct {
	Cluster string // the name of cluster and context
	Server  string // URL
	CAPEM   []byte
	User    string // the name of the user entry
	Cert    string // path of the client certificate
	Key     string
}

// Write stores the file, readable by its owner only, with everything embedded so that it can be copied elsewhere. An
// equal file is left alone: rewriting it while a program starts would hand that program half a file.
func (k Kubeconfig) Write(path string) error {
	cert, err := os.ReadFile(k.Cert)
	if err != nil {
		return err
	}
	key, err := os.ReadFile(k.Key)
	if err != nil {
		return err
	}
	b64 := base64.StdEncoding.EncodeToString
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: %[1]s
  cluster:
    server: %[2]s
    certificate-authority-data: %[3]s
users:
- name: %[4]s
  user:
    client-certificate-data: %[5]s
    client-key-data: %[6]s
contexts:
- name: %[1]s
  context:
    cluster: %[1]s
    user: %[4]s
current-context: %[1]s
`, k.Cluster, k.Server, b64(k.CAPEM), k.User, b64(cert), b64(key))
	old, err := os.ReadFile(path)
	if err == nil && bytes.Equal(old, []byte(text)) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return WriteFile(path, []byte(text), 0o600)
}
