package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
)

// Storage is what the server needs of a content store: blobs by digest, uploads that can be continued, and records
// that keep blobs alive. Missing things are reported as fs.ErrNotExist.
type Storage interface {
	// Open opens a complete blob.
	Open(ctx context.Context, d digest.Digest) (Content, error)
	// Create begins an upload under that name (letters and digits); Resume continues one that was closed.
	// ErrBusy if someone else is writing it.
	Create(ctx context.Context, name string) (Upload, error)
	Resume(ctx context.Context, name string) (Upload, error)
	// Update runs a change of records. What f finds present in it stays present until f has put a record on it.
	Update(ctx context.Context, f func(Tx) error) error
	// Exclusive runs a change while nothing else changes.
	Exclusive(ctx context.Context, f func(Tx) error) error
	// Sweep removes the blobs that nothing holds and that were not used within grace. It returns what it removed
	// in bytes by digest. With preview it removes nothing and says what it would remove if these records were deleted.
	Sweep(ctx context.Context, grace time.Duration, preview *Preview) (map[digest.Digest]int64, error)
}

// Preview are records that count as deleted.
type Preview struct{ Deleted map[string]bool }

// ErrBusy says that another request is writing the same upload.
var ErrBusy = errors.New("the upload is being written by another request")

// ErrDigest says that content does not match the digest that was announced for it.
var ErrDigest = errors.New("the content does not match the digest")

// Content is an open blob.
type Content interface {
	io.ReadSeekCloser
	io.ReaderAt
}

// Upload is content on its way in.
type Upload interface {
	io.Writer
	Size() int64                                              // bytes so far
	Commit(ctx context.Context, expected digest.Digest) error // ErrDigest if it is something else; the upload is gone after success
	Close() error                                             // keeps it for Resume
	Discard() error                                           // drops it
}

// Tx reads and changes records; it is valid only inside Update or Exclusive.
type Tx interface {
	Blob(d digest.Digest) (size int64, err error)
	Record(name string) (Record, error)
	Put(r Record) error
	Delete(name string) error
	Touch(name string) error
	// Names lists the last parts of the names of the records directly in a folder, sorted.
	Names(folder string) ([]string, error)
	// Walk calls visit with the name of every record.
	Walk(ctx context.Context, visit func(name string) error) error
}

// Record keeps digests alive under a name, which is a path.
type Record struct {
	Name    string
	Digests []digest.Digest
	Data    json.RawMessage
	Used    time.Time // when it was last put or touched
}
