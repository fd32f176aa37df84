package cluster

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-dev/weft/kube"
)

// chunk is a part of the state in a Secret of its own.
type chunk struct {
	Name string `json:"name"`
	Sum  string `json:"sum"` // SHA-256 of its data
}

func (s *State) chunks(ctx context.Context, list []chunk) ([]byte, error) {
	var all []byte
	for _, c := range list {
		secret, err := kube.Retry(ctx, func(ctx context.Context) (*corev1.Secret, error) {
			return s.secrets.Get(ctx, c.Name, metav1.GetOptions{})
		})
		if err != nil {
			return nil, fmt.Errorf("read its part %s: %w", c.Name, err)
		}
		data := secret.Data["data"]
		if sumOf(data) != c.Sum {
			return nil, fmt.Errorf("its part %s is damaged: the check sum does not fit", c.Name)
		}
		all = append(all, data...)
	}
	return all, nil
}

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func unpack(packed []byte) ([]byte, error) {
	if len(packed) == 0 {
		return nil, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	plain, err := io.ReadAll(io.LimitReader(z, maxState+1))
	if err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	if len(plain) > maxState {
		return nil, fmt.Errorf("it unpacks to more than %d bytes", maxState)
	}
	return plain, nil
}

func pack(plain []byte) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(plain); err != nil {
		return nil, err
	}
	err := z.Close()
	return b.Bytes(), err
}

// put writes data into new chunks.
func (s *State) put(ctx context.Context, data []byte) ([]chunk, error) {
	var chunks []chunk
	for len(data) > 0 {
		part := data[:min(maxChunk, len(data))]
		data = data[len(part):]
		c := chunk{Name: headName(s.opts.Name) + "-" + strings.ToLower(rand.Text()[:10]), Sum: sumOf(part)}
		secret := &corev1.Secret{ObjectMeta: s.meta(c.Name), Type: SecretType, Data: map[string][]byte{"data": part}}
		_, err := kube.Retry(ctx, func(ctx context.Context) (*corev1.Secret, error) {
			made, err := s.secrets.Create(ctx, secret, metav1.CreateOptions{FieldManager: kube.FieldManager})
			if apierrors.IsAlreadyExists(err) {
				return secret, nil // an attempt whose answer was lost: nobody else takes this name
			}
			return made, err
		})
		if err != nil {
			return nil, err
		}
		chunks = append(chunks, c)
		s.opts.Crash("state-chunk-written")
	}
	return chunks, nil
}

// sweep deletes chunks that the head does not name: a writer was killed before it could name them, or after it named others.
func (s *State) sweep(ctx context.Context) error {
	list, err := s.secrets.List(ctx, metav1.ListOptions{LabelSelector: Label + "=" + s.opts.Name})
	if err != nil {
		return nil //nolint:nilerr // the next one does it
	}
	named := map[string]bool{headName(s.opts.Name): true}
	for _, c := range append(s.head.Snapshot, s.head.Segments...) {
		named[c.Name] = true
	}
	for _, secret := range list.Items {
		if !named[secret.Name] && secret.Type == SecretType {
			_ = s.secrets.Delete(ctx, secret.Name, metav1.DeleteOptions{}) // the next sweep tries again
		}
	}
	return nil
}
