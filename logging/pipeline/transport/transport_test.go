package transport

import (
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/plugin"
)

func client(t *testing.T, text string) *Client {
	t.Helper()
	file, err := config.Parse("test.conf", []byte("[OUTPUT]\n    Name forward\n    Match *\n"+text), config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o := options.New(file.All(config.Output)[0], plugin.FluentBit().Plugin("output", "forward"), nil)
	c := NewClient(o, "127.0.0.1", 24224)
	o.Ignore("match")
	if err := o.Done(); err != nil {
		t.Fatal(err)
	}
	return c
}

// net.tcp_keepalive and its figures reach the dialer; without them it is as Go has it.
func TestKeepAlive(t *testing.T) {
	for text, want := range map[string]net.KeepAliveConfig{
		"":                            {Enable: true},
		"    net.tcp_keepalive off\n": {},
		"    net.tcp_keepalive on\n":  {Enable: true, Idle: -1, Interval: -1, Count: -1},
		"    net.tcp_keepalive on\n    net.tcp_keepalive_time 7\n    net.tcp_keepalive_interval 3\n    net.tcp_keepalive_probes 2\n": {Enable: true, Idle: 7 * time.Second, Interval: 3 * time.Second, Count: 2},
	} {
		if got := client(t, text).dialer.KeepAliveConfig; got != want {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
}

// A connection has what was asked for: by default and with net.tcp_keepalive the kernel looks whether the other side is there, without it does not.
func TestKeepAliveOfConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for text, want := range map[string]int{"": 1, "    net.tcp_keepalive on\n": 1, "    net.tcp_keepalive off\n": 0} {
		c := client(t, text)
		c.Address = l.Addr().String()
		conn, err := c.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if got := keptAlive(t, conn); got != want {
			t.Errorf("%q: SO_KEEPALIVE is %d, want %d", text, got, want)
		}
	}
}

// keptAlive is SO_KEEPALIVE of a connection.
func keptAlive(t *testing.T, conn net.Conn) (value int) {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		value, failed = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
	}); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return value
}

// With net.dns.mode TCP name servers are asked over connections, whatever the resolver asks for.
func TestNamesByTCP(t *testing.T) {
	if client(t, "    net.dns.mode UDP\n").dialer.Resolver != nil {
		t.Error("by UDP there is a resolver of our own")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := client(t, "    net.dns.mode TCP\n").dialer.Resolver.Dial(t.Context(), "udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if network := conn.LocalAddr().Network(); network != "tcp" {
		t.Errorf("the name server is asked by %s", network)
	}
}

// A listener takes no more connections at a time than it may; who comes too many is sent away, and comes in when there is room.
func TestMostConnections(t *testing.T) {
	s := &Server{Address: "127.0.0.1:0", Most: 1}
	l, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 8)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- conn
		}
	}()
	dial := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	first := dial()
	defer first.Close()
	held := <-accepted
	second := dial()
	defer second.Close()
	if err := second.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := second.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("one too many: %v", err)
	}
	held.Close()
	held.Close() // gives its place back once
	third := dial()
	defer third.Close()
	(<-accepted).Close()
	if len(accepted) != 0 {
		t.Error("another connection was taken")
	}
}
