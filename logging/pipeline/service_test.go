package pipeline

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// logs makes an engine whose parts write to the buffer, and a clock that only the test moves.
func logs(t *testing.T, text string) (*Engine, *bytes.Buffer, *time.Time) {
	t.Helper()
	var log bytes.Buffer
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	file, err := config.Parse("test.conf", []byte(text), config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(file, Options{Log: NewLogger(&log, new(slog.LevelVar)), Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	return e, &log, &now
}

// log_suppress_interval holds for inputs, filters and outputs: what is like a message of the interval before is left out and counted.
func TestLogSuppressInterval(t *testing.T) {
	const every = "    log_suppress_interval 30s\n"
	e, log, now := logs(t, "[INPUT]\n    Name dummy\n"+every+"[INPUT]\n    Name dummy\n[FILTER]\n    Name grep\n    Match *\n"+every+"[OUTPUT]\n    Name null\n    Match *\n"+every)
	for what, part := range map[string]*slog.Logger{"input": e.inputs[0].log, "filter": e.filters[0].log, "output": e.outputs[0].log} {
		log.Reset()
		say := func(n int, want string) {
			t.Helper()
			log.Reset()
			part.Warn("a chunk could not be delivered", "try", n)
			if got := log.String(); (got != "") != (want != "") || !strings.HasSuffix(got, want) {
				t.Errorf("%s: got %q, want %q", what, got, want)
			}
		}
		say(1, "try=1\n")
		*now = now.Add(29 * time.Second)
		say(2, "")
		say(3, "")
		part.Warn("something else")
		if !strings.Contains(log.String(), "something else") {
			t.Errorf("%s: another message is left out", what)
		}
		*now = now.Add(time.Second)
		say(4, "try=4 suppressed=2\n")
		say(5, "")
		*now = now.Add(-time.Hour) // a clock that jumps back silences nothing
		say(6, "try=6 suppressed=1\n")
		for i := range 30 { // no more than a few messages are remembered
			part.Warn(fmt.Sprintf("%d is a message of its own", i))
		}
		say(7, "try=7\n")
	}
	log.Reset()
	e.inputs[1].log.Warn("again")
	e.inputs[1].log.Warn("again")
	if strings.Count(log.String(), "again") != 2 {
		t.Errorf("without the option: %s", log.String())
	}
}

// rate_window says how much may come at once: what the window allows.
func TestRateWindow(t *testing.T) {
	for window, want := range map[string]time.Duration{"": 0, "    rate_window 10s\n": -9 * time.Second} {
		e := build(t, "[INPUT]\n    Name dummy\n    rate_gate on\n    rate_gate.max_records 10\n"+window+"[OUTPUT]\n    Name null\n    Match *\n")
		g, now := e.inputs[0].rate, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		g.reserve(now, 10, 0)
		if got := g.next.Sub(now); got != want {
			t.Errorf("%q: after a second's worth %s is left, want %s", window, -got, -want)
		}
	}
}

// Inputs have the service's storage.type, unless storage.inherit is off.
func TestStorageInherit(t *testing.T) {
	for inherit, want := range map[string]bool{"": true, "    storage.inherit on\n": true, "    storage.inherit off\n": false} {
		e := build(t, "[SERVICE]\n    storage.path "+t.TempDir()+"\n    storage.type filesystem\n"+inherit+"[INPUT]\n    Name dummy\n[OUTPUT]\n    Name null\n    Match *\n")
		if e.inputs[0].filesystem != want {
			t.Errorf("%q: filesystem %v", inherit, e.inputs[0].filesystem)
		}
	}
}

// Chunks of an earlier run that wait for another try hold no more memory than storage.backlog.mem_limit.
func TestBacklogMemLimit(t *testing.T) {
	e := build(t, "[SERVICE]\n    storage.path "+t.TempDir()+"\n    storage.backlog.mem_limit 3000\n[INPUT]\n    Name dummy\n[OUTPUT]\n    Name null\n    Match *\n")
	for range 10 {
		file, err := e.folder.Create("in", "t")
		if err != nil {
			t.Fatal(err)
		}
		body := record.AppendString(record.AppendString([]byte{0x81}, "log"), strings.Repeat("x", 1000))
		if err := file.Append(record.AppendEvent(nil, record.Time{Sec: 1}, nil, body), 1); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.backlog(); err != nil {
		t.Fatal(err)
	}
	var in *inputPart
	for _, d := range e.outputs[0].queue {
		if _, err := d.chunk.content(); err != nil {
			t.Fatal(err)
		}
		in = d.chunk.input
		e.outputs[0].again(t.Context(), d, errors.New("not now"))
	}
	if got := in.bytes.Load(); got == 0 || got > 3000 {
		t.Errorf("%d bytes are in memory", got)
	}
	e.outputs[0].abandon()
}
