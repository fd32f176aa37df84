package fuse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/image/erofs"
)

// Content is what lies on the devices of an image, counted from 1. It is used by several goroutines.
type Content interface {
	// Present says whether reading would wait for nothing.
	Present(device int, offset, n int64) bool
	// ReadAt waits until all of p is there and reads it. Errors are told to the log, and the reader gets an I/O error.
	ReadAt(ctx context.Context, device int, p []byte, offset int64) error
}

// Options of a server.
type Options struct {
	Image   *erofs.Image // that has passed its check; its devices are not used
	Content Content
	Behind  Behind       // nil: the kernel is given no files of its own
	Log     *slog.Logger // nil: none
}

// Behind opens files of an image that are complete, for the kernel to read from.
type Behind interface {
	// OpenInode opens the regular file of an inode, which is then closed by the caller.
	OpenInode(in *erofs.Inode) (*os.File, error)
}

// Counts of what the kernel asked for since the server began.
type Counts struct {
	Reads   int64 // of content
	Waited  int64 // of these: for what was missing
	Failed  int64
	Opened  int64 // files that are read by way of the server
	Through int64 // files that the kernel was given a file of its own for
	Resumed int64 // requests that an earlier process had not answered
}

// Server answers the kernel. It is made by Serve.
type Server struct {
	session *Session
	options Options
	root    uint64
	block   uint32
	flags   atomic.Uint64
	file    *os.File        // of the device, waited for by Go's poller
	fd      int             // of the device, for answers
	ctx     context.Context //nolint:containedctx // of all requests that wait
	stop    context.CancelFunc
	readers sync.WaitGroup
	waiting sync.WaitGroup
	done    chan struct{}
	gone    atomic.Bool // the file system is unmounted
	probing atomic.Bool // see Probe

	reads, waited, failed, opened, through, resumed atomic.Int64

	mu    sync.Mutex
	some  *sync.Cond
	free  []int             // slots
	waits map[uint64]waiter // requests that wait for content, by their number

	opens sync.Mutex // one file is opened at a time
}

// readersOf is how many goroutines take requests. Those that have to wait for content get their own.
const readersOf = 3

// Serve begins to answer, first what an earlier process has left.
func Serve(s *Session, o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	root, err := o.Image.Root()
	if err != nil {
		return nil, err
	}
	fd, err := unix.FcntlInt(s.Device.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	polled, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(polled, true)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	v := &Server{session: s, options: o, root: root.NID, block: 1 << o.Image.Super.BlockBits, file: os.NewFile(uintptr(polled), "/dev/fuse"), fd: fd,
		done: make(chan struct{}), waits: map[uint64]waiter{}}
	v.some = sync.NewCond(&v.mu)
	v.ctx, v.stop = context.WithCancel(context.Background())
	if flags, ok := s.begun(); ok {
		v.flags.Store(flags)
	}
	for i := slots - 1; i >= 0; i-- {
		if s.length(i) == 0 {
			v.free = append(v.free, i)
			continue
		}
		v.resumed.Add(1)
		v.waiting.Go(func() {
			r := v.request(i)
			r.again = true
			v.handle(i, &r)
		})
	}
	for range readersOf {
		v.readers.Go(v.read)
	}
	go func() {
		v.readers.Wait()
		close(v.done)
	}()
	return v, nil
}

// Stop lets the server end. Who waits, waits for the next one.
func (v *Server) Stop() {
	v.stop()
	_ = v.file.Close()
	v.mu.Lock()
	v.some.Broadcast()
	v.mu.Unlock()
}

// Close stops the server and waits for its end. The session stays open. It is called once.
func (v *Server) Close() error {
	v.Stop()
	v.readers.Wait()
	v.waiting.Wait()
	return unix.Close(v.fd)
}

// Done is closed when nothing is answered any more: the server is closed, or the file system is nowhere mounted any more, see Gone.
func (v *Server) Done() <-chan struct{} { return v.done }

// Gone says that the file system has ended.
func (v *Server) Gone() bool { return v.gone.Load() }

// Counts says what was done so far.
func (v *Server) Counts() Counts {
	return Counts{v.reads.Load(), v.waited.Load(), v.failed.Load(), v.opened.Load(), v.through.Load(), v.resumed.Load()}
}

// take gets a free slot, the one used last, so that little memory is used. It waits for one; false when the server ends.
func (v *Server) take() (int, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for len(v.free) == 0 && v.ctx.Err() == nil {
		v.some.Wait()
	}
	if v.ctx.Err() != nil {
		return 0, false
	}
	i := v.free[len(v.free)-1]
	v.free = v.free[:len(v.free)-1]
	return i, true
}

// give makes a slot free.
func (v *Server) give(i int) {
	v.session.clear(i)
	v.mu.Lock()
	v.free = append(v.free, i)
	v.mu.Unlock()
	v.some.Signal()
}

// read takes requests until the server or the file system ends.
func (v *Server) read() {
	conn, err := v.file.SyscallConn()
	if err != nil {
		return
	}
	for {
		i, ok := v.take()
		if !ok {
			return
		}
		var n int
		var failed error
		err := conn.Read(func(fd uintptr) bool {
			n, failed = unix.Read(int(fd), v.session.slot(i))
			return !errors.Is(failed, unix.EAGAIN)
		})
		switch {
		case err != nil: // the server ends, or Go's poller has seen nothing but the error that an ended file system is
			if v.ctx.Err() == nil && v.session.ended() {
				v.gone.Store(true)
			}
			v.give(i)
			return
		case errors.Is(failed, unix.EINTR), errors.Is(failed, unix.ENOENT): // or the request has been taken back
			v.give(i)
		case errors.Is(failed, unix.ENODEV):
			v.gone.Store(true)
			v.give(i)
			return
		case failed != nil:
			v.options.Log.Error("requests of FUSE cannot be read", "error", failed)
			v.give(i)
			return
		case n == 0:
			v.give(i)
		default:
			if r := v.request(i); r.waits() {
				v.waiting.Go(func() { v.handle(i, &r) })
			} else {
				v.handle(i, &r)
			}
		}
	}
}

// request reads the request in a slot. One that reads finds what it reads at once.
func (v *Server) request(i int) request {
	r, err := parse(v.session.slot(i)[:v.session.length(i)])
	if err == nil && r.op == opRead {
		r.where, err = v.where(&r)
	}
	r.err = err
	return r
}

// waits says whether a request is not answered at once.
func (r *request) waits() bool { return r.op == opInterrupt || len(r.where.missing) > 0 }

// handle answers the request in a slot and makes the slot free. When the server ends before, the request stays there.
func (v *Server) handle(i int, r *request) {
	ctx := v.ctx
	if len(r.where.missing) > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(v.ctx)
		defer cancel()
		v.wait(r.unique, waiter{cancel, r.pid})
		defer v.wait(r.unique, waiter{})
	}
	err := v.answer(ctx, r)
	if errors.Is(err, errUnanswered) {
		return
	}
	if err != nil {
		v.options.Log.Error("a request of FUSE fails", "error", err)
	}
	v.give(i)
}

// waiter is who waits for an answer.
type waiter struct {
	cancel context.CancelFunc
	pid    uint32 // thread
}

// wait says who waits for the answer of a request, or with no waiter that nobody does.
func (v *Server) wait(unique uint64, w waiter) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if w.cancel == nil {
		delete(v.waits, unique)
		return
	}
	v.waits[unique] = w
}

// errUnanswered says that a request was not answered because the server ends.
var errUnanswered = errors.New("the request is left to the next process")

// answer answers one request.
func (v *Server) answer(ctx context.Context, r *request) error {
	switch {
	case r.op == opForget || r.op == opBatchForget || r.unique == 0:
		return nil
	case r.op == opInterrupt:
		v.interrupt(r)
		return nil
	}
	out := buffer()
	defer recycle(out)
	*out = append((*out)[:0], make([]byte, outHeaderSize)...)
	err := r.err
	if err == nil {
		err = v.do(ctx, r, out)
	}
	if v.ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return errUnanswered
	}
	number := unix.Errno(0)
	if err != nil {
		*out = (*out)[:outHeaderSize]
		if !errors.As(err, &number) {
			number = unix.EIO
			v.failed.Add(1)
			v.options.Log.Error("a request of a mounted image fails", "error", err, "inode", r.node)
		}
	}
	ne.PutUint32(*out, uint32(len(*out)))
	ne.PutUint32((*out)[4:], uint32(-int32(number)))
	ne.PutUint64((*out)[8:], r.unique)
	return v.write(r, *out, err == nil)
}

// write gives an answer to the kernel. One that nobody waits for any more is no error.
func (v *Server) write(r *request, out []byte, good bool) error {
	for {
		_, err := unix.Write(v.fd, out)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOENT):
			if good && r.op == opOpen && !r.again {
				v.released(r, ne.Uint64(out[outHeaderSize:]))
			}
			return nil
		case errors.Is(err, unix.ENODEV), errors.Is(err, unix.EPERM):
			return nil
		case err != nil:
			return fmt.Errorf("answering request %d of kind %d: %w", r.unique, r.op, err)
		}
		return nil
	}
}

// buffers of answers.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, outHeaderSize+128<<10); return &b }}

func buffer() *[]byte { return buffers.Get().(*[]byte) } //nolint:forcetypeassert // nothing else is in it

func recycle(b *[]byte) {
	if cap(*b) <= outHeaderSize+128<<10 {
		buffers.Put(b)
	}
}
