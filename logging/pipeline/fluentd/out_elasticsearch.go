package fluentd

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/clock"
	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/output"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// elasticsearch indexes records by the bulk interface of Elasticsearch or OpenSearch, as the gems fluent-plugin-elasticsearch and -opensearch do.
type elasticsearch struct {
	part           *part
	client         *http.Client
	servers        []string // URLs of the bulk interface
	next           atomic.Int64
	user, password string
	index          *template
	stream         bool // a data stream: records are created
	logstash       bool
	prefix         *template
	separator      string
	date           string
	utc            bool
	timestamp      bool // @timestamp is added
	tagKey         string
	id             *record.Path
	remove         []record.Path
	operation      string
	typed          string // _type, "" for none
	headers        [][2]string
	strict         bool // a record without the field id_key is an error
	largest        int  // bytes of a request from which on another one is made, 0 for none
}

func newElasticsearch(b *builder, p *part) target {
	made, ok := b.buffer(p, nil, bufferDefaults{kind: "memory", keys: []string{"tag"}}).(*buffered)
	if !ok {
		return nil
	}
	o := p.set
	p.only("buffer", "secondary")
	e := &elasticsearch{part: p, user: o.String("user"), password: o.String("password"), stream: p.plugin == "elasticsearch_data_stream", logstash: o.Bool("logstash_format"),
		separator: o.StringOr("logstash_prefix_separator", "-"), date: o.StringOr("logstash_dateformat", "%Y.%m.%d"), utc: !o.Has("utc_index") || o.Bool("utc_index"),
		operation: strings.ToLower(o.StringOr("write_operation", "index"))}
	o.Ignore("utc_index")
	e.timestamp = e.logstash || e.stream || o.Bool("include_timestamp")
	e.index = made.keys.template(p, "index_name", o.StringOr("index_name", "fluentd"), false)
	if e.stream {
		e.index = made.keys.template(p, "data_stream_name", o.String("data_stream_name"), false)
		e.operation = "create"
	}
	e.prefix = made.keys.template(p, "logstash_prefix", o.StringOr("logstash_prefix", "logstash"), false)
	if tagKey := o.StringOr("tag_key", "tag"); o.Bool("include_tag_key") {
		e.tagKey = tagKey
	}
	if !(o.Has("suppress_type_name") && o.Bool("suppress_type_name")) && o.Has("type_name") {
		e.typed = o.String("type_name")
	}
	if key := o.String("id_key"); key != "" {
		path, err := record.ParseAccessor(key)
		if err != nil {
			o.Failf("id_key", "id_key: %v", err)
		}
		e.id = &path
	}
	for _, key := range o.Array("remove_keys") {
		path, err := record.ParseAccessor(key)
		if err != nil {
			o.Failf("remove_keys", "remove_keys: %v", err)
		}
		e.remove = append(e.remove, path)
	}
	switch e.operation {
	case "index", "create":
	case "update", "upsert":
		if e.id == nil {
			o.Failf("write_operation", "write_operation %s needs id_key", e.operation)
		}
	default:
		o.Failf("write_operation", "there is no write_operation %q; there are index, create, update and upsert", e.operation)
	}
	if o.Has("custom_headers") {
		e.headers = o.Pairs("custom_headers")
	}
	e.connect(o)
	e.strict = o.Bool("emit_error_for_missing_id")
	if n := o.IntOr("bulk_message_request_threshold", -1); n > 0 {
		e.largest = n
	}
	if e.stream {
		p.log.Warn("a data stream and its template are not created here: the server needs an index template for its name", "data_stream_name", o.String("data_stream_name"))
	}
	// Used above if there is a type. Of what is refused is always told why. The others tune Ruby's clients, or go with templates, which are not put.
	o.Ignore("suppress_type_name", "type_name", "log_es_400_reason", "log_os_400_reason")
	o.Pass("reconnect_on_error", "reload_after", "reload_connections", "reload_on_failure", "sniffer_class_name", "selector_class_name", "max_retry_get_es_version",
		"max_retry_get_os_version", "fail_on_detecting_os_version_retry_exceed", "fail_on_detecting_es_version_retry_exceed", "default_elasticsearch_version",
		"default_opensearch_version", "verify_es_version_at_startup", "verify_os_version_at_startup", "http_backend", "http_backend_excon_nonblock", "prefer_oj_serializer",
		"content_type", "max_retry_putting_template", "fail_on_putting_template_retry_exceed", "template_overwrite", "use_legacy_template", "application_name",
		"exception_backup", "with_transporter_log", "data_stream_template_name", "data_stream_template_use_index_patterns_wildcard")
	made.writer = e
	return made
}

// connect reads where the servers are, and credentials.
func (e *elasticsearch) connect(o *options.Set) {
	scheme, host, port, path := o.StringOr("scheme", "http"), o.StringOr("host", "localhost"), o.StringOr("port", "9200"), strings.Trim(o.String("path"), "/")
	hosts := []string{host}
	if list := o.String("hosts"); list != "" {
		hosts = strings.Split(list, ",")
	}
	for _, h := range hosts {
		h = strings.TrimSpace(h)
		if !strings.Contains(h, "://") {
			h = scheme + "://" + h
		}
		u, err := url.Parse(h)
		if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
			o.Failf("hosts", "%q is no server; write host:port or a URL", h)
			continue
		}
		if u.Port() == "" {
			u.Host = u.Hostname() + ":" + port
			if strings.Contains(u.Hostname(), ":") {
				u.Host = "[" + u.Hostname() + "]:" + port
			}
		}
		if u.User != nil && e.user == "" {
			e.user = u.User.Username()
			e.password, _ = u.User.Password()
		}
		u.User = nil
		u.Path = strings.TrimSuffix(u.Path, "/")
		if path != "" {
			u.Path += "/" + path
		}
		u.Path += "/_bulk"
		if pipeline := o.String("pipeline"); pipeline != "" {
			u.RawQuery = url.Values{"pipeline": {pipeline}}.Encode()
		}
		e.servers = append(e.servers, u.String())
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: o.Has("ssl_verify") && !o.Bool("ssl_verify")} //nolint:gosec // asked for
	o.Ignore("ssl_verify")
	if file := o.String("ca_file"); file != "" {
		secure.RootCAs = authorities(o, "ca_file", file)
	}
	certificate(o, secure, "client_cert", "client_key")
	versions(o, secure, "ssl_version", "ssl_min_version", "ssl_max_version")
	limit := o.Duration("request_timeout")
	if limit <= 0 {
		limit = 5 * time.Second
	}
	e.client = &http.Client{Timeout: limit, Transport: &http.Transport{TLSClientConfig: secure, Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second}}
}

func (e *elasticsearch) write(ctx context.Context, c *delivery) error {
	server := e.servers[int(e.next.Add(1))%len(e.servers)]
	body, count := []byte(nil), 0
	name, err := e.names(c)
	if err != nil {
		return err
	}
	for r := record.NewReader(c.data); r.Next(); {
		before := len(body)
		if body, err = e.append(ctx, body, c.tag(&r.Event), name, &r.Event); err != nil {
			return err
		}
		if len(body) == before {
			continue
		}
		if count++; e.largest > 0 && len(body) > e.largest {
			if err := e.send(ctx, server, body, count); err != nil {
				return err
			}
			body, count = body[:0], 0
		}
	}
	if count == 0 {
		return nil
	}
	return e.send(ctx, server, body, count)
}

// send makes one request of the bulk interface.
func (e *elasticsearch) send(ctx context.Context, server string, body []byte, count int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, server, bytes.NewReader(body))
	if err != nil {
		return output.Hopeless(err)
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	for _, h := range e.headers {
		req.Header.Set(h[0], h[1])
	}
	if e.user != "" {
		req.SetBasicAuth(e.user, e.password)
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, output.MaxAnswer))
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("could not push logs: HTTP status %d: %.300s", resp.StatusCode, answer)
	}
	refused, err := output.JudgeBulk(answer, count)
	if refused != nil {
		e.part.errors.Add(1)
		e.part.log.Error("records were refused for their content and are dropped", "error", refused)
	}
	return err
}

// names gives the index of a record at a time.
func (e *elasticsearch) names(c *delivery) (func(at time.Time) string, error) {
	index, err := e.index.expand(c.Chunk)
	if err != nil {
		return nil, err
	}
	prefix, err := e.prefix.expand(c.Chunk)
	if err != nil {
		return nil, err
	}
	if !e.logstash {
		return func(time.Time) string { return strings.ToLower(index) }, nil
	}
	zone := time.Local
	if e.utc {
		zone = time.UTC
	}
	return func(at time.Time) string {
		return strings.ToLower(string(clock.Format([]byte(prefix+e.separator), e.date, at.In(zone))))
	}, nil
}

// append adds the lines of one record: an action and the document. None are added for a record that is an error.
func (e *elasticsearch) append(ctx context.Context, b []byte, tag string, name func(time.Time) string, r *record.Event) ([]byte, error) {
	at := r.Time.Std()
	var id []byte
	if e.id != nil {
		if v, ok := e.id.Find(r.Body); ok {
			id = v
		} else if e.strict {
			return b, e.part.reject(ctx, flow.Batch{Tag: tag}, r.Time, r.Body, errors.New("missing '_id' field: the record has no id_key. Write operation is "+e.operation))
		}
	}
	action := e.operation
	if action == "upsert" {
		action = "update"
	}
	b = append(append(append(b, `{"`...), action...), `":{`...)
	b = append(b, `"_index":`...)
	b = record.AppendJSONString(b, name(at))
	if e.typed != "" {
		b = record.AppendJSONString(append(b, `,"_type":`...), e.typed)
	}
	if id != nil {
		b = record.AppendJSONString(append(b, `,"_id":`...), record.AppendText(nil, id))
	}
	b = append(b, "}}\n"...)
	doc := record.AppendJSON(nil, e.document(r.Body, tag, at))
	switch e.operation {
	case "update":
		b = append(append(append(b, `{"doc":`...), doc...), '}')
	case "upsert":
		b = append(append(append(b, `{"doc":`...), doc...), `,"doc_as_upsert":true}`...)
	default:
		b = append(b, doc...)
	}
	return append(b, '\n'), nil
}

func (e *elasticsearch) document(body []byte, tag string, at time.Time) []byte {
	if _, ok := record.Get(body, "@timestamp"); e.timestamp && !ok {
		body = mergedMaps(body, record.AppendString(record.AppendString([]byte{0x81}, "@timestamp"), at.In(time.Local).Format("2006-01-02T15:04:05.000000000-07:00")))
	}
	if e.tagKey != "" {
		body = mergedMaps(body, record.AppendString(record.AppendString([]byte{0x81}, e.tagKey), tag))
	}
	if len(e.remove) > 0 {
		body = record.Without(body, e.remove)
	}
	return body
}

func (e *elasticsearch) close() error {
	e.client.CloseIdleConnections()
	return nil
}
