package cache

import (
	"math/bits"
	"sync/atomic"
	"unsafe"
)

// Bits says which blocks are present. Several goroutines and, over shared memory, several processes may use the same.
type Bits struct{ words []uint64 }

// BitsSize is the memory that the bits of a number of blocks need, in bytes.
func BitsSize(blocks int64) int64 { return (blocks + 63) / 64 * 8 }

// NewBits makes bits in memory of their own, none set.
func NewBits(blocks int64) Bits { return Bits{make([]uint64, BitsSize(blocks)/8)} }

// SharedBits makes bits of a mapping, whose address must be a multiple of 8.
func SharedBits(memory []byte, blocks int64) Bits {
	n := BitsSize(blocks) / 8
	if n == 0 {
		return Bits{}
	}
	return Bits{unsafe.Slice((*uint64)(unsafe.Pointer(&memory[0])), n)} //nolint:gosec // a mapping begins on a page, and holds BitsSize
}

// mask is the part of a word from bit first up to bit end.
func mask(first, end uint) uint64 { return ^uint64(0) << first & (^uint64(0) >> (64 - end)) }

// each visits the words of the blocks from first up to end.
func (b Bits) each(first, end int64, visit func(word *uint64, m uint64) bool) bool {
	for first < end {
		word := first / 64
		last := min(end, (word+1)*64)
		if !visit(&b.words[word], mask(uint(first%64), uint(last-word*64))) {
			return false
		}
		first = last
	}
	return true
}

// All says whether the blocks from first up to end are all present.
func (b Bits) All(first, end int64) bool {
	return b.each(first, end, func(w *uint64, m uint64) bool { return atomic.LoadUint64(w)&m == m })
}

// Set says that the blocks from first up to end are present, and returns how many of them were not before.
func (b Bits) Set(first, end int64) int64 {
	n := int64(0)
	b.each(first, end, func(w *uint64, m uint64) bool {
		n += int64(bits.OnesCount64(m &^ atomic.OrUint64(w, m)))
		return true
	})
	return n
}

// Count is the number of blocks present.
func (b Bits) Count() int64 {
	n := int64(0)
	for i := range b.words {
		n += int64(bits.OnesCount64(atomic.LoadUint64(&b.words[i])))
	}
	return n
}

// Or adds what is present in others.
func (b Bits) Or(others Bits) {
	for i := range b.words {
		atomic.OrUint64(&b.words[i], others.words[i])
	}
}

// Runs visits the runs of set blocks in their order.
func (b Bits) Runs(blocks int64, visit func(first, end int64)) {
	start := int64(-1)
	for i := int64(0); i < blocks; i++ {
		set := atomic.LoadUint64(&b.words[i/64])>>(uint(i)%64)&1 == 1
		if set && start < 0 {
			start = i
		}
		if !set && start >= 0 {
			visit(start, i)
			start = -1
		}
	}
	if start >= 0 {
		visit(start, blocks)
	}
}
