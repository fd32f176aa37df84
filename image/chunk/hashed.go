package chunk

import (
	"crypto/sha256"
	"hash"
	"io"
)

// Hashed computes the sha256 of what passes. Outputs use it.
type Hashed struct {
	W    io.Writer
	hash hash.Hash
	N    int64
}

// NewHashed wraps w.
func NewHashed(w io.Writer) *Hashed { return &Hashed{W: w, hash: sha256.New()} }

// Write passes p on.
func (h *Hashed) Write(p []byte) (int, error) {
	n, err := h.W.Write(p)
	h.hash.Write(p[:n])
	h.N += int64(n)
	return n, err
}

// Sum is the sha256 of everything that passed.
func (h *Hashed) Sum() [32]byte { return [32]byte(h.hash.Sum(nil)) }
