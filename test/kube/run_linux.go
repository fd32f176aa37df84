package kube

import (
	"runtime"
	"syscall"
)

// run starts the program and waits for its end. The kernel ends it when the thread that started it ends, so the thread
// is kept for as long as the test binary lives.
func (s *server) run(started chan<- error) {
	runtime.LockOSThread()
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	err := s.cmd.Start()
	started <- err
	if err == nil {
		s.ended <- s.cmd.Wait()
	}
}
