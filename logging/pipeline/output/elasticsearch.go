package output

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
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
	prefixKey                               *record.Template
	indexKey                                *record.Template // the index, if it is made of records
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
	template := func(key, text string) *record.Template {
		t, err := record.ParseTemplate(text)
		if err != nil {
			o.Failf(key, "%s: %v", key, err)
		}
		return &t
	}
	if text := o.String("logstash_prefix_key"); text != "" {
		if !strings.HasPrefix(text, "$") {
			text = "$" + text
		}
		e.prefixKey = template("logstash_prefix_key", text)
	}
	if o.Plugin.Name == "opensearch" && strings.Contains(e.index, "$") {
		e.indexKey = template("index", e.index)
	}
	e.idKey = pathOption(o, "id_key")
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
		if o.Plugin.Name == "opensearch" {
			uri += "/"
		}
		uri += "?pipeline=" + p
	}
	e.request.url += uri
	o.Pass("buffer_size")
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
		id, ok := e.id(doc, r.Body)
		if !ok {
			e.host.Log.Warn("a record without a text at Id_Key that can be an id is left out: it could update nothing", "tag", c.Tag)
			continue
		}
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
		if id != "" {
			b = append(b, `,"_id":`...)
			b = record.AppendJSONString(b, id)
		}
		b = append(b, "}}\n"...)
		doc = record.AppendJSON(nil, doc)
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

// maxPrefix is how many bytes of a field become the prefix of an index.
const maxPrefix = 128

func (e *elasticsearch) indexOf(tag string, at, now time.Time, body []byte) string {
	if !e.logstash {
		if e.indexKey != nil {
			if text, _ := e.indexKey.Append(nil, record.Scope{Tag: tag, Body: body}); isName(text) {
				return string(text)
			}
			return e.index
		}
		return strftime(e.index, now)
	}
	prefix := e.prefix
	if e.prefixKey != nil {
		if text, _ := e.prefixKey.Append(nil, record.Scope{Tag: tag, Body: body}); len(text) > 0 && isName(text) {
			prefix = string(text[:min(len(text), maxPrefix)])
		}
	}
	return prefix + e.separator + strftime(e.date, at)
}

// isName tells whether text can be an index or an id: it has neither quotes nor backslashes nor control characters.
func isName(text []byte) bool {
	return !slices.ContainsFunc(text, func(c byte) bool { return c < ' ' || c == '"' || c == '\\' })
}

// id is the record's id, "" if the server shall make one. It is not ok if the record cannot go without.
func (e *elasticsearch) id(doc, body []byte) (id string, ok bool) {
	if e.generateID {
		id = contentID(doc)
	}
	if e.idKey == nil {
		return id, true
	}
	if v, found := e.idKey.Find(body); found && record.KindOf(v) == record.String {
		if text, _ := record.Text(v); isName(text) {
			return string(text), true
		}
	}
	needed := e.operation == "update" || e.operation == "upsert"
	return id, e.generateID || !needed
}

// contentID is a UUID made of a document's content. Fluent Bit takes other hashes: what it sent has other ids.
func contentID(document []byte) string {
	sum := sha256.Sum256(document)
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// document is the record as it is indexed, a map of MessagePack with its time and tag.
func (e *elasticsearch) document(tag string, at time.Time, r *record.Event) []byte {
	fields := record.FieldsOf(r.Body)
	n := fields.Count + 1
	if e.tagKey != "" {
		n++
	}
	b := record.AppendMapHead(nil, n)
	text := strftime(e.timeFormat, at)
	if e.nanos {
		text += fmt.Sprintf(".%09dZ", at.Nanosecond())
	} else {
		text += fmt.Sprintf(".%03dZ", at.Nanosecond()/1e6)
	}
	b = record.AppendString(record.AppendString(b, e.timeKey), text)
	if e.tagKey != "" {
		b = record.AppendString(record.AppendString(b, e.tagKey), tag)
	}
	if !e.replaceDots {
		for fields.Next() {
			b = append(b, fields.Raw...)
		}
		return b
	}
	return e.appendFields(b, &fields)
}

func (e *elasticsearch) appendFields(b []byte, fields *record.Fields) []byte {
	for fields.Next() {
		b = record.AppendString(b, strings.ReplaceAll(string(fields.Key), ".", "_"))
		b = e.appendValue(b, fields.Value)
	}
	return b
}

// appendValue appends a value with the dots in keys replaced.
func (e *elasticsearch) appendValue(b, value []byte) []byte {
	switch record.KindOf(value) {
	case record.Map:
		inner := record.FieldsOf(value)
		return e.appendFields(record.AppendMapHead(b, inner.Count), &inner)
	case record.Array:
		items := record.ItemsOf(value)
		b = record.AppendArrayHead(b, items.Count)
		for items.Next() {
			b = e.appendValue(b, items.Value)
		}
		return b
	}
	return append(b, value...)
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
