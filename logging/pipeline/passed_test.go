package pipeline_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/weft-dev/weft/logging/pipeline"
)

// An option that is accepted and changes nothing is told, with its line.
func TestWhatChangesNothingIsTold(t *testing.T) {
	var log bytes.Buffer
	_, err := tryBuild(t.TempDir(), "[INPUT]\n    Name dummy\n[OUTPUT]\n    Name http\n    Match *\n    http.read_idle_timeout 5s\n", pipeline.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if text := log.String(); strings.Count(text, "http.read_idle_timeout") != 1 || !strings.Contains(text, "test.conf:9:") {
		t.Errorf("the log says:\n%s", text)
	}
}
