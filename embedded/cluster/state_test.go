package cluster

import (
	"os"
	"strings"
	"testing"
)

func TestIdentityIsKept(t *testing.T) {
	s := State{Dir: t.TempDir()}
	first, err := s.Identity()
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.Identity()
	if err != nil || second.ID != first.ID || len(first.ID) != 8 {
		t.Errorf("%q, then %q, %v", first.ID, second.ID, err)
	}
	if first.snapshotter() != "weft" || second.snapshotter() != "weft" {
		t.Errorf("snapshotter %q, then %q", first.snapshotter(), second.snapshotter())
	}
}

func TestIdentityOfOthersIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"newer":   {`{"version": 99, "id": "00000000"}`, "newer weft"},
		"damaged": {`{"version": 1, "id`, "damaged"},
		"empty":   {`{}`, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			s := State{Dir: t.TempDir()}
			if err := os.WriteFile(s.identityFile(), []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Identity(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			if kept, err := os.ReadFile(s.identityFile()); err != nil || string(kept) != c.text {
				t.Errorf("the file was changed: %s, %v", kept, err)
			}
		})
	}
}

// The file of version 1, as it is in state folders now.
func TestIdentityVersion1IsRead(t *testing.T) {
	s := State{Dir: t.TempDir()}
	golden, err := os.ReadFile("testdata/cluster-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.identityFile(), golden, 0o600); err != nil {
		t.Fatal(err)
	}
	id, err := s.Identity()
	if err != nil || id.ID != "1f2e3d4c" || id.APIPort != 6443 || id.RegistryPort != 5001 || len(id.RegistryPorts) != 2 {
		t.Errorf("%+v, %v", id, err)
	}
	if id.snapshotter() != "overlayfs" {
		t.Errorf("a cluster that was made with overlayfs has %q now", id.snapshotter())
	}
}

func TestPortIsKeptUnlessTaken(t *testing.T) {
	first, port, err := listenLoopback(0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, other, err := listenLoopback(0, port, port)
	if err != nil || other == port {
		t.Fatalf("port %d, error %v, want another one than the taken %d", other, err, port)
	}
	second.Close()
	if _, _, err := listenLoopback(port); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a port that was asked for: %v", err)
	}
	third, again, err := listenLoopback(0, other)
	if err != nil || again != other {
		t.Errorf("port %d, error %v, want the last one again", again, err)
	}
	third.Close()
}
