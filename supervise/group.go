package supervise

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// Group is a set of processes that are stopped in the reverse order of their start. The zero value is an empty group.
type Group struct {
	mu        sync.Mutex
	processes []*Process
}

// Start starts a process as Start does and adds it to the group.
func (g *Group) Start(ctx context.Context, spec Spec) (*Process, error) {
	p, err := Start(ctx, spec)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.processes = append(g.processes, p)
	return p, nil
}

// Status returns a snapshot of each process, in the order of their start.
func (g *Group) Status() []Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]Status, len(g.processes))
	for i, p := range g.processes {
		list[i] = p.Status()
	}
	return list
}

// Stop stops the processes one after another, the youngest first, and empties the group. When ctx ends, the rest is killed.
func (g *Group) Stop(ctx context.Context) error {
	g.mu.Lock()
	processes := g.processes
	g.processes = nil
	g.mu.Unlock()
	var errs []error
	for i := len(processes) - 1; i >= 0; i-- {
		errs = append(errs, processes[i].Stop(ctx))
	}
	return errors.Join(errs...)
}

// StopNamed stops the process of that name and takes it out of the group. It returns the process, or nil when the group has
// none of that name.
func (g *Group) StopNamed(ctx context.Context, name string) *Process {
	g.mu.Lock()
	i := slices.IndexFunc(g.processes, func(p *Process) bool { return p.spec.Name == name })
	if i < 0 {
		g.mu.Unlock()
		return nil
	}
	p := g.processes[i]
	g.processes = slices.Delete(g.processes, i, i+1)
	g.mu.Unlock()
	_ = p.Stop(ctx) // what does not end is killed with its control group
	return p
}
