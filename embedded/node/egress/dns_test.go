//go:build linux

package egress

import (
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// answering gives a name server that answers every question with an address,
// or with a code.
func answering(address [4]byte, code dnsmessage.RCode) func([]byte) []byte {
	return func(question []byte) []byte {
		var m dnsmessage.Message
		if m.Unpack(question) != nil {
			return nil
		}
		m.Response, m.RCode = true, code
		if code == dnsmessage.RCodeSuccess {
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: 1},
				Body:   &dnsmessage.AResource{A: address},
			}}
		}
		answer, err := m.Pack()
		if err != nil {
			return nil
		}
		return answer
	}
}

func question(t *testing.T, id uint16, name string) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	packed, err := m.Pack()
	must(t, err)
	return packed
}

// query asks the gateway from the node.
func (w *world) query(t *testing.T, network, gateway string) dnsmessage.Message {
	t.Helper()
	conn := w.mustDial(network, gateway, 53)
	defer conn.Close()
	ask := question(t, 0x4711, "example.com.")
	if network == "tcp" {
		ask = append(binary.BigEndian.AppendUint16(nil, uint16(len(ask))), ask...)
	}
	_, err := conn.Write(ask)
	must(t, err)
	var answer []byte
	if network == "tcp" {
		var size [2]byte
		_, err = io.ReadFull(conn, size[:])
		must(t, err)
		answer = make([]byte, binary.BigEndian.Uint16(size[:]))
		_, err = io.ReadFull(conn, answer)
	} else {
		answer = make([]byte, 65536)
		var n int
		n, err = conn.Read(answer)
		answer = answer[:n]
	}
	must(t, err)
	var m dnsmessage.Message
	must(t, m.Unpack(answer))
	if m.ID != 0x4711 || !m.Response {
		t.Fatalf("not the answer: %+v", m.Header)
	}
	return m
}

func addressIn(t *testing.T, m dnsmessage.Message) string {
	t.Helper()
	if m.RCode != dnsmessage.RCodeSuccess || len(m.Answers) != 1 {
		t.Fatalf("answer %+v", m)
	}
	return netip.AddrFrom4(m.Answers[0].Body.(*dnsmessage.AResource).A).String()
}

func TestDNSAtTheGateway(t *testing.T) {
	inside(t, func(w *world) {
		first, second := [4]byte{203, 0, 113, 1}, [4]byte{203, 0, 113, 2}
		w.packets(w.internet, "198.51.100.53:53", answering(first, dnsmessage.RCodeSuccess))
		w.packets(w.internet, "198.51.100.54:53", answering(second, dnsmessage.RCodeSuccess))
		w.packets(w.internet, server4+":53", answering(first, dnsmessage.RCodeServerFailure))
		w.listen(w.internet, "198.51.100.53:53", func(conn *net.TCPConn) {
			var size [2]byte
			if _, err := io.ReadFull(conn, size[:]); err != nil {
				return
			}
			ask := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(conn, ask); err != nil {
				return
			}
			answer := answering(first, dnsmessage.RCodeSuccess)(ask)
			_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
		})

		for _, gateway := range []string{gate4, gate6} {
			for _, network := range []string{"udp", "tcp"} {
				if got := addressIn(t, w.query(t, network, gateway)); got != "203.0.113.1" {
					t.Errorf("%s at %s: %s", network, gateway, got)
				}
			}
		}
		w.names("198.51.100.54")
		if got := addressIn(t, w.query(t, "udp", gate4)); got != "203.0.113.2" {
			t.Errorf("after the change of resolv.conf: %s", got)
		}
		w.names("198.51.100.55", closed4, server4, "198.51.100.53") // silent, unreachable, failing; the fourth does not count
		if m := w.query(t, "udp", gate4); m.RCode != dnsmessage.RCodeServerFailure {
			t.Errorf("answer %+v, expected a server failure", m)
		}
		w.names(closed4, server4, "198.51.100.54")
		if got := addressIn(t, w.query(t, "udp", gate4)); got != "203.0.113.2" {
			t.Errorf("past failing servers: %s", got)
		}
		w.names(closed4)
		if m := w.query(t, "udp", gate4); m.RCode != dnsmessage.RCodeServerFailure || len(m.Questions) != 1 {
			t.Errorf("without any server: %+v", m)
		}
	})
}

func TestParseResolv(t *testing.T) {
	at := func(list ...string) (servers []netip.AddrPort) {
		for _, s := range list {
			servers = append(servers, netip.AddrPortFrom(netip.MustParseAddr(s), 53))
		}
		return servers
	}
	for text, want := range map[string]nameServers{
		"": {servers: at("127.0.0.1"), timeout: 5 * time.Second, attempts: 2},
		"# nameserver 1.1.1.1\n;nameserver 1.1.1.1\nsearch example.com\nnameserver\t9.9.9.9 # quad\n":  {servers: at("9.9.9.9"), timeout: 5 * time.Second, attempts: 2},
		"nameserver 1.1.1.1\r\nnameserver nonsense\nnameserver fe80::1%eth0\nnameserver 2001:db8::1\n": {servers: at("1.1.1.1", "fe80::1%eth0", "2001:db8::1"), timeout: 5 * time.Second, attempts: 2},
		"nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\nnameserver 1.1.1.4\n":             {servers: at("1.1.1.1", "1.1.1.2", "1.1.1.3"), timeout: 5 * time.Second, attempts: 2},
		"nameserver 1.1.1.1\noptions rotate timeout:1 attempts:9 ndots:5 timeout:x":                    {servers: at("1.1.1.1"), timeout: time.Second, attempts: 5, rotate: true},
		"nameserver 1.1.1.1\noptions timeout:99999999999 timeout:4000 attempts:0":                      {servers: at("1.1.1.1"), timeout: 30 * time.Second, attempts: 2},
	} {
		if got := parseResolv(text); !reflect.DeepEqual(got, want) {
			t.Errorf("%q:\n got %+v\nwant %+v", text, got, want)
		}
	}
}

func TestResolvIsReadAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	r := newResolver(file, slog.New(slog.DiscardHandler))
	if got := r.current().servers[0].String(); got != "127.0.0.1:53" {
		t.Errorf("without a file: %s", got)
	}
	for _, server := range []string{"192.0.2.1", "192.0.2.2"} {
		must(t, os.WriteFile(file+".new", []byte("nameserver "+server+"\n"), 0o644))
		must(t, os.Rename(file+".new", file))
		if got := r.current().servers[0].Addr().String(); got != server {
			t.Errorf("server %s, expected %s", got, server)
		}
	}
	must(t, os.Remove(file))
	if got := r.current().servers[0].Addr().String(); got != "192.0.2.2" {
		t.Errorf("after the file is gone: %s, expected the last one", got)
	}
}

func FuzzParseResolv(f *testing.F) {
	f.Add("nameserver 1.1.1.1\noptions timeout:1 attempts:2 rotate\n")
	f.Add("nameserver fe80::1%eth0\n#\n\n;x\r\noptions timeout:-1")
	f.Fuzz(func(t *testing.T, text string) {
		n := parseResolv(text)
		if len(n.servers) < 1 || len(n.servers) > maxServers || n.attempts < 1 || n.attempts > maxAttempts || n.timeout < time.Second || n.timeout > maxTimeout {
			t.Errorf("%q gives %+v", text, n)
		}
	})
}

// Whatever a client asks, the answer of a failure is an answer to it.
func FuzzFailure(f *testing.F) {
	f.Add([]byte("\x47\x11\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01"))
	f.Add([]byte("\x47\x11\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"))
	f.Add([]byte(strings.Repeat("\x01", 40)))
	f.Fuzz(func(t *testing.T, ask []byte) {
		if len(ask) < headerSize {
			return
		}
		var parser dnsmessage.Parser
		header, err := parser.Start(failure(ask))
		if err != nil || !header.Response || header.RCode != dnsmessage.RCodeServerFailure || header.ID != binary.BigEndian.Uint16(ask) {
			t.Errorf("%x: %+v %v", ask, header, err)
		}
		if err := parser.SkipAllQuestions(); err != nil {
			t.Errorf("%x: the question cannot be read: %v", ask, err)
		}
	})
}

// FuzzParseEcho feeds packets as a namespace could make them.
func FuzzParseEcho(f *testing.F) {
	four := icmpPacket(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), []byte{8, 0, 0, 0, 1, 2, 0, 1, 'h'})
	six := icmpPacket(netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2"), []byte{128, 0, 0, 0, 1, 2, 0, 1, 'h'})
	f.Add(four, true)
	f.Add(six, false)
	f.Add(four[:21], true)
	f.Fuzz(func(t *testing.T, packet []byte, isFour bool) {
		s, message, fragment, ok := parseEcho(packet, isFour)
		if ok && !fragment && (len(message) < 8 || s.client.Is4() != isFour || s.server.Is4() != isFour) {
			t.Errorf("%x: %+v, %d bytes", packet, s, len(message))
		}
	})
}
