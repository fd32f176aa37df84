package output

import (
	"context"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// loki pushes records to Grafana Loki, in streams by their labels.
type loki struct {
	host       Host
	request    *request
	labels     []lokiLabel
	metadata   []lokiLabel
	metaMaps   []record.Path
	remove     []record.Path
	kubernetes bool
	single     bool // drop_single_key
	raw        bool
	keyValue   bool
	tenant     string
	tenantKey  *record.Path
}

type lokiLabel struct {
	name string
	text string
	path *record.Path
}

func newLoki(o *options.Set, h Host) Output {
	l := &loki{host: h, request: newRequest(o, 3100, time.Minute, ""), kubernetes: o.Bool("auto_kubernetes_labels"), tenant: o.String("tenant_id")}
	l.request.hopeless = func(status int) bool { return status == http.StatusBadRequest } // what came out of order; the rest may pass, as a missing tenant does
	l.request.bearer = o.String("bearer_token")
	l.request.readHeaders(o)
	if l.request.compress != "" && l.request.compress != "gzip" {
		o.Failf("compress", "Loki takes gzip only")
	}
	l.request.url += o.String("uri")
	l.labels = l.readLabels(o, "labels")
	for _, word := range o.Commas("label_keys") {
		if label, ok := newLabel(o, "label_keys", word); ok {
			l.labels = append(l.labels, label)
		}
	}
	l.metadata = l.readLabels(o, "structured_metadata")
	for _, key := range o.Commas("structured_metadata_map_keys") {
		if p, err := record.ParsePath(key); err == nil {
			l.metaMaps = append(l.metaMaps, p)
		} else {
			o.Failf("structured_metadata_map_keys", "%v", err)
		}
	}
	for _, label := range append(l.labels[:len(l.labels):len(l.labels)], l.metadata...) {
		if label.path != nil {
			l.remove = append(l.remove, *label.path)
		}
	}
	l.remove = append(l.remove, l.metaMaps...)
	for _, key := range o.Commas("remove_keys") {
		p, err := record.ParsePath(key)
		if err != nil {
			o.Failf("remove_keys", "%v", err)
		}
		l.remove = append(l.remove, p)
	}
	if len(l.labels) == 0 && !l.kubernetes {
		l.labels = []lokiLabel{{name: "job", text: "fluent-bit"}}
	}
	if v := strings.ToLower(o.String("drop_single_key")); v == "raw" {
		l.single, l.raw = true, true
	} else if v != "" {
		l.single, _ = config.ParseBool(v) // checked with the table
	}
	switch strings.ToLower(o.String("line_format")) {
	case "json":
	case "key_value":
		l.keyValue = true
	default:
		o.Failf("line_format", "there is no line_format %q; there are json and key_value", o.String("line_format"))
	}
	if key := o.String("tenant_id_key"); key != "" {
		p, err := record.ParsePath(key)
		if err != nil {
			o.Failf("tenant_id_key", "%v", err)
		}
		l.tenantKey = &p
	}
	o.Ignore("buffer_size", "tenant_id_key_error_handling")
	return l
}

func (l *loki) readLabels(o *options.Set, key string) []lokiLabel {
	var all []lokiLabel
	for _, word := range o.Commas(key) {
		if label, ok := newLabel(o, key, word); ok {
			all = append(all, label)
		}
	}
	return all
}

// newLabel reads name=text, name=$path or $path.
func newLabel(o *options.Set, key, word string) (lokiLabel, bool) {
	name, value, has := strings.Cut(word, "=")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if !has {
		value = name
	}
	if !strings.HasPrefix(value, "$") {
		if !has {
			o.Failf(key, "%s: %q is not name=value or $field", key, word)
		}
		return lokiLabel{name: labelName(name), text: value}, has
	}
	p, err := record.ParsePath(value)
	if err != nil {
		o.Failf(key, "%s: %v", key, err)
		return lokiLabel{}, false
	}
	if !has {
		keys, _ := p.Keys()
		if len(keys) == 0 {
			o.Failf(key, "%s: %q needs a name: name=%s", key, word, word)
			return lokiLabel{}, false
		}
		name = keys[len(keys)-1]
	}
	return lokiLabel{name: labelName(name), path: &p}, true
}

// labelName replaces what Loki does not take in names.
func labelName(s string) string {
	b := []byte(s)
	for i, c := range b {
		if !(c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' || i > 0 && c >= '0' && c <= '9') {
			b[i] = '_'
		}
	}
	return string(b)
}

// stream is the records with the same labels.
type stream struct {
	labels []byte
	values []byte
}

func (l *loki) Write(ctx context.Context, c Chunk) error {
	tenants := map[string]map[string]*stream{}
	var labels []byte
	for r := record.NewReader(c.Data); r.Next(); {
		tenant := l.tenant
		if l.tenantKey != nil {
			if v, ok := l.tenantKey.Find(r.Body); ok {
				if text, ok := record.Text(v); ok && validHeader("X-Scope-OrgID", string(text)) {
					tenant = string(text)
				}
			}
		}
		streams := tenants[tenant]
		if streams == nil {
			streams = map[string]*stream{}
			tenants[tenant] = streams
		}
		labels = l.appendLabels(labels[:0], r.Body)
		s := streams[string(labels)]
		if s == nil {
			s = &stream{labels: append([]byte(nil), labels...)}
			streams[string(labels)] = s
		} else {
			s.values = append(s.values, ',')
		}
		s.values = l.appendValue(s.values, &r.Event)
	}
	var names []string
	for tenant := range tenants {
		names = append(names, tenant)
	}
	sort.Strings(names)
	for _, tenant := range names {
		if err := l.push(ctx, tenant, tenants[tenant]); err != nil {
			return err
		}
	}
	return nil
}

func (l *loki) push(ctx context.Context, tenant string, streams map[string]*stream) error {
	var keys []string
	for key := range streams {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	body := []byte(`{"streams":[`)
	for i, key := range keys {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, `{"stream":`...)
		body = append(body, streams[key].labels...)
		body = append(body, `,"values":[`...)
		body = append(body, streams[key].values...)
		body = append(body, `]}`...)
	}
	body = append(body, `]}`...)
	var more [][2]string
	if tenant != "" {
		more = append(more, [2]string{"X-Scope-OrgID", tenant})
	}
	_, err := l.request.send(ctx, l.request.url, "application/json", body, more...)
	return err
}

func (l *loki) appendLabels(b, body []byte) []byte {
	b = append(b, '{')
	add := func(name string, text []byte) {
		if b[len(b)-1] != '{' {
			b = append(b, ',')
		}
		b = record.AppendJSONString(b, name)
		b = append(b, ':')
		b = record.AppendJSONString(b, text)
	}
	for i := range l.labels {
		if label := &l.labels[i]; label.path == nil {
			add(label.name, []byte(label.text))
		} else if v, ok := label.path.Find(body); ok {
			add(label.name, record.AppendText(nil, v))
		}
	}
	if l.kubernetes {
		if k, ok := record.Get(body, "kubernetes"); ok {
			if labels, ok := record.Get(k, "labels"); ok {
				for f := record.FieldsOf(labels); f.Next(); {
					if text, ok := record.Text(f.Value); ok {
						add(labelName(string(f.Key)), text)
					}
				}
			}
		}
	}
	return append(b, '}')
}

func (l *loki) appendValue(b []byte, e *record.Event) []byte {
	b = append(b, `["`...)
	b = strconv.AppendInt(b, e.Time.Sec*1e9+int64(e.Time.Nsec), 10)
	b = append(b, `",`...)
	b = record.AppendJSONString(b, l.line(e.Body))
	if len(l.metadata) > 0 || len(l.metaMaps) > 0 {
		b = append(b, ',')
		b = l.appendMetadata(b, e.Body)
	}
	return append(b, ']')
}

func (l *loki) appendMetadata(b, body []byte) []byte {
	b = append(b, '{')
	first := true
	add := func(name string, text []byte) {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = record.AppendJSONString(b, name)
		b = append(b, ':')
		b = record.AppendJSONString(b, text)
	}
	for i := range l.metadata {
		if m := &l.metadata[i]; m.path == nil {
			add(m.name, []byte(m.text))
		} else if v, ok := m.path.Find(body); ok {
			add(m.name, record.AppendText(nil, v))
		}
	}
	for i := range l.metaMaps {
		if v, ok := l.metaMaps[i].Find(body); ok {
			for f := record.FieldsOf(v); f.Next(); {
				add(string(f.Key), record.AppendText(nil, f.Value))
			}
		}
	}
	return append(b, '}')
}

// line is the text of a record without what became labels.
func (l *loki) line(body []byte) []byte {
	kept := body
	if len(l.remove) > 0 {
		kept = record.Without(body, l.remove)
	}
	f := record.FieldsOf(kept)
	if l.single && f.Count == 1 && f.Next() {
		if text, ok := record.Text(f.Value); ok && (l.raw || l.keyValue) {
			return text
		}
		return record.AppendJSON(nil, f.Value)
	}
	if !l.keyValue {
		return record.AppendJSON(nil, kept)
	}
	var b []byte
	for f := record.FieldsOf(kept); f.Next(); {
		if len(b) > 0 {
			b = append(b, ' ')
		}
		b = append(b, f.Key...)
		b = append(b, '=')
		b = record.AppendJSON(b, f.Value)
	}
	return b
}

func (l *loki) Close() error {
	l.request.client.CloseIdleConnections()
	return nil
}
