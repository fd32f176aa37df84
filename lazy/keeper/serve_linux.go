package keeper

import (
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// grace is how long a worker may take to end when it is asked to.
const grace = 2 * time.Second

// requestSize is how long a request may be, in bytes: those that name a program and its environment are the longest.
const requestSize = 64 << 10

// serve does what connections ask for.
func (k *keeper) serve(fds []unix.PollFd) {
	if k.waiting == nil && k.standByDue() != 0 && !slices.ContainsFunc(fds, func(f unix.PollFd) bool { return f.Revents != 0 }) && !k.vacant() {
		return
	}
	ready := map[int]bool{}
	for _, f := range fds {
		if f.Revents != 0 {
			ready[int(f.Fd)] = true
		}
	}
	if ready[k.holder] {
		k.holderAgain()
	}
	// Those go first that may have ended: of those that begin to wait now, ready knows what they have just said.
	if k.waiting.in(ready) { // it has nothing to say
		k.gone(k.waiting)
		k.waiting = nil
	}
	k.endedStandBy(ready)
	if w := k.worker; w.in(ready) && !k.ask(w) {
		k.gone(w)
		k.worker = nil
		k.lost()
	}
	if ready[k.listener] {
		k.accept()
	}
	k.greet()
	k.nextStandBy()
	k.succeed()
}

// vacant says that nobody fills what is read, and that a stand-by could.
func (k *keeper) vacant() bool { return k.worker == nil && k.standBy.waits != nil }

// succeed makes a process that waits the worker, if there is none, or sees to it that the present one ends for it.
func (k *keeper) succeed() {
	switch w := k.waiting; {
	case w != nil && k.worker == nil:
		k.waiting = nil
		k.attach(w)
	case w != nil && w.retired.IsZero():
		w.retired = time.Now()
		_ = unix.Sendmsg(k.worker.conn, []byte("R"), nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	case w != nil && time.Since(w.retired) > grace:
		k.say("the worker does not end and is killed")
		_ = unix.PidfdSendSignal(k.worker.pidfd, unix.SIGKILL, nil, 0)
		w.retired = time.Now()
	case k.vacant() && time.Since(k.began) > reunion:
		w := k.standBy.succeeds()
		k.say("process %d, which stood by, fills what is read from now on", w.pid)
		_ = os.Remove(standByFile(k.options.Dir))
		k.attach(w)
	}
}

// in says whether a connection, or the process behind it, has something to say.
func (w *worker) in(ready map[int]bool) bool { return w != nil && (ready[w.conn] || ready[w.pidfd]) }

// poll adds what a connection, nil: none, is to be polled for.
func (w *worker) poll(fds []unix.PollFd) []unix.PollFd {
	if w == nil {
		return fds
	}
	return append(fds, unix.PollFd{Fd: int32(w.conn), Events: unix.POLLIN}, unix.PollFd{Fd: int32(w.pidfd), Events: unix.POLLIN})
}

func (k *keeper) gone(w *worker) {
	_ = unix.Close(w.conn)
	_ = unix.Close(w.pidfd)
}

// maxSilent is how many connections may be without a word.
const maxSilent = 8

// accept takes a connection, which has to say what it wants.
func (k *keeper) accept() {
	fd, _, err := unix.Accept4(k.listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	conn, err := own(fd, err)
	if err != nil {
		return
	}
	cred, err := unix.GetsockoptUcred(conn, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || int(cred.Uid) != os.Getuid() {
		_ = unix.Close(conn)
		return
	}
	pidfd, err := own(unix.PidfdOpen(int(cred.Pid), 0))
	if err != nil {
		_ = unix.Close(conn)
		return
	}
	if len(k.silent) == maxSilent {
		k.gone(k.silent[0])
		k.silent = slices.Delete(k.silent, 0, 1)
	}
	k.silent = append(k.silent, &worker{conn: conn, pid: int(cred.Pid), pidfd: pidfd})
}

// greet hears what new connections want. Of several that want to be the worker the last one counts, and of stand-bys, too.
func (k *keeper) greet() {
	k.silent = slices.DeleteFunc(k.silent, func(w *worker) bool {
		var p [64]byte
		n, _, _, _, err := unix.Recvmsg(w.conn, p[:], nil, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return false
		case err == nil && n > 0 && p[0] == 'A':
			if k.waiting != nil {
				k.gone(k.waiting)
			}
			k.waiting = w
		case err == nil && n > 0 && p[0] == 'B':
			k.standsBy(w)
		default:
			k.gone(w)
		}
		return true
	})
}

// attach makes a connection the worker's.
func (k *keeper) attach(w *worker) {
	k.worker = w
	reply(w.conn, 0, nil, k.own.Group, k.own.Table, k.own.Wake, k.own.Secrets)
}

// reply sends an answer with descriptors.
func reply(conn int, errno unix.Errno, body []byte, fds ...int) {
	p := binary.NativeEndian.AppendUint32(nil, uint32(errno))
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	_ = unix.Sendmsg(conn, append(p, body...), rights, nil, unix.MSG_NOSIGNAL)
}

// ask serves one request; it says whether the worker is still there.
func (k *keeper) ask(w *worker) bool {
	p, rights := k.request, make([]byte, unix.CmsgSpace(4*2*listed))
	n, rn, _, _, err := unix.Recvmsg(w.conn, p, rights, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if errors.Is(err, unix.EAGAIN) {
		return !died(w)
	}
	if err != nil || n == 0 {
		return false
	}
	fds := received(rights[:rn])
	body := p[1:n]
	switch {
	case p[0] == 'D' && len(fds) > 0 && len(body) == len(fds)/2*contentSize:
		slots, err := k.keepAll(body, fds)
		reply(w.conn, errno(err), slots)
		return true
	case p[0] == 'F' && len(body) == 32 && len(fds) == 2:
		slot, err := k.keepConnection([32]byte(body), fds)
		reply(w.conn, errno(err), binary.NativeEndian.AppendUint32(nil, uint32(slot)))
		return true
	case p[0] == 'G' && len(body) == 4:
		d := k.table.device(slotIn(body))
		if d.kind() != slotFree {
			reply(w.conn, 0, nil, d.content(), d.present())
		} else {
			reply(w.conn, unix.ENOENT, nil)
		}
	case p[0] == 'M' && len(body) > 0 && len(body)%8 == 0:
		for ; len(body) > 0; body = body[8:] {
			k.table.device(slotIn(body)).setNumber(12, int(binary.NativeEndian.Uint32(body[4:])))
		}
		reply(w.conn, 0, nil)
	case p[0] == 'X' && len(body) > 0 && len(body)%4 == 0:
		for ; len(body) > 0; body = body[4:] {
			k.forget(slotIn(body))
		}
		reply(w.conn, 0, nil)
	case p[0] == 'P' && len(fds) == 0:
		reply(w.conn, errno(k.standBy.know(body)), nil)
	case p[0] == 'S' && len(body) == 0:
		k.end(w)
	default:
		reply(w.conn, unix.EINVAL, nil)
	}
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
	return true
}

func slotIn(p []byte) int { return int(binary.NativeEndian.Uint32(p) % deviceSlots) }

// died says whether the worker's process has ended; another process may still have its socket.
func died(w *worker) bool {
	fds := []unix.PollFd{{Fd: int32(w.pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

func errno(err error) unix.Errno {
	var e unix.Errno
	if err == nil || errors.As(err, &e) {
		return e
	}
	return unix.EIO
}

func received(rights []byte) []int {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) == 0 {
		return nil
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil
	}
	return fds
}

// keepAll takes the descriptors of devices, all of them or none, and gives their slots.
func (k *keeper) keepAll(body []byte, fds []int) (slots []byte, err error) {
	for ; len(body) > 0; body, fds = body[contentSize:], fds[2:] {
		slot, err := k.keep([32]byte(body[:32]), int64(binary.NativeEndian.Uint64(body[32:])), int(body[40]), fds[:2])
		if err != nil {
			for _, fd := range fds[2:] {
				_ = unix.Close(fd)
			}
			for ; len(slots) > 0; slots = slots[4:] {
				k.forget(slotIn(slots))
			}
			return nil, err
		}
		slots = binary.NativeEndian.AppendUint32(slots, uint32(slot))
	}
	return slots, nil
}

// keep takes the descriptors of a device.
func (k *keeper) keep(key [32]byte, blocks int64, marked int, fds []int) (int, error) {
	file, err := identify(fds[0])
	content, err1 := hold(fds[0], nil)
	present, err2 := hold(fds[1], nil)
	if err := errors.Join(err, err1, err2); err != nil {
		return 0, err
	}
	i := k.freeSlot()
	if i == deviceSlots || blocks < 0 || blocks > 1<<32 {
		return 0, errors.Join(unix.ENOSPC, unix.Close(content), unix.Close(present))
	}
	k.table.device(i).set(key, blocks, file, content, present)
	k.used++
	k.table.device(i).setNumber(12, marked)
	if err := k.know(i); err != nil {
		k.forget(i)
		return 0, err
	}
	return i, nil
}

// freeSlot is the first slot that holds nothing, deviceSlots if there is none.
func (k *keeper) freeSlot() int {
	i := 0
	for ; i < deviceSlots && k.table.device(i).kind() != slotFree; i++ {
	}
	return i
}

// keepConnection takes the descriptors of a connection to FUSE. Nobody but the worker reads from it.
func (k *keeper) keepConnection(name [32]byte, fds []int) (int, error) {
	device, err1 := hold(fds[0], nil)
	memory, err2 := hold(fds[1], nil)
	if err := errors.Join(err1, err2); err != nil {
		return 0, err
	}
	i := k.freeSlot()
	if i == deviceSlots {
		return 0, errors.Join(unix.ENOSPC, unix.Close(device), unix.Close(memory))
	}
	k.table.device(i).setConnection(name, device, memory)
	k.used++
	return i, nil
}

// forget closes the descriptors of a device or connection.
func (k *keeper) forget(i int) {
	d := k.table.device(i)
	kind := d.kind()
	if kind == slotFree {
		return
	}
	d.setNumber(0, slotFree)
	k.used--
	if kind == slotConnection {
		_, _ = unix.Close(d.content()), unix.Close(d.present())
		return
	}
	delete(k.devices, d.file())
	if b, ok := k.bits[i]; ok {
		delete(k.bits, i)
		if len(b.memory) > 0 {
			_ = unix.Munmap(b.memory)
		}
	}
	_ = unix.Close(d.content())
	_ = unix.Close(d.present())
	for _, e := range k.open {
		if k.table.event(e).deviceSlot() == i {
			k.table.event(e).setDeviceSlot(-1)
		}
	}
}

// end ends keeper, holder and stand-by, if there is nothing to be kept.
func (k *keeper) end(w *worker) {
	if k.used > 0 {
		reply(w.conn, unix.EBUSY, nil)
		return
	}
	k.ended = true
	k.standBy.end()
	err := errors.Join(os.Remove(holderFile(k.options.Dir)), unix.Kill(k.own.PID, unix.SIGKILL))
	_, _ = unix.Wait4(k.own.PID, nil, 0, nil)
	reply(w.conn, errno(err), nil)
}
