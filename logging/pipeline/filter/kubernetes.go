package filter

import (
	"bytes"
	"context"
	"strings"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/parser"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/pipeline/regex"
)

// kubernetes adds what the API server knows of the pod that a record comes from, and takes JSON in the log apart.
type kubernetes struct {
	host        Host
	prefix      string
	regex       *regex.Regexp
	tagParser   *parser.Parser
	mergeLog    bool
	trim        bool
	keepLog     bool
	mergeKey    string
	mergeParser *parser.Parser
	byParser    bool // K8S-Logging.Parser
	byExclude   bool // K8S-Logging.Exclude
	pods        *podSource
}

// tagExpression finds pod, namespace, container and its id in the name of a log file below /var/log/containers.
const tagExpression = `(?<pod_name>[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*)_(?<namespace_name>[^_]+)_(?<container_name>.+)-(?<docker_id>[a-z0-9]{64})\.log$`

func newKubernetes(o *options.Set, h Host) Filter {
	k := &kubernetes{host: h, prefix: o.String("kube_tag_prefix"), mergeLog: o.Bool("merge_log"), trim: o.Bool("merge_log_trim"), keepLog: o.Bool("keep_log"),
		mergeKey: o.String("merge_log_key"), byParser: o.Bool("k8s-logging.parser"), byExclude: o.Bool("k8s-logging.exclude")}
	if !o.Has("kube_tag_prefix") {
		k.prefix = "kube.var.log.containers."
	}
	var err error
	if k.regex, err = regex.Compile(tagExpression); err != nil {
		o.Failf("", "%v", err)
	}
	find := func(key string) *parser.Parser {
		name := o.String(key)
		if name == "" {
			return nil
		}
		p := h.Parsers[name]
		if p == nil {
			o.Failf(key, "there is no parser %q", name)
		}
		return p
	}
	k.tagParser, k.mergeParser = find("regex_parser"), find("merge_parser")
	if o.Bool("use_journal") {
		o.Failf("use_journal", "Use_Journal is not built into logagent")
	}
	k.pods = newPodSource(o, h)
	o.Ignore("cache_use_docker_id") // what is known of a pod is always kept by the container's id, too
	// Pods are asked for when their records come and not at the start, so that no start waits for names to be found or asks for the agent's own pod.
	o.Pass("buffer_size", "dns_retries", "dns_wait_time", "kube_namespace_file")
	return k
}

// place is where records with one tag come from.
type place struct {
	pod, namespace, container, id string
}

func (k *kubernetes) place(tag string) (place, bool) {
	rest := tag[min(len(k.prefix), len(tag)):]
	var p place
	if k.tagParser != nil {
		body, _, ok := k.tagParser.Parse(nil, []byte(rest))
		if !ok {
			return p, false
		}
		for f := record.FieldsOf(body); f.Next(); {
			text, _ := record.Text(f.Value)
			p.set(string(f.Key), string(text))
		}
		return p, p.pod != "" && p.namespace != ""
	}
	found, err := k.regex.Find([]byte(rest), nil)
	if err != nil || found == nil {
		return p, false
	}
	for i, name := range k.regex.Names() {
		if found[2*i] >= 0 {
			p.set(name, rest[found[2*i]:found[2*i+1]])
		}
	}
	return p, true
}

func (p *place) set(name, value string) {
	switch name {
	case "pod_name":
		p.pod = value
	case "namespace_name":
		p.namespace = value
	case "container_name":
		p.container = value
	case "docker_id":
		p.id = value
	}
}

func (k *kubernetes) Apply(ctx context.Context, dst []byte, b flow.Batch) ([]byte, error) {
	var meta *podMeta
	if p, ok := k.place(b.Tag); ok {
		meta = k.pods.find(ctx, p)
	}
	pairs := pairsPool.Get().(*pairs)
	defer pairsPool.Put(pairs)
	r := record.NewReader(b.Data)
	for r.Next() {
		stream := streamOf(r.Body)
		if meta != nil && k.byExclude && meta.excluded(stream) {
			continue
		}
		use := k.mergeParser
		if meta != nil && k.byParser {
			if name := meta.parser(stream); name != "" {
				if found := k.host.Parsers[name]; found != nil {
					use = found
				} else {
					k.host.Log.Warn("a pod's annotation names a parser that does not exist", "parser", name, "pod", meta.name)
				}
			}
		}
		dst = k.event(dst, pairs, &r.Event, meta, use)
	}
	return dst, r.Err
}

func streamOf(body []byte) string {
	v, _ := record.Get(body, "stream")
	text, _ := record.Text(v)
	return string(text)
}

func (k *kubernetes) event(dst []byte, p *pairs, e *record.Event, meta *podMeta, use *parser.Parser) []byte {
	at := e.Time
	p.load(e.Body)
	if k.mergeLog {
		if t := k.merge(p, use); !t.IsZero() {
			at = t
		}
	}
	if meta != nil {
		p.all = append(p.all, meta.pairs...)
	}
	dst = record.AppendEventHead(dst, at, e.Meta)
	return p.appendTo(dst)
}

// merge takes the log apart and puts its fields into the record, or under Merge_Log_Key.
func (k *kubernetes) merge(p *pairs, use *parser.Parser) (t record.Time) {
	i := p.find("log")
	if i < 0 {
		return t
	}
	value := p.all[i].value
	var merged []byte
	if record.KindOf(value) == record.Map {
		merged = value
	} else if text, ok := record.Text(value); ok {
		merged, t = parseLog(text, use)
	}
	if merged == nil {
		return t
	}
	if !k.keepLog {
		p.all = append(p.all[:i], p.all[i+1:]...)
	}
	fields := record.FieldsOf(merged)
	if k.mergeKey != "" && fields.Count > 0 {
		inner := record.AppendMapHead(nil, fields.Count)
		for fields.Next() {
			inner = append(inner, fields.Raw[:len(fields.Raw)-len(fields.Value)]...)
			inner = append(inner, k.trimmed(fields.Value)...)
		}
		p.all = append(p.all, pair{[]byte(k.mergeKey), text(k.mergeKey), inner})
		return t
	}
	for fields.Next() {
		p.all = append(p.all, pair{fields.Key, fields.Raw[:len(fields.Raw)-len(fields.Value)], k.trimmed(fields.Value)})
	}
	return t
}

func parseLog(log []byte, use *parser.Parser) ([]byte, record.Time) {
	if use != nil {
		if out, t, ok := use.Parse(nil, bytes.TrimRight(log, "\r\n")); ok {
			return out, t
		}
		return nil, record.Time{}
	}
	log = bytes.TrimSpace(log)
	if len(log) < 2 || log[0] != '{' {
		return nil, record.Time{}
	}
	out, n, err := record.FromJSON(nil, log)
	if err != nil || n != len(log) {
		return nil, record.Time{}
	}
	return out, record.Time{}
}

func (k *kubernetes) trimmed(value []byte) []byte {
	if !k.trim || record.KindOf(value) != record.String {
		return value
	}
	content, _ := record.Text(value)
	if short := bytes.TrimRight(content, "\r\n"); len(short) != len(content) {
		return record.AppendString(nil, short)
	}
	return value
}

// annotation is a setting of a pod for the agent: fluentbit.io/NAME[_STREAM][-CONTAINER].
func (m *podMeta) annotation(name, stream string) string {
	best, weight := "", -1
	for key, value := range m.annotations {
		rest, ok := strings.CutPrefix(key, "fluentbit.io/"+name)
		if !ok {
			continue
		}
		w := 0
		if rest, ok = strings.CutPrefix(rest, "_stdout"); ok {
			if stream != "stdout" {
				continue
			}
			w++
		} else if rest, ok = strings.CutPrefix(rest, "_stderr"); ok {
			if stream != "stderr" {
				continue
			}
			w++
		}
		switch {
		case rest == "":
		case rest == "-"+m.container:
			w += 2
		default:
			continue
		}
		if w > weight {
			best, weight = value, w
		}
	}
	return best
}

func (m *podMeta) parser(stream string) string { return m.annotation("parser", stream) }

func (m *podMeta) excluded(stream string) bool {
	switch strings.ToLower(m.annotation("exclude", stream)) {
	case "true", "on", "yes", "1":
		return true
	}
	return false
}
