package fluentd

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// What is set and changes nothing is told at the start, with its place.
func TestWhatChangesNothingIsTold(t *testing.T) {
	x := &trial{}
	_, err := New(file(t, `<system>
process_name x
<log>
format json
</log>
</system>
<source>
@type tail
tag a
path /x
read_lines_limit 5
<parse>
@type regexp
expression /(?<a>.)/
timeout 3s
</parse>
</source>
<source>
@type forward
backlog 5
<transport tcp>
linger_timeout 3
</transport>
</source>
<match **>
@type elasticsearch
reload_connections false
<buffer tag>
flush_thread_interval 2
compress gzip
</buffer>
</match>`), x.options(nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"process_name at=fluent.conf:2:1", "section=log at=fluent.conf:3:1", "read_lines_limit at=fluent.conf:11:1", "timeout at=fluent.conf:15:1", "backlog at=fluent.conf:20:1",
		"linger_timeout at=fluent.conf:22:1", "reload_connections at=fluent.conf:27:1", "flush_thread_interval at=fluent.conf:29:1", "compress at=fluent.conf:30:1"} {
		if strings.Count(x.said.String(), want) != 1 {
			t.Errorf("%s is not told once: %s", want, x.said.String())
		}
	}
}

// @log_level says what a plugin tells, whatever the others do.
func TestPluginsLogLevel(t *testing.T) {
	x := &trial{}
	o := x.options(nil)
	levels := map[string]string{}
	inner := o.Logger
	o.Logger = func(part, level string) *slog.Logger { levels[part] = level; return inner(part, level) }
	if _, err := New(file(t, "<source>\n@type sample\n@log_level debug\ntag a\n</source>\n<match **>\n@type null\n</match>"), o); err != nil {
		t.Fatal(err)
	}
	if levels["input:sample:sample.0"] != "debug" || levels["output:null:null.0"] != "" {
		t.Errorf("got %v", levels)
	}
}

// say sends messages of the forward protocol and gives what is answered until the server ends or has nothing to say.
func say(t *testing.T, address string, messages ...string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	for _, m := range messages {
		if _, err := io.WriteString(conn, m); err != nil {
			break // the server has ended
		}
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil && !errors.Is(err, net.ErrClosed) {
		return ""
	}
	got, _ := io.ReadAll(conn)
	return string(got)
}

// packed is a message with records and an acknowledgement's name.
func packed(tag, chunk string, entries ...string) string {
	b := record.AppendString([]byte{0x93}, tag)
	b = record.AppendBinary(b, []byte(strings.Join(entries, "")))
	b = append(b, 0x81)
	return string(record.AppendString(record.AppendString(b, "chunk"), chunk))
}

const (
	goodEntry = "\x92\x01\x81\xa1n\x01"
	badEntry  = "\x92\xa1x\x81\xa1n\x02" // its time is a text
	nilEntry  = "\x92\x01\xc0"
)

func TestForwardInputsOptions(t *testing.T) {
	for name, c := range map[string]struct {
		options  string
		messages []string
		answer   string
		want     []string
		said     string
	}{
		"what is no record is skipped": {"", []string{packed("a", "c", badEntry, goodEntry, nilEntry), "\x93\xa1a\xa1x\x80", "\x93\xa1a\x01\x81\xa1n\x03"}, "\x81\xa3ack\xa1c", []string{`a: {"n":1}`, `a: {"n":3}`}, "skipped"},
		"or refused":                   {"skip_invalid_event false", []string{packed("a", "c", goodEntry, badEntry)}, "", nil, "a connection is closed"},
		"too large":                    {"chunk_size_limit 30", []string{packed("a", "c", goodEntry, goodEntry, goodEntry, goodEntry), packed("a", "d", goodEntry)}, "\x81\xa3ack\xa1d", []string{`a: {"n":1}`}, "it is dropped"},
		"large":                        {"chunk_size_warn_limit 20", []string{packed("a", "c", goodEntry, goodEntry)}, "\x81\xa3ack\xa1c", []string{`a: {"n":1}`, `a: {"n":1}`}, "is large"},
		"one message":                  {"deny_keepalive true", []string{packed("a", "c", goodEntry), packed("a", "d", goodEntry)}, "\x81\xa3ack\xa1c", []string{`a: {"n":1}`}, ""},
		"address":                      {"source_address_key from", []string{packed("a", "c", goodEntry)}, "\x81\xa3ack\xa1c", []string{`a: {"n":1,"from":"127.0.0.1"}`}, ""},
		"another tag":                  {"tag b\nadd_tag_prefix p", []string{packed("a", "c", goodEntry)}, "\x81\xa3ack\xa1c", []string{`p.b: {"n":1}`}, ""},
		"a heartbeat":                  {"", []string{"\xc0", packed("a", "c", goodEntry)}, "\x81\xa3ack\xa1c", []string{`a: {"n":1}`}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := start(t, "<source>\n@type forward\nport "+freePort(t)+"\nbind 127.0.0.1\n"+c.options+"\n</source>\n<match {a,p}.**>\n@type stdout\n</match>")
			address := x.address(t)
			if got := say(t, address, c.messages...); got != c.answer {
				t.Errorf("answered %q, want %q", got, c.answer)
			}
			await(t, "records", func() bool { return len(lines(x.out.String())) >= len(c.want) })
			udp, err := net.Dial("udp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer udp.Close()
			await(t, "an answer to a heartbeat", func() bool {
				var b [8]byte
				_, _ = udp.Write([]byte{0})
				_ = udp.SetReadDeadline(time.Now().Add(time.Second))
				n, err := udp.Read(b[:])
				return err == nil && n == 1
			})
			x.end(t)
			if got := lines(x.out.String()); !slices.Equal(got, c.want) || !strings.Contains(x.said.String(), c.said) {
				t.Errorf("got %q, want %q; %s", got, c.want, x.said.String())
			}
		})
	}
	x := start(t, "<source>\n@type forward\nport "+freePort(t)+"\nbind 127.0.0.1\nsource_hostname_key host\n</source>\n<match a>\n@type stdout\n</match>")
	say(t, x.address(t), packed("a", "c", goodEntry))
	await(t, "the name of a host", func() bool { return strings.Contains(x.out.String(), `"host":"`) })
}

// A server that is not there stops the start, if that is asked for; one that does not answer in time gets the chunk again.
func TestForwardOutputsOptions(t *testing.T) {
	dead := "<match **>\n@type forward\nverify_connection_at_startup true\n<server>\nhost 127.0.0.1\nport " + freePort(t) + "\n</server>\n</match>"
	x := &trial{}
	e, err := New(file(t, dead), x.options([]flow.Batch{batch(t, "a", `{}`)}))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "verify_connection_at_startup: 127.0.0.1") {
		t.Errorf("%v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			go func() { _, _ = io.Copy(io.Discard, conn) }()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_, said := play(t, "<match **>\n@type forward\nrequire_ack_response true\nack_response_timeout 1s\n<server>\nhost 127.0.0.1\nport "+port+"\n</server>\n<buffer tag>\nretry_max_times 0\n</buffer>\n</match>", `a {"n":1}`)
	if !strings.Contains(said, "no acknowledgement") || !strings.Contains(said, "i/o timeout") {
		t.Error(said)
	}
}

// A connection that waited for too long is not used again.
func TestForwardKeepsConnectionsFor(t *testing.T) {
	for options, want := range map[string]int{"keepalive true": 1, "keepalive true\nkeepalive_timeout 1": 2, "": 3} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		made := make(chan struct{}, 10)
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				made <- struct{}{}
				go func() { _, _ = io.Copy(io.Discard, conn) }()
			}
		}()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		x := start(t, "<source>\n@type http\nport "+freePort(t)+"\nbind 127.0.0.1\n</source>\n<match a>\n@type forward\n"+options+"\n<server>\nhost 127.0.0.1\nport "+port+
			"\n</server>\n<buffer tag>\nflush_mode immediate\n</buffer>\n</match>")
		base := "http://" + x.address(t) + "/a"
		post := func(n int64) {
			resp, err := http.Post(base, "application/json", strings.NewReader(`{"n":1}`))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			await(t, "delivery", func() bool {
				for _, p := range x.engine.Parts() {
					if p.Kind == "output" && p.Added >= n {
						return true
					}
				}
				return false
			})
		}
		post(1)
		post(2)
		time.Sleep(1100 * time.Millisecond)
		post(3)
		x.end(t)
		l.Close()
		if got := len(made); got != want && !(want == 2 && got == 3) { // a machine that stands still makes connections older
			t.Errorf("%q: %d connections, want %d", options, got, want)
		}
	}
}

func TestKafkasFields(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(8, "logs"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, said := play(t, "<match **>\n@type kafka2\nbrokers "+c.ListenAddrs()[0]+`
topic logs
headers {"fixed":"x"}
headers_from_record {"level":"$.k.level"}
exclude_fields $.k.level,gone
exclude_partition true
exclude_partition_key true
exclude_message_key true
default_message_key other
max_send_limit_bytes 40
<buffer []>
</buffer>
</match>`, `a {"n":1,"partition":5,"message_key":"m","gone":1,"k":{"level":"info","x":1}}`, `a {"n":2,"partition_key":"hello"}`, `a {"n":3,"message_key":"hello"}`,
		`a {"n":4,"text":"`+strings.Repeat("x", 40)+`"}`, `a {"n":5,"partition":"no"}`)
	got := map[string]string{}
	for _, r := range consumed(t, c, 3) {
		headers := ""
		for _, h := range r.Headers {
			headers += h.Key + "=" + string(h.Value) + " "
		}
		got[string(r.Value)] = strings.TrimSpace(headers + string(r.Key))
		if n := map[string]int32{`{"n":1,"k":{"x":1}}`: 5, `{"n":2}`: 0x3610a686 % 8, `{"n":3}`: 0x3610a686 % 8}[string(r.Value)]; r.Partition != n {
			t.Errorf("%s is in partition %d, want %d", r.Value, r.Partition, n)
		}
	}
	for value, want := range map[string]string{`{"n":1,"k":{"x":1}}`: "fixed=x level=info m", `{"n":2}`: "fixed=x other", `{"n":3}`: "fixed=x hello"} {
		if got[value] != want {
			t.Errorf("%s: %q, want %q", value, got[value], want)
		}
	}
	if !strings.Contains(said, "more than max_send_limit_bytes") || !strings.Contains(said, `"no" is no number of a partition`) && !strings.Contains(said, `\"no\" is no number of a partition`) {
		t.Error(said)
	}
	if h := murmur2([]byte("hello")); h != 2132663229 {
		t.Errorf("the hash of hello is %d", h)
	}
}

func TestKafkasTopicsAndRecordKey(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "logs", "web"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	play(t, "<match **>\n@type kafka2\nbrokers "+c.ListenAddrs()[0]+"\ndefault_topic logs\nrecord_key $.k\nexclude_topic_key true\n</match>", `a {"topic":"web","k":{"n":1}}`, `a {"k":2}`)
	var got []string
	for _, r := range consumed(t, c, 2) {
		got = append(got, r.Topic+" "+string(r.Value))
	}
	slices.Sort(got)
	if !slices.Equal(got, []string{"logs 2", `web {"n":1}`}) {
		t.Errorf("got %q", got)
	}
}

// A number goes on where an earlier run stopped, from a file of upstream's form.
func TestSampleGoesOn(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "s.json")
	writeFile(t, name, []byte(`{"auto_increment_value":6,"dummy_index":1}`))
	conf := "<source>\n@type sample\ntag a\nrate 50\nauto_increment_key id\n<storage>\n@type local\npath " + name + "\npretty_print true\n</storage>\n</source>\n<match a>\n@type stdout\n</match>"
	x := start(t, conf)
	await(t, "records", func() bool { return len(lines(x.out.String())) > 3 })
	x.end(t)
	first := lines(x.out.String())
	if !strings.Contains(first[0], `"id":7`) {
		t.Errorf("the first is %s", first[0])
	}
	if data, err := os.ReadFile(name); err != nil || !bytes.Contains(data, []byte("\n  \"dummy_index\": 1")) {
		t.Errorf("%s, %v", data, err)
	}
	y := start(t, conf)
	await(t, "more records", func() bool { return len(lines(y.out.String())) > 0 })
	y.end(t)
	number := func(line string) string { return line[strings.LastIndex(line, ":")+1:] }
	last, next := number(first[len(first)-1]), number(lines(y.out.String())[0])
	if n := strings.TrimSuffix(next, "}"); n == "0" || n == "7" || next == last {
		t.Errorf("after %s comes %s", last, next)
	}
	for text, want := range map[string]string{`[]`: "holds no JSON object", `{"auto_increment_value":`: "holds no JSON object"} {
		writeFile(t, name, []byte(text))
		z := &trial{}
		e, err := New(file(t, conf), z.options(nil))
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for options, want := range map[string]string{"@type redis": `the storage "redis" is not built into logagent`, "persistent true": "persistent needs path", "path /x\nmode 9": "is no octal mode"} {
		z := &trial{}
		if _, err := New(file(t, strings.Replace(conf, "@type local\npath "+name, options, 1)), z.options(nil)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", options, err)
		}
	}
}

func TestElasticsearchsOptions(t *testing.T) {
	s := newWeb(t)
	s.say(200, `{"errors":false,"items":[]}`)
	address := strings.TrimPrefix(s.URL, "http://")
	out, _ := play(t, "<match **>\n@type opensearch\nhosts "+address+"\nid_key id\nemit_error_for_missing_id true\nbulk_message_request_threshold 10\n</match>\n<label @ERROR>\n<match **>\n@type stdout\n</match>\n</label>",
		`a {"id":"x"}`, `a {"n":2}`, `a {"id":"y"}`)
	if got := s.got(); len(got) != 2 || !strings.Contains(got[0], `"_id":"x"`) || !strings.Contains(got[1], `"_id":"y"`) {
		t.Errorf("got %q", got)
	}
	if got := lines(out); !slices.Equal(got, []string{`a: {"n":2}`}) {
		t.Errorf("got %q", got)
	}
}

func TestHTTPInputsOptions(t *testing.T) {
	for options, want := range map[string]string{
		"cors_allow_credentials true":                             "needs cors_allow_origins",
		"cors_allow_credentials true\ncors_allow_origins [\"*\"]": "needs cors_allow_origins",
	} {
		x := &trial{}
		if _, err := New(file(t, "<source>\n@type http\n"+options+"\n</source>"), x.options(nil)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", options, err)
		}
	}
	for tells, want := range map[string]bool{"true": true, "false": false} {
		x := start(t, "<source>\n@type http\nport "+freePort(t)+"\nbind 127.0.0.1\ndump_error_log "+tells+"\n</source>\n<match a>\n@type null\n</match>")
		resp, err := http.Post("http://"+x.address(t)+"/a", "application/json", strings.NewReader("{"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		x.end(t)
		if got := strings.Contains(x.said.String(), "a request is refused"); got != want || resp.StatusCode != 400 {
			t.Errorf("dump_error_log %s: told: %v, status %d", tells, got, resp.StatusCode)
		}
	}
}
