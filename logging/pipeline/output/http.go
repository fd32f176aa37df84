package output

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/pipeline/transport"
)

// request is what all outputs over HTTP have in common.
type request struct {
	client     *http.Client
	url        string
	method     string
	headers    [][2]string
	once       bool // a header that is set twice is sent once, as it was set last
	brief      bool // errors tell nothing of the answer's text
	user, pass string
	bearer     string
	compress   string
	hopeless   func(status int) bool // answers after which the same request is not made again
}

// newRequest reads the options for connections, credentials, headers and compression.
func newRequest(o *options.Set, port int, limit time.Duration, proxy string) *request {
	c := transport.NewClient(o, "127.0.0.1", port)
	client, base, err := c.HTTP(proxy, limit)
	if err != nil {
		o.Failf("proxy", "%v", err)
	}
	r := &request{client: client, url: base, method: http.MethodPost, user: o.String("http_user"), pass: o.String("http_passwd"), compress: strings.ToLower(o.String("compress")), hopeless: anyFault}
	switch r.compress {
	case "", "false", "off":
		r.compress = ""
	case "gzip", "snappy", "zstd":
	default:
		o.Failf("compress", "there is no compression %q; there are gzip, snappy and zstd", r.compress)
	}
	return r
}

// anyFault says, for the output http, that the request itself is wrong.
func anyFault(status int) bool {
	return status >= 400 && status < 500 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout
}

func (r *request) readHeaders(o *options.Set) {
	for _, p := range o.All("header") {
		k, v := o.Pair(p)
		if !validHeader(k, v) {
			o.Fail(p, "%q is not a header; write its name, a blank and its value", p.Value)
			continue
		}
		r.headers = append(r.headers, [2]string{k, v})
	}
}

func validHeader(name, value string) bool {
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("()<>@,;:\\\"/[]?={}", c) >= 0 {
			return false
		}
	}
	return name != "" && !strings.ContainsAny(value, "\r\n\x00")
}

func compressed(how string, body []byte) ([]byte, error) {
	switch how {
	case "gzip":
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write(body); err != nil {
			return nil, err
		}
		err := z.Close()
		return b.Bytes(), err
	case "snappy":
		return snappy.Encode(nil, body), nil
	case "zstd":
		z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		return z.EncodeAll(body, nil), nil
	}
	return body, nil
}

// MaxAnswer is how much of an answer is read, in bytes.
const MaxAnswer = 4 << 20

// send makes one request. Answers 200 to 205 are success; others are errors, hopeless where the output says so.
func (r *request) send(ctx context.Context, url, contentType string, body []byte, more ...[2]string) ([]byte, error) {
	body, err := compressed(r.compress, body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, r.method, url, bytes.NewReader(body))
	if err != nil {
		return nil, Hopeless(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	req.Header.Set("User-Agent", "Fluent-Bit")
	if r.compress != "" {
		req.Header.Set("Content-Encoding", r.compress)
	}
	switch {
	case r.bearer != "":
		req.Header.Set("Authorization", "Bearer "+r.bearer)
	case r.user != "":
		req.SetBasicAuth(r.user, r.pass)
	}
	for _, h := range append(r.headers, more...) {
		if strings.EqualFold(h[0], "host") {
			req.Host = h[1]
			continue
		}
		if !r.once {
			req.Header.Add(h[0], h[1])
		}
		if r.once || strings.EqualFold(h[0], "content-type") || strings.EqualFold(h[0], "user-agent") || strings.EqualFold(h[0], "authorization") {
			req.Header.Set(h[0], h[1])
		}
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, MaxAnswer))
	if resp.StatusCode >= 200 && resp.StatusCode <= 205 {
		return answer, err
	}
	failure := fmt.Errorf("%s: HTTP status %d", url, resp.StatusCode)
	if !r.brief {
		failure = fmt.Errorf("%w: %s", failure, excerpt(answer))
	}
	if r.hopeless(resp.StatusCode) {
		return nil, Hopeless(failure)
	}
	return nil, failure
}

func excerpt(b []byte) string {
	return strings.ToValidUTF8(strings.Join(strings.Fields(string(b[:min(len(b), 300)])), " "), "?")
}

// httpOutput posts chunks.
type httpOutput struct {
	request   *request
	format    string
	style     jsonStyle
	gelf      gelf
	tagHeader string
	host      Host
	body      *record.Path // the field whose text is sent, a request for each record
	fields    *record.Path // the map of its headers
}

func newHTTP(o *options.Set, host Host) Output {
	limit := o.Duration("http.response_timeout")
	h := &httpOutput{request: newRequest(o, 80, limit, o.String("proxy")), format: strings.ToLower(o.StringOr("format", "json")), tagHeader: o.String("header_tag")}
	h.host = host
	h.request.readHeaders(o)
	h.request.once, h.request.brief = !o.Bool("allow_duplicated_headers"), !o.Bool("log_response_payload")
	uri := o.StringOr("uri", "/")
	if !strings.HasPrefix(uri, "/") {
		uri = "/" + uri
	}
	h.request.url += uri
	switch strings.ToUpper(o.String("http_method")) {
	case "", "POST":
	case "PUT":
		h.request.method = http.MethodPut
	default:
		o.Failf("http_method", "http_method must be POST or PUT")
	}
	switch h.format {
	case "msgpack", "json", "json_lines", "json_stream", "gelf":
	default:
		o.Failf("format", "there is no format %q; there are msgpack, json, json_lines, json_stream and gelf", h.format)
	}
	h.style, h.gelf = newJSONStyle(o, h.format), newGELF(o)
	h.body, h.fields = pathOption(o, "body_key"), pathOption(o, "headers_key")
	if (h.body == nil) != (h.fields == nil) {
		o.Failf("body_key", "body_key and headers_key go together")
	}
	o.Pass("http.read_idle_timeout")
	return h
}

// pathOption is a field that an option names; nil if it is not set.
func pathOption(o *options.Set, key string) *record.Path {
	text := o.String(key)
	if text == "" {
		return nil
	}
	p, err := record.ParsePath(text)
	if err != nil {
		o.Failf(key, "%s: %v", key, err)
	}
	return &p
}

func (h *httpOutput) Write(ctx context.Context, c Chunk) error {
	var more [][2]string
	if h.tagHeader != "" {
		more = append(more, [2]string{h.tagHeader, strings.NewReplacer("\r", "", "\n", "", "\x00", "").Replace(c.Tag)})
	}
	if h.body != nil {
		return h.writeBodies(ctx, c, more)
	}
	contentType, body := "application/json", c.Data
	switch h.format {
	case "msgpack":
		contentType = "application/msgpack"
	case "json_lines":
		contentType = "application/x-ndjson"
		body = h.style.appendChunk(nil, c.Data)
	case "gelf":
		body = nil
		for r := record.NewReader(c.Data); r.Next(); {
			line, ok := h.gelf.appendRecord(body, &r.Event)
			if !ok {
				h.host.Log.Warn("a record without short message is left out; gelf_short_message_key names the field that has it", "tag", c.Tag)
				continue
			}
			body = append(line, '\n')
		}
		if len(body) == 0 {
			return nil
		}
	default:
		body = h.style.appendChunk(nil, c.Data)
	}
	_, err := h.request.send(ctx, h.request.url, contentType, body, more...)
	return err
}

// writeBodies makes a request of each record: one field is the body, another one has the headers.
func (h *httpOutput) writeBodies(ctx context.Context, c Chunk, more [][2]string) error {
	for r := record.NewReader(c.Data); r.Next(); {
		v, _ := h.body.Find(r.Body)
		body, ok := record.Text(v)
		m, _ := h.fields.Find(r.Body)
		if !ok || record.KindOf(m) != record.Map {
			h.host.Log.Warn("a record without a text at body_key and a map at headers_key is left out", "tag", c.Tag)
			continue
		}
		headers := append([][2]string{}, more...)
		for f := record.FieldsOf(m); f.Next(); {
			if text, ok := record.Text(f.Value); ok && validHeader(string(f.Key), string(text)) {
				headers = append(headers, [2]string{string(f.Key), string(text)})
			}
		}
		if _, err := h.request.send(ctx, h.request.url, "", body, headers...); err != nil {
			return err
		}
	}
	return nil
}

func (h *httpOutput) Close() error {
	h.request.client.CloseIdleConnections()
	return nil
}
