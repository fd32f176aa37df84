package controlplane

import (
	"errors"
	"net"
	"testing"
)

func TestMergedListenerAcceptsFromBoth(t *testing.T) {
	var both []net.Listener
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, l)
	}
	merged := newMergedListener(both)
	if merged.Addr() != both[0].Addr() {
		t.Errorf("address %s, want the first one's", merged.Addr())
	}
	for _, l := range both {
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		server, err := merged.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if server.RemoteAddr().String() != client.LocalAddr().String() {
			t.Errorf("accepted %s, want %s", server.RemoteAddr(), client.LocalAddr())
		}
		client.Close()
		server.Close()
	}
	if err := merged.Close(); err != nil {
		t.Error(err)
	}
	if _, err := merged.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	for _, l := range both {
		if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
			t.Errorf("%s still listens", l.Addr())
		}
	}
}
