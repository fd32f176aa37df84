package fluentd

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/fluentd/format"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/output"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/plugin"
)

// httpOutput posts chunks (lib/fluent/plugin/out_http.rb).
type httpOutput struct {
	part           *part
	client         *http.Client
	endpoint       *template
	host           string // of the endpoint, without placeholders
	allowed        []string
	method         string
	kind           string // Content-Type
	array, gzip    bool
	headers        [][2]string
	filled         []filledHeader
	user, password string
	format         *format.Formatter
	retryable      []int
	strict         bool // other answers than success are hopeless
}

type filledHeader struct {
	name  string
	value *template
}

func newHTTP(b *builder, p *part) target {
	made, ok := b.buffer(p, nil, bufferDefaults{kind: "memory"}).(*buffered)
	if !ok {
		return nil
	}
	o := p.set
	p.only("buffer", "secondary", "format", "auth")
	h := &httpOutput{part: p, format: b.formatter(p, "json"), array: o.Bool("json_array"), allowed: o.Array("allowed_hosts"), headers: o.Pairs("headers"),
		gzip: strings.EqualFold(o.String("compress"), "gzip"), strict: o.Bool("error_response_as_unrecoverable"), method: strings.ToUpper(o.String("http_method")), kind: o.String("content_type")}
	endpoint := o.String("endpoint")
	h.endpoint = made.keys.template(p, "endpoint", endpoint, false)
	plain := anyPlaceholder.ReplaceAllString(tagPlaceholder.ReplaceAllString(endpoint, placeholderHost), placeholderHost)
	u, err := url.Parse(strings.ReplaceAll(plain, "%", ""))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		o.Failf("endpoint", "http needs an endpoint such as http://logs.example.com/api")
		u = &url.URL{}
	}
	h.host = u.Hostname()
	for _, pair := range o.Pairs("headers_from_placeholders") {
		h.filled = append(h.filled, filledHeader{pair[0], made.keys.template(p, "headers_from_placeholders", pair[1], false)})
	}
	h.contentType()
	h.retryable = []int{http.StatusServiceUnavailable}
	if o.Has("retryable_response_codes") {
		h.retryable = nil
		for _, code := range o.Array("retryable_response_codes") {
			n, err := strconv.Atoi(code)
			if err != nil || n < 100 || n > 599 {
				o.Failf("retryable_response_codes", "retryable_response_codes: %q is no status of HTTP", code)
			}
			h.retryable = append(h.retryable, n)
		}
	}
	h.auth()
	h.client = httpClient(o)
	o.Pass("reuse_connections") // they are, where the server allows it
	made.writer = h
	return made
}

const placeholderHost = "placeholder.invalid"

func (h *httpOutput) contentType() {
	if h.format == nil || h.kind != "" {
		return
	}
	if h.array && h.format.Type != "json" {
		h.part.set.Failf("json_array", "json_array needs the format json")
	}
	switch h.format.Type {
	case "json":
		h.kind = "application/x-ndjson"
		if h.array {
			h.kind = "application/json"
		}
	case "csv":
		h.kind = "text/csv"
	case "tsv", "ltsv":
		h.kind = "text/tab-separated-values"
	case "msgpack":
		h.kind = "application/x-msgpack"
	default:
		h.kind = "text/plain"
	}
}

func (h *httpOutput) auth() {
	s := h.part.child("auth")
	if s == nil {
		return
	}
	o := options.New(s, plugin.Fluentd().Groups["auth"], nil)
	if method := o.String("method"); method != "basic" {
		o.Failf("method", "the authentication %q is not built into logagent; there is basic", method)
	}
	h.user, h.password = o.String("username"), o.String("password")
	if err := o.Done(); err != nil {
		h.part.set.Join(err)
	}
}

// httpClient reads the options for TLS, proxies and time.
func httpClient(o *options.Set) *http.Client {
	secure := &tls.Config{InsecureSkipVerify: strings.EqualFold(o.String("tls_verify_mode"), "none")} //nolint:gosec // asked for
	if file := o.String("tls_ca_cert_path"); file != "" {
		secure.RootCAs = authorities(o, "tls_ca_cert_path", file)
	}
	certificate(o, secure, "tls_client_cert_path", "tls_private_key_path")
	versions(o, secure, "tls_version", "", "")
	ciphers(o, secure, "tls_ciphers")
	if o.String("tls_private_key_passphrase") != "" {
		o.Failf("tls_private_key_passphrase", "keys with a passphrase are not built into logagent")
	}
	transport := &http.Transport{TLSClientConfig: secure, Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second,
		TLSHandshakeTimeout: time.Duration(o.IntOr("ssl_timeout", 10)) * time.Second,
		DialContext:         (&net.Dialer{Timeout: time.Duration(o.IntOr("open_timeout", 60)) * time.Second}).DialContext}
	if proxy := o.String("proxy"); proxy != "" {
		u, err := url.Parse(proxy)
		if err != nil || u.Host == "" {
			o.Failf("proxy", "proxy must be a URL such as http://proxy:3128")
		}
		transport.Proxy = http.ProxyURL(u)
	}
	return &http.Client{Transport: transport, Timeout: time.Duration(o.IntOr("read_timeout", 60)) * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (h *httpOutput) write(ctx context.Context, c *delivery) error {
	endpoint, err := h.endpoint.expand(c.Chunk)
	if err != nil {
		return err
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return output.Hopeless(err)
	}
	if u.Hostname() != h.host && !slices.Contains(h.allowed, u.Hostname()) {
		return output.Hopeless(fmt.Errorf("the host %q comes from records and is not among allowed_hosts", u.Hostname()))
	}
	req, err := http.NewRequestWithContext(ctx, h.method, endpoint, bytes.NewReader(h.body(c)))
	if err != nil {
		return output.Hopeless(err)
	}
	req.Header.Set("Content-Type", h.kind)
	for _, pair := range h.headers {
		req.Header.Set(pair[0], pair[1])
	}
	for _, f := range h.filled {
		value, err := f.value.expand(c.Chunk)
		if err != nil {
			return err
		}
		req.Header.Set(f.name, value)
	}
	if h.gzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	if h.user != "" {
		req.SetBasicAuth(h.user, h.password)
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return err
	}
	failure := fmt.Errorf("%d %s: %.300s", resp.StatusCode, http.StatusText(resp.StatusCode), strings.TrimSpace(string(answer)))
	switch {
	case slices.Contains(h.retryable, resp.StatusCode):
		return failure
	case h.strict:
		return output.Hopeless(failure)
	}
	h.part.errors.Add(1)
	h.part.log.Error("got error response; the records are dropped", "endpoint", u.Redacted(), "error", failure)
	return nil
}

func (h *httpOutput) body(c *delivery) []byte {
	var b []byte
	if h.array {
		b = append(b, '[')
	}
	for r := record.NewReader(c.data); r.Next(); {
		b = h.format.Append(b, c.tag(&r.Event), r.Time, r.Body)
		if h.array {
			b = append(bytes.TrimSuffix(b, []byte("\n")), ',')
		}
	}
	if h.array {
		b = append(bytes.TrimSuffix(b, []byte(",")), ']')
	}
	if !h.gzip {
		return b
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); errors.Join(err, z.Close()) != nil {
		return b // memory takes all
	}
	return out.Bytes()
}

func (h *httpOutput) close() error {
	h.client.CloseIdleConnections()
	return nil
}
