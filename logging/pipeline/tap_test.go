package pipeline_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/weft-dev/weft/logging/pipeline"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/pipeline/tap"
)

const tapped = `[INPUT]
    Name tail
    Alias in
    Path DIR/*.log
    Tag t
    Read_from_Head true
[FILTER]
    Name grep
    Match *
    Exclude log no
[FILTER]
    Name modify
    Match *
    Add by us
[OUTPUT]
    Name file
    Match *
    Path DIR
    File out
    Format plain
`

// Each point shows what passes it.
func TestTapPoints(t *testing.T) {
	dir, hub := t.TempDir(), new(tap.Hub)
	w := hub.Watch(tap.Query{Rate: 1000})
	defer w.Close()
	write(t, filepath.Join(dir, "a.log"), "yes\nno\n")
	start(t, dir, tapped, pipeline.Options{Tap: hub})
	await(t, filepath.Join(dir, "out"), "{\"log\":\"yes\",\"by\":\"us\"}\n")
	got := ""
	for range 5 {
		s := <-w.Records()
		e, err := record.ReadEvent(s.Event)
		if err != nil {
			t.Fatal(err)
		}
		got += fmt.Sprintln(s.Point, s.Tag, string(record.AppendJSON(nil, e.Body)))
	}
	want := `input/in t {"log":"yes"}
input/in t {"log":"no"}
filter/grep.0 t {"log":"yes"}
filter/modify.0 t {"log":"yes","by":"us"}
output/file.0 t {"log":"yes","by":"us"}
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if points := fmt.Sprint(hub.Points("")); points != "[input/in filter/grep.0 filter/modify.0 output/file.0]" {
		t.Error(points)
	}
}

// A watcher that reads nothing changes nothing of what arrives.
func TestTapHoldsNothingUp(t *testing.T) {
	dir, hub := t.TempDir(), new(tap.Hub)
	w := hub.Watch(tap.Query{Rate: 1 << 30})
	defer w.Close()
	const lines = 50_000
	write(t, filepath.Join(dir, "a.log"), numbered(0, lines))
	start(t, dir, tapped, pipeline.Options{Tap: hub})
	awaitThat(t, func() string { return missing(read(filepath.Join(dir, "out")), lines) }, "0 lost")
	if slow, _ := w.Dropped(); slow == 0 {
		t.Error("nothing was left out")
	}
}
