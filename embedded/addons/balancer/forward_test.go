package balancer

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var dial = (&net.Dialer{}).DialContext

func at(f *forward) string { return net.JoinHostPort(loopback, strconv.Itoa(f.port)) }

func listenTCP(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// The end of what a client sends reaches the server, and the answer that follows reaches the client.
func TestTCPPassesHalfClose(t *testing.T) {
	server := listenTCP(t)
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				all, err := io.ReadAll(conn)
				if err == nil {
					fmt.Fprintf(conn, "%d bytes", len(all))
				}
			}()
		}
	}()
	f := forwardTCP([]net.Listener{listenTCP(t)}, dial, server.Addr().String())
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			conn, err := net.Dial("tcp", at(f))
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, err = conn.Write(make([]byte, 100_000*i))
			if err == nil {
				err = conn.(*net.TCPConn).CloseWrite()
			}
			got, e := io.ReadAll(conn)
			if err = errors.Join(err, e); err != nil || string(got) != fmt.Sprintf("%d bytes", 100_000*i) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	group.Wait()
	open, err := net.Dial("tcp", at(f))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	f.close() // ends with open connections
	if _, err := io.ReadAll(open); err != nil && !isReset(err) {
		t.Errorf("an open connection after close: %v", err)
	}
	again, err := net.Listen("tcp", at(f))
	if err != nil {
		t.Fatalf("the port is not free after close: %v", err)
	}
	again.Close()
}

func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op)
}

func TestTCPWithoutServerIsReset(t *testing.T) {
	gone := listenTCP(t)
	gone.Close()
	f := forwardTCP([]net.Listener{listenTCP(t)}, dial, gone.Addr().String())
	defer f.close()
	conn, err := net.Dial("tcp", at(f))
	if err != nil {
		if !isReset(err) {
			t.Fatal(err)
		}
		return
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("data from nowhere")
	}
}

// Answers find the client that has asked.
func TestUDPKeepsClientsApart(t *testing.T) {
	server, err := net.ListenPacket("udp", loopback+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		p := make([]byte, 100)
		for {
			n, from, err := server.ReadFrom(p)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(append([]byte("to "), p[:n]...), from)
		}
	}()
	front, err := net.ListenPacket("udp", loopback+":0")
	if err != nil {
		t.Fatal(err)
	}
	f := forwardUDP([]net.PacketConn{front}, dial, server.LocalAddr().String())
	defer f.close()
	var group sync.WaitGroup
	for i := range 10 {
		group.Go(func() {
			conn, err := net.Dial("udp", at(f))
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			p := make([]byte, 100)
			for range 50 { // a packet may be lost
				fmt.Fprintf(conn, "client %d", i)
				_ = conn.SetReadDeadline(time.Now().Add(time.Second))
				if n, err := conn.Read(p); err == nil {
					if got := string(p[:n]); got != fmt.Sprintf("to client %d", i) {
						t.Errorf("client %d got %q", i, got)
					}
					return
				}
			}
			t.Errorf("client %d got no answer", i)
		})
	}
	group.Wait()
}

func TestCandidates(t *testing.T) {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{AddressAnnotation: "127.0.0.1:9000,127.0.0.1:x"}},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80, NodePort: 30000}, {Port: 81}}},
	}
	for i, want := range []string{"[80 9000 30000 0]", "[81 0]"} {
		if got := fmt.Sprint(candidates(s, i)); got != want {
			t.Errorf("port %d: %s, want %s", i, got, want)
		}
	}
}

// A port is open on both loopback addresses or on none: what another program has on ::1 must not be hidden behind the same name.
func TestBothLoopbackAddresses(t *testing.T) {
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skipf("no IPv6 here: %v", err)
	} else {
		l.Close()
	}
	tcp := func(address string) (net.Listener, error) { return net.Listen("tcp", address) }
	both, err := listenBoth(0, tcp, net.Listener.Addr)
	if err != nil {
		t.Fatal(err)
	}
	if len(both) != 2 || portOf(both[0].Addr()) != portOf(both[1].Addr()) {
		t.Fatalf("open at %v", both)
	}
	four, six := both[0], both[1]
	four.Close()
	defer six.Close()
	if got, err := listenBoth(portOf(six.Addr()), tcp, net.Listener.Addr); err == nil {
		t.Errorf("open at %v although another program has the port on ::1", got)
	}
	if l, err := net.Listen("tcp", four.Addr().String()); err != nil {
		t.Errorf("the refused port is still open: %v", err)
	} else {
		l.Close()
	}
	without := func(address string) (net.Listener, error) {
		if address[0] == '[' {
			return nil, &net.OpError{Op: "listen", Err: syscall.EADDRNOTAVAIL}
		}
		return tcp(address)
	}
	one, err := listenBoth(0, without, net.Listener.Addr)
	if err != nil || len(one) != 1 {
		t.Fatalf("without IPv6: %v, %v", one, err)
	}
	one[0].Close()
}
