package input

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/pipeline/transport"
)

// httpInput takes records that are posted: JSON objects, arrays of them, lines of them, MessagePack, and forms.
type httpInput struct {
	host    Host
	server  *transport.Server
	tagSet  bool
	tagKey  *record.Path
	limit   int64
	code    int
	headers [][2]string
	remote  string // key for the sender's address, "" without
	health  bool
	idle    time.Duration
}

func newHTTP(o *options.Set, h Host) Input {
	in := &httpInput{host: h, server: transport.NewServer(o, 9880), tagSet: o.Has("tag"), code: o.Int("successful_response_code"), health: o.Bool("enable_health_endpoint"),
		idle: o.Duration("http_server.idle_timeout")}
	if in.limit = o.Size("buffer_max_size"); in.limit == 0 {
		in.limit = 4 << 20
	}
	if n := o.Size("http_server.buffer_max_size"); o.Has("http_server.buffer_max_size") {
		in.limit = n
	}
	in.server.Most = int(o.Size("max_connections"))
	if n := o.Size("http_server.max_connections"); o.Has("http_server.max_connections") {
		in.server.Most = int(n)
	}
	if key := o.String("tag_key"); key != "" {
		p, err := record.ParsePath(key)
		if err != nil {
			o.Failf("tag_key", "tag_key: %v", err)
		}
		in.tagKey = &p
	}
	switch in.code {
	case 200, 201, 204:
	default:
		o.Failf("successful_response_code", "successful_response_code must be 200, 201 or 204")
	}
	for _, p := range o.All("success_header") {
		k, v := o.Pair(p)
		in.headers = append(in.headers, [2]string{k, v})
	}
	remoteKey := o.StringOr("remote_addr_key", "REMOTE_ADDR")
	if o.Bool("add_remote_addr") {
		in.remote = remoteKey
	}
	for _, key := range []string{"http2", "http_server.http2"} {
		if o.Bool(key) {
			o.Tell(key) // HTTP/1.1 is spoken, as off asks for
		}
	}
	o.Pass("buffer_chunk_size", "workers", "http_server.buffer_chunk_size", "http_server.workers",
		"http_server.ingress_queue_event_limit", "http_server.ingress_queue_byte_limit")
	return in
}

func (in *httpInput) Run(ctx context.Context, sink flow.Sink) error {
	listener, err := in.server.Listen()
	if err != nil {
		return err
	}
	in.host.Log.Info("listening", "address", listener.Addr())
	return ServeHTTP(ctx, listener, in.idle, func(w http.ResponseWriter, r *http.Request) { in.handle(w, r, sink) })
}

// ServeHTTP answers requests until the context ends, and then lets those under way end for a second.
func ServeHTTP(ctx context.Context, listener net.Listener, idle time.Duration, handle http.HandlerFunc) error {
	server := &http.Server{ReadHeaderTimeout: 30 * time.Second, ReadTimeout: 5 * time.Minute, IdleTimeout: max(idle, time.Second), MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
		Handler:     handle}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if server.Shutdown(grace) != nil {
		server.Close()
	}
	<-ended
	return nil
}

func (in *httpInput) handle(w http.ResponseWriter, r *http.Request, sink flow.Sink) {
	if in.health && r.Method == http.MethodGet && r.URL.Path == "/health" {
		_, _ = io.WriteString(w, "ok\n")
		return
	}
	if r.Method != http.MethodPost && r.Method != http.MethodPut {
		w.Header().Set("Allow", "POST, PUT")
		http.Error(w, "error: invalid HTTP method", http.StatusBadRequest)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, in.limit))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		http.Error(w, "error: the body is larger than buffer_max_size", http.StatusRequestEntityTooLarge)
		return
	case err != nil:
		return // the client has gone
	}
	if how := r.Header.Get("Content-Encoding"); how != "" {
		if body, err = Uncompressed(how, body, in.limit*8); err != nil {
			http.Error(w, "error: "+err.Error(), http.StatusBadRequest)
			return
		}
	}
	batches, err := in.decode(r, body)
	if err != nil {
		http.Error(w, "error: "+err.Error(), http.StatusBadRequest)
		return
	}
	for _, b := range batches {
		if err := sink.Append(r.Context(), *b); err != nil {
			http.Error(w, "error: the pipeline is full or ending", http.StatusServiceUnavailable)
			return
		}
	}
	for _, h := range in.headers {
		w.Header().Add(h[0], h[1])
	}
	w.WriteHeader(in.code)
}

// tag is the path with dots, or the section's tag for the root.
func (in *httpInput) tag(r *http.Request) string {
	path := strings.Trim(r.URL.Path, "/")
	if path == "" || in.tagSet && path == "" {
		return in.host.Tag
	}
	b := []byte(path)
	for i, c := range b {
		if !(c == '.' || c == '_' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z') {
			b[i] = '_'
		}
		if c == '/' {
			b[i] = '.'
		}
	}
	return string(b)
}

func (in *httpInput) decode(r *http.Request, body []byte) ([]*flow.Batch, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return nil, errors.New("the Content-Type is missing; there are application/json, application/x-ndjson, application/msgpack and application/x-www-form-urlencoded")
	}
	var maps [][]byte
	switch kind {
	case "application/json", "application/x-ndjson", "application/jsonl", "application/json-lines":
		maps, err = jsonMaps(body)
	case "application/msgpack":
		maps, err = packedMaps(body)
	case "application/x-www-form-urlencoded":
		maps, err = formMap(body)
	default:
		err = errors.New("the Content-Type is not known; there are application/json, application/x-ndjson, application/msgpack and application/x-www-form-urlencoded")
	}
	if err != nil {
		return nil, err
	}
	now := record.TimeOf(in.host.Now())
	var batches []*flow.Batch
	for _, m := range maps {
		tag := in.tag(r)
		if in.tagKey != nil {
			if v, ok := in.tagKey.Find(m); ok {
				if text, ok := record.Text(v); ok && len(text) > 0 {
					tag = string(text)
				}
			}
		}
		if in.remote != "" {
			m = withText(m, in.remote, remoteOf(r))
		}
		if n := len(batches); n == 0 || batches[n-1].Tag != tag {
			batches = append(batches, &flow.Batch{Tag: tag})
		}
		b := batches[len(batches)-1]
		b.Data = record.AppendEvent(b.Data, now, nil, m)
		b.Count++
	}
	return batches, nil
}

func remoteOf(r *http.Request) string {
	if via := r.Header.Get("X-Forwarded-For"); via != "" {
		first, _, _ := strings.Cut(via, ",")
		return strings.TrimSpace(first)
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// withText is a map with one more pair.
func withText(m []byte, key, value string) []byte {
	f := record.FieldsOf(m)
	out := record.AppendMapHead(nil, f.Count+1)
	for f.Next() {
		out = append(out, f.Raw...)
	}
	return record.AppendString(record.AppendString(out, key), value)
}

// jsonMaps reads objects one after the other, and arrays of them.
func jsonMaps(text []byte) ([][]byte, error) {
	var maps [][]byte
	for text = bytes.TrimSpace(text); len(text) > 0; text = bytes.TrimSpace(text) {
		value, n, err := record.FromJSON(nil, text)
		if err != nil {
			return nil, err
		}
		text = text[n:]
		switch record.KindOf(value) {
		case record.Map:
			maps = append(maps, value)
		case record.Array:
			for i := record.ItemsOf(value); i.Next(); {
				if record.KindOf(i.Value) != record.Map {
					return nil, errors.New("an array holds something else than objects")
				}
				maps = append(maps, i.Value)
			}
		default:
			return nil, errors.New("records are JSON objects")
		}
	}
	return maps, nil
}

func packedMaps(data []byte) ([][]byte, error) {
	var maps [][]byte
	for len(data) > 0 {
		n, err := record.Skip(data)
		if err != nil {
			return nil, err
		}
		value := data[:n]
		data = data[n:]
		if record.KindOf(value) == record.Array {
			e, err := record.ReadEvent(value)
			if err != nil {
				return nil, err
			}
			value = e.Body
		}
		if record.KindOf(value) != record.Map {
			return nil, record.ErrMalformed
		}
		maps = append(maps, value)
	}
	return maps, nil
}

func formMap(body []byte) ([][]byte, error) {
	var m []byte
	m = append(m, 0x80)
	n := 0
	for pair := range strings.SplitSeq(string(body), "&") {
		if pair == "" {
			continue
		}
		k, v, _ := strings.Cut(pair, "=")
		key, err := url.QueryUnescape(k)
		if err != nil {
			return nil, err
		}
		value, err := url.QueryUnescape(v)
		if err != nil {
			return nil, err
		}
		m = record.AppendString(record.AppendString(m, key), value)
		n++
	}
	return [][]byte{record.CloseMap(m, 0, n)}, nil
}
