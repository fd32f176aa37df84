package output

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
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
	metaMaps   []record.Path // maps whose pairs become structured metadata
	remove     []record.Path
	kubernetes bool
	single     bool // drop_single_key
	raw        bool
	keyValue   bool
	tenant     string
	tenantKey  *record.Path
	allTenants bool // a chunk is tried again as long as one of its tenants fails
}

type lokiLabel struct {
	name  string
	value record.Template
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
	l.labels = slices.Concat(readLabels(o, "labels"), readLabels(o, "label_keys"), readLabelFile(o))
	l.metadata = readLabels(o, "structured_metadata")
	for _, key := range o.Commas("structured_metadata_map_keys") {
		p, err := record.ParsePath(key)
		if err == nil && !strings.HasPrefix(key, "$") {
			err = fmt.Errorf("%q is not a field; write $%s", key, key)
		}
		if err != nil {
			o.Failf("structured_metadata_map_keys", "structured_metadata_map_keys: %v", err)
			continue
		}
		l.metaMaps = append(l.metaMaps, p)
	}
	for _, label := range slices.Concat(l.labels, l.metadata) {
		l.remove = append(l.remove, label.value.Paths()...)
	}
	l.remove = append(l.remove, l.metaMaps...)
	for _, key := range o.Commas("remove_keys") {
		p, err := record.ParsePath(key)
		if err != nil {
			o.Failf("remove_keys", "%v", err)
		}
		l.remove = append(l.remove, p)
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
	l.tenantKey = pathOption(o, "tenant_id_key")
	switch v := strings.ToLower(o.String("tenant_id_key_error_handling")); v {
	case "partial_success":
	case "partial_error":
		l.allTenants = true
	default:
		o.Failf("tenant_id_key_error_handling", "there is no tenant_id_key_error_handling %q; there are partial_success and partial_error", v)
	}
	o.Pass("buffer_size")
	return l
}

func readLabels(o *options.Set, key string) []lokiLabel {
	var all []lokiLabel
	for _, word := range o.Commas(key) {
		if label, ok := newLabel(o, key, word); ok {
			all = append(all, label)
		}
	}
	return all
}

// newLabel reads name=text, name=$field, or $field, which names the label after all of its keys.
func newLabel(o *options.Set, key, word string) (lokiLabel, bool) {
	if strings.HasPrefix(word, "$") {
		p, err := record.ParsePath(word)
		if err != nil {
			o.Failf(key, "%s: %v", key, err)
			return lokiLabel{}, false
		}
		value, err := record.ParseTemplate(word)
		if err != nil {
			o.Failf(key, "%s: %v", key, err)
		}
		return lokiLabel{labelName(p.Name("_")), value}, true
	}
	name, text, has := strings.Cut(word, "=")
	name, text = strings.TrimSpace(name), strings.TrimSpace(text)
	if !has || name == "" || text == "" || key == "label_keys" {
		o.Failf(key, "%s: %q is not name=value or $field", key, word)
		return lokiLabel{}, false
	}
	value := record.FixedTemplate(text) // what does not begin with $ is text
	if strings.HasPrefix(text, "$") {
		var err error
		if value, err = record.ParseTemplate(text); err != nil {
			o.Failf(key, "%s: %v", key, err)
			return lokiLabel{}, false
		}
	}
	return lokiLabel{name, value}, true
}

// readLabelFile reads label_map_path: a JSON object whose texts are labels for the fields where they stand.
func readLabelFile(o *options.Set) []lokiLabel {
	name := o.String("label_map_path")
	if name == "" {
		return nil
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(filepath.Dir(o.Section.Pos.File), name)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		o.Failf("label_map_path", "label_map_path: %v", err)
		return nil
	}
	root, n, err := record.FromJSON(nil, data)
	if err == nil && (record.KindOf(root) != record.Map || len(bytes.TrimSpace(data[n:])) > 0) {
		err = errors.New("it is not one JSON object")
	}
	var all []lokiLabel
	if err == nil {
		all, err = labelsOf(nil, root, nil)
	}
	if err != nil {
		o.Failf("label_map_path", "%s: %v", name, err)
	}
	return all
}

func labelsOf(all []lokiLabel, value []byte, keys []string) ([]lokiLabel, error) {
	if text, ok := record.Text(value); ok {
		return append(all, lokiLabel{string(text), record.FieldTemplate(record.PathOf(keys...))}), nil
	}
	if record.KindOf(value) != record.Map {
		return nil, fmt.Errorf("at %s: expected the name of a label, or an object", strings.Join(keys, "."))
	}
	var err error
	for f := record.FieldsOf(value); f.Next() && err == nil; {
		all, err = labelsOf(all, f.Value, append(keys[:len(keys):len(keys)], string(f.Key)))
	}
	return all, err
}

// labelName replaces what Loki does not take in names.
func labelName(s string) string {
	b := []byte(s)
	for i, c := range b {
		if !(c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9') {
			b[i] = '_'
		}
	}
	if len(b) > 0 && b[0] >= '0' && b[0] <= '9' {
		return "_" + string(b)
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
		labels = l.appendLabels(labels[:0], c.Tag, r.Body)
		s := streams[string(labels)]
		if s == nil {
			s = &stream{labels: append([]byte(nil), labels...)}
			streams[string(labels)] = s
		} else {
			s.values = append(s.values, ',')
		}
		s.values = l.appendValue(s.values, c.Tag, &r.Event)
	}
	var names []string
	for tenant := range tenants {
		names = append(names, tenant)
	}
	sort.Strings(names)
	var failed, again []error
	for _, tenant := range names {
		err := l.push(ctx, tenant, tenants[tenant])
		switch {
		case err == nil:
			continue
		case !IsHopeless(err):
			again = append(again, err)
		}
		failed = append(failed, err)
	}
	switch {
	case len(failed) == 0:
		return nil
	case len(failed) == len(names) && len(again) == 0:
		return Hopeless(errors.Join(failed...))
	case len(failed) == len(names) || l.allTenants:
		return fmt.Errorf("%d of %d tenants: %w", len(failed), len(names), later(failed))
	}
	l.host.Log.Error("records of some tenants were not taken and are dropped; tenant_id_key_error_handling partial_error tries again, which doubles those of the others",
		"failed", len(failed), "tenants", len(names), "error", errors.Join(failed...))
	return nil
}

// later joins errors to one after which another try makes sense.
func later(all []error) error { return errors.New(errors.Join(all...).Error()) }

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

// jsonTexts writes a JSON object whose values are texts.
type jsonTexts struct {
	b    []byte
	more bool
}

func (j *jsonTexts) add(name string, text []byte) {
	if j.more {
		j.b = append(j.b, ',')
	}
	j.more = true
	j.b = record.AppendJSONString(j.b, name)
	j.b = append(j.b, ':')
	j.b = record.AppendJSONString(j.b, text)
}

// addLabels adds the labels that a record has.
func (j *jsonTexts) addLabels(labels []lokiLabel, s record.Scope) {
	var room [64]byte
	for i := range labels {
		if text, _ := labels[i].value.Append(room[:0], s); len(text) > 0 {
			j.add(labels[i].name, text)
		}
	}
}

func (l *loki) appendLabels(b []byte, tag string, body []byte) []byte {
	j := jsonTexts{b: append(b, '{')}
	j.addLabels(l.labels, record.Scope{Tag: tag, Body: body})
	if l.kubernetes {
		if k, ok := record.Get(body, "kubernetes"); ok {
			if labels, ok := record.Get(k, "labels"); ok {
				for f := record.FieldsOf(labels); f.Next(); {
					if text, ok := record.Text(f.Value); ok {
						j.add(labelName(string(f.Key)), text)
					}
				}
			}
		}
	}
	if !j.more {
		j.add("job", []byte("fluent-bit")) // Loki takes no stream without labels
	}
	return append(j.b, '}')
}

func (l *loki) appendValue(b []byte, tag string, e *record.Event) []byte {
	b = append(b, `["`...)
	b = strconv.AppendInt(b, e.Time.Sec*1e9+int64(e.Time.Nsec), 10)
	b = append(b, `",`...)
	b = record.AppendJSONString(b, l.line(e.Body))
	if len(l.metadata) > 0 || len(l.metaMaps) > 0 {
		b = append(b, ',')
		b = l.appendMetadata(b, tag, e.Body)
	}
	return append(b, ']')
}

func (l *loki) appendMetadata(b []byte, tag string, body []byte) []byte {
	j := jsonTexts{b: append(b, '{')}
	for i := range l.metaMaps {
		if v, ok := l.metaMaps[i].Find(body); ok {
			for f := record.FieldsOf(v); f.Next(); {
				j.add(labelName(string(f.Key)), record.AppendText(nil, f.Value))
			}
		}
	}
	j.addLabels(l.metadata, record.Scope{Tag: tag, Body: body})
	return append(j.b, '}')
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
		if l.keyValue {
			return appendLogfmt(nil, f.Value)
		}
		return record.AppendJSON(nil, f.Value)
	}
	if !l.keyValue {
		return record.AppendJSON(nil, kept)
	}
	var b []byte
	for f := record.FieldsOf(kept); f.Next(); {
		if f.Key == nil {
			continue
		}
		if len(b) > 0 {
			b = append(b, ' ')
		}
		b = append(b, f.Key...)
		b = append(b, '=')
		b = appendLogfmt(b, f.Value)
	}
	return b
}

// appendLogfmt appends a value of logfmt: maps and arrays are texts of Go's form, map[k:v] and [1 2]. Unlike Fluent Bit quotes are escaped, which Loki needs
// to read the line.
func appendLogfmt(b, value []byte) []byte {
	switch record.KindOf(value) {
	case record.Map, record.Array:
		return record.AppendJSONString(b, appendGo(nil, value))
	}
	return record.AppendJSON(b, value)
}

func appendGo(b, value []byte) []byte {
	switch record.KindOf(value) {
	case record.Map:
		b = append(b, "map["...)
		first := true
		for f := record.FieldsOf(value); f.Next(); {
			if f.Key == nil {
				continue
			}
			if !first {
				b = append(b, ' ')
			}
			first = false
			b = append(append(b, f.Key...), ':')
			b = appendGo(b, f.Value)
		}
		return append(b, ']')
	case record.Array:
		b = append(b, '[')
		first := true
		for i := record.ItemsOf(value); i.Next(); first = false {
			if !first {
				b = append(b, ' ')
			}
			b = appendGo(b, i.Value)
		}
		return append(b, ']')
	}
	return record.AppendJSON(b, value)
}

func (l *loki) Close() error {
	l.request.client.CloseIdleConnections()
	return nil
}
