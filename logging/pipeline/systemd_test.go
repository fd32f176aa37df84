package pipeline_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-dev/weft/logging/pipeline"
)

func TestSystemd(t *testing.T) {
	const remote = "/lib/systemd/systemd-journal-remote"
	if _, err := os.Stat(remote); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("systemd-journal-remote is not there; .ci/packages installs it")
		}
		t.Skip("needs systemd-journal-remote, from the package of that name")
	}
	dir := t.TempDir()
	journal := func(name string, from, to int) {
		var b strings.Builder
		for i := from; i < to; i++ {
			fmt.Fprintf(&b, "__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=0123456789abcdef0123456789abcdef\n_SYSTEMD_UNIT=u%d.service\nMESSAGE=m%d\n\n", 1_700_000_000_000_000+i, i+1, i%2, i)
		}
		cmd := exec.Command(remote, "-o", filepath.Join(dir, "j", name), "-")
		cmd.Stdin = strings.NewReader(b.String())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "j"), 0o755); err != nil {
		t.Fatal(err)
	}
	conf := `[INPUT]
    Name systemd
    Path DIR/j
    DB DIR/positions
    Tag host.*
    Systemd_Filter _SYSTEMD_UNIT=u1.service
    Strip_Underscores on
    Lowercase on
    Max_Entries 3
[OUTPUT]
    Name file
    Match host.u1.service
    Path DIR
    File out
    Format template
    Template {systemd_unit}:{message}
`
	want := func(from, to int) string {
		var b strings.Builder
		for i := from; i < to; i++ {
			if i%2 == 1 {
				fmt.Fprintf(&b, "u1.service:m%d\n", i)
			}
		}
		return b.String()
	}
	journal("a.journal", 0, 10)
	first := start(t, dir, conf, pipeline.Options{})
	out := filepath.Join(dir, "out")
	await(t, out, want(0, 10))
	journal("a.journal", 10, 20) // appended
	await(t, out, want(0, 20))
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "j", "a.journal"), filepath.Join(dir, "j", "a@old.journal")); err != nil {
		t.Fatal(err)
	}
	journal("a.journal", 20, 30)
	start(t, dir, conf, pipeline.Options{})
	await(t, out, want(0, 30))
}
