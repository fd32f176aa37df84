package logtool

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/logging/pipeline"
	events "github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/pipeline/tap"
)

// tapRun runs `log tap` and gives what it prints.
func tapRun(t *testing.T, kubectl func(context.Context, ...string) (*exec.Cmd, error), args ...string) (out, errs string, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	var options output.Options
	root := &cobra.Command{Use: "log", SilenceErrors: true, SilenceUsage: true}
	options.AddFlags(root.PersistentFlags())
	print := func() *output.Printer {
		return output.New(&stdout, &stderr, options, func(string) string { return "" })
	}
	root.AddCommand(Tool{Print: print, Stdin: strings.NewReader(""), Stdout: &stdout, Kubectl: kubectl}.Commands()...)
	root.SetArgs(append([]string{"tap"}, args...))
	err = root.ExecuteContext(t.Context())
	return stdout.String(), stderr.String(), err
}

func TestTapSocket(t *testing.T) {
	hub, socket := new(tap.Hub), filepath.Join(t.TempDir(), "tap")
	hub.SetPoints([]tap.Point{{Kind: "input", Name: "tail.0"}, {Kind: "output", Name: "http.0", Alias: "web"}})
	l, err := tap.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- tap.Serve(l, hub, pipeline.Match) }()
	body, _, err := events.FromJSON(nil, []byte(`{"log":"a"}`))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		for ctx.Err() == nil {
			hub.Offer(tap.Point{Kind: "input", Name: "tail.0"}, "kube.x", events.AppendEvent(nil, events.Time{Sec: 1}, nil, body))
			time.Sleep(time.Millisecond)
		}
	}()
	if out, _, err := tapRun(t, nil, "--socket", socket); err != nil || out != "input/tail.0\noutput/web\n" {
		t.Errorf("%q, %v", out, err)
	}
	if out, _, err := tapRun(t, nil, "tail.0", "--socket", socket, "-n", "2", "--tag", "kube.*"); err != nil || out != strings.Repeat("1970-01-01T00:00:01Z input/tail.0 kube.x {\"log\":\"a\"}\n", 2) {
		t.Errorf("%q, %v", out, err)
	}
	if out, _, err := tapRun(t, nil, "tail.0", "--socket", socket, "-n", "1", "-o", "json"); err != nil || out != `{"point":"input/tail.0","tag":"kube.x","time":"1970-01-01T00:00:01Z","record":{"log":"a"}}`+"\n" {
		t.Errorf("%q, %v", out, err)
	}
	for _, c := range [][]string{{"--socket is missing"}, {"there is no point \"x\"", "x", "--socket", socket}, {"no agent answers", "x", "--socket", socket + "no"},
		{"is not NAMESPACE/POD", "x", "--socket", socket, "--pod", "web"}, {"-o text and -o json", "x", "--socket", socket, "-o", "yaml"}} {
		if _, _, err := tapRun(t, nil, c[1:]...); err == nil || !strings.Contains(err.Error(), c[0]) {
			t.Errorf("%v: %v", c, err)
		}
	}
	stop()
	l.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// In a pod the agent's program is run by kubectl; a shell stands for kubectl.
func TestTapPod(t *testing.T) {
	asked := ""
	kubectl := func(script string) func(ctx context.Context, args ...string) (*exec.Cmd, error) {
		return func(ctx context.Context, args ...string) (*exec.Cmd, error) {
			asked = strings.Join(args, " ")
			return exec.CommandContext(ctx, "sh", "-c", script), nil
		}
	}
	records := `printf '{"point":"input/a","tag":"t","time":"T","record":{"a":1}}\n{"dropped_rate":7}\n{"point":"input/a","tag":"t","time":"T","record":{"a":2}}\n'; exec sleep 60`
	out, errs, err := tapRun(t, kubectl(records), "a", "--pod", "fluent/bit-1", "-c", "main", "--socket", "/tmp/tap", "-n", "2")
	if err != nil || out != "T input/a t {\"a\":1}\nT input/a t {\"a\":2}\n" || !strings.Contains(errs, "7 records were left out: more than --rate 100") {
		t.Errorf("%q, %q, %v", out, errs, err)
	}
	if asked != "exec --namespace=fluent bit-1 --container=main -- /fluent-bit/bin/fluent-bit --tap-read /tmp/tap --tap-query point=a&rate=100" {
		t.Error(asked)
	}
	if _, _, err := tapRun(t, kubectl("echo 'Error: pods \"bit-1\" not found' >&2; exit 1"), "a", "--pod", "fluent/bit-1", "--socket", "/tmp/tap"); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("%v", err)
	}
}
