package layer

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"runtime"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/flate"
)

// How a stream is cut: bytes of a piece, and how many goroutines compress at most. A layer is never faster with more than these, since
// somebody has to read its files.
const (
	pieceSize  = 512 << 10
	maxWorkers = 4
)

// A pipe takes a stream in writes of any size and hands it on in pieces: one goroutine hashes them, some compress them, one writes what
// comes of them, in order. Whoever writes to it waits when all pieces are under way. Close ends all goroutines; only then sums count.
type pipe struct {
	to   io.Writer // nil: the stream is only hashed
	hash hash.Hash
	crc  uint32 // CRC-32 (IEEE) and length of the stream, as gzip has them at its end
	size int64

	fill    *piece
	free    chan *piece
	toHash  chan *piece
	toPack  chan *piece // nil: pieces are written as they are
	toWrite chan *piece
	workers sync.WaitGroup

	mu     sync.Mutex
	err    error
	closed bool
}

// piece is a part of the stream on its way. hashed and packed take one token each time that is done.
type piece struct {
	raw, out       []byte
	hashed, packed chan struct{}
}

// packer compresses one piece after the other.
type packer func(raw, out []byte) ([]byte, error)

func newPipe(to io.Writer, packers func() packer) *pipe {
	count := 2 // one is filled while the other is hashed
	workers := 0
	if packers != nil {
		workers = min(runtime.GOMAXPROCS(0), maxWorkers)
	}
	count += workers + 1
	p := &pipe{to: to, hash: sha256.New(), free: make(chan *piece, count), toHash: make(chan *piece, count), toWrite: make(chan *piece, count)}
	for range count {
		p.free <- &piece{hashed: make(chan struct{}, 1), packed: make(chan struct{}, 1)}
	}
	p.workers.Go(p.measure)
	p.workers.Go(p.write)
	if workers > 0 {
		p.toPack = make(chan *piece, count)
	}
	for range workers {
		p.workers.Go(func() { p.pack(packers()) })
	}
	return p
}

func (p *pipe) measure() {
	for piece := range p.toHash {
		p.hash.Write(piece.raw)
		p.crc = crc32.Update(p.crc, crc32.IEEETable, piece.raw)
		p.size += int64(len(piece.raw))
		piece.hashed <- struct{}{}
	}
}

func (p *pipe) pack(pack packer) {
	for piece := range p.toPack {
		if p.failed() == nil {
			var err error
			if piece.out, err = pack(piece.raw, piece.out[:0]); err != nil {
				p.fail(err)
			}
		}
		piece.packed <- struct{}{}
	}
}

func (p *pipe) write() {
	for piece := range p.toWrite {
		out := piece.raw
		if p.toPack != nil {
			<-piece.packed
			out = piece.out
		}
		if p.to != nil && p.failed() == nil {
			if _, err := p.to.Write(out); err != nil {
				p.fail(err)
			}
		}
		<-piece.hashed
		piece.raw = piece.raw[:0]
		p.free <- piece
	}
}

func (p *pipe) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
}

func (p *pipe) failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Write implements io.Writer. An error in what comes after is given by one of the next calls.
func (p *pipe) Write(data []byte) (int, error) {
	n := len(data)
	for len(data) > 0 {
		if p.fill == nil {
			p.fill = <-p.free
		}
		part := data[:min(len(data), pieceSize-len(p.fill.raw))]
		p.fill.raw, data = append(p.fill.raw, part...), data[len(part):]
		if len(p.fill.raw) == pieceSize {
			if err := p.failed(); err != nil {
				return 0, err
			}
			p.hand()
		}
	}
	return n, nil
}

// hand passes on the piece that is being filled.
func (p *pipe) hand() {
	p.toHash <- p.fill
	if p.toPack != nil {
		p.toPack <- p.fill
	}
	p.toWrite <- p.fill
	p.fill = nil
}

// Close passes on the rest, waits until all is written, and gives the first error.
func (p *pipe) Close() error {
	if !p.closed {
		p.closed = true
		if p.fill != nil {
			p.hand()
		}
		close(p.toHash)
		close(p.toWrite)
		if p.toPack != nil {
			close(p.toPack)
		}
		p.workers.Wait()
	}
	return p.failed()
}

func (p *pipe) sum() v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", p.hash.Sum(nil))}
}

// newDeflater gives a packer whose pieces, one after the other, are a DEFLATE stream without an end (RFC 1951): each is compressed by
// itself at the level that upstream's lifecycle has, and ends at a whole byte.
func newDeflater() packer {
	var encoder *flate.Writer
	return func(raw, out []byte) ([]byte, error) {
		to := bytes.NewBuffer(out)
		if encoder == nil {
			var err error
			if encoder, err = flate.NewWriter(to, flate.BestSpeed); err != nil {
				return nil, err
			}
		} else {
			encoder.Reset(to)
		}
		if _, err := encoder.Write(raw); err != nil {
			return nil, err
		}
		err := encoder.Flush()
		return to.Bytes(), err
	}
}

// Around the pieces of a gzip file (RFC 1952): the header, without name and time, for a fast compressor on an unknown system; and an
// empty last block.
var (
	gzipHeader = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255}
	lastBlock  = []byte{1, 0, 0, 0xff, 0xff}
)

// gzip writes content as one gzip member.
func (p *pipe) gzip(content Content) error {
	if _, err := p.to.Write(gzipHeader); err != nil { // nothing else writes yet
		return errors.Join(err, p.Close())
	}
	if err := errors.Join(content(p), p.Close()); err != nil {
		return err
	}
	end := binary.LittleEndian.AppendUint32(bytes.Clone(lastBlock), p.crc)
	_, err := p.to.Write(binary.LittleEndian.AppendUint32(end, uint32(p.size)))
	return err
}
