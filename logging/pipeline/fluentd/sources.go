package fluentd

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pattern"
	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/input"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/plugin"
)

// inputs are those that are built in, each with what it does while a buffer is full.
func inputs() map[string]func(*builder, *part) (input.Input, fullPolicy) {
	return map[string]func(*builder, *part) (input.Input, fullPolicy){
		"forward": newForwardInput,
		"http":    newHTTPInput,
		"sample":  newSample,
		"tail":    newTail,
	}
}

func (b *builder) source(s *config.Section, w *worker) {
	if s.Arg != "" {
		b.fail(s.Pos, "<source %s>: a source has no argument", s.Arg)
	}
	p := b.find(s, config.Input, names(inputs()), w)
	if p == nil {
		return
	}
	made := &source{part: p, to: w.labels[""]}
	made.input, made.full = inputs()[p.plugin](b, p)
	b.done(p)
	if label, ok := s.Get("@label"); ok {
		b.later = append(b.later, func() { made.to = b.label(p, label) })
	}
	b.engine.sources = append(b.engine.sources, made)
}

// replay brings given batches, one after the other, and then ends the pipeline. They go where a source with a fitting tag would send them.
type replay struct {
	batches []flow.Batch
	to      func(tag string) *router
}

func (r *replay) Run(ctx context.Context, _ flow.Sink) error {
	for _, b := range r.batches {
		if err := r.to(b.Tag).emit(ctx, b); err != nil {
			return err
		}
	}
	return input.ErrEnd
}

func (b *builder) replay(w *worker, sections []*config.Section) {
	type way struct {
		tag *pattern.Pattern
		to  *router
	}
	var ways []way
	for _, s := range sections {
		label, ok := s.Get("@label")
		if s.Kind != "source" || !ok || w.labels[label.Value] == nil {
			continue
		}
		if p, err := pattern.Parse(strings.ReplaceAll(s.Value("tag"), "*", "**")); err == nil {
			ways = append(ways, way{p, w.labels[label.Value]})
		}
	}
	to := func(tag string) *router {
		top := w.labels[""]
		i := slices.IndexFunc(ways, func(x way) bool { return x.tag.Match(tag) })
		if i < 0 || top.matches(tag) {
			return top
		}
		return ways[i].to
	}
	p := &part{kind: "input", plugin: "lib", name: "lib.0", log: b.options.Logger("input:lib:lib.0"), worker: w}
	b.engine.sources = []*source{{part: p, input: &replay{b.options.Records, to}, to: w.labels[""]}}
}

// translation is a section of Fluent Bit with the meaning of one of Fluentd, so that its input or output can be used.
type translation struct {
	section *config.Section
	from    *part
}

func translate(p *part) *translation {
	return &translation{&config.Section{Kind: p.kind, Pos: p.section.Pos}, p}
}

func (t *translation) add(key, value string, from config.Property) {
	pos, at := from.Pos, from.ValuePos
	if pos.Line == 0 {
		pos, at = t.section.Pos, t.section.Pos
	}
	t.section.Properties = append(t.section.Properties, config.Property{Key: key, Value: value, Pos: pos, ValuePos: at})
}

// option adds an option under another name, if it has a value.
func (t *translation) option(o *options.Set, key, other string) {
	if v := o.String(key); v != "" {
		p, _ := o.Section.Get(key)
		t.add(other, v, p)
	}
}

func (t *translation) input(name string, h input.Host) input.Input {
	o := options.New(t.section, plugin.FluentBit().Plugin(config.Input, name), nil)
	made, err := input.New(name, o, h)
	if err != nil {
		t.from.set.FailAt(t.section.Pos, "%v", err)
	}
	if err := o.Done(); err != nil {
		t.from.set.Join(err)
	}
	return made
}

func (b *builder) host(p *part) input.Host {
	return input.Host{Host: flow.Host{Log: p.log, Now: b.options.Now}, Name: p.name, Positions: b.options.Positions}
}

// newForwardInput listens for records of other agents.
func newForwardInput(b *builder, p *part) (input.Input, fullPolicy) {
	o, t := p.set, translate(p)
	t.option(o, "bind", "listen")
	t.option(o, "port", "port")
	h := b.host(p)
	if h.Tag = o.String("tag"); h.Tag != "" {
		t.option(o, "tag", "tag")
	}
	if prefix := o.String("add_tag_prefix"); prefix != "" {
		t.add("tag_prefix", prefix+".", config.Property{})
	}
	if o.Has("chunk_size_limit") {
		t.option(o, "chunk_size_limit", "buffer_max_size")
	} else {
		t.add("buffer_max_size", "256m", config.Property{})
	}
	o.Ignore("chunk_size_warn_limit", "linger_timeout", "resolve_hostname", "deny_keepalive", "send_keepalive_packet", "skip_invalid_event", "backlog", "blocking_timeout",
		"decompression_size_limit")
	p.only("transport", "security")
	p.security(t, true)
	p.serverTLS(t)
	return t.input("forward", h), refuse
}

// security reads a <security> section; of an input it may name users.
func (p *part) security(t *translation, users bool) {
	s := p.child("security")
	if s == nil {
		return
	}
	o := options.New(s, plugin.Fluentd().Groups["security"], nil)
	t.option(o, "shared_key", "shared_key")
	t.option(o, "self_hostname", "self_hostname")
	if o.String("shared_key") == "" {
		o.Failf("", "<security> needs shared_key")
	}
	auth := o.Bool("user_auth")
	if !o.Bool("allow_anonymous_source") && users {
		o.Failf("allow_anonymous_source", "allow_anonymous_source false is not built into logagent: which addresses may connect is told by a firewall or a NetworkPolicy")
	}
	for _, u := range s.Sections {
		if u.Kind != "user" {
			o.FailAt(u.Pos, "<%s> is not built into logagent inside of <security>", u.Kind)
			continue
		}
		if auth {
			t.add("security.users", u.Value("username")+" "+u.Value("password"), config.Property{})
		}
	}
	if err := o.Done(); err != nil {
		p.set.Join(err)
	}
}

// serverTLS reads <transport tls> of an input.
func (p *part) serverTLS(t *translation) {
	s := p.child("transport")
	if s == nil {
		return
	}
	o := options.New(s, plugin.Fluentd().Groups["transport"], nil)
	switch strings.ToLower(strings.TrimSpace(s.Arg)) {
	case "", "tcp":
		if protocol := o.String("protocol"); protocol != "" && protocol != "tcp" && protocol != "tls" {
			o.Failf("protocol", "the transport %q is not built into logagent; there are tcp and tls", protocol)
		} else if protocol != "tls" {
			break
		}
		fallthrough
	case "tls":
		if o.Bool("insecure") {
			o.Failf("insecure", "insecure, which makes a certificate that nobody knows, is not built into logagent; name cert_path and private_key_path")
		}
		t.add("tls", "on", config.Property{})
		t.option(o, "cert_path", "tls.crt_file")
		t.option(o, "private_key_path", "tls.key_file")
		t.option(o, "ca_path", "tls.ca_file")
		if o.Bool("client_cert_auth") {
			t.add("tls.verify_client_cert", "on", config.Property{})
		}
		version(t, o, "min_version", "tls.min_version")
		version(t, o, "max_version", "tls.max_version")
		version(t, o, "version", "tls.min_version")
	default:
		o.FailAt(s.Pos, "<transport %s> is not built into logagent; there are tcp and tls", s.Arg)
	}
	o.Ignore("receive_buffer_size", "linger_timeout", "ensure_fips", "protocol")
	if err := o.Done(); err != nil {
		p.set.Join(err)
	}
}

// version writes TLSv1_2 as TLSv1.2.
func version(t *translation, o *options.Set, key, other string) {
	if v := o.String(key); v != "" {
		p, _ := o.Section.Get(key)
		t.add(other, strings.Replace(v, "_", ".", 1), p)
	}
}

// sample makes records again and again.
type sample struct {
	host    input.Host
	tag     string
	rate    int
	size    int
	samples [][]byte
	counter string // auto_increment_key
	next    int
	count   int64
}

// sampleTicks is how often in a second records are made.
const sampleTicks = 10

func newSample(b *builder, p *part) (input.Input, fullPolicy) {
	o := p.set
	s := &sample{host: b.host(p), tag: o.String("tag"), rate: o.Int("rate"), size: o.Int("size"), counter: o.String("auto_increment_key")}
	key, text := "sample", `{"message":"sample"}`
	for _, name := range []string{"dummy", "sample"} {
		if o.Has(name) {
			key, text = name, o.String(name)
		}
	}
	value, n, err := record.FromJSON(nil, []byte(text))
	switch {
	case err != nil || len(strings.TrimSpace(text[n:])) > 0:
		o.Failf(key, "%s must be JSON, an object or an array of objects: %v", key, err)
	case record.KindOf(value) == record.Array:
		for i := record.ItemsOf(value); i.Next(); {
			s.samples = append(s.samples, i.Value)
		}
	default:
		s.samples = [][]byte{value}
	}
	if slices.ContainsFunc(s.samples, func(v []byte) bool { return record.KindOf(v) != record.Map }) || len(s.samples) == 0 {
		o.Failf(key, "%s must be an object or an array of objects, such as {\"message\":\"sample\"}", key)
	}
	if s.tag == "" {
		o.Failf("tag", "sample needs the option tag")
	}
	if s.rate < 1 || s.size < 1 {
		o.Failf("rate", "rate and size must be 1 or more")
	}
	o.Ignore("sample", "dummy", "reuse_record", "suspend")
	p.only()
	return s, discard
}

func (s *sample) Run(ctx context.Context, sink flow.Sink) error {
	ticker := time.NewTicker(time.Second / sampleTicks)
	defer ticker.Stop()
	for tick := 1; ; tick++ {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		due := s.rate*tick/sampleTicks - s.rate*(tick-1)/sampleTicks
		for range due {
			var data []byte
			now := record.TimeOf(s.host.Now())
			for range s.size {
				data = record.AppendEvent(data, now, nil, s.make())
			}
			if err := sink.Append(ctx, flow.Batch{Tag: s.tag, Data: data, Count: s.size}); err != nil {
				return err
			}
		}
		if tick == sampleTicks {
			tick = 0
		}
	}
}

func (s *sample) make() []byte {
	body := s.samples[s.next]
	s.next = (s.next + 1) % len(s.samples)
	if s.counter == "" {
		return body
	}
	body = mergedMaps(body, record.AppendInt(record.AppendString([]byte{0x81}, s.counter), s.count))
	s.count++
	return body
}
