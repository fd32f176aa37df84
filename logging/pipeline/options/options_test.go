package options

import (
	"strings"
	"testing"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/plugin"
)

// Pass leaves out what is the engine's default, however it is spelt; Tell does not.
func TestPassed(t *testing.T) {
	for text, want := range map[string][2]int{
		"net.keepalive yes": {0, 1}, "net.keepalive off": {1, 1}, "net.connect_timeout 10": {0, 1}, "net.connect_timeout 0.1m": {1, 1}, "Buffer_Size 524288": {0, 1},
		"Buffer_Size 512K": {0, 1}, "Buffer_Size false": {1, 1}, "net.dns.mode UDP": {1, 1}, "Path /": {1, 1},
	} {
		file, err := config.Parse("test.conf", []byte("[OUTPUT]\n    Name es\n    Match *\n    "+text+"\n"), config.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for i, tell := range []func(s *Set, key string){func(s *Set, key string) { s.Pass(key) }, func(s *Set, key string) { s.Tell(key) }} {
			section := file.All(config.Output)[0]
			s := New(section, plugin.FluentBit().Plugin("output", "es"), nil)
			tell(s, strings.ToLower(section.Properties[2].Key))
			s.Ignore("match")
			if err := s.Done(); err != nil {
				t.Error(err)
			}
			if got := len(s.Passed()); got != want[i] {
				t.Errorf("%s: %d are told, want %d", text, got, want[i])
			}
		}
	}
}
