package output

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// elasticsearch indexes records by the bulk interface, in Elasticsearch or OpenSearch.
type elasticsearch struct {
	host                                    Host
	request                                 *request
	index, kind                             string
	logstash                                bool
	prefix, separator, date                 string
	prefixKey                               *record.Path
	timeKey, timeFormat                     string
	nanos                                   bool
	tagKey                                  string // "" without Include_Tag_Key
	idKey                                   *record.Path
	operation                               string // create, index, update, upsert
	generateID, replaceDots, noType, useNow bool
	traceError, traceOutput                 bool
}

func newElasticsearch(o *options.Set, h Host) Output {
	e := &elasticsearch{host: h, request: newRequest(o, 9200, time.Minute, ""), index: o.StringOr("index", "fluent-bit"), kind: o.String("type"),
		logstash: o.Bool("logstash_format"), prefix: o.String("logstash_prefix"), separator: o.StringOr("logstash_prefix_separator", "-"),
		date: o.String("logstash_dateformat"), timeKey: o.String("time_key"), timeFormat: o.String("time_key_format"), nanos: o.Bool("time_key_nanos"),
		operation: strings.ToLower(o.StringOr("write_operation", "create")), generateID: o.Bool("generate_id"), replaceDots: o.Bool("replace_dots"),
		noType: o.Bool("suppress_type_name"), useNow: o.Bool("current_time_index"), traceError: o.Bool("trace_error"), traceOutput: o.Bool("trace_output")}
	e.request.hopeless = func(int) bool { return false } // as Fluent Bit: credentials and indices may come
	tagKey := o.String("tag_key")
	if o.Bool("include_tag_key") {
		e.tagKey = tagKey
	}
	path := func(key string) *record.Path {
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
	e.prefixKey, e.idKey = path("logstash_prefix_key"), path("id_key")
	switch e.operation {
	case "create", "index":
	case "update", "upsert":
		if e.idKey == nil && !e.generateID {
			o.Failf("write_operation", "Write_Operation %s needs ID_KEY or Generate_ID", e.operation)
		}
	default:
		o.Failf("write_operation", "there is no Write_Operation %q; there are create, index, update and upsert", e.operation)
	}
	if key := h.apiKey(o); key != "" {
		e.request.headers = append(e.request.headers, [2]string{"Authorization", "ApiKey " + key})
	}
	if o.Bool("aws_auth") {
		o.Failf("aws_auth", "AWS_Auth is not built into logagent")
	}
	uri := strings.TrimSuffix(o.String("path"), "/") + "/_bulk"
	if p := o.String("pipeline"); p != "" {
		uri += "/?pipeline=" + p
	}
	e.request.url += uri
	o.Ignore("buffer_size")
	return e
}

func (h Host) apiKey(o *options.Set) string {
	if o.Plugin.Option("http_api_key") == nil {
		return ""
	}
	return o.String("http_api_key")
}

func (e *elasticsearch) Write(ctx context.Context, c Chunk) error {
	body := e.append(nil, c)
	if e.traceOutput {
		e.host.Log.Info("request", "body", string(body))
	}
	answer, err := e.request.send(ctx, e.request.url, "application/x-ndjson", body)
	if err != nil {
		return err
	}
	return e.judge(answer, c.Count)
}

// append makes the lines of a bulk request: an action and the record for each.
func (e *elasticsearch) append(b []byte, c Chunk) []byte {
	now := e.host.Now().UTC()
	for r := record.NewReader(c.Data); r.Next(); {
		at := r.Time.Std()
		if e.useNow {
			at = now
		}
		doc := e.document(c.Tag, at, &r.Event)
		action := e.operation
		if action == "upsert" {
			action = "update"
		}
		b = append(b, `{"`...)
		b = append(b, action...)
		b = append(b, `":{"_index":`...)
		b = record.AppendJSONString(b, e.indexOf(c.Tag, at, now, r.Body))
		if !e.noType {
			b = append(b, `,"_type":`...)
			b = record.AppendJSONString(b, e.kind)
		}
		if id := e.id(doc, r.Body); id != "" {
			b = append(b, `,"_id":`...)
			b = record.AppendJSONString(b, id)
		}
		b = append(b, "}}\n"...)
		switch e.operation {
		case "update":
			b = append(append(append(b, `{"doc":`...), doc...), "}\n"...)
		case "upsert":
			b = append(append(append(b, `{"doc_as_upsert":true,"doc":`...), doc...), "}\n"...)
		default:
			b = append(append(b, doc...), '\n')
		}
	}
	return b
}

func (e *elasticsearch) indexOf(tag string, at, now time.Time, body []byte) string {
	if !e.logstash {
		return strftime(e.index, now)
	}
	prefix := e.prefix
	if e.prefixKey != nil {
		if v, ok := e.prefixKey.Find(body); ok {
			if text, ok := record.Text(v); ok && len(text) > 0 {
				prefix = string(text[:min(len(text), 128)])
			}
		}
	}
	return prefix + e.separator + strftime(e.date, at)
}

func (e *elasticsearch) id(doc, body []byte) string {
	if e.generateID {
		sum := sha256.Sum256(doc)
		h := hex.EncodeToString(sum[:16])
		return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
	}
	if e.idKey == nil {
		return ""
	}
	v, ok := e.idKey.Find(body)
	if !ok {
		return ""
	}
	return string(record.AppendText(nil, v))
}

func (e *elasticsearch) document(tag string, at time.Time, r *record.Event) []byte {
	b := append([]byte{}, '{')
	b = record.AppendJSONString(b, e.timeKey)
	b = append(b, ':')
	text := strftime(e.timeFormat, at)
	if e.nanos {
		text += fmt.Sprintf(".%09dZ", at.Nanosecond())
	} else {
		text += fmt.Sprintf(".%03dZ", at.Nanosecond()/1e6)
	}
	b = record.AppendJSONString(b, text)
	if e.tagKey != "" {
		b = append(b, ',')
		b = record.AppendJSONString(b, e.tagKey)
		b = append(b, ':')
		b = record.AppendJSONString(b, tag)
	}
	for f := record.FieldsOf(r.Body); f.Next(); {
		b = append(b, ',')
		b = e.appendField(b, &f)
	}
	return append(b, '}')
}

func (e *elasticsearch) appendField(b []byte, f *record.Fields) []byte {
	if !e.replaceDots {
		b = record.AppendJSONKey(b, f)
		b = append(b, ':')
		return record.AppendJSON(b, f.Value)
	}
	b = record.AppendJSONString(b, strings.ReplaceAll(string(f.Key), ".", "_"))
	b = append(b, ':')
	if record.KindOf(f.Value) != record.Map {
		return record.AppendJSON(b, f.Value)
	}
	b = append(b, '{')
	first := true
	for inner := record.FieldsOf(f.Value); inner.Next(); first = false {
		if !first {
			b = append(b, ',')
		}
		b = e.appendField(b, &inner)
	}
	return append(b, '}')
}

// judge reads the answer to a bulk request.
func (e *elasticsearch) judge(answer []byte, count int) error {
	refused, err := JudgeBulk(answer, count)
	if refused != nil {
		e.host.Log.Error("records were refused for their content and are dropped", "error", refused)
	}
	return err
}

// JudgeBulk reads the answer to a bulk request of count records. What exists already is no error: it came with an earlier try. What the server refuses for
// its content would be refused again: refused tells of that. What it could not take just now is an error, after which all is tried again.
func JudgeBulk(answer []byte, count int) (refused, err error) {
	var bulk struct {
		Errors bool `json:"errors"`
		Items  []map[string]struct {
			Status int
			Error  json.RawMessage
		} `json:"items"`
	}
	if err := json.Unmarshal(answer, &bulk); err != nil {
		if len(answer) == 0 || len(answer) >= MaxAnswer {
			return nil, nil // accepted by its status; a cut answer says no more
		}
		return nil, fmt.Errorf("the answer to a bulk request is no JSON: %s", excerpt(answer))
	}
	if !bulk.Errors {
		return nil, nil
	}
	bad, later := 0, 0
	var why json.RawMessage
	for _, item := range bulk.Items {
		for _, result := range item {
			switch s := result.Status; {
			case s < 300 || s == 409:
			case s == 429 || s >= 500:
				later++
				why = result.Error
			default:
				bad++
				why = result.Error
			}
		}
	}
	switch {
	case later > 0:
		return nil, fmt.Errorf("%d of %d records were not indexed: %s", later+bad, count, excerpt(why))
	case bad == count:
		return nil, Hopeless(fmt.Errorf("all %d records were refused: %s", count, excerpt(why)))
	case bad > 0:
		return fmt.Errorf("%d of %d: %s", bad, count, excerpt(why)), nil
	}
	return nil, nil
}

func (e *elasticsearch) Close() error {
	e.request.client.CloseIdleConnections()
	return nil
}
