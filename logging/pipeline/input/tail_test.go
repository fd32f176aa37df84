package input

import (
	"os"
	"path/filepath"
	"testing"
)

// Records are acknowledged in the goroutine of whoever wrote them, while the input finds that their file has another name. Run with
// the race detector, this test fails when the two do not agree about who may touch the name.
func TestAFileIsRenamedWhileItsRecordsAreAcknowledged(t *testing.T) {
	name := filepath.Join(t.TempDir(), "app.log")
	if err := os.WriteFile(name, []byte("one\ntwo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	store, err := NewPositions().Open("", "tail")
	if err != nil {
		t.Fatal(err)
	}
	f := &tailed{key: "1:2", name: name, file: file, store: store, progress: make(chan struct{}, 1)}
	defer f.close()
	ack := f.hand(8)
	released := make(chan struct{})
	go func() {
		ack.Release()
		close(released)
	}()
	f.rename("app.log.1")
	<-released
	f.remember()
	if p, _ := store.Get("1:2"); p.Name != "app.log.1" || p.Offset != 8 {
		t.Errorf("the position is %+v", p)
	}
}
