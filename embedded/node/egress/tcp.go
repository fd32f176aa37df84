//go:build linux

package egress

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// dialTimeout bounds a connection attempt on the host; the client in the
// namespace usually gives up before.
const dialTimeout = 130 * time.Second

// synTable remembers the sequence numbers of connections being opened: an
// ICMP error is believed only with the number it answers.
type synTable struct {
	mu    sync.Mutex
	limit int
	seq   map[stack.TransportEndpointID]uint32
}

func (t *synTable) put(id stack.TransportEndpointID, seq uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seq == nil {
		t.seq = map[stack.TransportEndpointID]uint32{}
	}
	if len(t.seq) < t.limit {
		t.seq[id] = seq
	}
}

func (t *synTable) take(id stack.TransportEndpointID) (uint32, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	seq, ok := t.seq[id]
	delete(t.seq, id)
	return seq, ok
}

// tcpHandler notes each new connection's sequence number and starts connect
// for it.
func (e *Egress) tcpHandler() func(stack.TransportEndpointID, *stack.PacketBuffer) bool {
	forwarder := tcp.NewForwarder(e.stack, 0, maxDialing, func(request *tcp.ForwarderRequest) {
		if !e.flows.start(func() { e.connect(request) }) {
			request.Complete(true)
		}
	})
	return func(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
		if h := header.TCP(pkt.TransportHeader().Slice()); len(h) >= header.TCPMinimumSize &&
			h.Flags()&(header.TCPFlagSyn|header.TCPFlagAck) == header.TCPFlagSyn {
			e.syns.put(id, h.SequenceNumber())
		}
		return forwarder.HandlePacket(id, pkt)
	}
}

// connect opens the connection on the host first and only then answers the
// client, so that the client sees a refusal as a refusal.
func (e *Egress) connect(request *tcp.ForwarderRequest) {
	id := request.ID()
	seq, known := e.syns.take(id)
	ok, warn := e.tcpOpen.enter(time.Now())
	if !ok {
		if warn {
			e.log.Warn("too many connections, new ones are refused", "limit", maxConnections)
		}
		request.Complete(true)
		return
	}
	defer e.tcpOpen.leave()

	to := e.leads(addrPort(id.LocalAddress, id.LocalPort), true)
	if to.refused != "" {
		e.log.Debug("connection refused", "to", addrPort(id.LocalAddress, id.LocalPort), "reason", to.refused)
		request.Complete(true)
		return
	}
	if to.dns {
		if endpoint, queue := e.accept(request); endpoint != nil {
			e.dns.stream(e.ctx, gonet.NewTCPConn(queue, endpoint))
		}
		return
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(e.ctx, "tcp", to.address.String())
	if err != nil {
		e.dialFailed(request, seq, known, err)
		return
	}
	host := conn.(*net.TCPConn)
	defer host.Close()
	endpoint, queue := e.accept(request)
	if endpoint == nil {
		return
	}
	(&relay{host: host, endpoint: endpoint, queue: queue}).run(e.ctx)
}

// dialFailed tells the client why, as its own kernel would learn it: refused
// by a reset, unreachable by ICMP, nothing when the time was over.
func (e *Egress) dialFailed(request *tcp.ForwarderRequest, seq uint32, known bool, err error) {
	id := request.ID()
	why, unreachable := unreachableFor(err)
	var timeout net.Error
	switch {
	case unreachable && known:
		e.inject(tcpUnreachable(e.gatewayFor(id.RemoteAddress), id, seq, why))
		request.Complete(false)
	case errors.Is(err, context.Canceled), errors.As(err, &timeout) && timeout.Timeout():
		request.Complete(false)
	default:
		if !errors.Is(err, syscall.ECONNREFUSED) {
			e.log.Debug("connection failed", "to", addrPort(id.LocalAddress, id.LocalPort), "error", err)
		}
		request.Complete(true)
	}
}

// accept completes the handshake with the client; nil when the client has
// gone.
func (e *Egress) accept(request *tcp.ForwarderRequest) (tcpip.Endpoint, *waiter.Queue) {
	var queue waiter.Queue
	endpoint, err := request.CreateEndpoint(&queue)
	if err != nil {
		request.Complete(true)
		return nil, nil
	}
	request.Complete(false)
	// A pod that vanishes says nothing; four probes find out.
	endpoint.SocketOptions().SetKeepAlive(true)
	idle, interval := tcpip.KeepaliveIdleOption(60*time.Second), tcpip.KeepaliveIntervalOption(15*time.Second)
	for _, option := range []tcpip.SettableSocketOption{&idle, &interval} {
		if err := endpoint.SetSockOpt(option); err != nil {
			e.log.Debug("keep-alive not set", "error", err)
		}
	}
	if err := endpoint.SetSockOptInt(tcpip.KeepaliveCountOption, 4); err != nil {
		e.log.Debug("keep-alive not set", "error", err)
	}
	return endpoint, &queue
}

// bufferSize of a copy; buffers are held only while bytes are under way, so
// that idle connections cost none.
const bufferSize = 128 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}

// relay copies between a connection of the namespace and one of the host.
type relay struct {
	host     *net.TCPConn
	endpoint tcpip.Endpoint
	queue    *waiter.Queue
}

// run copies both ways until both sides have closed. A side that closes only
// its sending half keeps receiving; a reset of one side resets the other.
func (r *relay) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, r.abort)
	defer stop()
	var inward sync.WaitGroup
	inward.Go(func() {
		if err := r.toNamespace(); err != nil {
			r.abort()
		}
	})
	if err := r.toHost(); err != nil {
		r.abort()
	}
	inward.Wait()
	r.endpoint.Close()
}

// abort resets both connections and so ends both copies.
func (r *relay) abort() {
	_ = r.host.SetLinger(0)
	_ = r.host.Close()
	r.endpoint.Abort()
}

var errReset = errors.New("connection reset")

// toHost copies what the namespace sends.
func (r *relay) toHost() error {
	entry, readable := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	r.queue.EventRegister(&entry)
	defer r.queue.EventUnregister(&entry)
	for {
		buffer := buffers.Get().(*[]byte)
		into := tcpip.SliceWriter(*buffer)
		result, err := r.endpoint.Read(&into, tcpip.ReadOptions{})
		if err == nil {
			_, failure := r.host.Write((*buffer)[:result.Count])
			buffers.Put(buffer)
			if failure != nil {
				return failure
			}
			continue
		}
		buffers.Put(buffer)
		switch err.(type) {
		case *tcpip.ErrWouldBlock:
			<-readable
		case *tcpip.ErrClosedForReceive:
			return r.host.CloseWrite()
		default:
			return errReset
		}
	}
}

// toNamespace copies what the host's side sends.
func (r *relay) toNamespace() error {
	entry, writable := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventHUp | waiter.EventErr)
	r.queue.EventRegister(&entry)
	defer r.queue.EventUnregister(&entry)
	raw, err := r.host.SyscallConn()
	if err != nil {
		return err
	}
	for {
		buffer, n, err := readReady(raw)
		if err != nil {
			return err
		}
		if n == 0 {
			buffers.Put(buffer)
			if err := r.endpoint.Shutdown(tcpip.ShutdownWrite); err != nil {
				return errReset
			}
			return nil
		}
		err = r.write((*buffer)[:n], writable)
		buffers.Put(buffer)
		if err != nil {
			return err
		}
	}
}

// readReady waits until there is something to read and only then takes a
// buffer. A count of 0 is the end.
func readReady(raw syscall.RawConn) (buffer *[]byte, n int, err error) {
	var failure error
	err = raw.Read(func(fd uintptr) bool {
		buffer = buffers.Get().(*[]byte)
		for {
			n, failure = unix.Read(int(fd), *buffer)
			if failure != unix.EINTR {
				break
			}
		}
		if failure == unix.EAGAIN {
			buffers.Put(buffer)
			return false
		}
		return true
	})
	if err == nil && failure != nil {
		buffers.Put(buffer)
		err = failure
	}
	return buffer, n, err
}

func (r *relay) write(content []byte, writable <-chan struct{}) error {
	rest := bytes.NewReader(content)
	for rest.Len() > 0 {
		_, err := r.endpoint.Write(rest, tcpip.WriteOptions{})
		switch err.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			<-writable
		default:
			return errReset
		}
	}
	return nil
}
