package tap

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/record"
)

var web = Point{"input", "tail.0", "web"}

func batch(t *testing.T, bodies ...string) []byte {
	t.Helper()
	var b []byte
	for n, text := range bodies {
		body, _, err := record.FromJSON(nil, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		b = record.AppendEvent(b, record.Time{Sec: int64(n)}, nil, body)
	}
	return b
}

// A watcher that reads nothing holds nobody up: its room is bounded, the rest is counted.
func TestSlowWatcher(t *testing.T) {
	h := new(Hub)
	w := h.Watch(Query{Rate: 1 << 30})
	defer w.Close()
	const records = 10_000
	one := batch(t, `{"log":"x"}`)
	for range records {
		h.Offer(web, "t", one)
	}
	slow, fast := w.Dropped()
	if len(w.Records()) != waiting || slow != records-waiting || fast != 0 {
		t.Errorf("%d wait, %d were too many for a slow watcher, %d too fast", len(w.Records()), slow, fast)
	}
	// Large records are bounded by their bytes.
	big := h.Watch(Query{Rate: 1 << 30})
	defer big.Close()
	large := batch(t, `{"log":"`+strings.Repeat("x", 1<<20)+`"}`)
	for range 100 {
		h.Offer(web, "t", large)
	}
	if n := len(big.Records()); n > heldBytes>>20+1 {
		t.Errorf("%d MB are held", n)
	}
}

func TestRate(t *testing.T) {
	h := new(Hub)
	w := h.Watch(Query{Rate: 5})
	defer w.Close()
	h.Offer(web, "t", batch(t, `{}`, `{}`, `{}`, `{}`, `{}`, `{}`, `{}`))
	if slow, fast := w.Dropped(); len(w.Records()) != 5 || slow != 0 || fast != 2 {
		t.Errorf("%d, %d, %d", len(w.Records()), slow, fast)
	}
}

func TestWatchersComeAndGo(t *testing.T) {
	h := new(Hub)
	if h.Watching() || (*Hub)(nil).Watching() {
		t.Error("nobody watches yet")
	}
	one := batch(t, `{"log":"x"}`)
	ctx, stop := context.WithCancel(t.Context())
	var offering, watching sync.WaitGroup
	offering.Go(func() {
		for ctx.Err() == nil {
			h.Offer(web, "t", one)
		}
	})
	for range 8 {
		watching.Go(func() {
			for range 50 {
				w := h.Watch(Query{Rate: 1000})
				w.Free(<-w.Records())
				w.Close()
			}
		})
	}
	watching.Wait()
	stop()
	offering.Wait()
	if h.Watching() {
		t.Error("a watcher stayed")
	}
}

// Over the socket: who may connect, what is asked, what is wrong.
func TestSocket(t *testing.T) {
	h, socket := new(Hub), filepath.Join(t.TempDir(), "tap")
	h.SetPoints([]Point{web, {"output", "http.0", ""}})
	l, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: others may connect", info.Mode(), err)
	}
	if _, err := Listen(socket); err == nil || !strings.Contains(err.Error(), "another agent answers") {
		t.Errorf("a second agent: %v", err)
	}
	served := make(chan error, 1)
	go func() { served <- Serve(l, h, func(pattern, tag string) bool { return pattern == tag }) }()
	for query, want := range map[string]string{
		"point=nosuch":          `there is no point "nosuch"; there are input/web, output/http.0`,
		"point=output/web":      `there is no point "output/web"`,
		"point=web&rate=0":      `the rate "0" is not a number from 1`,
		"point=web&where=x":     `"x" is not KEY=VALUE`,
		"point=web&where=$a[=1": `"$a["`,
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Ask(t.Context(), socket, "records", values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", query, err, want)
		}
	}
	for _, point := range []string{"web", "tail.0", "input/web", ""} {
		ctx, stop := context.WithCancel(t.Context())
		answer, err := Ask(ctx, socket, "records", url.Values{"point": {point}, "tag": {"t"}, "where": {"a=1", "$k['x']=y"}})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for ctx.Err() == nil {
				h.Offer(web, "other", batch(t, `{"a":1,"k":{"x":"y"},"no":1}`))
				h.Offer(Point{"output", "http.1", ""}, "t", batch(t, `{"b":1}`))
				h.Offer(web, "t", batch(t, `{"a":2,"k":{"x":"y"}}`, `{"a":1}`, `{"a":1,"k":{"x":"y"},"yes":"<>"}`))
				time.Sleep(time.Millisecond)
			}
		}()
		if err := Lines(answer, func(l Line) bool {
			if got := fmt.Sprint(l.Point, l.Tag, l.Time, string(l.Record)); got != `input/webt1970-01-01T00:00:02Z{"a":1,"k":{"x":"y"},"yes":"<>"}` {
				t.Errorf("got %s", got)
			}
			return false
		}); err != nil {
			t.Error(err)
		}
		stop()
		answer.Close()
	}
	// What is left out is told.
	answer, err := Ask(t.Context(), socket, "records", url.Values{"point": {"web"}, "rate": {"2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Close()
	for !h.Watching() {
		time.Sleep(time.Millisecond)
	}
	h.Offer(web, "t", batch(t, `{}`, `{}`, `{}`))
	if err := Lines(answer, func(l Line) bool { return l.Fast != 1 }); err != nil {
		t.Error(err)
	}
	l.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	// A file that is no socket stays; a socket that nobody serves is replaced.
	if err := os.WriteFile(socket+".txt", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(socket + ".txt"); err == nil {
		t.Error("a file was replaced")
	}
}

func FuzzLines(f *testing.F) {
	for _, text := range []string{`{"point":"input/a","record":{"a":1}}`, `{"dropped_rate":5}`, `{`, `[]`, `{"record":5}` + "\n" + `{"tag":"x"}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n := 0
		err := Lines(strings.NewReader(text), func(l Line) bool {
			if _, err := json.Marshal(l); err != nil {
				t.Errorf("%q: %v", text, err)
			}
			n++
			return n < 100
		})
		if err == nil && n == 0 && strings.TrimSpace(text) != "" {
			t.Errorf("%q was read as nothing", text)
		}
	})
}
