package lazy

import (
	"os"
	"testing"
)

// TestModeIsToldAtOnce asks others how images are filled, before anything was counted.
func TestModeIsToldAtOnce(t *testing.T) {
	needWatch(t)
	root := stateDir(t)
	s := openService(t, Options{Root: root, Mode: Fanotify, Learn: -1})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.countsFile()); err != nil {
		t.Fatal(err)
	}
	s.saveAgainAndAgain() // of a service that has ended it is the first time alone
	if v, err := Look(root, logger(t)); err != nil || v.Mode != Fanotify {
		t.Fatalf("images are filled by %q, %v", v.Mode, err)
	}
}
