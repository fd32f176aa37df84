package lazy

import (
	"testing"
	"time"
)

// TestModeIsToldAtOnce asks others how images are filled, before anything was counted.
func TestModeIsToldAtOnce(t *testing.T) {
	needWatch(t)
	root := stateDir(t)
	s := openService(t, Options{Root: root, Mode: Fanotify, Learn: -1})
	defer s.Close()
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		v, err := Look(root, logger(t))
		if err != nil {
			t.Fatal(err)
		}
		if v.Mode == Fanotify {
			return
		}
		if time.Since(began) > saveEvery-time.Second {
			t.Fatalf("images are filled by %q", v.Mode)
		}
	}
}
