package store

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
)

// blobPath is where the blob lies once it is complete. The digest is foreign input: anything but a valid sha256,
// sha384 or sha512 digest is refused before it becomes a path.
func (s *Store) blobPath(d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("%q is not a digest of the form sha256:HEX: %w", string(d), err)
	}
	return filepath.Join(s.dir, "blobs", d.Algorithm().String(), d.Encoded()[:2], d.Encoded()), nil
}

// Path is where the complete blob lies, for a caller that mounts or maps it. The file must not be written to.
// It is fs.ErrNotExist if the blob is not there.
func (s *Store) Path(ctx context.Context, d digest.Digest) (string, error) {
	if _, err := s.Stat(ctx, d); err != nil {
		return "", err
	}
	return s.blobPath(d)
}

// Stat describes a complete blob; fs.ErrNotExist if it is not there.
func (s *Store) Stat(_ context.Context, d digest.Digest) (Info, error) {
	path, err := s.blobPath(d)
	if err != nil {
		return Info{}, err
	}
	st, err := os.Stat(path)
	if err != nil {
		return Info{}, unknown(d, err)
	}
	return Info{Digest: d, Size: st.Size(), Used: st.ModTime()}, nil
}

// Open opens a complete blob for reading; fs.ErrNotExist if it is not there. A reader that has it open keeps it even
// when it is collected meanwhile.
func (s *Store) Open(_ context.Context, d digest.Digest) (*os.File, error) {
	path, err := s.blobPath(d)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, unknown(d, err)
	}
	return f, nil
}

// Touch says that a blob is in use now: it then outlives the next collections for their grace period.
func (s *Store) Touch(ctx context.Context, d digest.Digest) error {
	return s.Update(ctx, func(tx *Tx) error { return tx.Touch(d) })
}

// Blobs calls visit for every complete blob, in the order of their digests.
func (s *Store) Blobs(ctx context.Context, visit func(Info) error) error {
	return s.walkBlobs(ctx, func(_ string, info Info) error { return visit(info) })
}

func (s *Store) walkBlobs(ctx context.Context, visit func(path string, info Info) error) error {
	return filepath.WalkDir(filepath.Join(s.dir, "blobs"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || isTemporary(e.Name()) {
			return ignoreMissing(err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		alg := filepath.Base(filepath.Dir(filepath.Dir(path)))
		d := digest.NewDigestFromEncoded(digest.Algorithm(alg), e.Name())
		if d.Validate() != nil {
			return nil
		}
		st, err := e.Info()
		if err != nil {
			return ignoreMissing(err)
		}
		return visit(path, Info{Digest: d, Size: st.Size(), Used: st.ModTime()})
	})
}

// Verify reads a blob and compares it with its digest; ErrDigest if the disk has damaged it.
func (s *Store) Verify(ctx context.Context, d digest.Digest) error {
	f, err := s.Open(ctx, d)
	if err != nil {
		return err
	}
	defer f.Close()
	v := d.Verifier()
	if err := copyContext(ctx, v, f); err != nil {
		return err
	}
	if !v.Verified() {
		return fmt.Errorf("%w: %s in %s was damaged on the disk: delete it and fetch it again", ErrDigest, d, f.Name())
	}
	return nil
}

func unknown(d digest.Digest, err error) error {
	if os.IsNotExist(err) {
		return fmt.Errorf("blob %s is not in the store: %w", d, fs.ErrNotExist)
	}
	return err
}

func ignoreMissing(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}
