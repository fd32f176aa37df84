package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const fluentdToSink = `
<system>
  log_level error
</system>
<source>
  @type tail
  path DIR/*.log
  pos_file DIR/positions
  tag t
  read_from_head true
  refresh_interval 1
  rotate_wait 1
  <parse>
    @type none
    message_key log
  </parse>
</source>
<match t>
  @type http
  endpoint http://127.0.0.1:PORT/
  <buffer>
    BUFFER
    flush_mode interval
    flush_interval 0.05s
    retry_type periodic
    retry_wait 0.2s
    retry_forever true
  </buffer>
</match>
`

func configureFluentd(t *testing.T, dir, port, buffer string) string {
	t.Helper()
	name := filepath.Join(dir, "fluent.conf")
	text := strings.NewReplacer("PORT", port, "BUFFER", buffer, "DIR", dir).Replace(fluentdToSink)
	if err := os.WriteFile(name, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// Lines are written and rotated while an agent with Fluentd's configuration is killed again and again, and its server fails at times. All lines arrive.
func TestFluentdKilledLosesNothing(t *testing.T) {
	for name, buffer := range map[string]string{"memory": "@type memory", "file": "@type file\n    path DIR/buffer"} {
		t.Run(name, func(t *testing.T) {
			dir, s := t.TempDir(), newSink(t)
			conf := configureFluentd(t, dir, s.port(), buffer)
			total := killedWhileWriting(t, s, conf, filepath.Join(dir, "a.log"), 800*time.Millisecond) // long enough for positions to be written
			finish(t, s, conf, filepath.Join(dir, "a.log"), total)
		})
	}
}

// SIGHUP reads the configuration anew, as Fluentd does; nothing is lost or doubled.
func TestFluentdReload(t *testing.T) {
	dir, s := t.TempDir(), newSink(t)
	conf := configureFluentd(t, dir, s.port(), "@type memory")
	cmd := agentCommand("-c", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	written := make(chan int)
	go func() { written <- writeAndRotate(t, filepath.Join(dir, "a.log")) }()
	total := 0
	for total == 0 {
		select {
		case total = <-written:
		case <-time.After(150 * time.Millisecond):
			if n, _ := s.count(); n > 0 { // it is up: a signal before would end it
				_ = cmd.Process.Signal(syscall.SIGHUP)
			}
		}
	}
	s.await(t, total)
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if _, again := s.count(); again > 0 {
		t.Errorf("%d lines arrived more than once", again)
	}
}

func TestFluentdCommandLine(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "fluent.conf")
	write := func(text string) {
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	try := func(args ...string) (code int, out, said string) {
		var stdout, stderr bytes.Buffer
		code = run(args, &stdout, &stderr)
		return code, stdout.String(), stderr.String()
	}
	write("<source>\n@type sample\ntag a\n</source>\n<match **>\n@type stdout\n</match>\n")
	for _, path := range []string{conf, dir} {
		if code, out, said := try("--dry-run", "-c", path); code != 0 || !strings.Contains(out, "configuration test is successful") {
			t.Errorf("%s: exit %d, %s%s", path, code, out, said)
		}
	}
	if code, _, said := try("--dry-run", "-c", conf, "-o", "stdout"); code != 1 || !strings.Contains(said, "cannot be added") {
		t.Errorf("exit %d, %s", code, said)
	}
	write("<source>\n@type sample\ntag a\n</source>\n<match **>\n@type mongo\n</match>\n<match x>\n@type \"#{x}\"\n</match>\n")
	if code, _, said := try("-c", conf); code != 1 || !strings.Contains(said, fmt.Sprintf("%s:6:7: the output \"mongo\" of Fluentd is not built into logagent", conf)) || !strings.Contains(said, ":9:7: @type: #{x} is Ruby") {
		t.Errorf("exit %d, %s", code, said)
	}
}
