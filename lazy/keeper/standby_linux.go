package keeper

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// standBy is a process that is the worker as soon as there is none. The keeper starts it, because workers may end for good.
type standBy struct {
	args, env []string // of its program; none: there is no stand-by

	waits  *worker // it is ready
	starts int     // process that was started and is not ready; 0: none
	pidfd  int     // of that

	since time.Time     // when the last one was started
	due   time.Time     // when the next one may be started
	pause time.Duration // between the end of one and the start of the next
}

const (
	// reunion is how long a new keeper waits for the worker of an earlier one before a stand-by counts. Both learn of that one's end at the same time.
	reunion = 150 * time.Millisecond
	// After a stand-by that has ended soon the next one waits twice as long as the one before, within these bounds.
	shortestPause = 50 * time.Millisecond
	longestPause  = 10 * time.Second
)

// know takes the program of stand-bys from a request: arguments, an empty one, and the environment, each ended by a 0. One of another program is
// ended, for a new one.
func (s *standBy) know(body []byte) error {
	first, second, ok := bytes.Cut(body, []byte{0, 0})
	if !ok && len(body) > 0 {
		return unix.EINVAL
	}
	args, env := texts(first), texts(second)
	if len(args) > 0 && !filepath.IsAbs(args[0]) {
		return unix.EINVAL
	}
	same := slices.Equal(s.args, args) && slices.Equal(s.env, env)
	if len(s.args) == 0 && s.waits != nil { // of an earlier keeper
		same = slices.Equal(arguments(s.waits.pid), args)
	}
	s.args, s.env = args, env
	if !same {
		s.due, s.pause = time.Time{}, 0
		s.kill()
	}
	return nil
}

func texts(p []byte) []string {
	if len(p) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(p), "\x00"), "\x00")
}

// arguments are those that a process was started with.
func arguments(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return nil
	}
	return texts(b)
}

func (s *standBy) kill() {
	if s.waits != nil {
		_ = unix.PidfdSendSignal(s.waits.pidfd, unix.SIGKILL, nil, 0)
	}
	if s.starts > 0 {
		_ = unix.PidfdSendSignal(s.pidfd, unix.SIGKILL, nil, 0)
	}
}

// standByDue is in how many milliseconds one is to be started; 0: now; -1: not without something else that happens, such as the first mount, before which there is
// nothing that a stand-by could fill.
func (k *keeper) standByDue() int {
	s := &k.standBy
	if k.used == 0 || len(s.args) == 0 || s.waits != nil || s.starts > 0 {
		return -1
	}
	return int(max(0, time.Until(s.due)+time.Millisecond-1) / time.Millisecond)
}

// over says that the present one has ended, or is no stand-by any more.
func (s *standBy) over() {
	s.pause = min(max(2*s.pause, shortestPause), longestPause)
	if time.Since(s.since) > longestPause {
		s.pause = shortestPause
	}
	s.due = time.Now().Add(s.pause)
}

// succeeds is the stand-by that becomes the worker.
func (s *standBy) succeeds() *worker {
	w := s.waits
	s.waits, s.pause, s.due = nil, 0, time.Now().Add(shortestPause)
	return w
}

// end ends the present one and waits for its end.
func (s *standBy) end() {
	s.args = nil
	s.kill()
	var fds []unix.PollFd
	if s.waits != nil {
		fds = append(fds, unix.PollFd{Fd: int32(s.waits.pidfd), Events: unix.POLLIN})
	}
	if s.starts > 0 {
		fds = append(fds, unix.PollFd{Fd: int32(s.pidfd), Events: unix.POLLIN})
	}
	if len(fds) > 0 {
		_, _ = unix.Poll(fds, 1000)
	}
	reap()
}

// reap lets the kernel forget children that have ended.
func reap() {
	for {
		if n, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != nil || n <= 0 {
			return
		}
	}
}

// standsBy takes the connection of a stand-by.
func (k *keeper) standsBy(w *worker) {
	s := &k.standBy
	if s.waits != nil {
		k.gone(s.waits) // by which it ends
	}
	s.waits = w
	if s.starts == w.pid {
		_ = unix.Close(s.pidfd)
		s.starts = 0
	}
	k.tellStandBy(w.pid)
}

// endedStandBy sees the end of a stand-by.
func (k *keeper) endedStandBy(ready map[int]bool) {
	s := &k.standBy
	if s.waits.in(ready) { // it has nothing to say
		k.gone(s.waits)
		s.waits = nil
		s.over()
	}
	if s.starts > 0 && ready[s.pidfd] {
		_ = unix.Close(s.pidfd)
		s.starts = 0
		s.over()
	}
	reap()
}

// nextStandBy starts one, if it is time.
func (k *keeper) nextStandBy() {
	if k.standByDue() != 0 {
		return
	}
	s := &k.standBy
	s.since = time.Now()
	if err := k.startStandBy(); err != nil {
		k.say("no stand-by can be started: %v", err)
		s.over()
	}
}

func (k *keeper) startStandBy() error {
	s := &k.standBy
	pid, err := syscall.ForkExec(s.args[0], s.args, &syscall.ProcAttr{Dir: "/", Env: s.env, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		return fmt.Errorf("%s: %w", s.args[0], err)
	}
	s.pidfd, err = own(unix.PidfdOpen(pid, 0))
	if err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		return err
	}
	s.starts = pid
	k.move(pid, standByGroup)
	return nil
}

func standByFile(dir string) string { return filepath.Join(dir, "stand-by.json") }

// tellStandBy writes down for people which process stands by. It is not flushed.
func (k *keeper) tellStandBy(pid int) {
	name := standByFile(k.options.Dir)
	_ = os.Remove(name) // the kernel would flush a file that is renamed over another one, and readers wait for this process
	start, err := startTime(pid)
	if err != nil {
		return
	}
	b, err := json.Marshal(process{pid, start})
	if err == nil {
		err = os.WriteFile(name+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(name+".new", name)
	}
	if err != nil {
		k.say("who stands by cannot be told: %v", err)
	}
}
