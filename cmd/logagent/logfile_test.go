package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The log goes to Log_File of the service, after a reload to the one that it names then; one that cannot be written is a fault with its line.
func TestLogFile(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "agent.conf")
	name := func(file, more string) {
		t.Helper()
		text := "[SERVICE]\n    Flush 0.05\n    Hot_Reload on\n    Log_File " + file + "\n[INPUT]\n    Name dummy\n    threaded on\n" + more + "[OUTPUT]\n    Name null\n    Match *\n"
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(file, want string) {
		t.Helper()
		deadline := time.Now().Add(2 * time.Minute)
		for {
			text, _ := os.ReadFile(filepath.Join(dir, file))
			if bytes.Contains(text, []byte(want)) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s holds %q, want %q", file, text, want)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	name(filepath.Join(dir, "none", "log"), "")
	var said bytes.Buffer
	refused := agentCommand("-c", conf)
	refused.Stderr = &said
	if err := refused.Run(); err == nil || refused.ProcessState.ExitCode() != exitConfig || !strings.Contains(said.String(), "agent.conf:4:") {
		t.Errorf("%v: %s", err, said.String())
	}
	name(filepath.Join(dir, "a.log"), "")
	cmd := agentCommand("-c", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	holds("a.log", "option=threaded")
	name(filepath.Join(dir, "b.log"), "    nosuch 1\n")
	_ = cmd.Process.Signal(syscall.SIGHUP)
	holds("a.log", "the configuration is not reloaded")
	name(filepath.Join(dir, "b.log"), "")
	_ = cmd.Process.Signal(syscall.SIGHUP)
	holds("b.log", "the configuration is reloaded")
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
