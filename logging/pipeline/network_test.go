package pipeline_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weft-dev/weft/logging/pipeline"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// freePort is a port of the loopback that nobody uses just now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func dial(t *testing.T, network, address string) net.Conn {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		conn, err := net.Dial(network, address)
		if err == nil {
			t.Cleanup(func() { conn.Close() })
			return conn
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

const toFile = "[OUTPUT]\n    Name file\n    Match *\n    Path DIR\n    File out\n"

func TestForward(t *testing.T) {
	for name, options := range map[string][2]string{
		"plain":      {"", ""},
		"ack":        {"    Require_ack_response on\n", ""},
		"gzip":       {"    compress gzip\n", ""},
		"zstd":       {"    compress zstd\n", ""},
		"shared key": {"    Shared_Key secret\n", "    Shared_Key secret\n"},
		"user":       {"    Shared_Key secret\n    Username bob\n    Password pass\n", "    Shared_Key secret\n    Security.Users bob pass\n"},
	} {
		t.Run(name, func(t *testing.T) {
			port, dir := freePort(t), t.TempDir()
			start(t, dir, "[INPUT]\n    Name forward\n    Port "+port+"\n"+options[1]+toFile, pipeline.Options{})
			write(t, filepath.Join(dir, "in.log"), "{\"time\":\"7.5\",\"a\":1}\n{\"time\":\"8.25\",\"b\":[true,null]}\n")
			start(t, t.TempDir(), `[SERVICE]
    Flush 0.05
    Grace 5
    scheduler.base 1
    scheduler.cap 1
[INPUT]
    Name tail
    Path `+dir+`/in.log
    Tag x.y
    Parser j
    Read_from_Head on
[OUTPUT]
    Name forward
    Match *
    Port `+port+`
    Retry_Limit no_limits
`+options[0]+"[PARSER]\n    Name j\n    Format json\n    Time_Key time\n    Time_Format %s.%L\n", pipeline.Options{})
			await(t, filepath.Join(dir, "out"), "x.y: [7.500000000, {\"a\":1}]\nx.y: [8.250000000, {\"b\":[true,null]}]\n")
		})
	}
}

func TestForwardRefusesAWrongKey(t *testing.T) {
	port, dir := freePort(t), t.TempDir()
	start(t, dir, "[INPUT]\n    Name forward\n    Port "+port+"\n    Shared_Key right\n"+toFile, pipeline.Options{})
	conn := dial(t, "tcp", "127.0.0.1:"+port)
	ping := []byte{0x96}
	for _, s := range []string{"PING", "me", "salt", "wrong", "", ""} {
		ping = record.AppendString(ping, s)
	}
	if _, err := conn.Write(ping); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.Contains(string(answer), "shared_key mismatch") {
		t.Errorf("%q, %v", answer, err)
	}
}

func TestForwardModes(t *testing.T) {
	port, dir := freePort(t), t.TempDir()
	start(t, dir, "[INPUT]\n    Name forward\n    Port "+port+"\n    Buffer_Max_Size 64k\n"+toFile, pipeline.Options{})
	conn := dial(t, "tcp", "127.0.0.1:"+port)
	fields := func(n int) []byte { return record.AppendInt(record.AppendString([]byte{0x81}, "n"), int64(n)) }
	// Message
	m := record.AppendString([]byte{0x93}, "m")
	m = append(record.AppendInt(m, 1), fields(1)...)
	// Forward
	m = record.AppendString(append(m, 0x92), "f")
	m = append(m, 0x92)
	m = append(record.AppendInt(append(m, 0x92), 2), fields(2)...)
	m = append(record.AppendTime(append(m, 0x92), record.Time{Sec: 3, Nsec: 5}), fields(3)...)
	if _, err := conn.Write(m); err != nil {
		t.Fatal(err)
	}
	want := []string{`m: [1.000000000, {"n":1}]`, `f: [2.000000000, {"n":2}]`, `f: [3.000000005, {"n":3}]`}
	awaitThat(t, func() string {
		n := 0
		for _, w := range want {
			n += strings.Count(read(filepath.Join(dir, "out")), w)
		}
		return fmt.Sprint(n)
	}, "3")
	// What is longer than the limit, malformed or nested too deep ends the connection and nothing else.
	for _, bad := range [][]byte{bytes.Repeat([]byte{0xc1}, 10), append([]byte{0xdb, 0, 0xff, 0xff, 0xff}, make([]byte, 100<<10)...), bytes.Repeat([]byte{0x91}, 1000), {0x92, 1, 2}} {
		c := dial(t, "tcp", "127.0.0.1:"+port)
		_, _ = c.Write(bad)
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.ReadAll(c); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("% x is not refused", bad[:4])
		}
	}
	if _, err := conn.Write(append(record.AppendInt(record.AppendString([]byte{0x93}, "m"), 9), fields(9)...)); err != nil {
		t.Fatal(err)
	}
	awaitThat(t, func() string { return fmt.Sprint(strings.Count(read(filepath.Join(dir, "out")), `{"n":9}`)) }, "1")
}

// server records what is posted and answers as told.
type server struct {
	*httptest.Server
	mu       sync.Mutex
	bodies   []string
	headers  []http.Header
	urls     []string
	statuses []int // of the next answers; then 200
	answer   string
}

func newServer(t *testing.T) *server {
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.bodies, s.headers, s.urls = append(s.bodies, string(body)), append(s.headers, r.Header), append(s.urls, r.URL.String())
		status := 200
		if len(s.statuses) > 0 {
			status, s.statuses = s.statuses[0], s.statuses[1:]
		}
		if status == 0 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, s.answer)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) port() string { return s.URL[strings.LastIndexByte(s.URL, ':')+1:] }

func (s *server) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.bodies...)
}

const oneDummy = `[SERVICE]
    Flush 0.05
    Grace 5
    scheduler.base 1
    scheduler.cap 1
[INPUT]
    Name dummy
    Tag t
    Samples 1
    Flush_On_Startup on
    Start_Time_Sec 5
    Start_Time_Nsec 500000000
    Fixed_Timestamp on
    Dummy {"k":{"app":"web","x.y":"z"},"log":"hello"}
[OUTPUT]
    Match *
    Port PORT
`

func send(t *testing.T, s *server, options string) *running {
	t.Helper()
	return start(t, t.TempDir(), strings.ReplaceAll(oneDummy, "PORT", s.port())+options, pipeline.Options{})
}

func TestHTTPOutputs(t *testing.T) {
	for name, c := range map[string]struct{ options, url, body string }{
		"http json":  {"    Name http\n    uri /in\n    header X-A b c\n    header_tag X-Tag\n", "/in", `[{"date":5.5,"k":{"app":"web","x.y":"z"},"log":"hello"}]`},
		"http lines": {"    Name http\n    format json_lines\n    json_date_key off\n", "/", `{"k":{"app":"web","x.y":"z"},"log":"hello"}` + "\n"},
		"http iso":   {"    Name http\n    format json_stream\n    json_date_format iso8601\n", "/", `{"date":"1970-01-01T00:00:05.500000Z","k":{"app":"web","x.y":"z"},"log":"hello"}`},
		"es": {"    Name es\n    Logstash_Format on\n    Suppress_Type_Name on\n    Replace_Dots on\n    Include_Tag_Key on\n", "/_bulk",
			`{"create":{"_index":"logstash-1970.01.01"}}` + "\n" + `{"@timestamp":"1970-01-01T00:00:05.500Z","flb-key":"t","k":{"app":"web","x_y":"z"},"log":"hello"}` + "\n"},
		"opensearch": {"    Name opensearch\n    Index i\n    ID_KEY log\n    Write_Operation upsert\n    Path /p\n    Pipeline q\n", "/p/_bulk/?pipeline=q",
			`{"update":{"_index":"i","_type":"_doc","_id":"hello"}}` + "\n" + `{"doc_as_upsert":true,"doc":{"@timestamp":"1970-01-01T00:00:05.500Z","k":{"app":"web","x.y":"z"},"log":"hello"}}` + "\n"},
		"loki": {"    Name loki\n    Host 127.0.0.1\n    labels job=fb, $k['app']\n    remove_keys $k\n    drop_single_key on\n    tenant_id me\n", "/loki/api/v1/push",
			`{"streams":[{"stream":{"job":"fb","k_app":"web"},"values":[["5500000000","\"hello\""]]}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			send(t, s, c.options)
			awaitThat(t, func() string { return strings.Join(s.got(), "|") }, c.body)
			if s.urls[0] != c.url {
				t.Errorf("URL %s, want %s", s.urls[0], c.url)
			}
			if name == "http json" && (s.headers[0].Get("X-A") != "b c" || s.headers[0].Get("X-Tag") != "t") {
				t.Errorf("headers %v", s.headers[0])
			}
			if name == "loki" && s.headers[0].Get("X-Scope-OrgID") != "me" {
				t.Errorf("headers %v", s.headers[0])
			}
		})
	}
}

// A server that fails is asked again; one that refuses is not; one that resets is.
func TestHTTPFailures(t *testing.T) {
	for name, c := range map[string]struct {
		statuses []int
		want     int // requests
		dropped  bool
	}{
		"500 then 200": {[]int{500}, 2, false}, "429": {[]int{429, 429}, 3, false}, "400": {[]int{400}, 1, true}, "reset": {[]int{0}, 2, false}, "redirect": {[]int{302}, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.statuses = c.statuses
			r := send(t, s, "    Name http\n    Retry_Limit no_limits\n")
			awaitThat(t, func() string { return fmt.Sprint(len(s.got()) >= c.want) }, "true")
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			if n := len(s.got()); n != c.want && name != "reset" {
				t.Errorf("%d requests, want %d", n, c.want)
			}
			metrics := get(t, r.engine, "/api/v1/metrics/prometheus")
			if strings.Contains(metrics, `fluentbit_output_dropped_records_total{name="http.0"} 1`) != c.dropped {
				t.Errorf("dropped is not %v:\n%s", c.dropped, metrics)
			}
		})
	}
}

func get(t *testing.T, e *pipeline.Engine, path string) string {
	t.Helper()
	w := httptest.NewRecorder()
	e.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Body.String()
}

func TestElasticsearchAnswers(t *testing.T) {
	for answer, want := range map[string]string{
		`{"errors":false,"items":[]}`:                         "1 0",
		`{"errors":true,"items":[{"create":{"status":409}}]}`: "1 0",
		`{"errors":true,"items":[{"create":{"status":400}}]}`: "1 1",
		`{"errors":true,"items":[{"create":{"status":429}}]}`: "2 1",
		`nonsense`: "2 1",
	} {
		s := newServer(t)
		s.answer = answer
		r := send(t, s, "    Name es\n    Retry_Limit 1\n")
		requests, _, _ := strings.Cut(want, " ")
		awaitThat(t, func() string { return fmt.Sprint(len(s.got())) }, requests)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		dropped := 0
		if strings.Contains(get(t, r.engine, "/api/v1/metrics/prometheus"), `fluentbit_output_dropped_records_total{name="es.0"} 1`) {
			dropped = 1
		}
		if got := fmt.Sprint(len(s.got()), dropped); got != want {
			t.Errorf("%s: %s, want %s", answer, got, want)
		}
	}
}

func TestHTTPInput(t *testing.T) {
	port, dir := freePort(t), t.TempDir()
	start(t, dir, "[INPUT]\n    Name http\n    Port "+port+"\n    buffer_max_size 1k\n"+strings.Replace(toFile, "    File out\n", "    File out\n    Format template\n    Template {n}\n", 1), pipeline.Options{})
	dial(t, "tcp", "127.0.0.1:"+port).Close()
	post := func(kind, body string) int {
		resp, err := http.Post("http://127.0.0.1:"+port+"/a/b", kind, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for body, want := range map[string]int{`{"n":1}`: 201, `[{"n":2},{"n":3}]`: 201, "{\"n\":4}\n{\"n\":5}": 201, `{"n":`: 400, `3`: 400, `{"n":"` + strings.Repeat("x", 2000) + `"}`: 413} {
		if got := post("application/json", body); got != want {
			t.Errorf("%.20s: %d, want %d", body, got, want)
		}
	}
	if got := post("application/x-www-form-urlencoded", "n=6"); got != 201 {
		t.Errorf("form: %d", got)
	}
	if got := post("text/plain", "n=6"); got != 400 {
		t.Errorf("text: %d", got)
	}
	awaitThat(t, func() string { return fmt.Sprint(len(strings.Fields(read(filepath.Join(dir, "out"))))) }, "6")
}

// The input http keeps to max_connections: who comes too many is sent away.
func TestHTTPInputSendsAway(t *testing.T) {
	for _, option := range []string{"max_connections", "http_server.max_connections"} {
		port, dir := freePort(t), t.TempDir()
		start(t, dir, "[INPUT]\n    Name http\n    Port "+port+"\n    "+option+" 1\n"+toFile, pipeline.Options{})
		first := dial(t, "tcp", "127.0.0.1:"+port)
		defer first.Close()
		second := dial(t, "tcp", "127.0.0.1:"+port)
		defer second.Close()
		for _, conn := range []net.Conn{first, second} {
			if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				continue // it was closed already
			}
			n, err := conn.Read(make([]byte, 100))
			if answered := n > 0; answered != (conn == first) {
				t.Errorf("%s: the first of two: %v, answered: %v %v", option, conn == first, answered, err)
			}
		}
	}
}

func TestTCPAndSyslog(t *testing.T) {
	ports := []string{freePort(t), freePort(t), freePort(t), freePort(t)}
	dir := t.TempDir()
	start(t, dir, fmt.Sprintf(`[INPUT]
    Name tcp
    Tag json
    Port %s
[INPUT]
    Name tcp
    Tag text
    Port %s
    Format none
    Chunk_Size 1
[INPUT]
    Name syslog
    Tag sys
    Mode tcp
    Port %s
    Parser syslog-rfc3164
[INPUT]
    Name syslog
    Tag unix
    Mode unix_udp
    Path DIR/sock
`, ports[0], ports[1], ports[2])+toFile, pipeline.Options{})
	_, _ = io.WriteString(dial(t, "tcp", "127.0.0.1:"+ports[0]), `{"a":1} {"b":{"c":"}"}}`)
	_, _ = io.WriteString(dial(t, "tcp", "127.0.0.1:"+ports[1]), "line one\r\nline two\n")
	_, _ = io.WriteString(dial(t, "tcp", "127.0.0.1:"+ports[1]), strings.Repeat("x", 5000))
	_, _ = io.WriteString(dial(t, "tcp", "127.0.0.1:"+ports[2]), "<13>Jan  2 03:04:05 host app[77]: hi\n41 <14>Jan  2 03:04:06 host app[78]: two\nmore<1")
	_, _ = io.WriteString(dial(t, "unixgram", filepath.Join(dir, "sock")), "<13>Jan  2 03:04:05 app[77]: local")
	for _, want := range []string{`{"a":1}`, `{"b":{"c":"}"}}`, `{"log":"line one"}`, `{"log":"line two"}`,
		`"pri":"13","time":"Jan  2 03:04:05","host":"host","ident":"app","pid":"77","message":"hi"`, `"message":"two`, `"ident":"app","pid":"77","message":"local"`} {
		awaitThat(t, func() string { return fmt.Sprint(strings.Count(read(filepath.Join(dir, "out")), want)) }, "1")
	}
	if strings.Contains(read(filepath.Join(dir, "out")), "xxx") {
		t.Error("a line beyond the limit was taken")
	}
}
