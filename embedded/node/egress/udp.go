//go:build linux

package egress

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// A flow ends when nothing went either way for this long: short before the
// first answer, longer after it (the kernel's connection tracking does the
// same with 30 and 120 s).
const (
	flowUnanswered = 30 * time.Second
	flowIdle       = 120 * time.Second
)

// udpFlow takes the first packet of a flow. It runs on the device's reader,
// so the flow's later packets find the endpoint that is made here.
func (e *Egress) udpFlow(request *udp.ForwarderRequest) (handled bool) {
	id := request.ID()
	to := e.leads(addrPort(id.LocalAddress, id.LocalPort), false)
	if to.refused != "" {
		e.log.Debug("datagram refused", "to", addrPort(id.LocalAddress, id.LocalPort), "reason", to.refused)
		return false // the stack answers "port unreachable"
	}
	ok, warn := e.udpOpen.enter(time.Now())
	if !ok {
		if warn {
			e.log.Warn("too many UDP flows, new ones are dropped", "limit", maxFlows)
		}
		return true
	}
	var queue waiter.Queue
	endpoint, failure := request.CreateEndpoint(&queue)
	if failure != nil {
		e.udpOpen.leave()
		e.log.Debug("UDP flow not opened", "error", failure)
		return true
	}
	inside := gonet.NewUDPConn(&queue, endpoint)
	started := e.flows.start(func() {
		defer e.udpOpen.leave()
		defer inside.Close()
		if to.dns {
			e.dns.datagrams(e.ctx, inside)
			return
		}
		e.relayDatagrams(id, inside, to)
	})
	if !started {
		_ = inside.Close()
	}
	return true
}

// relayDatagrams copies both ways until the flow is idle or fails.
func (e *Egress) relayDatagrams(id stack.TransportEndpointID, inside *gonet.UDPConn, to destination) {
	conn, err := (&net.Dialer{}).DialContext(e.ctx, "udp", to.address.String())
	if err != nil {
		e.udpFailed(id, err)
		return
	}
	host := conn.(*net.UDPConn)
	defer host.Close()
	stop := context.AfterFunc(e.ctx, func() {
		_ = host.Close()
		_ = inside.Close()
	})
	defer stop()

	var flow activity
	flow.touch(false)
	var inward sync.WaitGroup
	inward.Go(func() {
		defer inside.Close()
		e.datagramsToNamespace(id, host, inside, &flow)
	})
	e.datagramsToHost(id, inside, host, &flow)
	_ = host.Close()
	inward.Wait()
}

func (e *Egress) datagramsToHost(id stack.TransportEndpointID, inside *gonet.UDPConn, host *net.UDPConn, flow *activity) {
	for {
		n, buffer, err := readDatagram(inside)
		if err != nil {
			return
		}
		_, err = host.Write((*buffer)[:n])
		buffers.Put(buffer)
		flow.touch(false)
		if errors.Is(err, syscall.ECONNREFUSED) {
			// An earlier datagram's answer; this one was not sent.
			e.udpFailed(id, err)
			continue
		}
		if errors.Is(err, syscall.EMSGSIZE) {
			continue
		}
		if err != nil {
			e.udpFailed(id, err)
			return
		}
	}
}

// readDatagram reads one datagram. The buffer is the caller's to give back.
func readDatagram(conn net.Conn) (int, *[]byte, error) {
	buffer := buffers.Get().(*[]byte)
	n, err := conn.Read(*buffer)
	if err != nil {
		buffers.Put(buffer)
		return 0, nil, err
	}
	return n, buffer, nil
}

// datagramsToNamespace also ends the flow when it is idle.
func (e *Egress) datagramsToNamespace(id stack.TransportEndpointID, host *net.UDPConn, inside *gonet.UDPConn, flow *activity) {
	raw, err := host.SyscallConn()
	if err != nil {
		return
	}
	for {
		if err := host.SetReadDeadline(flow.deadline()); err != nil {
			return
		}
		buffer, n, err := readReady(raw)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if !time.Now().Before(flow.deadline()) {
				return
			}
			continue
		case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
			e.udpFailed(id, err)
			continue
		case err != nil:
			return
		}
		_, err = inside.Write((*buffer)[:n])
		buffers.Put(buffer)
		if err != nil {
			return
		}
		flow.touch(true)
	}
}

// udpFailed tells the client by ICMP.
func (e *Egress) udpFailed(id stack.TransportEndpointID, err error) {
	why, ok := unreachableFor(err)
	if errors.Is(err, syscall.ECONNREFUSED) {
		why, ok = portUnreachable, true
	}
	if ok {
		e.inject(udpUnreachable(e.gatewayFor(id.RemoteAddress), id, why))
	}
}

// activity is when a flow last carried something.
type activity struct {
	last     atomic.Int64 // Unix nanoseconds
	answered atomic.Bool
}

func (a *activity) touch(answered bool) {
	a.last.Store(time.Now().UnixNano())
	if answered {
		a.answered.Store(true)
	}
}

func (a *activity) deadline() time.Time {
	idle := flowUnanswered
	if a.answered.Load() {
		idle = flowIdle
	}
	return time.Unix(0, a.last.Load()).Add(idle)
}
