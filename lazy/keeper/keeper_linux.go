package keeper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/lazy/cache"
	"github.com/weft-dev/weft/lazy/fanotify"
)

// Options of a keeper.
type Options struct {
	Dir      string        // the folder run of the state
	Deadline time.Duration // after which an event that nobody answers is answered with EIO; 0 means 35 s
	// Cgroup is the name of the control group for the keeper; the holder gets one of that name with -holder behind it, and stand-bys one with -stand-by.
	// Empty: they stay where they are.
	Cgroup string
	Say    func(format string, args ...any)
}

// keeper is the state of the process. Everything happens in one goroutine.
type keeper struct {
	options  Options
	folder   int
	group    fanotify.Group
	table    *table
	own      holder // descriptors
	listener int
	holder   int // pidfd
	began    time.Time
	silent   []*worker // have not said yet what they want
	worker   *worker
	waiting  *worker // wants to be the worker when the present one has ended
	standBy  standBy
	used     int    // slots of devices and connections
	request  []byte // room for one

	devices map[fileID]int // slots
	bits    map[int]presence
	freed   []int // free slots of events
	open    []int // slots of events that wait
	ended   bool
	stat    unix.Stat_t // of the file of an event: made once, for events are many
}

// presence is what is present of a device, and what of it was read while it was watched.
type presence struct {
	memory []byte
	bits   cache.Bits
	read   cache.Bits
}

// worker is a connection.
type worker struct {
	conn    int
	pid     int
	pidfd   int
	retired time.Time // when it was asked to end
}

// Run is the keeper. It returns when a worker asks it to end; then the folder has no keeper and no holder.
func Run(o Options) error {
	runtime.LockOSThread()
	if o.Deadline == 0 {
		o.Deadline = 35 * time.Second
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return err
	}
	done, err := alone(o.Dir)
	if err != nil {
		return err
	}
	k := &keeper{options: o, devices: map[fileID]int{}, bits: map[int]presence{}, request: make([]byte, requestSize), began: time.Now()}
	if err := errors.Join(k.begin(), done()); err != nil {
		return err
	}
	err = k.loop()
	if o.Cgroup != "" {
		k.removeGroups()
	}
	return err
}

// begin gets everything from the holder of an earlier keeper, or makes it anew, and starts a holder.
func (k *keeper) begin() error {
	old, err := readHolder(k.options.Dir)
	if err != nil {
		return err
	}
	if err := reserve(); err != nil {
		return err
	}
	if k.folder, err = own(unix.Open(k.options.Dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)); err != nil {
		return err
	}
	if old != nil {
		err = k.takeOver(old)
	} else {
		err = k.fresh()
	}
	if err != nil {
		return err
	}
	if err := k.listen(); err != nil {
		return err
	}
	if err := k.startHolder(); err != nil {
		return err
	}
	if old != nil {
		return unix.Kill(old.PID, unix.SIGKILL)
	}
	return nil
}

// separate moves this process and the holder to control groups of their own.
func (k *keeper) separate() {
	k.move(os.Getpid(), "")
	k.move(k.own.PID, holderGroup)
}

// What is added to the name of the keeper's control group for the other processes.
const (
	holderGroup  = "-holder"
	standByGroup = "-stand-by"
)

// move moves a process to a control group of its own.
func (k *keeper) move(pid int, suffix string) {
	if k.options.Cgroup == "" {
		return
	}
	err := enterCgroup(k.options.Cgroup+suffix, pid)
	if errors.Is(err, os.ErrNotExist) { // a keeper that ends has just removed it
		err = enterCgroup(k.options.Cgroup+suffix, pid)
	}
	if err != nil {
		k.say("process %d stays in its control group: %v", pid, err)
	}
}

func (k *keeper) say(format string, args ...any) {
	if k.options.Say != nil {
		k.options.Say(format, args...)
	}
}

// fresh makes what a keeper holds.
func (k *keeper) fresh() error {
	g, err := fanotify.New()
	if err != nil {
		// Connections to FUSE are kept all the same. What is never readable stands for the group.
		k.say("no events of files can be kept: %v", err)
		n, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		if err != nil {
			return err
		}
		g = fanotify.Group(n)
	}
	if k.own.Group, err = hold(int(g), nil); err != nil {
		return err
	}
	if k.own.Table, err = hold(memory("weft-events", tableSize)); err != nil {
		return err
	}
	m, err := mapped(k.own.Table, tableSize)
	if err != nil {
		return err
	}
	k.table = newTable(m)
	if k.own.Wake, err = hold(unix.Eventfd(0, unix.EFD_CLOEXEC)); err != nil {
		return err
	}
	if k.own.Secrets, err = hold(unix.MemfdCreate("weft-secrets", unix.MFD_CLOEXEC)); err != nil {
		return err
	}
	k.group = fanotify.Group(k.own.Group)
	for i := range eventSlots {
		k.freed = append(k.freed, i)
	}
	return nil
}

// takeOver gets everything from the holder of a keeper that has ended.
func (k *keeper) takeOver(old *holder) error {
	pidfd, err := own(unix.PidfdOpen(old.PID, 0))
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	k.own = *old
	for _, n := range []int{old.Table, old.Group, old.Wake, old.Secrets} {
		if err := old.take(pidfd, n, n); err != nil {
			return err
		}
	}
	m, err := mapped(k.own.Table, tableSize)
	if err != nil {
		return err
	}
	if k.table, err = openTable(m); err != nil {
		return err
	}
	k.group = fanotify.Group(k.own.Group)
	for i := range deviceSlots {
		d := k.table.device(i)
		if d.kind() == slotFree {
			continue
		}
		k.used++
		err := errors.Join(old.take(pidfd, d.content(), d.content()), old.take(pidfd, d.present(), d.present()))
		if err == nil && d.used() {
			err = k.know(i)
		}
		if err != nil {
			return err
		}
	}
	events := 0
	for i := range eventSlots {
		e := k.table.event(i)
		if !e.filled() {
			e.clear()
			k.freed = append(k.freed, i)
			continue
		}
		parsed, err := e.parse()
		if err == nil {
			err = old.take(pidfd, int(parsed.FD), int(parsed.FD))
		}
		if err != nil { // it was answered and closed
			e.clear()
			k.freed = append(k.freed, i)
			continue
		}
		events++
		if _, state := e.load(); state == free {
			k.arrived(i)
		} else {
			k.open = append(k.open, i)
		}
	}
	k.lost()
	k.say("took over %d devices and %d waiting events from process %d", len(k.devices), events, old.PID)
	return nil
}

// know maps what is present of a device.
func (k *keeper) know(i int) error {
	d := k.table.device(i)
	m, err := mapped(d.present(), mapSize(d.blocks()))
	if err != nil {
		return err
	}
	present, read := split(m, d.blocks())
	k.bits[i] = presence{m, present, read}
	k.devices[d.file()] = i
	return nil
}

func (k *keeper) listen() error {
	fd, err := own(unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0))
	if err != nil {
		return err
	}
	k.listener = fd
	name := filepath.Join(k.options.Dir, "keeper.sock")
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := unix.Bind(fd, inFolder(k.folder, "keeper.sock")); err != nil {
		return fmt.Errorf("listening on %s: %w", name, err)
	}
	if err := os.Chmod(name, 0o600); err != nil {
		return err
	}
	return unix.Listen(fd, 8)
}

// loop serves until it is told to end.
func (k *keeper) loop() error {
	var fds []unix.PollFd
	events := false // there were some the last time
	for !k.ended {
		fds = append(fds[:0], unix.PollFd{Fd: int32(k.listener), Events: unix.POLLIN}, unix.PollFd{Fd: int32(k.holder), Events: unix.POLLIN})
		for _, w := range [...]*worker{k.worker, k.waiting, k.standBy.waits} {
			fds = w.poll(fds)
		}
		for _, w := range k.silent {
			fds = w.poll(fds)
		}
		if k.standBy.starts > 0 {
			fds = append(fds, unix.PollFd{Fd: int32(k.standBy.pidfd), Events: unix.POLLIN})
		}
		n := len(fds)
		if len(k.freed) > 0 {
			fds = append(fds, unix.PollFd{Fd: int32(k.group), Events: unix.POLLIN})
		}
		if err := k.wait(fds, events); err != nil {
			return err
		}
		if events = len(fds) > n && fds[n].Revents != 0; events {
			k.read()
		}
		k.sweep()
		k.serve(fds[:n])
	}
	return nil
}

// wait waits until one of the descriptors is ready, or for as long as the loop may sleep. After an event it does not tell Go's scheduler: each time a
// thread comes back from a wait that the scheduler knows of, another thread is woken to look after it, and both processors are needed, one for
// this process and one for whoever reads. After 10 ms the scheduler interrupts such a wait.
func (k *keeper) wait(fds []unix.PollFd, events bool) error {
	patience := k.patience()
	if events && patience < 0 {
		n, _, e := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&fds[0])), uintptr(len(fds)), 0, 0, 0, 0) //nolint:gosec // as the system call wants it
		if n > 0 && e == 0 {
			return nil
		}
	}
	_, err := unix.Poll(fds, patience)
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	return err
}

// patience is how long the loop may sleep, in milliseconds.
func (k *keeper) patience() int {
	if len(k.open) > 0 || k.waiting != nil || k.worker == nil && k.standBy.waits != nil {
		return 20
	}
	return k.standByDue()
}

// read takes events from the kernel, as long as there are any and slots for them.
func (k *keeper) read() {
	for len(k.freed) > 0 {
		i := k.freed[len(k.freed)-1]
		n, err := unix.Read(int(k.group), k.table.event(i).buffer())
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			return
		}
		k.freed = k.freed[:len(k.freed)-1]
		k.arrived(i)
	}
}

// arrived deals with an event that the kernel has written to a slot: one whose content is present is answered at once.
func (k *keeper) arrived(i int) {
	e := k.table.event(i)
	p, err := e.parse()
	if err != nil || p.FD < 0 {
		k.say("an event is not readable: %v", err)
		e.clear()
		k.freed = append(k.freed, i)
		return
	}
	file, err := identifyWith(&k.stat, int(p.FD))
	slot, known := k.devices[file]
	if err != nil || !known {
		slot = -1
	}
	if slot >= 0 && p.Count >= 0 && k.present(slot, p.Offset, p.Count) {
		k.answered(k.group.Allow(p.FD))
		k.let(i, p.FD)
		return
	}
	number, _ := e.load()
	e.setDeviceSlot(slot)
	e.setFile(file)
	e.setArrival(now())
	atomic.StoreUint64(e.state(), (number+1)<<8|pending)
	k.open = append(k.open, i)
	k.table.announce(i)
	k.wake()
}

func (k *keeper) present(slot int, offset, count int64) bool {
	blocks := k.table.device(slot).blocks()
	first, end := offset/chunk.Block, min((offset+count+chunk.Block-1)/chunk.Block, blocks)
	if first >= end {
		return true
	}
	k.bits[slot].read.Set(first, end)
	return k.bits[slot].bits.All(first, end)
}

// answered says why an event could not be answered. That nobody waits any more is no reason.
func (k *keeper) answered(err error) {
	if err != nil && !errors.Is(err, unix.ENOENT) {
		k.say("an event cannot be answered: %v", err)
	}
}

// release makes a slot free and closes the event's descriptor, whose number may be that of another event from then on.
func (k *keeper) release(i int) {
	fd := int32(-1)
	if p, err := k.table.event(i).parse(); err == nil {
		fd = p.FD
	}
	k.let(i, fd)
}

func (k *keeper) let(i int, fd int32) {
	k.table.event(i).clear()
	if fd >= 0 {
		_ = unix.Close(int(fd))
	}
	k.freed = append(k.freed, i)
}

func (k *keeper) wake() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(k.own.Wake, one[:])
}

// sweep closes events that are answered, and answers those that waited for too long.
func (k *keeper) sweep() {
	left := k.open[:0]
	for _, i := range k.open {
		e := k.table.event(i)
		number, state := e.load()
		if state == pending && now()-e.arrival() > int64(k.options.Deadline) && e.move(number, pending, answering) {
			if p, err := e.parse(); err == nil {
				k.say("an event was not answered within %s: its read fails", k.options.Deadline)
				k.answered(k.group.Deny(p.FD))
			}
			e.move(number, answering, answered)
			state = answered
		}
		if state == answered {
			k.release(i)
			continue
		}
		left = append(left, i)
	}
	k.open = left
}

// lost gives back the events that a worker was answering when it ended. That one of them is answered twice does no harm: its number is still
// taken.
func (k *keeper) lost() {
	for _, i := range k.open {
		e := k.table.event(i)
		if number, state := e.load(); state == answering {
			e.move(number, answering, pending)
		}
	}
}

func now() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return t.Nano()
}
