package target

import (
	"strings"
	"testing"
)

// TestLayoutPath: platform.md, "Map an image reference to a path in the layout directory".
func TestLayoutPath(t *testing.T) {
	digest := strings.Repeat("0a", 32)
	for name, want := range map[string]string{
		"ubuntu":                                       "/d/index.docker.io/library/ubuntu/latest",
		"registry.example.com:5000/team/app:v1":        "/d/registry.example.com:5000/team/app/v1",
		"registry.example.com/app@sha256:" + digest:    "/d/registry.example.com/app/sha256/" + digest,
		"registry.example.com/app:v1@sha256:" + digest: "/d/registry.example.com/app/sha256/" + digest,
	} {
		if got, err := LayoutPath("/d", name); err != nil || got != want {
			t.Errorf("%s lies in %s (%v), want %s", name, got, err, want)
		}
	}
	for _, bad := range []string{"../x", "a/../../b", "UPPER", ""} {
		if got, err := LayoutPath("/d", bad); err == nil {
			t.Errorf("%q lies in %s", bad, got)
		}
	}
}
