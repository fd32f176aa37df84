package balancer

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	dialPatience = 10 * time.Second
	udpIdle      = time.Minute // after which a UDP client is forgotten
	udpClients   = 1024        // of one port at a time
)

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// forward is an open port on the host, with a listener on each address.
type forward struct {
	port    int
	target  atomic.Pointer[string]
	cancel  context.CancelFunc
	closers []io.Closer
	group   sync.WaitGroup
}

func newForward(port int, target string) (*forward, context.Context) {
	ctx, cancel := context.WithCancel(context.Background())
	f := &forward{port: port, cancel: cancel}
	f.setTarget(target)
	return f, ctx
}

func (f *forward) setTarget(address string) { f.target.Store(&address) }

// close frees the port and ends all its connections.
func (f *forward) close() {
	f.cancel()
	for _, c := range f.closers {
		_ = c.Close() // it is not used any more, whatever it says
	}
	f.group.Wait()
}

func forwardTCP(listeners []net.Listener, dial dialer, target string) *forward {
	f, ctx := newForward(portOf(listeners[0].Addr()), target)
	for _, l := range listeners {
		f.closers = append(f.closers, l)
		f.group.Go(func() { f.accept(ctx, l, dial) })
	}
	return f
}

// accept serves the connections of one listener until it is closed.
func (f *forward) accept(ctx context.Context, l net.Listener, dial dialer) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // for example no file descriptor is left: connections end and free some
			select {
			case <-ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		f.group.Go(func() { f.serve(ctx, conn, dial) })
	}
}

// serve copies in both directions until both have ended. What one side has finished sending is told to the other.
func (f *forward) serve(ctx context.Context, client net.Conn, dial dialer) {
	defer client.Close()
	dialCtx, cancel := context.WithTimeout(ctx, dialPatience)
	server, err := dial(dialCtx, "tcp", *f.target.Load())
	cancel()
	if err != nil {
		if tcp, ok := client.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // the client sees a reset, as from a port where nothing listens
		}
		return
	}
	defer server.Close()
	stop := context.AfterFunc(ctx, func() {
		client.Close()
		server.Close()
	})
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { transfer(server, client) })
	both.Go(func() { transfer(client, server) })
	both.Wait()
}

func transfer(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok && err == nil {
		_ = half.CloseWrite() // fails if the other side has gone: then there is nobody to tell
		return
	}
	to.Close()
	from.Close()
}

func forwardUDP(conns []net.PacketConn, dial dialer, target string) *forward {
	f, ctx := newForward(portOf(conns[0].LocalAddr()), target)
	for _, conn := range conns {
		f.closers = append(f.closers, conn)
		u := &udpForward{forward: f, conn: conn, dial: dial, clients: map[string]*udpClient{}}
		f.group.Go(func() { u.run(ctx) })
	}
	return f
}

// udpForward gives each client a socket of its own towards the cluster, by which answers find their way back.
type udpForward struct {
	*forward
	conn    net.PacketConn
	dial    dialer
	mu      sync.Mutex
	clients map[string]*udpClient
}

type udpClient struct {
	conn net.Conn
	last atomic.Int64 // Unix nanoseconds
}

func (u *udpForward) run(ctx context.Context) {
	buffer := make([]byte, 64<<10)
	for {
		n, from, err := u.conn.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			break
		}
		if err != nil {
			continue
		}
		if c := u.client(ctx, from); c != nil {
			c.last.Store(time.Now().UnixNano())
			_, _ = c.conn.Write(buffer[:n]) // UDP promises nothing
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, c := range u.clients {
		c.conn.Close()
	}
}

func (u *udpForward) client(ctx context.Context, from net.Addr) *udpClient {
	u.mu.Lock()
	defer u.mu.Unlock()
	if c := u.clients[from.String()]; c != nil {
		return c
	}
	if len(u.clients) >= udpClients || ctx.Err() != nil {
		return nil
	}
	conn, err := u.dial(ctx, "udp", *u.target.Load())
	if err != nil {
		return nil
	}
	c := &udpClient{conn: conn}
	c.last.Store(time.Now().UnixNano())
	u.clients[from.String()] = c
	u.group.Go(func() { u.answer(from, c) })
	return c
}

// answer carries answers back until the client has been silent for a while.
func (u *udpForward) answer(to net.Addr, c *udpClient) {
	defer func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.clients, to.String())
		c.conn.Close()
	}()
	buffer := make([]byte, 64<<10)
	for {
		_ = c.conn.SetReadDeadline(time.Now().Add(udpIdle)) // fails only on a closed socket, which Read tells
		n, err := c.conn.Read(buffer)
		var timeout net.Error
		switch {
		case err == nil:
			_, _ = u.conn.WriteTo(buffer[:n], to)
		case errors.As(err, &timeout) && timeout.Timeout() && time.Since(time.Unix(0, c.last.Load())) < udpIdle:
		default:
			return
		}
	}
}
