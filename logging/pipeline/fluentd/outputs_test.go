package fluentd

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weft-dev/weft/logging/pipeline/flow"
)

// web is a server that keeps what is posted, and answers as it is told.
type web struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	answer string
	bodies []string
	heads  []http.Header
}

func newWeb(t *testing.T) *web {
	s := &web{status: 200}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil && r.Header.Get("Content-Encoding") == "gzip" {
			if z, err := gzip.NewReader(bytes.NewReader(body)); err == nil {
				body, _ = io.ReadAll(z)
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		r.Header.Set("Path", r.Method+" "+r.URL.RequestURI())
		s.bodies, s.heads = append(s.bodies, string(body)), append(s.heads, r.Header)
		w.WriteHeader(s.status)
		_, _ = io.WriteString(w, s.answer)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *web) say(status int, answer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.answer = status, answer
}

func (s *web) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.bodies)
}

func TestHTTPOutput(t *testing.T) {
	s := newWeb(t)
	play(t, `<match **>
@type http
endpoint `+s.URL+`/in/${tag[1]}
headers {"X-A":"b"}
headers_from_placeholders {"X-Tag":"${tag}"}
json_array true
compress gzip
<auth>
method basic
username u
password p
</auth>
<buffer tag>
@type memory
</buffer>
</match>`, `a.b {"n":1}`, `a.b {"n":2}`)
	if got := s.got(); !slices.Equal(got, []string{`[{"n":1},{"n":2}]`}) {
		t.Errorf("got %q", got)
	}
	h := s.heads[0]
	if h.Get("Path") != "POST /in/b" || h.Get("X-A") != "b" || h.Get("X-Tag") != "a.b" || h.Get("Content-Type") != "application/json" || h.Get("Authorization") != "Basic dTpw" {
		t.Errorf("got %v", h)
	}
}

// A server that answers 503 gets the chunk again; what it refuses for good goes to the secondary.
func TestRetryAndSecondary(t *testing.T) {
	s, dir := newWeb(t), t.TempDir()
	s.say(503, "later")
	x := start(t, `<source>
@type sample
tag a
sample {"n":1}
rate 1
auto_increment_key id
</source>
<match a>
@type http
endpoint `+s.URL+`
<buffer>
flush_mode immediate
retry_type periodic
retry_wait 0.05s
</buffer>
<secondary>
@type secondary_file
directory `+dir+`
basename ${chunk_id}
</secondary>
</match>`)
	await(t, "a second try", func() bool { return len(s.got()) >= 2 })
	s.say(200, "")
	await(t, "success", func() bool { return strings.Contains(x.said.String(), "retry succeeded") })
	got := s.got()
	if got[0] != got[1] {
		t.Errorf("the second try is another chunk: %q, %q", got[0], got[1])
	}
	s.say(400, "no")
	await(t, "a file of the secondary", func() bool {
		found, err := filepath.Glob(filepath.Join(dir, "*.0"))
		return err == nil && len(found) > 0
	})
}

func TestRetriesEnd(t *testing.T) {
	s := newWeb(t)
	s.say(503, "later")
	_, said := play(t, `<match **>
@type http
endpoint `+s.URL+`
<buffer>
retry_type periodic
retry_wait 0.01s
retry_max_times 2
</buffer>
</match>`, `a {"n":1}`)
	if n := len(s.got()); n != 3 || !strings.Contains(said, "Hit limit for retries") {
		t.Errorf("%d tries, %s", n, said)
	}
}

func TestOverflow(t *testing.T) {
	s := newWeb(t)
	s.say(503, "later")
	conf := func(action string) string {
		return `<match **>
@type http
endpoint ` + s.URL + `
<buffer>
flush_mode immediate
total_limit_size 100
chunk_limit_size 200
overflow_action ` + action + `
retry_type periodic
retry_wait 3600s
</buffer>
</match>`
	}
	text := strings.Repeat("x", 120)
	for _, action := range []string{"throw_exception", "drop_oldest_chunk", "block"} {
		x := &trial{}
		e, err := New(file(t, conf(action)), x.options([]flow.Batch{}))
		if err != nil {
			t.Fatal(err)
		}
		o := e.buffers[0]
		if err := o.open(t.Context()); err != nil {
			t.Fatal(err)
		}
		put := func(ctx context.Context, n int) error {
			return o.emit(ctx, batch(t, "a", fmt.Sprintf(`{"n":%d,"t":%q}`, n, text)))
		}
		if err := put(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		ctx, stop := t.Context(), func() {}
		if action == "block" { // for ever, if nobody makes room
			ctx, stop = context.WithTimeout(ctx, 50*time.Millisecond)
		}
		err = put(ctx, 2)
		stop()
		_, records, _, _ := o.buffer.Waiting()
		c := o.buffer.Take()
		data, readErr := c.Content()
		if readErr != nil {
			t.Fatal(readErr)
		}
		first := bytes.Contains(data, []byte("\xa1n\x01"))
		switch {
		case records != 1:
			t.Errorf("%s: %d records wait", action, records)
		case action == "drop_oldest_chunk" && (err != nil || first):
			t.Errorf("%s: %v, the first is there: %v", action, err, first)
		case action != "drop_oldest_chunk" && (err == nil || !first):
			t.Errorf("%s: %v, the first is there: %v", action, err, first)
		}
		if action == "block" { // room lets it through
			done := make(chan error, 1)
			go func() { done <- put(t.Context(), 3) }()
			if err := o.buffer.Done(c); err != nil {
				t.Error(err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
}

func TestFileNames(t *testing.T) {
	for name, c := range map[string]struct {
		options, in string
		want        map[string]string
	}{
		"time":     {"path DIR/x\n<buffer time>\n@type memory\ntimekey 1h\ntimekey_use_utc\n</buffer>", `a {"n":1}`, map[string]string{"x.2026010203_0.log": `{"n":1}` + "\n"}},
		"default":  {"path DIR/x\n<buffer>\n@type memory\ntimekey_use_utc\n</buffer>", `a {"n":1}`, map[string]string{"x.20260102_0.log": `{"n":1}` + "\n"}},
		"append":   {"path DIR/x\nappend true\n<buffer time>\n@type memory\ntimekey 1d\ntimekey_use_utc\nchunk_limit_records 1\n</buffer>", `a {"n":1}`, map[string]string{"x.20260102.log": `{"n":1}` + "\n"}},
		"star":     {"path DIR/x.*.txt\n<buffer time>\n@type memory\ntimekey 60\ntimekey_use_utc\n</buffer>", `a {"n":1}`, map[string]string{"x.202601020304_0.txt": `{"n":1}` + "\n"}},
		"own time": {"path DIR/%Y/%m-%d/x\n<buffer time>\n@type memory\ntimekey 1d\ntimekey_zone +0900\n</buffer>", `a {"n":1}`, map[string]string{"2026/01-02/x_0.log": `{"n":1}` + "\n"}},
		"tag, key": {"path DIR/${tag[-1]}/${$.k.p}\nadd_path_suffix false\ncompress gzip\n<buffer tag,$.k.p>\n@type memory\n</buffer>", `a.b {"k":{"p":"v"}}`, map[string]string{"b/v_0.gz": `{"k":{"p":"v"}}` + "\n"}},
		"no keys":  {"path DIR/x\n<buffer []>\n@type memory\n</buffer>", `a {"n":1}`, map[string]string{"x_0.log": `{"n":1}` + "\n"}},
		"root":     {"path DIR/a${k}\n<buffer k>\n@type memory\ndisable_chunk_backup true\n</buffer>", `a {"k":"/x"}`, map[string]string{}},
		"away":     {"path DIR/${k}\n<buffer k>\n@type memory\ndisable_chunk_backup true\n</buffer>", `a {"k":"../../x"}`, map[string]string{}},
	} {
		dir := t.TempDir()
		_, said := play(t, "<match **>\n@type file\n"+strings.ReplaceAll(c.options, "DIR", dir)+"\n<format>\n@type json\n</format>\n</match>", c.in)
		got := map[string]string{}
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			if strings.HasSuffix(path, ".gz") {
				z, err := gzip.NewReader(bytes.NewReader(data))
				if err != nil {
					return err
				}
				if data, err = io.ReadAll(z); err != nil {
					return err
				}
			}
			rel, _ := filepath.Rel(dir, path)
			got[rel] = string(data)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: got %v, want %v; %s", name, got, c.want, said)
		}
	}
}

// What a killed engine left in files is delivered by the next one; a chunk whose time is not over waits.
func TestFileBufferComesBack(t *testing.T) {
	dir := t.TempDir()
	conf := func(end string) string {
		return `<match **>
@type file
path ` + dir + `/out
append true
<buffer time>
@type file
path ` + dir + `/buffer
timekey 1d
timekey_use_utc
` + end + `
</buffer>
</match>`
	}
	play(t, conf(""), `a.b {"n":1}`, `c {"n":2}`) // files are not flushed at the end
	if _, err := os.Stat(dir + "/out.20260102.log"); err == nil {
		t.Fatal("the chunk was delivered at the end, without flush_at_shutdown")
	}
	play(t, conf("flush_at_shutdown true"), `d {"n":3}`)
	data, err := os.ReadFile(dir + "/out.20260102.log")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\ta.b\t{\"n\":1}\n", "\tc\t{\"n\":2}\n", "\td\t{\"n\":3}\n"} {
		if strings.Count(string(data), want) != 1 {
			t.Errorf("%q is not there once: %q", want, data)
		}
	}
	if left, err := filepath.Glob(dir + "/buffer.chunks/*/*"); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// freePort is a port at which nobody listens just now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

var listening = regexp.MustCompile(`address=(?:"?)([^ "\n]+)`)

func (x *trial) address(t *testing.T) string {
	t.Helper()
	await(t, "a listener", func() bool { return listening.MatchString(x.said.String()) })
	return listening.FindStringSubmatch(x.said.String())[1]
}

func TestForwardBothWays(t *testing.T) {
	for name, c := range map[string][2]string{
		"plain": {"", "require_ack_response true"},
		"secured": {"<security>\nself_hostname in\nshared_key k\nuser_auth true\n<user>\nusername u\npassword p\n</user>\n</security>",
			"compress gzip\nkeepalive true\n<security>\nself_hostname out\nshared_key k\n</security>"},
	} {
		x := start(t, "<source>\n@type forward\nport "+freePort(t)+"\nbind 127.0.0.1\nadd_tag_prefix got\n"+c[0]+"\n</source>\n<match got.**>\n@type stdout\n</match>")
		host, port, err := net.SplitHostPort(x.address(t))
		if err != nil {
			t.Fatal(err)
		}
		deadPort := freePort(t)
		user := ""
		if name == "secured" {
			user = "username u\npassword p\n"
		}
		play(t, "<match **>\n@type forward\n"+c[1]+"\n<server>\nhost 127.0.0.1\nport "+deadPort+"\nweight 100\n</server>\n<server>\nhost "+host+"\nport "+port+"\n"+user+"standby true\n</server>\n</match>", `a.b {"n":1}`, `c {"n":2}`)
		await(t, name, func() bool { return len(lines(x.out.String())) == 2 })
		got := lines(x.out.String())
		slices.Sort(got)
		if !slices.Equal(got, []string{`got.a.b: {"n":1}`, `got.c: {"n":2}`}) {
			t.Errorf("%s: got %q", name, got)
		}
		x.end(t)
	}
}

func TestHTTPInput(t *testing.T) {
	x := start(t, "<source>\n@type http\nport "+freePort(t)+"\nbind 127.0.0.1\nadd_http_headers true\nadd_remote_addr true\n</source>\n<filter **>\n@type record_transformer\nremove_keys HTTP_USER_AGENT,HTTP_ACCEPT_ENCODING,HTTP_CONTENT_LENGTH,HTTP_CONTENT_TYPE\n</filter>\n<match {a,c,d,e,f,g}.**>\n@type stdout\n</match>")
	base := "http://" + x.address(t)
	post := func(path, kind, body string) int {
		resp, err := http.Post(base+path, kind, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for _, c := range []struct {
		path, kind, body string
		status           int
	}{
		{"/a/b", "application/json", `{"n":1,"time":1500000000}`, 200},
		{"/c", "application/x-www-form-urlencoded", `json={"n":2}&time=1500000000`, 200},
		{"/d", "application/json", `[{"n":3},{"n":4}]`, 200},
		{"/e", "application/x-ndjson", "{\"n\":5}\n{\"n\":6}\n", 200},
		{"/f", "application/msgpack", "\x81\xa1n\x07", 200},
		{"/g", "application/json", `{"n":`, 400},
		{"/g", "text/plain", `x`, 400},
		{"/g", "application/json", `7`, 400},
	} {
		if got := post(c.path, c.kind, c.body); got != c.status {
			t.Errorf("%s %s: status %d, want %d", c.path, c.body, got, c.status)
		}
	}
	want := []string{`a.b: {"n":1,"REMOTE_ADDR":"127.0.0.1"}`}
	for i, tag := range []string{"c", "d", "d", "e", "e", "f"} {
		want = append(want, fmt.Sprintf(`%s: {"n":%d,"REMOTE_ADDR":"127.0.0.1"}`, tag, i+2))
	}
	await(t, "seven records", func() bool { return len(lines(x.out.String())) >= 7 })
	if got := lines(x.out.String()); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if at := time.Unix(1500000000, 0).Format("2006-01-02 15:04:05"); strings.Count(x.out.String(), at) != 2 {
		t.Errorf("%s is not there twice: %s", at, x.out.String())
	}
}

func TestElasticsearch(t *testing.T) {
	s := newWeb(t)
	s.say(200, `{"errors":false,"items":[]}`)
	address := strings.TrimPrefix(s.URL, "http://")
	play(t, `<match **>
@type elasticsearch
hosts `+address+`
user u
password p
logstash_format true
logstash_prefix ${tag}
include_tag_key true
id_key id
remove_keys id
</match>`, `web {"id":"x","n":1}`)
	zone := time.Unix(1767323045, 5).Format("2006-01-02T15:04:05.000000000-07:00")
	want := `{"index":{"_index":"web-2026.01.02","_id":"x"}}` + "\n" + `{"n":1,"@timestamp":"` + zone + `","tag":"web"}` + "\n"
	if got := s.got(); !slices.Equal(got, []string{want}) || s.heads[0].Get("Path") != "POST /_bulk" || s.heads[0].Get("Authorization") != "Basic dTpw" {
		t.Errorf("got %q, want %q; %v", got, want, s.heads)
	}
	s.say(200, `{"errors":true,"items":[{"index":{"status":400,"error":{"type":"mapper"}}},{"index":{"status":201}}]}`)
	_, said := play(t, "<match **>\n@type opensearch\nhost "+strings.Split(address, ":")[0]+"\nport "+strings.Split(address, ":")[1]+"\nindex_name App\n</match>", `a {"n":1}`, `a {"n":2}`)
	if !strings.Contains(said, "1 of 2") || !strings.Contains(s.got()[1], `{"index":{"_index":"app"}}`) {
		t.Errorf("%s; %q", said, s.got()[1])
	}
}

func TestKafka(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "logs", "web"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	play(t, "<match **>\n@type kafka2\nbrokers "+strings.Join(c.ListenAddrs(), ",")+"\ndefault_topic logs\nmessage_key_key k\nrequired_acks 1\ncompression_codec gzip\n<inject>\ntag_key tag\n</inject>\n</match>",
		`a {"n":1}`, `b {"n":2,"topic":"web","k":"key"}`)
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics("logs", "web"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	var got []string
	for len(got) < 2 && ctx.Err() == nil {
		client.PollFetches(ctx).EachRecord(func(r *kgo.Record) { got = append(got, r.Topic+" "+string(r.Key)+" "+string(r.Value)) })
	}
	slices.Sort(got)
	if want := []string{`logs  {"n":1,"tag":"a"}`, `web key {"n":2,"topic":"web","k":"key","tag":"b"}`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCopyGoesOnAfterErrors(t *testing.T) {
	x := &trial{}
	e, err := New(file(t, `<match **>
@type copy
<store ignore_error>
@type stdout
<buffer>
total_limit_size 1
</buffer>
</store>
<store>
@type stdout
</store>
</match>`), x.options([]flow.Batch{batch(t, "a", `{"n":1}`), batch(t, "a", `{"n":2}`)}))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := x.out.String(); strings.Count(got, `{"n":2}`) != 1 || !strings.Contains(x.said.String(), "ignore emit error") {
		t.Errorf("got %q; %s", got, x.said.String())
	}
}
