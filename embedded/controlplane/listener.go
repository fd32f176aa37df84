package controlplane

import (
	"net"
	"sync"
)

// mergedListener accepts from several listeners as one: the API server takes a single listener, but is called from the
// host's loopback and from the node's network namespace.
type mergedListener struct {
	listeners []net.Listener
	accepted  chan accepted
	closed    chan struct{}
	closeOnce sync.Once
}

type accepted struct {
	conn net.Conn
	err  error
}

// newMergedListener takes over the listeners. Its address is the first one's.
func newMergedListener(listeners []net.Listener) net.Listener {
	if len(listeners) == 1 {
		return listeners[0]
	}
	m := &mergedListener{listeners: listeners, accepted: make(chan accepted), closed: make(chan struct{})}
	for _, l := range listeners {
		go m.accept(l)
	}
	return m
}

func (m *mergedListener) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		select {
		case m.accepted <- accepted{conn, err}:
		case <-m.closed:
			if conn != nil {
				conn.Close()
			}
			return
		}
		if err != nil {
			return
		}
	}
}

func (m *mergedListener) Accept() (net.Conn, error) {
	select {
	case a := <-m.accepted:
		return a.conn, a.err
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *mergedListener) Close() error {
	var first error
	m.closeOnce.Do(func() {
		close(m.closed)
		for _, l := range m.listeners {
			if err := l.Close(); err != nil && first == nil {
				first = err
			}
		}
	})
	return first
}

func (m *mergedListener) Addr() net.Addr { return m.listeners[0].Addr() }
