package webhook

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const secretKey = "authority.json"

// SecretKeeper keeps an authority in a Secret, for replicas in a cluster.
type SecretKeeper struct {
	Clients         kubernetes.Interface
	Namespace, Name string
}

// Load reads the Secret.
func (k SecretKeeper) Load(ctx context.Context) ([]byte, string, error) {
	s, err := k.Clients.CoreV1().Secrets(k.Namespace).Get(ctx, k.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	return s.Data[secretKey], s.ResourceVersion, nil
}

// Save creates or replaces the Secret.
func (k SecretKeeper) Save(ctx context.Context, data []byte, version string) error {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: k.Namespace, Name: k.Name, ResourceVersion: version}, Data: map[string][]byte{secretKey: data}}
	var err error
	if version == "" {
		_, err = k.Clients.CoreV1().Secrets(k.Namespace).Create(ctx, s, metav1.CreateOptions{})
	} else {
		_, err = k.Clients.CoreV1().Secrets(k.Namespace).Update(ctx, s, metav1.UpdateOptions{})
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return ErrConflict
	}
	return err
}

// FileKeeper keeps an authority in a file that only its owner reads, for one server on one machine.
type FileKeeper string

// Load reads the file.
func (k FileKeeper) Load(context.Context) ([]byte, string, error) {
	data, err := os.ReadFile(string(k))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	return data, version(data), nil
}

func version(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Save replaces the file; the first of several that make one wins.
func (k FileKeeper) Save(ctx context.Context, data []byte, was string) error {
	if _, now, err := k.Load(ctx); err != nil || now != was {
		return errors.Join(err, ErrConflict)
	}
	dir := filepath.Dir(string(k))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".authority-*") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("%s: %w", k, err)
	}
	if was == "" {
		if err = os.Link(f.Name(), string(k)); errors.Is(err, fs.ErrExist) {
			return ErrConflict
		}
		return err
	}
	return os.Rename(f.Name(), string(k))
}
