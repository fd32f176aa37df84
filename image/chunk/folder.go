package chunk

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Folder keeps blobs as files named by their digest in hexadecimal.
type Folder string

// Create begins a blob.
func (f Folder) Create() (Blob, error) {
	file, err := os.CreateTemp(string(f), ".blob-*")
	if err != nil {
		return nil, fmt.Errorf("beginning a blob: %w", err)
	}
	b := &folderBlob{folder: string(f), file: file}
	b.hashed = NewHashed(file)
	b.Writer = bufio.NewWriterSize(b.hashed, 1<<20)
	return b, nil
}

// Open opens the blob of a device for reading.
func (f Folder) Open(d *Device) (*os.File, error) {
	return os.Open(filepath.Join(string(f), d.Name()))
}

type folderBlob struct {
	*bufio.Writer
	folder string
	file   *os.File
	hashed *Hashed
}

// Commit names the blob by its digest.
func (b *folderBlob) Commit(d *Device) error {
	if err := b.Flush(); err != nil {
		return fmt.Errorf("writing a blob: %w", err)
	}
	d.Blob, d.Size = b.hashed.Sum(), b.hashed.N
	path := filepath.Join(b.folder, hex.EncodeToString(d.Blob[:]))
	err := errors.Join(b.file.Chmod(0o644), b.file.Close(), os.Rename(b.file.Name(), path))
	if err != nil {
		return fmt.Errorf("keeping a blob: %w", err)
	}
	return nil
}

// Abort drops the blob.
func (b *folderBlob) Abort() {
	_ = b.file.Close()
	_ = os.Remove(b.file.Name())
}

// Discard is an Output that keeps nothing but computes the digests.
type Discard struct{}

// Create begins a blob.
func (Discard) Create() (Blob, error) { return &discarded{NewHashed(io.Discard)}, nil }

type discarded struct{ *Hashed }

func (b *discarded) Commit(d *Device) error {
	d.Blob, d.Size = b.Sum(), b.N
	return nil
}

func (*discarded) Abort() {}
