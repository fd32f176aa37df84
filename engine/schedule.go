package engine

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"
)

// schedule runs tasks 0..n-1, each when all it waits for are done, with so many workers. No goroutine waits for a task:
// counters of unfinished needs say when one is ready.
type schedule struct {
	waiting    []atomic.Int32 // unfinished needs
	dependents [][]int
	blocked    []atomic.Bool // a need failed
}

func newSchedule(n int) *schedule {
	return &schedule{waiting: make([]atomic.Int32, n), dependents: make([][]int, n), blocked: make([]atomic.Bool, n)}
}

// after makes the task wait for the need.
func (s *schedule) after(task, need int) {
	s.waiting[task].Add(1)
	s.dependents[need] = append(s.dependents[need], task)
}

// breakCycles removes edges of the given kind that lie on cycles, so that every task can run, and says whether it did.
func (s *schedule) breakCycles(removable func(task, need int) bool) bool {
	left := make([]int32, len(s.waiting))
	var ready []int
	for i := range s.waiting {
		if left[i] = s.waiting[i].Load(); left[i] == 0 {
			ready = append(ready, i)
		}
	}
	seen := 0
	for len(ready) > 0 {
		i := ready[len(ready)-1]
		ready = ready[:len(ready)-1]
		seen++
		for _, d := range s.dependents[i] {
			if left[d]--; left[d] == 0 {
				ready = append(ready, d)
			}
		}
	}
	if seen == len(left) {
		return false
	}
	for need, dependents := range s.dependents {
		var kept []int
		for _, task := range dependents {
			if left[need] > 0 && left[task] > 0 && removable(task, need) {
				s.waiting[task].Add(-1)
				continue
			}
			kept = append(kept, task)
		}
		s.dependents[need] = kept
	}
	return true
}

// run does the tasks. do says whether those that wait for the task may run; tasks behind one that says no are given to
// skip instead. When stop is closed no further task begins; those are given to skip too. run returns when all are done.
//
// Of what can run from the start each worker gets a stretch of its own: neighbours are often alike, and a server that does one thing after
// the other, as Kubernetes gives out addresses of Services, would hold up all workers at once.
func (s *schedule) run(ctx context.Context, workers int, stop <-chan struct{}, do func(ctx context.Context, i int) bool, skip func(i int)) {
	n := len(s.waiting)
	if n == 0 {
		return
	}
	ready := make(chan int, n) // holds every task at most once, so that sending never blocks
	for i := range spread(s.free(), workers) {
		ready <- i
	}
	var finished atomic.Int64
	var all sync.WaitGroup
	for range min(workers, n) {
		all.Go(func() {
			for i := range ready {
				ok := false
				if s.blocked[i].Load() || stopped(ctx, stop) {
					skip(i)
				} else {
					ok = do(ctx, i)
				}
				for _, d := range s.dependents[i] {
					if !ok {
						s.blocked[d].Store(true)
					}
					if s.waiting[d].Add(-1) == 0 {
						ready <- d
					}
				}
				if finished.Add(1) == int64(n) {
					close(ready)
				}
			}
		})
	}
	all.Wait()
}

// free lists the tasks that wait for nothing.
func (s *schedule) free() []int {
	var free []int
	for i := range s.waiting {
		if s.waiting[i].Load() == 0 {
			free = append(free, i)
		}
	}
	return free
}

// spread cuts a list into a stretch for each worker and gives the first of all stretches, then the second of all, and so on.
func spread(list []int, workers int) iter.Seq[int] {
	return func(yield func(int) bool) {
		stretch := (len(list) + workers - 1) / workers
		for offset := range stretch {
			for i := offset; i < len(list); i += stretch {
				if !yield(list[i]) {
					return
				}
			}
		}
	}
}

func stopped(ctx context.Context, stop <-chan struct{}) bool {
	select {
	case <-ctx.Done():
		return true
	case <-stop:
		return true
	default:
		return false
	}
}
