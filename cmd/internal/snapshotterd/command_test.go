package snapshotterd

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNydusConfigurationAndFlags(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.toml")
	text := "version = 1\nroot = \"/nydus\"\naddress = \"/run/nydus.sock\"\n[snapshot]\nsync_remove = true\n[daemon]\nspeed = 1\n" +
		"[remote.auth]\nenable_kubeconfig_keychain = true\nkubeconfig_path = \"/etc/kubernetes/x.conf\"\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f := flags{root: "/given", address: "/default", asyncRemove: true, level: "info"}
	var notes []string
	if err := f.adopt(file, func(flag string) bool { return flag == "root" }, func(n string) { notes = append(notes, n) }); err != nil {
		t.Fatal(err)
	}
	if f.root != "/given" || f.address != "/run/nydus.sock" || f.asyncRemove || f.level != "info" || f.kubeconfig != "/etc/kubernetes/x.conf" || len(f.pullSecrets) != 1 || f.pullSecrets[0] != "*" {
		t.Errorf("adopted %+v", f)
	}
	if len(notes) != 1 || !strings.HasSuffix(notes[0], "daemon.speed: there is no such key") {
		t.Errorf("notes %q", notes)
	}
}

func TestWrongUsage(t *testing.T) {
	for _, args := range [][]string{
		{"--mode", "fast"}, {"--limit", "-1"}, {"--root", "relative"}, {"--address", "relative"}, {"--image-service", "relative"}, {"--keeper-mounts", "relative"}, {"--log-level", "loud"}, {"--nothing"},
		{"--config", "/nowhere/config.toml"}, {"--pull-secrets", "*,a"}, {"--pull-secrets", "a/b"}, {"--kubeconfig", "x"}, {"--node-name", "x"},
		{"--kubeconfig", "/nowhere/config", "--pod-events"},
	} {
		c := Command("snapshotter", "keeper")
		c.SilenceErrors, c.SilenceUsage = true, true
		c.SetArgs(args)
		c.SetErr(io.Discard)
		var wrong *UsageError
		if err := c.ExecuteContext(t.Context()); !errors.As(err, &wrong) || !strings.Contains(err.Error(), strings.TrimLeft(args[0], "-")) {
			t.Errorf("%v: %v", args, err)
		}
	}
}
