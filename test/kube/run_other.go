//go:build !linux

package kube

// run starts the program and waits for its end. A killed test binary leaves it behind here.
func (s *server) run(started chan<- error) {
	err := s.cmd.Start()
	started <- err
	if err == nil {
		s.ended <- s.cmd.Wait()
	}
}
