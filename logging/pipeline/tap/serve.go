package tap

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/record"
)

// Line is one line of what a watcher gets, as JSON: a record, or how many were left out since the last such line.
type Line struct {
	Point  string          `json:"point,omitempty"`
	Tag    string          `json:"tag,omitempty"`
	Time   string          `json:"time,omitempty"` // RFC 3339 with nanoseconds
	Record json.RawMessage `json:"record,omitempty"`
	Slow   int64           `json:"dropped_slow,omitempty"` // the watcher did not read in time
	Fast   int64           `json:"dropped_rate,omitempty"` // above the rate that was asked for
}

// The bounds of rates, in records a second.
const (
	DefaultRate = 100
	mostRate    = 100_000
)

// Listen opens the Unix socket on which a hub is asked. Only the user that runs the agent may connect: records may hold secrets. A socket that an agent
// left behind is replaced, one that answers is not.
func Listen(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("%s is there and no socket", path)
		}
		if conn, err := net.Dial("unix", path); err == nil {
			conn.Close()
			return nil, fmt.Errorf("%s: another agent answers there", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	before := syscall.Umask(0o177) // at once, without a moment in which others may connect
	defer syscall.Umask(before)
	return net.Listen("unix", path)
}

// Handler answers GET /points, and GET /records with records as lines of JSON until the watcher goes. The query holds point, tag (a pattern for match),
// where (KEY=VALUE, several) and rate.
func Handler(h *Hub, match func(pattern, tag string) bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /points", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(h.Points("")); err != nil {
			return // the watcher has gone
		}
	})
	mux.HandleFunc("GET /records", func(w http.ResponseWriter, r *http.Request) {
		q, err := query(h, r, match)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		stream(h, q, w, r)
	})
	return mux
}

func query(h *Hub, r *http.Request, match func(pattern, tag string) bool) (Query, error) {
	values := r.URL.Query()
	q := Query{Point: values.Get("point"), Rate: DefaultRate}
	if found := h.Points(q.Point); len(found) == 0 {
		var known []string
		for _, p := range h.Points("") {
			known = append(known, p.String())
		}
		return q, fmt.Errorf("there is no point %q; there are %s", q.Point, strings.Join(known, ", "))
	}
	if pattern := values.Get("tag"); pattern != "" {
		q.Tag = func(tag string) bool { return match(pattern, tag) }
	}
	for _, text := range values["where"] {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return q, fmt.Errorf("%q is not KEY=VALUE", text)
		}
		path, err := record.ParsePath(key)
		if err != nil {
			return q, fmt.Errorf("%q: %w", key, err)
		}
		q.Where = append(q.Where, Condition{path, value})
	}
	if text := values.Get("rate"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > mostRate {
			return q, fmt.Errorf("the rate %q is not a number from 1 to %d", text, mostRate)
		}
		q.Rate = n
	}
	return q, nil
}

// stream writes lines until the watcher goes. What is left out is told each second.
func stream(h *Hub, q Query, w http.ResponseWriter, r *http.Request) {
	watcher := h.Watch(q)
	defer watcher.Close()
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	if out.Flush() != nil {
		return
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var slow, fast int64
	for {
		var err error
		select {
		case <-r.Context().Done():
			return
		case s := <-watcher.Records():
			err = encoder.Encode(line(s))
			watcher.Free(s)
		case <-ticker.C:
			nowSlow, nowFast := watcher.Dropped()
			if nowSlow != slow || nowFast != fast {
				err = encoder.Encode(Line{Slow: nowSlow - slow, Fast: nowFast - fast})
				slow, fast = nowSlow, nowFast
			}
		}
		if err == nil && len(watcher.Records()) == 0 {
			err = out.Flush()
		}
		if err != nil {
			return // the watcher has gone
		}
	}
}

func line(s Seen) Line {
	l := Line{Point: s.Point.String(), Tag: s.Tag}
	if e, err := record.ReadEvent(s.Event); err == nil {
		l.Time = e.Time.Std().Format(time.RFC3339Nano)
		l.Record = record.AppendJSON(nil, e.Body)
	}
	return l
}

// Serve answers on a listener until the listener is closed. Watchers are let go then.
func Serve(l net.Listener, h *Hub, match func(pattern, tag string) bool) error {
	server := &http.Server{Handler: Handler(h, match), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10}
	defer server.Close()
	if err := server.Serve(l); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
