//go:build linux

package egress

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

func TestTCPReachesBothFamilies(t *testing.T) {
	inside(t, func(w *world) {
		for _, host := range []string{server4, server6} {
			port := w.listen(w.internet, net.JoinHostPort(host, "0"), echoTCP)
			exchangeBytes(t, w.mustDial("tcp", host, port), 1<<20)
		}
		forwarding, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
		must(t, err)
		if strings.TrimSpace(string(forwarding)) != "0" {
			t.Errorf("ip_forward is %q", forwarding)
		}
	})
}

// exchangeBytes sends random bytes, closes its sending half and expects the
// same bytes back.
func exchangeBytes(tb testing.TB, conn net.Conn, size int) {
	tb.Helper()
	content := make([]byte, size)
	_, err := rand.Read(content)
	must(tb, err)
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(content)
		sent <- errors.Join(err, conn.(*net.TCPConn).CloseWrite())
	}()
	got, err := io.ReadAll(conn)
	must(tb, err)
	must(tb, <-sent)
	if !bytes.Equal(got, content) {
		tb.Fatalf("sent %d bytes, got %d others", len(content), len(got))
	}
}

// A side that has closed its sending half still receives, in both directions.
func TestTCPHalfClose(t *testing.T) {
	inside(t, func(w *world) {
		asked := w.listen(w.internet, server4+":0", func(conn *net.TCPConn) {
			sum := sha256.New()
			_, _ = io.Copy(sum, conn) // until the client has closed its half
			time.Sleep(200 * time.Millisecond)
			fmt.Fprintf(conn, "%x", sum.Sum(nil))
		})
		conn := w.mustDial("tcp", server4, asked).(*net.TCPConn)
		_, err := io.WriteString(conn, "question")
		must(t, err)
		must(t, conn.CloseWrite())
		answer, err := io.ReadAll(conn)
		must(t, err)
		if want := fmt.Sprintf("%x", sha256.Sum256([]byte("question"))); string(answer) != want {
			t.Errorf("answer %q, expected %q", answer, want)
		}

		got := make(chan string, 1)
		closed := w.listen(w.internet, server4+":0", func(conn *net.TCPConn) {
			_ = conn.CloseWrite()
			rest, _ := io.ReadAll(conn)
			got <- string(rest)
		})
		conn = w.mustDial("tcp", server4, closed).(*net.TCPConn)
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("read %d bytes, %v; expected the end", n, err)
		}
		_, err = io.WriteString(conn, "still here")
		must(t, err)
		must(t, conn.Close())
		if rest := <-got; rest != "still here" {
			t.Errorf("the server got %q", rest)
		}
	})
}

func TestTCPFailuresAreTold(t *testing.T) {
	inside(t, func(w *world) {
		open := w.listen(w.internet, net.JoinHostPort(denied4, "0"), echoTCP)
		for _, c := range []struct {
			name, host string
			port       int
			want       error
		}{
			{"closed port", server4, 1, syscall.ECONNREFUSED},
			{"closed port", server6, 1, syscall.ECONNREFUSED},
			{"no such host", silent4, 80, syscall.EHOSTUNREACH},
			{"unreachable route", closed4, 80, syscall.EHOSTUNREACH},
			{"no route", noRoute, 80, syscall.ENETUNREACH},
			{"no route", "2001:db8:1::1", 80, syscall.ENETUNREACH},
			{"denied", denied4, open, syscall.ECONNREFUSED},
		} {
			_, err := w.dial("tcp", c.host, c.port)
			if !errors.Is(err, c.want) {
				t.Errorf("%s %s: %v, expected %v", c.name, c.host, err, c.want)
			}
		}
	})
}

// A reset arrives as a reset, not as an end of the data.
func TestTCPReset(t *testing.T) {
	inside(t, func(w *world) {
		server := w.listen(w.internet, server4+":0", func(conn *net.TCPConn) {
			_, _ = conn.Read(make([]byte, 1))
			_ = conn.SetLinger(0)
		})
		conn := w.mustDial("tcp", server4, server)
		_, err := conn.Write([]byte("x"))
		must(t, err)
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after the server's reset the client reads %v", err)
		}

		got := make(chan error, 1)
		server = w.listen(w.internet, server4+":0", func(conn *net.TCPConn) {
			_, _ = conn.Write([]byte("x"))
			_, err := io.Copy(io.Discard, conn)
			got <- err
		})
		conn = w.mustDial("tcp", server4, server)
		_, err = conn.Read(make([]byte, 1))
		must(t, err)
		must(t, conn.(*net.TCPConn).SetLinger(0))
		must(t, conn.Close())
		if err := <-got; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after the client's reset the server reads %v", err)
		}
	})
}

func TestManyConnectionsAtOnce(t *testing.T) {
	inside(t, func(w *world) {
		port := w.listen(w.internet, server4+":0", echoTCP)
		var all sync.WaitGroup
		const count = 400
		conns := make([]net.Conn, count)
		for i := range conns {
			all.Go(func() {
				conn, err := w.dial("tcp", server4, port)
				if err != nil {
					t.Error(err)
					return
				}
				conns[i] = conn
			})
		}
		all.Wait()
		if t.Failed() {
			return
		}
		for _, conn := range conns { // all are open now
			all.Go(func() { exchangeBytes(t, conn, 20_000) })
		}
		all.Wait()
	})
}

// The host's loopback is out of reach, but for the ports that are let through.
func TestHostLoopback(t *testing.T) {
	inside(t, func(w *world) {
		for _, port := range []int{allowed, hidden} {
			w.listen(netns.None(), fmt.Sprintf("127.0.0.1:%d", port), echoTCP)
			w.listen(netns.None(), fmt.Sprintf("[::1]:%d", port), echoTCP)
		}
		for _, gateway := range []string{gate4, gate6} {
			exchangeBytes(t, w.mustDial("tcp", gateway, allowed), 1000)
			if _, err := w.dial("tcp", gateway, hidden); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("port %d at %s: %v", hidden, gateway, err)
			}
		}
		if _, err := w.dial("tcp", "127.0.0.1", hidden); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("the node's own loopback: %v", err)
		}
	})
}

func TestRulesForDestinations(t *testing.T) {
	e := &Egress{dns: newResolver("/nonexistent", nil), config: Config{
		Gateways: []netip.Addr{netip.MustParseAddr(gate4), netip.MustParseAddr(gate6)}, HostPorts: []int{allowed},
		Deny: []netip.Prefix{netip.MustParsePrefix("169.254.169.254/32")},
	}}
	for to, want := range map[string]string{
		"127.0.0.1:80":            "refused",
		"127.9.9.9:3128":          "refused",
		"[::1]:3128":              "refused",
		"[::ffff:127.0.0.1]:3128": "refused",
		"[::ffff:0.0.0.0]:3128":   "refused",
		"0.0.0.0:3128":            "refused",
		"0.1.2.3:3128":            "refused",
		"[::]:3128":               "refused",
		"224.0.0.251:5353":        "refused",
		"[ff02::1]:5353":          "refused",
		"255.255.255.255:67":      "refused",
		"169.254.169.254:80":      "refused",
		"192.0.0.1:3129":          "refused",
		"192.0.0.1:53":            "dns",
		"[fd77:6566:7400::1]:53":  "dns",
		"192.0.0.1:3128":          "127.0.0.1:3128",
		"[::ffff:192.0.0.1]:3128": "127.0.0.1:3128",
		"169.254.1.1:80":          "169.254.1.1:80",
		"10.0.0.1:443":            "10.0.0.1:443",
		"[2001:db8::1]:443":       "[2001:db8::1]:443",
	} {
		d := e.leads(netip.MustParseAddrPort(to), true)
		got := d.address.String()
		if d.dns {
			got = "dns"
		} else if d.refused != "" {
			got = "refused"
		}
		if got != want {
			t.Errorf("%s leads to %s (%s), expected %s", to, got, d.refused, want)
		}
	}
	if d := e.leads(netip.MustParseAddrPort("192.0.0.1:3128"), false); d.refused == "" {
		t.Error("a host port is let through for UDP, too")
	}
}

func TestUDP(t *testing.T) {
	inside(t, func(w *world) {
		for _, host := range []string{server4, server6} {
			port := w.packets(w.internet, net.JoinHostPort(host, "0"), func(b []byte) []byte { return b })
			conn := w.mustDial("udp", host, port)
			for _, size := range []int{1, 1400, 60_000, 0} {
				content := bytes.Repeat([]byte{'w'}, size)
				_, err := conn.Write(content)
				must(t, err)
				got := make([]byte, 65536)
				n, err := conn.Read(got)
				must(t, err)
				if !bytes.Equal(got[:n], content) {
					t.Errorf("%s: sent %d bytes, got %d", host, size, n)
				}
			}
		}
		for _, c := range []struct {
			host string
			want error
		}{{server4, syscall.ECONNREFUSED}, {server6, syscall.ECONNREFUSED}, {closed4, syscall.EHOSTUNREACH}, {noRoute, syscall.ENETUNREACH}, {gate4, syscall.ECONNREFUSED}} {
			conn := w.mustDial("udp", c.host, 9)
			raw, err := conn.(*net.UDPConn).SyscallConn()
			must(t, err)
			must(t, reportErrors("ip4", "", raw)) // a no-op for the IPv6 socket, which hears of closed ports anyway
			_, err = conn.Write([]byte("x"))
			must(t, err)
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, c.want) {
				t.Errorf("datagram to %s: %v, expected %v", c.host, err, c.want)
			}
		}
	})
}

// ping asks for an echo on a raw socket in the node and gives the reply's
// type and code.
func (w *world) ping(host string) (kind, code byte, err error) {
	network, request := "ip4:icmp", []byte{8, 0, 0, 0, 0x12, 0x34, 0, 1, 'h', 'i'}
	if strings.Contains(host, ":") {
		network, request[0] = "ip6:ipv6-icmp", 128
	} else {
		sum := uint32(0)
		for i := 0; i < len(request); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(request[i:]))
		}
		binary.BigEndian.PutUint16(request[2:], ^uint16(sum+sum>>16))
	}
	var conn net.PacketConn
	if err := in(w.node, func() (err error) {
		conn, err = net.ListenPacket(network, "")
		return err
	}); err != nil {
		return 0, 0, err
	}
	defer conn.Close()
	if _, err := conn.WriteTo(request, &net.IPAddr{IP: net.ParseIP(host)}); err != nil {
		return 0, 0, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return 0, 0, err
	}
	buffer := make([]byte, 1500)
	for {
		n, _, err := conn.ReadFrom(buffer)
		if err != nil {
			return 0, 0, err
		}
		reply := buffer[:n]
		quotes := n > 8 && (reply[0] == 3 || reply[0] == 1) // an error with the request in it
		if n >= 8 && (quotes || (reply[0] == 0 || reply[0] == 129) && binary.BigEndian.Uint16(reply[4:]) == 0x1234) {
			return reply[0], reply[1], nil
		}
	}
}

func TestPing(t *testing.T) {
	inside(t, func(w *world) {
		for _, c := range []struct {
			host       string
			kind, code byte
		}{
			{server4, 0, 0}, {server6, 129, 0}, {gate4, 0, 0}, {gate6, 129, 0},
			{closed4, 3, 1}, {noRoute, 3, 0}, {silent4, 3, 1}, {"2001:db8:1::1", 1, 0},
		} {
			kind, code, err := w.ping(c.host)
			if err != nil || kind != c.kind || code != c.code {
				t.Errorf("ping %s: type %d code %d, %v; expected type %d code %d", c.host, kind, code, err, c.kind, c.code)
			}
		}
	})
}

func TestEndWithOpenConnections(t *testing.T) {
	inside(t, func(w *world) {
		port := w.listen(w.internet, server4+":0", echoTCP)
		udp := w.packets(w.internet, server4+":0", func(b []byte) []byte { return b })
		conn := w.mustDial("tcp", server4, port)
		_, err := conn.Write([]byte("x"))
		must(t, err)
		_, err = w.mustDial("udp", server4, udp).Write([]byte("x"))
		must(t, err)
		_, err = conn.Read(make([]byte, 1))
		must(t, err)
		w.stop()
		err = <-w.ended
		w.ended <- err // for the clean-up
		if err != nil {
			t.Errorf("ended with %v", err)
		}
	})
}

// BenchmarkTCP measures one connection's throughput in each direction.
func BenchmarkTCP(b *testing.B) {
	inside(b, func(w *world) {
		const size = 64 << 20
		port := w.listen(w.internet, server4+":0", func(conn *net.TCPConn) {
			_, _ = io.CopyN(io.Discard, conn, size)
			_, _ = io.CopyN(conn, zeros{}, size)
		})
		b.SetBytes(2 * size)
		for b.Loop() {
			conn := w.mustDial("tcp", server4, port)
			_, err := io.CopyN(conn, zeros{}, size)
			must(b, err)
			n, err := io.Copy(io.Discard, conn)
			if must(b, err); n != size {
				b.Fatalf("%d bytes came back", n)
			}
		}
	})
}

// BenchmarkConnect measures opening a connection and one byte each way.
func BenchmarkConnect(b *testing.B) {
	inside(b, func(w *world) {
		port := w.listen(w.internet, server4+":0", echoTCP)
		for b.Loop() {
			conn := w.mustDial("tcp", server4, port)
			_, err := conn.Write([]byte("x"))
			must(b, err)
			_, err = conn.Read(make([]byte, 1))
			must(b, err)
			_ = conn.Close()
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
