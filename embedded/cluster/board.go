package cluster

import (
	"os"
	"slices"
	"sync"
	"time"

	"github.com/weft-dev/weft/supervise"
	"github.com/weft-dev/weft/supervise/control"
)

// board collects what is known of the cluster and publishes each change.
type board struct {
	mu     sync.Mutex
	status control.Status
	server *control.Server
}

func newBoard(server *control.Server, state string) *board {
	b := &board{server: server}
	b.status = control.Status{Phase: control.Starting, PID: os.Getpid(), StartedAt: time.Now(), State: state}
	b.update(func(*control.Status) {})
	return b
}

// update changes the status and publishes it.
func (b *board) update(change func(*control.Status)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.status)
	s := b.status
	s.Components = slices.Clone(s.Components)
	s.Steps = slices.Clone(s.Steps)
	s.LoadBalancers = slices.Clone(s.LoadBalancers)
	b.server.Publish(s)
}

func (b *board) phase(p control.Phase) { b.update(func(s *control.Status) { s.Phase = p }) }

func (b *board) fail(err error) {
	b.update(func(s *control.Status) { s.Phase, s.Error = control.Failed, err.Error() })
}

// step records that something is done now.
func (b *board) step(name string) {
	b.update(func(s *control.Status) {
		s.Steps = append(s.Steps, control.Step{Name: name, Seconds: time.Since(s.StartedAt).Seconds()})
	})
}

// component takes over the state of a process.
func (b *board) component(p supervise.Status) {
	b.update(func(s *control.Status) {
		c := control.Component{Name: p.Name, PID: p.PID, State: p.State, Restarts: p.Restarts, Since: p.Since, LastError: p.LastError, Log: p.Log}
		i := slices.IndexFunc(s.Components, func(o control.Component) bool { return o.Name == p.Name })
		if i < 0 {
			s.Components = append(s.Components, c)
			return
		}
		s.Components[i] = c
	})
}
