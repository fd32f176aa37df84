package fluentd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/fluentd/parse"
	"github.com/weft-dev/weft/logging/pipeline/input"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// httpInput takes records that are posted; the path is the tag (lib/fluent/plugin/in_http.rb).
type httpInput struct {
	part             *part
	host             input.Host
	address          string
	secure           *tls.Config
	limit            int64
	idle             time.Duration
	parser           *parse.Parser // of a <parse> section; nil: JSON and MessagePack
	fields           *parse.Parser // of those: takes the time out of a record
	prefix           string
	headers, query   bool
	remote           bool
	image, noContent bool
	origins          []string
	credentials      bool
	unpacked         int64 // bytes of a body that was compressed
	tells            bool  // what is refused
}

func newHTTPInput(b *builder, p *part) (input.Input, fullPolicy) {
	o := p.set
	h := &httpInput{part: p, host: b.host(p), address: net.JoinHostPort(o.String("bind"), o.StringOr("port", "9880")), limit: 32 << 20, idle: o.Duration("keepalive_timeout"),
		headers: o.Bool("add_http_headers"), query: o.Bool("add_query_params"), remote: o.Bool("add_remote_addr"), noContent: o.Bool("use_204_response"),
		origins: o.Array("cors_allow_origins"), credentials: o.Bool("cors_allow_credentials")}
	h.image = o.Bool("respond_with_empty_img") || o.Has("responds_with_empty_img") && o.Bool("responds_with_empty_img")
	o.Ignore("responds_with_empty_img")
	if prefix := o.String("add_tag_prefix"); prefix != "" {
		h.prefix = prefix + "."
	}
	if o.Has("body_size_limit") {
		h.limit = o.Size("body_size_limit")
	}
	p.only("parse", "transport")
	if s := p.child("parse"); s != nil && s.Plugin() != "" && s.Plugin() != "in_http" {
		h.parser = b.parser(p, "json")
	}
	var err error
	if h.fields, err = parse.New(&config.Section{Kind: "parse", Properties: []config.Property{{Key: "estimate_current_event", Value: "false"}}}, "json", b.options.Now); err != nil {
		p.set.Join(err)
	}
	h.secure = p.serverTLS(b.options.Now())
	if h.unpacked, h.tells = 256<<20, o.Bool("dump_error_log"); o.Has("decompression_size_limit") {
		h.unpacked = o.Size("decompression_size_limit")
	}
	if h.credentials && (len(h.origins) == 0 || slices.Contains(h.origins, "*")) {
		o.Failf("cors_allow_credentials", "cors_allow_credentials needs cors_allow_origins that name the origins, without *")
	}
	if h.prefix == "" && o.Has("add_tag_prefix") {
		o.Failf("add_tag_prefix", "add_tag_prefix must not be empty")
	}
	o.Ignore("body_size_limit", "decompression_size_limit")
	o.Pass("backlog", "blocking_timeout")
	return h, refuse
}

func (h *httpInput) Run(ctx context.Context, sink flow.Sink) error {
	listener, err := net.Listen("tcp", h.address)
	if err != nil {
		return err
	}
	if h.secure != nil {
		listener = tls.NewListener(listener, h.secure)
	}
	h.host.Log.Info("listening", "address", listener.Addr().String())
	return input.ServeHTTP(ctx, listener, h.idle, func(w http.ResponseWriter, r *http.Request) { h.serve(w, r, sink) })
}

// emptyImage is a transparent GIF of one pixel.
const emptyImage = "GIF89a\x01\x00\x01\x00\x80\x01\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x01\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02L\x01\x00;"

func (h *httpInput) serve(w http.ResponseWriter, r *http.Request, sink flow.Sink) {
	if !h.allowed(w, r) {
		return
	}
	if r.Method == http.MethodGet && r.URL.Path == "/" && r.URL.RawQuery == "" { // a probe
		w.WriteHeader(http.StatusOK)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.limit))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		http.Error(w, "413 Request Entity Too Large", http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil {
		return // the client has gone
	}
	if body, err = input.Uncompressed(r.Header.Get("Content-Encoding"), body, h.unpacked); err != nil {
		h.refuse(w, r, http.StatusBadRequest, err)
		return
	}
	tag := h.prefix + strings.ReplaceAll(strings.Trim(r.URL.Path, "/"), "/", ".")
	data, count, err := h.records(r, body)
	if err != nil {
		h.refuse(w, r, http.StatusBadRequest, err)
		return
	}
	if count > 0 {
		if err := sink.Append(r.Context(), flow.Batch{Tag: tag, Data: data, Count: count}); err != nil {
			h.refuse(w, r, http.StatusInternalServerError, err)
			return
		}
	}
	switch {
	case h.image:
		w.Header().Set("Content-Type", "image/gif")
		_, _ = io.WriteString(w, emptyImage)
	case h.noContent:
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusOK)
	}
}

// refuse tells the client, and the log, why records are not taken.
func (h *httpInput) refuse(w http.ResponseWriter, r *http.Request, status int, why error) {
	if h.tells {
		h.host.Log.Error("a request is refused", "from", r.RemoteAddr, "status", status, "error", why)
	}
	http.Error(w, fmt.Sprintf("%d %s\n%v", status, http.StatusText(status), why), status)
}

// allowed answers questions of browsers about other origins.
func (h *httpInput) allowed(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || len(h.origins) == 0 {
		return true
	}
	found := ""
	for _, o := range h.origins {
		before, after, star := strings.Cut(o, "*")
		if o == "*" || o == origin || star && strings.HasPrefix(origin, before) && strings.HasSuffix(origin, after) && len(origin) >= len(before)+len(after) {
			found = o
		}
	}
	if found == "" {
		http.Error(w, "403 Forbidden", http.StatusForbidden)
		return false
	}
	if found != "*" {
		found = origin
	}
	w.Header().Set("Access-Control-Allow-Origin", found)
	if h.credentials {
		w.Header().Set("Access-Control-Allow-Credentials", "true")
	}
	if r.Method != http.MethodOptions {
		return true
	}
	w.Header().Set("Access-Control-Allow-Methods", "POST, GET")
	w.Header().Set("Access-Control-Allow-Headers", r.Header.Get("Access-Control-Request-Headers"))
	w.WriteHeader(http.StatusOK)
	return false
}

// records reads the body: JSON or MessagePack by its type, or in the form fields json and msgpack; or text for the parser.
func (h *httpInput) records(r *http.Request, body []byte) (data []byte, count int, err error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	query := r.URL.Query()
	if err == nil && kind == "application/x-www-form-urlencoded" {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, 0, errors.New("the form cannot be read")
		}
		for k, v := range form {
			query[k] = v
		}
		body = nil
	}
	at := record.TimeOf(h.host.Now())
	timed := false
	if text := query.Get("time"); text != "" {
		f, err := strconv.ParseFloat(text, 64)
		t, ok := record.ReadTime(record.AppendFloat(nil, f))
		if err != nil || !ok || f < 0 || f >= 1<<32 {
			return nil, 0, errors.New("time must be a number of seconds since 1970")
		}
		at, timed = t, true
	}
	found, err := h.read(kind, body, query)
	if err != nil {
		return nil, 0, err
	}
	extra := h.extra(r, query)
	for _, x := range found {
		moment := at
		if x.Timed && !timed {
			moment = x.Time
		}
		if extra != nil {
			x.Body = mergedMaps(x.Body, extra)
		}
		data = record.AppendEvent(data, moment, nil, x.Body)
		count++
	}
	return data, count, nil
}

func (h *httpInput) read(kind string, body []byte, query url.Values) ([]parse.Parsed, error) {
	if h.parser != nil {
		return h.parser.Parse(body)
	}
	switch {
	case kind == "application/msgpack" || kind == "application/x-msgpack":
		return h.maps(body)
	case len(body) == 0 && query.Has("msgpack"):
		return h.maps([]byte(query.Get("msgpack")))
	case len(body) == 0 && query.Has("json"):
		body = []byte(query.Get("json"))
	case kind == "application/x-ndjson":
		var all []parse.Parsed
		for line := range strings.Lines(string(body)) {
			if strings.TrimSpace(line) == "" {
				continue
			}
			more, err := h.jsonMaps([]byte(line))
			if err != nil {
				return nil, err
			}
			all = append(all, more...)
		}
		return all, nil
	case kind != "application/json" && kind != "application/csp-report":
		return nil, errors.New("'json' or 'msgpack' parameter is required, or a body with Content-Type application/json, application/x-ndjson or application/msgpack")
	}
	return h.jsonMaps(body)
}

func (h *httpInput) jsonMaps(text []byte) ([]parse.Parsed, error) {
	value, n, err := record.FromJSON(nil, text)
	if err != nil {
		return nil, err
	}
	if len(strings.TrimSpace(string(text[n:]))) > 0 {
		return nil, errors.New("there is more than one value of JSON")
	}
	return h.maps(value)
}

// maps are the records of values of MessagePack: maps, or arrays of maps.
func (h *httpInput) maps(data []byte) ([]parse.Parsed, error) {
	var all []parse.Parsed
	for len(data) > 0 {
		n, err := record.Skip(data)
		if err != nil {
			return nil, err
		}
		value := data[:n]
		data = data[n:]
		switch record.KindOf(value) {
		case record.Map:
			x, err := h.fields.Map(value)
			if err != nil {
				return nil, err
			}
			all = append(all, x)
		case record.Array:
			for i := record.ItemsOf(value); i.Next(); {
				if record.KindOf(i.Value) != record.Map {
					return nil, errors.New("an array holds something else than objects")
				}
				x, err := h.fields.Map(i.Value)
				if err != nil {
					return nil, err
				}
				all = append(all, x)
			}
		default:
			return nil, errors.New("a record is an object")
		}
	}
	return all, nil
}

// extra are the fields that the options add to each record.
func (h *httpInput) extra(r *http.Request, query url.Values) []byte {
	out, n := []byte{0x80}, 0
	add := func(key, value string) {
		out = record.AppendString(record.AppendString(out, key), value)
		n++
	}
	if h.headers {
		for name, values := range r.Header {
			add("HTTP_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_")), strings.Join(values, ","))
		}
	}
	if h.query {
		for name, values := range query {
			if name != "json" && name != "msgpack" && name != "time" {
				add("QUERY_"+strings.ToUpper(name), strings.Join(values, ","))
			}
		}
	}
	if h.remote {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			host = r.RemoteAddr
		}
		if via, _, _ := strings.Cut(r.Header.Get("X-Forwarded-For"), ","); via != "" {
			host = strings.TrimSpace(via)
		}
		add("REMOTE_ADDR", host)
	}
	if n == 0 {
		return nil
	}
	return record.CloseMap(out, 0, n)
}
