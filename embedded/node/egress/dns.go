package egress

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// resolver passes questions to the host's name servers. It does not cache and
// looks into messages only as far as it must.
type resolver struct {
	file string
	log  *slog.Logger
	turn atomic.Uint32 // for the option rotate

	mu      sync.Mutex
	read    os.FileInfo // the file as it was read; nil before
	servers nameServers
}

func newResolver(file string, log *slog.Logger) *resolver {
	return &resolver{file: file, log: log, servers: parseResolv("")}
}

const (
	headerSize     = 12    // of a DNS message (RFC 1035, section 4.1.1)
	maxMessage     = 65535 // RFC 1035, section 4.2.2
	dnsIdle        = 10 * time.Second
	maxQuestions   = 64 // of one client at once
	codeServFail   = 2
	codeRefused    = 5
	serverFailByte = 3 // holds the response code in its lower half
)

// current gives the name servers; the file is read again when it has changed.
func (r *resolver) current() nameServers {
	r.mu.Lock()
	defer r.mu.Unlock()
	info, err := os.Stat(r.file)
	if err == nil && r.read != nil && os.SameFile(info, r.read) && info.ModTime().Equal(r.read.ModTime()) && info.Size() == r.read.Size() {
		return r.servers
	}
	if err == nil {
		var servers nameServers
		if servers, err = readResolv(r.file); err == nil {
			r.read, r.servers = info, servers
			r.log.Info("name servers", "file", r.file, "servers", servers.servers)
			return servers
		}
	}
	r.log.Debug("name servers not read again", "error", err)
	return r.servers
}

// order gives the servers in the order in which to ask them this time.
func (r *resolver) order(n nameServers) []netip.AddrPort {
	if !n.rotate {
		return n.servers
	}
	first := int(r.turn.Add(1)) % len(n.servers)
	return append(append([]netip.AddrPort{}, n.servers[first:]...), n.servers[:first]...)
}

// datagrams answers the questions of one client's UDP flow until it is idle.
func (r *resolver) datagrams(ctx context.Context, client net.Conn) {
	var asking sync.WaitGroup
	defer asking.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = client.Close() })
	defer stop()
	slots := make(chan struct{}, maxQuestions)
	buffer := make([]byte, maxMessage)
	for {
		if err := client.SetReadDeadline(time.Now().Add(dnsIdle)); err != nil {
			return
		}
		n, err := client.Read(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) && len(slots) > 0 {
			continue // answers are still to come
		}
		if err != nil {
			return
		}
		if n < headerSize {
			continue
		}
		question := append([]byte{}, buffer[:n]...)
		select {
		case slots <- struct{}{}:
		default:
			continue // the client asks again
		}
		asking.Go(func() {
			defer func() { <-slots }()
			if answer := r.ask(ctx, question); answer != nil {
				_, _ = client.Write(answer) // the client may have gone
			}
		})
	}
}

// ask tries the servers in turn. The next one is asked when one does not
// answer or cannot help; when all have failed the last word counts, and
// without any the answer is a failure of our own.
func (r *resolver) ask(ctx context.Context, question []byte) []byte {
	n := r.current()
	var last []byte
	for range n.attempts {
		for _, server := range r.order(n) {
			answer, err := exchange(ctx, server, question, n.timeout)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				r.log.Debug("name server did not answer", "server", server, "error", err)
				continue
			}
			if code := answer[serverFailByte] & 0xf; code != codeServFail && code != codeRefused {
				return answer
			}
			last = answer
		}
		if last != nil {
			return last
		}
	}
	return failure(question)
}

// exchange asks one server by UDP. Messages with another identifier are
// skipped: the socket is connected, so they are late answers or forged.
func exchange(ctx context.Context, server netip.AddrPort, question []byte, timeout time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", server.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(question); err != nil {
		return nil, err
	}
	answer := make([]byte, maxMessage)
	for {
		n, err := conn.Read(answer)
		if err != nil {
			return nil, err
		}
		isAnswer := n >= headerSize && answer[2]&0x80 != 0
		if isAnswer && answer[0] == question[0] && answer[1] == question[1] {
			return answer[:n:n], nil
		}
	}
}

// failure is the answer "server failure" to a question: its header and its
// question section, without what may follow.
func failure(question []byte) []byte {
	end := questionEnd(question)
	answer := append([]byte{}, question[:end]...)
	answer[2] = question[2]&0x79 | 0x80 // an answer; operation and "recursion desired" stay
	answer[3] = 0x80 | codeServFail     // recursion available
	count := uint16(0)
	if end > headerSize {
		count = 1
	}
	binary.BigEndian.PutUint16(answer[4:], count)
	clear(answer[6:headerSize])
	return answer
}

// questionEnd finds where the first question ends; the header's end when there
// is none that can be read.
func questionEnd(message []byte) int {
	if binary.BigEndian.Uint16(message[4:]) == 0 {
		return headerSize
	}
	for at := headerSize; at < len(message); {
		length := int(message[at])
		if length == 0 {
			if end := at + 5; end <= len(message) {
				return end
			}
			break
		}
		if length > 63 { // a pointer has nothing to point to here
			break
		}
		at += 1 + length
	}
	return headerSize
}

// stream joins a client's TCP connection to the first server that takes one.
func (r *resolver) stream(ctx context.Context, client net.Conn) {
	defer client.Close()
	n := r.current()
	dialer := net.Dialer{Timeout: n.timeout}
	for _, server := range r.order(n) {
		conn, err := dialer.DialContext(ctx, "tcp", server.String())
		if err != nil {
			r.log.Debug("name server takes no connection", "server", server, "error", err)
			continue
		}
		join(ctx, client, conn)
		return
	}
}

// join copies both ways until one side ends or nothing moves for a while.
func join(ctx context.Context, a, b net.Conn) {
	end := func() {
		_ = a.Close()
		_ = b.Close()
	}
	stop := context.AfterFunc(ctx, end)
	defer stop()
	idle := time.AfterFunc(dnsIdle, end)
	defer idle.Stop()
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{a, b}, {b, a}} {
		both.Go(func() {
			_, _ = io.Copy(pair[0], &watched{pair[1], idle})
			end()
		})
	}
	both.Wait()
}

// watched puts off a timer with every read.
type watched struct {
	io.Reader
	idle *time.Timer
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	w.idle.Reset(dnsIdle)
	return n, err
}
