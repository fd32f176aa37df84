package fuse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/erofs"
	"github.com/weft-dev/weft/image/tree"
)

// content is a device whose bytes say where they lie; those of odd blocks are missing and never come.
type content struct{}

func (content) Present(_ int, offset, n int64) bool {
	return offset/chunk.Block%2 == 0 && offset%chunk.Block+n <= chunk.Block
}

func (c content) ReadAt(_ context.Context, device int, p []byte, offset int64) error {
	if !c.Present(device, offset, int64(len(p))) {
		return fmt.Errorf("nobody has it: %w", unix.ECONNREFUSED)
	}
	for i := range p {
		p[i] = byte(offset + int64(i))
	}
	return nil
}

// unconnected is a server of a small image that has no connection to the kernel.
func unconnected(t testing.TB) *Server {
	t.Helper()
	root := tree.NewDir(0o755)
	root.Set("empty", &tree.Node{Mode: tree.Regular | 0o644})
	root.Set("inline", &tree.Node{Mode: tree.Regular | 0o644, Size: 5, Inline: []byte("hello"), Xattrs: []tree.Xattr{{Name: "user.a", Value: []byte("b")}}})
	root.Set("link", &tree.Node{Mode: tree.Symlink | 0o777, Target: "inline"})
	root.Set("null", &tree.Node{Mode: tree.Char | 0o666, Major: 1, Minor: 3})
	for i := range 300 {
		root.Set(fmt.Sprintf("file-%d", i), &tree.Node{Mode: tree.Regular})
	}
	var b bytes.Buffer
	if _, err := erofs.Write(&b, root, nil, erofs.Options{}); err != nil {
		t.Fatal(err)
	}
	im, err := erofs.Open(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	in, err := im.Root()
	if err != nil {
		t.Fatal(err)
	}
	memory := make([]byte, nodesAt+nodeSize*erofs.NodesIn(int64(b.Len())))
	ne.PutUint64(memory[24:], uint64(erofs.NodesIn(int64(b.Len()))))
	ctx, stop := context.WithCancel(t.Context())
	return &Server{session: &Session{memory: memory}, options: Options{Image: im, Content: content{}, Log: slog.New(slog.DiscardHandler)}, root: in.NID, block: 4096,
		fd: -1, ctx: ctx, stop: stop, waits: map[uint64]waiter{}}
}

func message(op uint32, node uint64, body ...byte) []byte {
	b := make([]byte, inHeaderSize, inHeaderSize+len(body))
	ne.PutUint32(b, uint32(inHeaderSize+len(body)))
	ne.PutUint32(b[4:], op)
	ne.PutUint64(b[8:], 1)
	ne.PutUint64(b[16:], node)
	return append(b, body...)
}

// FuzzRequest gives a server what no kernel sends. It answers with a number of the system or not more than was asked for, and does not end.
func FuzzRequest(f *testing.F) {
	v := unconnected(f)
	in, _, err := mustRoot(f, v).Lookup("inline")
	if err != nil {
		f.Fatal(err)
	}
	node := v.id(in.NID)
	f.Add(message(opInit, 0, make([]byte, 64)...))
	f.Add(message(opLookup, rootID, []byte("inline\x00")...))
	f.Add(message(opLookup, rootID, []byte("nothing\x00")...))
	f.Add(message(opGetattr, node, make([]byte, 16)...))
	f.Add(message(opReaddirplus, rootID, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0))
	f.Add(message(opReaddir, rootID, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 1, 0, 0, 0, 0, 0, 0, 16, 0, 0))
	f.Add(message(opRead, node, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0))
	f.Add(message(opGetxattr, node, append([]byte{0, 1, 0, 0, 0, 0, 0, 0}, "user.a\x00"...)...))
	f.Add(message(opListxattr, node, 0, 0, 0, 0, 0, 0, 0, 0))
	f.Add(message(opOpen, node, make([]byte, 8)...))
	f.Add(message(opRelease, node, make([]byte, 24)...))
	f.Add(message(opLseek, node, make([]byte, 24)...))
	f.Add(message(opStatfs, rootID))
	f.Add(message(opReadlink, node))
	f.Add(message(opBatchForget, 0, make([]byte, 8)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > slotSize {
			return
		}
		r, err := parse(b)
		if err != nil {
			if !errors.Is(err, errRequest) {
				t.Errorf("%v", err)
			}
			return
		}
		if r.op == opInterrupt {
			return // it waits
		}
		if r.op == opRead {
			if r.where, err = v.where(&r); err != nil {
				return
			}
		}
		out := append(make([]byte, 0, outHeaderSize), make([]byte, outHeaderSize)...)
		if err := v.do(t.Context(), &r, &out); err == nil && len(out) > outHeaderSize+maxPages*4096 {
			t.Errorf("an answer of %d bytes", len(out))
		}
	})
}

func mustRoot(t testing.TB, v *Server) *erofs.Inode {
	t.Helper()
	in, err := v.options.Image.Root()
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// TestMemory opens memory of other programs and versions.
func TestMemory(t *testing.T) {
	if unix.Access("/dev/fuse", unix.R_OK|unix.W_OK) != nil {
		t.Skip("opening /dev/fuse needs root")
	}
	for name, change := range map[string]func(*Session) error{
		"another program": func(s *Session) error { s.memory[0] = 'X'; return nil },
		"a newer version": func(s *Session) error { s.memory[8] = 9; return nil },
		"too many inodes": func(s *Session) error { ne.PutUint64(s.memory[24:], 1<<40); return nil },
		"more than it is": func(s *Session) error { ne.PutUint64(s.memory[24:], 1<<20); return nil },
		"too short":       func(s *Session) error { return s.Memory.Truncate(100) },
	} {
		s, err := New([32]byte{1, 2, 3}, 100)
		if err != nil {
			t.Fatal(err)
		}
		if s.Image() != [32]byte{1, 2, 3} {
			t.Errorf("it is of image %x", s.Image())
		}
		if err := change(s); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(s.Device, s.Memory); !errors.Is(err, ErrMemory) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestErrorsOfSources reads what does not come: whatever the source's error was, the reader's is an I/O error, and other parts are read.
func TestErrorsOfSources(t *testing.T) {
	v := unconnected(t)
	p := make([]byte, 2*chunk.Block)
	all := []erofs.Extent{{At: 0, Size: 100, Device: 1, Offset: 0}, {At: 100, Size: 100, Device: erofs.Hole}, {At: 200, Size: 100, Device: 1, Offset: chunk.Block}}
	if missing := v.missing(all); len(missing) != 1 || missing[0] != all[2] {
		t.Errorf("missing are %v", missing)
	}
	var number unix.Errno
	if err := v.extents(t.Context(), nil, p, 0, all, false); err == nil || errors.As(err, &number) {
		t.Errorf("the reader gets %v", err)
	}
	if err := v.extents(t.Context(), nil, p, 0, all[:2], false); err != nil || p[99] != 99 || p[100] != 0 {
		t.Errorf("what is there: %v", err)
	}
}
