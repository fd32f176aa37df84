package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Changes hold the file `lock` shared, the collection holds it exclusively. Whoever asks passes `gate` first, and a
// collection keeps the gate while it waits, so that a steady stream of changes cannot keep it waiting for ever. The
// kernel drops the locks of a process that dies. Shared locks are held for milliseconds: never while content streams.

// locked runs f with the store locked.
func (s *Store) locked(ctx context.Context, exclusive bool, f func() error) error {
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	gate, err := s.flock(ctx, "gate", how)
	if err != nil {
		return err
	}
	lock, err := s.flock(ctx, "lock", how)
	gate.Close()
	if err != nil {
		return err
	}
	defer lock.Close()
	return f()
}

// flock opens name in the store's folder and locks it; closing the file unlocks it.
func (s *Store) flock(ctx context.Context, name string, how int) (*os.File, error) {
	path := filepath.Join(s.dir, name)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, s.explain(err)
	}
	if err := flock(ctx, f, how); err != nil {
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return f, nil
}

// flock locks f or closes it. When ctx ends first, the lock is given back as soon as it arrives.
func flock(ctx context.Context, f *os.File, how int) error {
	if err := ctx.Err(); err != nil {
		f.Close()
		return err
	}
	if tryFlock(f, how) == nil {
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- ignoringEINTR(func() error { return unix.Flock(int(f.Fd()), how) }) }()
	select {
	case err := <-done:
		if err != nil {
			f.Close()
		}
		return err
	case <-ctx.Done():
		go func() {
			<-done //nolint:errcheck // the lock is given up either way
			f.Close()
		}()
		return ctx.Err()
	}
}

// tryFlock locks f if nobody is in the way, else it returns unix.EWOULDBLOCK.
func tryFlock(f *os.File, how int) error {
	return ignoringEINTR(func() error { return unix.Flock(int(f.Fd()), how|unix.LOCK_NB) })
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
