package format_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-dev/weft/kcl/format"
)

// upstream is the folder of upstream's tools, in the folder kcl of $UPSTREAM.
func upstream(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("UPSTREAM")
	if dir == "" {
		t.Skip("needs UPSTREAM, the folder with upstream's checkouts")
	}
	return filepath.Join(dir, "kcl", "crates", "tools", "src")
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestUpstreamFormat formats the inputs of upstream's formatter to the byte.
func TestUpstreamFormat(t *testing.T) {
	inputs, err := filepath.Glob(filepath.Join(upstream(t), "format", "test_data", "format_data", "*.input"))
	if err != nil || len(inputs) < 24 {
		t.Fatal(inputs, err)
	}
	for _, input := range inputs {
		name := strings.TrimSuffix(input, ".input")
		t.Run(filepath.Base(name), func(t *testing.T) {
			got, err := format.Source(input, read(t, input), format.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if want := read(t, name+".golden"); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}
