package pipeline_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/logging/pipeline"
)

// troubled is an HTTP server that does something else than answer to its first requests.
func troubled(t *testing.T, requests int64, first func(w http.ResponseWriter, r *http.Request)) (port string, bodies func() string) {
	t.Helper()
	var came atomic.Int64
	got := &logged{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if came.Add(1) <= requests {
			first(w, r)
			return
		}
		if err == nil {
			_, _ = got.Write(body)
		}
		_, _ = io.WriteString(w, `{"errors":false}`)
	}))
	t.Cleanup(s.Close)
	return s.URL[strings.LastIndexByte(s.URL, ':')+1:], got.String
}

func reset(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}

// What servers answer decides whether a chunk is tried again, for each output as in Fluent Bit.
func TestOutputFaults(t *testing.T) {
	status := func(code int) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	half := func(w http.ResponseWriter, r *http.Request) { // an answer that is cut
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, "{")
	}
	faults := map[string]struct {
		do      func(http.ResponseWriter, *http.Request)
		dropped string // the outputs that drop the chunk
	}{
		"hangs": {hang, ""}, "resets": {reset, ""}, "cuts the answer": {half, ""}, "302": {status(302), ""}, "400": {status(400), "http loki"}, "401": {status(401), "http"}, "403": {status(403), "http"},
		"404": {status(404), "http"}, "408": {status(408), ""}, "413": {status(413), "http"}, "429": {status(429), ""}, "500": {status(500), ""}, "503": {status(503), ""},
	}
	for _, plugin := range []string{"http", "es", "opensearch", "loki"} {
		for name, c := range faults {
			t.Run(plugin+"/"+name, func(t *testing.T) {
				t.Parallel()
				port, bodies := troubled(t, 1, c.do)
				options := "    Name " + plugin + "\n    Host 127.0.0.1\n    Retry_Limit no_limits\n    net.io_timeout 1s\n"
				r := start(t, t.TempDir(), strings.ReplaceAll(oneDummy, "PORT", port)+options, pipeline.Options{})
				if strings.Contains(" "+c.dropped+" ", " "+plugin+" ") {
					awaitMetric(t, r, `fluentbit_output_dropped_records_total{name="`+plugin+`.0"} 1`)
					awaitMetric(t, r, `fluentbit_output_errors_total{name="`+plugin+`.0"} 1`)
					return
				}
				awaitMetric(t, r, `fluentbit_output_proc_records_total{name="`+plugin+`.0"} 1`)
				if !strings.Contains(bodies(), "hello") {
					t.Errorf("the server got %q", bodies())
				}
			})
		}
	}
}

// forward tries again until a server acknowledges.
func TestForwardFaults(t *testing.T) {
	for name, first := range map[string]func(net.Conn){
		"hangs":  func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"closes": func(c net.Conn) { c.Close() },
		"resets": func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0); c.Close() },
		"lies":   func(c net.Conn) { _, _ = c.Write([]byte("\x81\xa3ack\xa1x")); _, _ = io.Copy(io.Discard, c) },
		"talks":  func(c net.Conn) { _, _ = c.Write(bytes.Repeat([]byte("\xff"), 8192)); _, _ = io.Copy(io.Discard, c) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			_, port, _ := net.SplitHostPort(l.Addr().String())
			refused := make(chan struct{})
			go func() { // the first connection only; then a real server takes the port
				defer close(refused)
				conn, err := l.Accept()
				l.Close()
				if err == nil {
					first(conn)
					conn.Close()
				}
			}()
			dir := t.TempDir()
			r := start(t, t.TempDir(), strings.ReplaceAll(oneDummy, "PORT", port)+"    Name forward\n    Retry_Limit no_limits\n    Require_ack_response on\n    net.io_timeout 1s\n", pipeline.Options{})
			<-refused
			start(t, dir, "[INPUT]\n    Name forward\n    Port "+port+"\n"+toFile, pipeline.Options{})
			awaitMetric(t, r, `fluentbit_output_proc_records_total{name="forward.0"} 1`)
			await(t, filepath.Join(dir, "out"), "t: [5.500000000, {\"k\":{\"app\":\"web\",\"x.y\":\"z\"},\"log\":\"hello\"}]\n")
		})
	}
}

// numbered are lines of 100 bytes with numbers.
func numbered(from, n int) string {
	var b strings.Builder
	for i := from; i < from+n; i++ {
		fmt.Fprintf(&b, "line %08d %s\n", i, strings.Repeat("x", 85))
	}
	return b.String()
}

// missing tells which of the numbers are not in text, and how many lines are there.
func missing(text string, n int) string {
	if strings.Count(text, "line ") < n {
		return "some are lost"
	}
	seen := map[string]int{}
	for _, m := range regexp.MustCompile(`line (\d{8})`).FindAllStringSubmatch(text, -1) {
		seen[m[1]]++
	}
	lost := 0
	for i := range n {
		if seen[fmt.Sprintf("%08d", i)] == 0 {
			lost++
		}
	}
	return fmt.Sprintf("%d lost", lost)
}

func metricOf(t *testing.T, r *running, name string) int {
	t.Helper()
	for line := range strings.Lines(get(t, r.engine, "/api/v2/metrics/prometheus")) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(rest))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

const tailToHTTP = `[SERVICE]
    Flush 0.05
    Grace 5
    scheduler.base 1
    scheduler.cap 1
    storage.path DIR/storage
[INPUT]
    Name tail
    Path DIR/*.log
    Tag t
    DB DIR/positions
    Read_from_Head true
    Refresh_Interval 1
INPUT
[OUTPUT]
    Name http
    Match *
    Port PORT
    format json_lines
    Retry_Limit no_limits
`

func tailHTTP(t *testing.T, dir, port, input, output string) *running {
	t.Helper()
	return start(t, dir, strings.NewReplacer("INPUT\n[", input+"[", "PORT", port).Replace(tailToHTTP)+output, pipeline.Options{})
}

// With a server that is stuck, an input stays within its limit of memory, and all lines arrive when the server is back.
func TestMemoryUnderAStuckOutput(t *testing.T) {
	for name, input := range map[string]string{"memory": "    mem_buf_limit 1M\n", "filesystem": "    mem_buf_limit 1M\n    storage.type filesystem\n"} {
		t.Run(name, func(t *testing.T) {
			dir, open := t.TempDir(), make(chan struct{})
			var requests atomic.Int64
			got := &logged{}
			s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				requests.Add(1)
				select {
				case <-open:
				case <-r.Context().Done():
					return
				}
				if err == nil {
					_, _ = got.Write(body)
				}
			}))
			t.Cleanup(s.Close)
			const lines = 60_000
			write(t, filepath.Join(dir, "a.log"), numbered(0, lines))
			r := tailHTTP(t, dir, s.URL[strings.LastIndexByte(s.URL, ':')+1:], input, "")
			most := func() int { return metricOf(t, r, `fluentbit_input_storage_memory_bytes{name="tail.0"}`) }
			peak := 0
			awaitThat(t, func() string {
				peak = max(peak, most())
				if name == "memory" {
					return fmt.Sprint(requests.Load() > 0 && metricOf(t, r, `fluentbit_input_ingestion_paused{name="tail.0"}`) == 1)
				}
				return fmt.Sprint(requests.Load() > 0 && metricOf(t, r, `fluentbit_input_records_total{name="tail.0"}`) == lines)
			}, "true")
			for range 50 { // no more comes while the server is stuck
				peak = max(peak, most())
				time.Sleep(5 * time.Millisecond)
			}
			if limit := 1<<20 + 2<<20 + 1<<20; peak > limit { // the limit, the chunk that is delivered, and a batch
				t.Errorf("%d bytes waited in memory, more than %d", peak, limit)
			}
			close(open)
			awaitThat(t, func() string { return missing(got.String(), lines) }, "0 lost")
		})
	}
}

// storage.total_limit_size holds while an output refuses everything: the oldest chunks go, are counted, and the newest arrive.
func TestTotalLimitSize(t *testing.T) {
	dir := t.TempDir()
	var open atomic.Bool
	got := &logged{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if !open.Load() || err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = got.Write(body)
	}))
	t.Cleanup(s.Close)
	log := filepath.Join(dir, "a.log")
	write(t, log, "")
	r := tailHTTP(t, dir, s.URL[strings.LastIndexByte(s.URL, ':')+1:], "    storage.type filesystem\n", "    storage.total_limit_size 300K\n")
	waiting := func() int { return metricOf(t, r, `fluentbit_output_waiting_bytes{name="http.0"}`) }
	const batches, lines = 20, 1000 // of 100 KB each
	for n := range batches {
		appendTo(t, log, numbered(n*lines, lines))
		awaitThat(t, func() string { return fmt.Sprint(metricOf(t, r, `fluentbit_input_records_total{name="tail.0"}`)) }, fmt.Sprint((n+1)*lines))
		size := metricOf(t, r, `fluentbit_input_bytes_total{name="tail.0"}`) / ((n + 1) * lines) // of each record
		awaitThat(t, func() string {                                                             // all have come to the output
			return fmt.Sprint(waiting() + size*metricOf(t, r, `fluentbit_output_dropped_records_total{name="http.0"}`))
		}, fmt.Sprint((n+1)*lines*size))
		if w := waiting(); w > 300<<10 { // what is refused waits for another try, not in the queue
			t.Fatalf("%d bytes wait after %d batches", w, n+1)
		}
	}
	dropped := metricOf(t, r, `fluentbit_output_dropped_records_total{name="http.0"}`)
	if dropped < 10*lines {
		t.Errorf("only %d records were dropped", dropped)
	}
	open.Store(true)
	last := fmt.Sprintf("line %08d", batches*lines-1)
	awaitThat(t, func() string { return fmt.Sprint(strings.Contains(got.String(), last)) }, "true")
	awaitThat(t, func() string {
		return fmt.Sprint(metricOf(t, r, `fluentbit_output_proc_records_total{name="http.0"}`) + metricOf(t, r, `fluentbit_output_dropped_records_total{name="http.0"}`))
	}, fmt.Sprint(batches*lines))
}

// A full disk holds the input up; all lines arrive when there is room again.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("the test needs root")
		}
		t.Skip("only root may mount a small disk")
	}
	dir := t.TempDir()
	disk := filepath.Join(dir, "storage")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=512k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	var open atomic.Bool
	got := &logged{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if !open.Load() || err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = got.Write(body)
	}))
	t.Cleanup(s.Close)
	const lines = 20_000 // 2 MB
	write(t, filepath.Join(dir, "a.log"), numbered(0, lines))
	log := &logged{}
	r := start(t, dir, strings.NewReplacer("INPUT\n[", "    storage.type filesystem\n    Buffer_Chunk_Size 64K\n    Buffer_Max_Size 64K\n[", "PORT", s.URL[strings.LastIndexByte(s.URL, ':')+1:]).Replace(tailToHTTP), log.options())
	awaitThat(t, func() string { return fmt.Sprint(strings.Contains(log.String(), "no space left on device")) }, "true")
	if n := metricOf(t, r, `fluentbit_output_dropped_records_total{name="http.0"}`); n != 0 {
		t.Errorf("%d records were dropped", n)
	}
	open.Store(true)
	awaitThat(t, func() string { return missing(got.String(), lines) }, "0 lost")
	if err := r.stop(); err != nil {
		t.Error(err)
	}
}

// A clock that jumps, back or forward, holds nothing up and loses nothing.
func TestClockJumps(t *testing.T) {
	for name, jump := range map[string]time.Duration{"back": -3 * time.Hour, "forward": 3 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var off atomic.Int64
			options := pipeline.Options{Now: func() time.Time { return time.Now().Round(0).Add(time.Duration(off.Load())) }} // without Go's second, steady clock
			log, out := filepath.Join(dir, "a.log"), filepath.Join(dir, "out")
			write(t, log, "one\n  of it\n")
			start(t, dir, "[SERVICE]\n    Flush 0.05\n    Grace 5\n"+strings.Replace(tailToFile, "    Tag t\n", "    Tag t\n    multiline.parser go2\n    rate_gate on\n    rate_gate.max_records 1000\n", 1)+
				"[FILTER]\n    Name throttle\n    Match *\n    Rate 100\n    Window 5\n    Interval 1s\n"+
				"[MULTILINE_PARSER]\n    Name go2\n    Type regex\n    Flush_Timeout 700\n    Rule \"start_state\" \"/^[a-z]/\" \"cont\"\n    Rule \"cont\" \"/^ /\" \"cont\"\n", options)
			awaitThat(t, func() string { return fmt.Sprint(strings.Contains(read(out), "of it")) }, "true")
			appendTo(t, log, "two\n  more\n")
			time.Sleep(200 * time.Millisecond) // it is held back now, for its next line
			off.Store(int64(jump))
			awaitThat(t, func() string { return fmt.Sprint(strings.Contains(read(out), "more")) }, "true")
			// The file is rotated before the clock jumps back by the same time.
			if err := os.Rename(log, log+".1"); err != nil {
				t.Fatal(err)
			}
			appendTo(t, log+".1", "three\n")
			time.Sleep(200 * time.Millisecond)
			off.Store(0)
			write(t, log, "four\n")
			awaitThat(t, func() string { return fmt.Sprint(strings.Count(read(out), "three"), strings.Count(read(out), "four")) }, "1 1")
		})
	}
}

// A chunk that cannot be read is kept aside, or removed where storage.delete_irrecoverable_chunks asks for it.
func TestDamagedChunks(t *testing.T) {
	for option, left := range map[string]string{"": "[bad.chunk.damaged]", "    storage.delete_irrecoverable_chunks on\n": "[]"} {
		dir := t.TempDir()
		folder := filepath.Join(dir, "storage", "tail.0")
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(folder, "bad.chunk"), "no chunk")
		start(t, dir, "[SERVICE]\n    Flush 0.05\n    storage.path DIR/storage\n"+option+"[INPUT]\n    Name dummy\n"+toFile, pipeline.Options{})
		awaitThat(t, func() string {
			entries, err := os.ReadDir(folder)
			names := []string{}
			for _, e := range entries {
				names = append(names, e.Name())
			}
			return fmt.Sprint(names, err)
		}, left+" <nil>")
	}
}

// What an output never takes is kept up to storage.rejected.limit.
func TestRejectedLimit(t *testing.T) {
	for limit, kept := range map[string]int{"": 2, "    storage.rejected.limit 200\n": 1} {
		dir := t.TempDir()
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }))
		t.Cleanup(s.Close)
		log := filepath.Join(dir, "a.log")
		write(t, log, strings.Repeat("x", 100)+"\n")
		text := strings.NewReplacer("INPUT\n[", "    storage.type filesystem\n[", "PORT", s.URL[strings.LastIndexByte(s.URL, ':')+1:], "    storage.path", "    storage.keep.rejected on\n"+limit+"    storage.path").Replace(tailToHTTP)
		r := start(t, dir, text, pipeline.Options{})
		dropped := func() string {
			return fmt.Sprint(metricOf(t, r, `fluentbit_output_dropped_records_total{name="http.0"}`))
		}
		awaitThat(t, dropped, "1")
		appendTo(t, log, strings.Repeat("y", 100)+"\n")
		awaitThat(t, dropped, "2")
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		if names, err := os.ReadDir(filepath.Join(dir, "storage", "rejected")); err != nil || len(names) != kept {
			t.Errorf("%q: %d chunks are kept, want %d: %v", limit, len(names), kept, err)
		}
	}
}
