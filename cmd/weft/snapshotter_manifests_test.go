package main

import (
	"strings"
	"testing"
)

func TestSnapshotterManifestsRefuse(t *testing.T) {
	good := snapshotterManifest{Image: "registry.example.com/lazyd:v1", Namespace: "weft-system", Root: "/var/lib/weft", Address: "/run/weft/s.sock", KeeperCgroup: "weft-keeper", MetricsPort: 9110}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for flag, spoil := range map[string]func(*snapshotterManifest){
		"--image: name the image":   func(m *snapshotterManifest) { m.Image = "" },
		"--image: ":                 func(m *snapshotterManifest) { m.Image = "a b" },
		"--namespace: ":             func(m *snapshotterManifest) { m.Namespace = "x\ny" },
		"--root: ":                  func(m *snapshotterManifest) { m.Root = "var" },
		"--address: ":               func(m *snapshotterManifest) { m.Address = "/run/../s" },
		"--image-service: ":         func(m *snapshotterManifest) { m.ImageService = "run/c.sock" },
		"--keeper-cgroup: \"../x\"": func(m *snapshotterManifest) { m.KeeperCgroup = "../x" },
		"--keeper-cgroup: \"\"":     func(m *snapshotterManifest) { m.KeeperCgroup = "" },
		"--metrics-port: ":          func(m *snapshotterManifest) { m.MetricsPort = 0 },
	} {
		m := good
		spoil(&m)
		if err := m.check(); err == nil || !strings.HasPrefix(err.Error(), flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}
