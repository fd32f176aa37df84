package keeper

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/lazy/fanotify"
)

// Client is a worker's side of the keeper. It is safe for use by several goroutines.
type Client struct {
	options ClientOptions
	folder  int
	stop    int // eventfd that ends the goroutines

	held atomic.Pointer[held]

	mu      sync.Mutex // one request at a time
	conn    int
	pidfd   int
	replies chan answer
	ending  atomic.Bool // the keeper was asked to end
	over    atomic.Bool // no keeper takes the place of one that ends any more
	keepers atomic.Int64
	follows bool // it stands by; it does not any more when it has become the worker
	running sync.WaitGroup
	handled sync.WaitGroup

	seen sync.Mutex
	busy map[int]uint64 // numbers of the events that are being handled, by slot

	// TookOver says that devices of an earlier worker are in the table.
	TookOver bool
}

// held is what the keeper gave. It changes only when keeper and holder have ended at the same time.
type held struct {
	group   fanotify.Group
	table   *table
	wake    int
	secrets int
	inode   uint64 // of the table
}

// ClientOptions of a worker.
type ClientOptions struct {
	Dir     string   // the folder run of the state
	Program []string // the keeper's program and arguments; nil: it must run already
	Handle  func(*Event)
	Retire  func() // another worker wants to take over: end as soon as possible
	Lost    func() // keeper and holder have ended at the same time: all devices must be kept and marked again
	Say     func(format string, args ...any)
	// StandBy is the program, an absolute path, its arguments, and its environment, that the keeper starts so that there is a worker when this one has ended.
	// It attaches with Follow. No program: nobody stands by.
	StandBy, Environment []string
	// Follow lets Attach wait until there is no worker and none that wants to be.
	Follow bool
}

type answer struct {
	errno unix.Errno
	body  []byte
	fds   []int
	gone  bool // the keeper ended before it answered
}

// ErrGone says that the keeper has ended.
var ErrGone = errors.New("the keeper has ended")

// Attach connects to the keeper of a folder, after starting one if there is none. Its events wait until Start. If another worker is
// attached, it is asked to end first; if it is to follow, that one's end is waited for, for as long as the context lasts.
func Attach(ctx context.Context, o ClientOptions) (*Client, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	c := &Client{options: o, busy: map[int]uint64{}, conn: -1, pidfd: -1, follows: o.Follow}
	var err error
	if c.folder, err = unix.Open(o.Dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, err
	}
	if c.stop, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, err
	}
	got, err := c.find(ctx)
	if err != nil {
		return nil, errors.Join(err, unix.Close(c.folder), unix.Close(c.stop))
	}
	c.follows = false
	if err := c.use(got.fds); err != nil {
		return nil, err
	}
	for i := range deviceSlots {
		c.TookOver = c.TookOver || c.held.Load().table.device(i).used()
	}
	c.replies = make(chan answer, 1)
	c.running.Go(c.receive)
	c.nameStandBy()
	return c, nil
}

// Start begins to handle events.
func (c *Client) Start() { c.running.Go(c.events) }

// use takes the descriptors that the keeper gives.
func (c *Client) use(fds []int) error {
	if len(fds) != 4 {
		return fmt.Errorf("the keeper gave %d descriptors, 4 were expected", len(fds))
	}
	m, err := mapped(fds[1], tableSize)
	if err != nil {
		return err
	}
	t, err := openTable(m)
	if err != nil {
		return err
	}
	file, err := identify(fds[1])
	c.held.Store(&held{fanotify.Group(fds[0]), t, fds[2], fds[3], file.inode})
	return errors.Join(err, unix.Close(fds[1]))
}

// find finds the keeper and waits until this process is its worker.
func (c *Client) find(ctx context.Context) (answer, error) {
	if c.follows {
		return c.follow(ctx)
	}
	return c.connect(ctx)
}

// connect finds the keeper, and starts one if there is none.
func (c *Client) connect(ctx context.Context) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var started <-chan error
	for failures := 0; ; {
		err := c.dial()
		if err == nil {
			a, failed := c.hello(ctx, 'A')
			if failed == nil || !c.ended() {
				return a, failed
			}
			// It was about to end: another one is to be found or started.
			err = errors.Join(failed, unix.Close(c.conn), unix.Close(c.pidfd))
		}
		if started == nil && c.options.Program != nil {
			if started, err = c.startKeeper(); err != nil {
				return answer{}, err
			}
		}
		select {
		case failed, ok := <-started:
			if !ok || failed == nil {
				failed = ErrGone
			}
			if err := c.dial(); err == nil { // another one was there first
				return c.hello(ctx, 'A')
			}
			// One that an earlier worker started may be beginning, or may have been killed since.
			if failures++; failures == keeperStarts && !begins(c.options.Dir) {
				return answer{}, fmt.Errorf("starting the keeper: %w", failed)
			}
			failures, started = failures%keeperStarts, nil
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return answer{}, fmt.Errorf("no keeper answers in %s: %w", c.options.Dir, err)
		}
	}
}

// keeperStarts is how often a keeper may fail to start before the reason is told.
const keeperStarts = 3

// dial connects to a keeper that lives. A holder alone has its socket, too, and does not answer.
func (c *Client) dial() error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = unix.Connect(fd, inFolder(c.folder, "keeper.sock"))
	if err == nil {
		var h *holder
		if h, err = readHolder(c.options.Dir); err == nil && (h == nil || !h.Keeper.lives()) {
			err = ErrGone
		}
		if err == nil {
			c.pidfd, err = unix.PidfdOpen(h.Keeper.PID, 0)
		}
	}
	if err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	c.conn = fd
	return nil
}

// ended says whether the keeper's process has ended or is just ending.
func (c *Client) ended() bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(c.pidfd), Events: unix.POLLIN}}, 100)
	return err == nil && n > 0
}

// hello asks to be the worker, or to stand by, and waits until an earlier one has ended.
func (c *Client) hello(ctx context.Context, word byte) (answer, error) {
	if err := unix.Sendmsg(c.conn, []byte{word}, nil, nil, unix.MSG_NOSIGNAL); err != nil {
		return answer{}, err
	}
	for ctx.Err() == nil {
		fds := []unix.PollFd{{Fd: int32(c.conn), Events: unix.POLLIN}, {Fd: int32(c.pidfd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 100)
		if n > 0 && fds[0].Revents&unix.POLLIN != 0 {
			a, _, err := receive(c.conn)
			return a, err
		}
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return answer{}, ErrGone
		}
	}
	return answer{}, context.Cause(ctx)
}

// startKeeper starts the program. The channel tells its end.
func (c *Client) startKeeper() (<-chan error, error) {
	log, err := os.OpenFile(filepath.Join(c.options.Dir, "keeper.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := c.options.Program
	cmd := exec.Command(p[0], p[1:]...) //nolint:gosec // the caller's program
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the keeper: %w", err)
	}
	ended := make(chan error, 1)
	go func() { // ends with the keeper, which outlives this process
		err := cmd.Wait()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, tail(log.Name()))
		}
		ended <- err
	}()
	return ended, nil
}

// tail is the end of a log.
func tail(name string) string {
	f, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() > 500 {
		_, _ = f.Seek(-500, io.SeekEnd)
	}
	b, _ := io.ReadAll(io.LimitReader(f, 500))
	return string(b)
}

// receive reads one message; R says that the worker is to end.
func receive(conn int) (a answer, retire bool, err error) {
	var p [4 + 4*listed]byte
	rights := make([]byte, unix.CmsgSpace(4*4))
	n, rn, _, _, err := unix.Recvmsg(conn, p[:], rights, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return a, false, err
	}
	if n == 0 {
		return a, false, ErrGone
	}
	if n == 1 && p[0] == 'R' {
		return a, true, nil
	}
	if n < 4 {
		return a, false, fmt.Errorf("the keeper sent %d bytes", n)
	}
	return answer{errno: unix.Errno(binary.NativeEndian.Uint32(p[:])), body: append([]byte(nil), p[4:n]...), fds: received(rights[:rn])}, false, nil
}

// receive gives answers to those who wait for them, and looks after the keeper.
func (c *Client) receive() {
	defer c.over.Store(true)
	for {
		fds := []unix.PollFd{{Fd: int32(c.stop), Events: unix.POLLIN}, {Fd: int32(c.pidfd), Events: unix.POLLIN}, {Fd: int32(c.conn), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			c.say("waiting for the keeper: %v", err)
			return
		}
		switch {
		case fds[0].Revents != 0:
			return
		case fds[1].Revents == 0 && fds[2].Revents == 0:
		case fds[2].Revents&unix.POLLIN == 0:
			if c.ending.Load() || !c.again() {
				return
			}
		default:
			a, retire, err := receive(c.conn)
			switch {
			case err != nil:
				if c.ending.Load() || !c.again() {
					return
				}
			case retire:
				if c.options.Retire != nil {
					go c.options.Retire()
				}
			default:
				c.replies <- a
			}
		}
	}
}

// interrupt takes the lock of requests after the keeper's end. Who waits for its answer meanwhile learns that none comes, rather than keep the
// lock, and with it all readers, until its time is over.
func (c *Client) interrupt() {
	for !c.mu.TryLock() {
		select {
		case c.replies <- answer{gone: true}:
		case <-time.After(time.Millisecond):
		}
	}
	select {
	case <-c.replies: // nobody waited any more
	default:
	}
}

// again starts a keeper in place of one that has ended. It says whether to go on.
func (c *Client) again() bool {
	c.say("the keeper has ended and is started again")
	c.interrupt()
	defer c.mu.Unlock()
	_, _ = unix.Close(c.conn), unix.Close(c.pidfd)
	got, err := c.connect(context.Background())
	if err != nil {
		c.say("%v", err)
		return false
	}
	c.running.Go(c.nameStandBy) // when requests are answered again
	file, err := identify(got.fds[1])
	if err != nil {
		c.say("%v", err)
		return false
	}
	old := c.held.Load()
	if file.inode == old.inode { // the same table and group, taken over
		for _, fd := range got.fds {
			_ = unix.Close(fd)
		}
		c.keepers.Add(1)
		c.scan()
		return true
	}
	c.say("keeper and holder had both ended: reads that wait fail")
	if err := c.use(got.fds); err != nil {
		c.say("%v", err)
		return false
	}
	c.keepers.Add(1)
	old.drain()
	if c.options.Lost != nil {
		go c.options.Lost()
	}
	return true
}

// drain lets the reads of a group whose table is lost fail, rather than see zeros, and closes it.
func (h *held) drain() {
	for i := range eventSlots {
		if p, err := h.table.event(i).parse(); err == nil {
			_ = h.group.Deny(p.FD)
		}
	}
	var p [4096]byte
	for {
		n, err := unix.Read(int(h.group), p[:])
		if err != nil || n <= 0 {
			break
		}
		for rest := p[:n]; len(rest) > 0; {
			e, err := fanotify.Parse(rest)
			if err != nil {
				break
			}
			_ = h.group.Deny(e.FD)
			_ = unix.Close(int(e.FD))
			rest = rest[e.Size:]
		}
	}
	_ = unix.Close(int(h.group))
	poke(h.wake) // whoever waits there looks at the new table
}

// poke wakes whoever reads an eventfd.
func poke(fd int) {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(fd, one[:])
}

func (c *Client) say(format string, args ...any) {
	if c.options.Say != nil {
		c.options.Say(format, args...)
	}
}

// Secrets is memory that outlives the worker and is never on a disk.
func (c *Client) Secrets() *os.File {
	fd, err := unix.FcntlInt(uintptr(c.held.Load().secrets), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), "secrets")
}

// Close detaches. What waits, waits for the next worker. With end true the keeper ends, too, if it has no devices.
func (c *Client) Close(end bool) error {
	if end {
		c.ending.Store(true)
		if _, err := c.ask([]byte("S")); err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, ErrGone) {
			return err
		}
	}
	h := c.held.Load()
	poke(c.stop)
	poke(h.wake)
	c.running.Wait()
	c.handled.Wait()
	// The events that woke nobody wake the next worker, which looks at all of the table anyway.
	return errors.Join(unix.Close(c.conn), unix.Close(c.pidfd), unix.Close(int(h.group)), unix.Close(h.wake), unix.Close(h.secrets), unix.Close(c.folder),
		unix.Close(c.stop), unix.Munmap(h.table.memory))
}
