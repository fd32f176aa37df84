package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

var ingestName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._:-]*$`) // at most 200 characters

// Ingest is content on its way into the store. It survives Close and crashes and is continued with Resume. One process
// and goroutine writes an ingest at a time.
type Ingest struct {
	store *Store
	name  string
	dir   string
	lock  *os.File
	data  *os.File
	hash  hash.Hash // sha256 of what was written so far
	size  int64
	limit int64
}

// ingestState is the hash after Size bytes, so that resuming need not read them again.
type ingestState struct {
	Version int    `json:"version"`
	Size    int64  `json:"size"`
	SHA256  []byte `json:"sha256"` // encoding.BinaryMarshaler of crypto/sha256
}

// Create begins an ingest under a new name. Limit is the greatest size in bytes, 0 for none.
func (s *Store) Create(ctx context.Context, limit int64) (*Ingest, error) {
	return s.CreateNamed(ctx, rand.Text(), limit)
}

// CreateNamed begins or continues the ingest of that name. ErrBusy if someone is writing it.
func (s *Store) CreateNamed(_ context.Context, name string, limit int64) (*Ingest, error) {
	dir, err := s.ingestDir(name)
	if err != nil {
		return nil, err
	}
	for range 10 { // an owner that finishes just now removes the folder
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, s.explain(err)
		}
		in, err := s.openIngest(name, dir, limit, os.O_CREATE)
		if !errors.Is(err, fs.ErrNotExist) {
			return in, err
		}
	}
	return nil, fmt.Errorf("ingest %q: %w", name, ErrBusy)
}

// Resume continues an ingest; fs.ErrNotExist if there is none of that name, ErrBusy if someone is writing it.
func (s *Store) Resume(_ context.Context, name string, limit int64) (*Ingest, error) {
	dir, err := s.ingestDir(name)
	if err != nil {
		return nil, err
	}
	return s.openIngest(name, dir, limit, 0)
}

func (s *Store) ingestDir(name string) (string, error) {
	if len(name) > 200 || !ingestName.MatchString(name) {
		return "", fmt.Errorf("ingest name %q: expected letters, digits and ._:- (at most 200)", name)
	}
	return filepath.Join(s.dir, "ingest", name), nil
}

func (s *Store) openIngest(name, dir string, limit int64, flags int) (*Ingest, error) {
	lock, err := lockIngest(dir, flags)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no ingest %q: %w", name, fs.ErrNotExist)
		}
		return nil, s.explain(err)
	}
	in := &Ingest{store: s, name: name, dir: dir, lock: lock, limit: limit}
	in.data, err = os.OpenFile(filepath.Join(dir, "data"), os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = in.restore()
	}
	if err != nil {
		in.release()
		return nil, s.explain(err)
	}
	return in, nil
}

// lockIngest takes the ownership of an ingest. An owner that finishes removes the folder, so the lock counts only if
// the file is still the one at its path.
func lockIngest(dir string, flags int) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|flags, 0o600)
	if err != nil {
		return nil, err
	}
	if err := tryFlock(f, unix.LOCK_EX); err != nil {
		f.Close()
		return nil, ErrBusy
	}
	mine, err := f.Stat()
	if err == nil {
		var now os.FileInfo
		if now, err = os.Stat(path); err == nil && !os.SameFile(mine, now) {
			err = ErrBusy
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// restore finds out how much is there and its hash.
func (in *Ingest) restore() error {
	st, err := in.data.Stat()
	if err != nil {
		return err
	}
	in.size, in.hash = 0, sha256.New()
	if state, ok := in.readState(); ok && state.Size <= st.Size() {
		if in.hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(state.SHA256) == nil {
			in.size = state.Size
		} else {
			in.hash = sha256.New()
		}
	}
	if _, err := in.data.Seek(in.size, io.SeekStart); err != nil {
		return err
	}
	n, err := io.Copy(in.hash, in.data) // what was written after the state was saved
	in.size += n
	return err
}

func (in *Ingest) readState() (ingestState, bool) {
	var state ingestState
	data, err := os.ReadFile(filepath.Join(in.dir, "state.json"))
	if err != nil || json.Unmarshal(data, &state) != nil || state.Version != 1 || state.Size < 0 {
		return ingestState{}, false // it only saves time: without it everything is read again
	}
	return state, true
}

// Name is what Resume takes.
func (in *Ingest) Name() string { return in.name }

// Size is the number of bytes written so far.
func (in *Ingest) Size() int64 { return in.size }

// Digest is the sha256 digest of what was written so far.
func (in *Ingest) Digest() digest.Digest { return digest.NewDigest(digest.SHA256, in.hash) }

// Write appends. ErrTooLarge beyond the limit (nothing of p is written then), ErrFull when the disk is full.
func (in *Ingest) Write(p []byte) (int, error) {
	if in.limit > 0 && in.size+int64(len(p)) > in.limit {
		return 0, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, in.limit)
	}
	n, err := in.data.Write(p)
	in.hash.Write(p[:n])
	in.size += int64(n)
	return n, in.store.explain(err)
}

// Reset drops what was written, to begin again.
func (in *Ingest) Reset() error {
	_ = os.Remove(filepath.Join(in.dir, "state.json"))
	if err := in.data.Truncate(0); err != nil {
		return err
	}
	return in.restore()
}

// Commit verifies the content and publishes it; the ingest is gone then. Size is the announced size in bytes, or -1 if
// it is not known; an empty expected digest accepts any content. On ErrDigest and ErrTooLarge the ingest stays and can
// be discarded or reset.
func (in *Ingest) Commit(ctx context.Context, size int64, expected digest.Digest) (Info, error) {
	if size >= 0 && size != in.size {
		if in.size > size {
			return Info{}, fmt.Errorf("%w: %d bytes were announced, %d came", ErrTooLarge, size, in.size)
		}
		return Info{}, fmt.Errorf("%w: %d bytes were announced, only %d came", io.ErrUnexpectedEOF, size, in.size)
	}
	got, err := in.digestLike(ctx, expected)
	if err != nil {
		return Info{}, err
	}
	if expected != "" && got != expected {
		return Info{}, fmt.Errorf("%w: expected %s, got %s (%d bytes)", ErrDigest, expected, got, in.size)
	}
	if err := in.data.Chmod(0o444); err != nil {
		return Info{}, err
	}
	if err := in.data.Sync(); err != nil {
		return Info{}, in.store.explain(err)
	}
	var info Info
	err = in.store.Update(ctx, func(tx *Tx) (err error) {
		info, err = tx.publish(filepath.Join(in.dir, "data"), got, in.size)
		return err
	})
	if err != nil {
		return Info{}, err
	}
	return info, in.Discard()
}

// digestLike is the content's digest by the algorithm of the expected one. Only sha256 is computed while writing.
func (in *Ingest) digestLike(ctx context.Context, expected digest.Digest) (digest.Digest, error) {
	if expected == "" {
		return in.Digest(), nil
	}
	if err := expected.Validate(); err != nil {
		return "", fmt.Errorf("%q is not a digest of the form sha256:HEX: %w", string(expected), err)
	}
	if expected.Algorithm() == digest.SHA256 {
		return in.Digest(), nil
	}
	d := expected.Algorithm().Digester()
	if err := copyContext(ctx, d.Hash(), io.NewSectionReader(in.data, 0, in.size)); err != nil {
		return "", err
	}
	return d.Digest(), nil
}

// Close stops writing and keeps the data for Resume.
func (in *Ingest) Close() error {
	if in.lock == nil {
		return nil
	}
	defer in.release()
	sum, err := in.hash.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return err
	}
	state, err := json.Marshal(ingestState{1, in.size, sum})
	if err != nil {
		return err
	}
	path := filepath.Join(in.dir, "state.json")
	if err := os.WriteFile(path+".new", state, 0o600); err != nil { // not flushed: losing it costs time only
		return in.store.explain(err)
	}
	return os.Rename(path+".new", path)
}

// Discard stops writing and drops the data.
func (in *Ingest) Discard() error {
	if in.lock == nil {
		return nil
	}
	defer in.release()
	return removeIngest(in.dir)
}

// removeIngest removes a folder whose lock the caller holds. The lock file goes last but one, so that nobody else can
// take over a folder that is half removed.
func removeIngest(dir string) error {
	for _, name := range []string{"data", "state.json", "state.json.new", "lock"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return ignoreMissing(os.Remove(dir))
}

func (in *Ingest) release() {
	if in.data != nil {
		in.data.Close()
	}
	in.lock.Close()
	in.lock = nil
}

// Put reads r to its end into the store. Expected and size are as for Commit, limit as for Create. What came before a
// failure is dropped.
func (s *Store) Put(ctx context.Context, r io.Reader, size, limit int64, expected digest.Digest) (Info, error) {
	in, err := s.Create(ctx, limit)
	if err != nil {
		return Info{}, err
	}
	if err := copyContext(ctx, in, r); err != nil {
		return Info{}, errors.Join(err, in.Discard())
	}
	info, err := in.Commit(ctx, size, expected)
	if err != nil {
		return Info{}, errors.Join(err, in.Discard())
	}
	return info, nil
}

func copyContext(ctx context.Context, w io.Writer, r io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	}), make([]byte, 256<<10))
	return err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
