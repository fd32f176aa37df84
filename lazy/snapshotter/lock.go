//go:build linux

package snapshotter

import (
	"context"
	"sync"
)

// keyed is a lock for each key. The zero value is ready.
type keyed struct {
	mu   sync.Mutex
	held map[string]*heldLock
}

type heldLock struct {
	ch    chan struct{} // holds one token while the lock is free
	users int
}

// lock waits for the lock of a key and returns what unlocks it.
func (k *keyed) lock(ctx context.Context, key string) (func(), error) {
	k.mu.Lock()
	h := k.held[key]
	if h == nil {
		h = &heldLock{ch: make(chan struct{}, 1)}
		h.ch <- struct{}{}
		if k.held == nil {
			k.held = map[string]*heldLock{}
		}
		k.held[key] = h
	}
	h.users++
	k.mu.Unlock()
	leave := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if h.users--; h.users == 0 {
			delete(k.held, key)
		}
	}
	select {
	case <-h.ch:
		return func() { h.ch <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
