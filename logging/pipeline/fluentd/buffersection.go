package fluentd

import (
	"path/filepath"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/clock"
	"github.com/weft-dev/weft/logging/pipeline/fluentd/buffer"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/plugin"
)

// bufferDefaults are what an output sets for a <buffer> that says nothing.
type bufferDefaults struct {
	kind    string // memory, file
	keys    []string
	timekey time.Duration
	chunk   int64
	atEnd   bool
	path    string // of a file buffer
}

// buffered reads the <buffer> section of an output.
func (b *builder) buffered(p *part, d bufferDefaults) *buffered {
	s := p.child("buffer")
	if s == nil {
		s = &config.Section{Kind: "buffer", Arg: strings.Join(d.keys, ","), Pos: p.section.Pos}
	}
	o := options.New(s, plugin.Fluentd().Groups["buffer"], nil)
	made := &buffered{part: p, now: b.options.Now, slow: 20 * time.Second, keys: b.chunking(o, s, d)}
	kind := s.Plugin()
	if kind == "" {
		kind = d.kind
	}
	b.bufferLimits(made, o, kind, d)
	b.bufferFlush(made, o, kind == "memory", d)
	made.policy = retryPolicy(o)
	if !o.Bool("disable_chunk_backup") {
		made.backup = newBackup(b.root, p.name)
	}
	o.Ignore("@id", "@log_level", "compress")
	o.Pass("delayed_commit_timeout", "flush_thread_interval", "flush_thread_burst_interval", "calc_num_records", "chunk_format", "decompression_size_limit", "file_permission",
		"dir_permission", "path_suffix")
	if o.String("compress") != "text" {
		o.Pass("compress") // a chunk is compressed on its way, not while it waits
	}
	for _, child := range s.Sections {
		o.FailAt(child.Pos, "<%s> is not built into logagent inside of <buffer>", child.Kind)
	}
	p.finish(o)
	return made
}

// chunkKeys are the words of the argument of a <buffer>.
func chunkKeys(arg string) []string {
	return options.New(&config.Section{Properties: []config.Property{{Key: "keys", Value: arg}}}, plugin.Fluentd().Groups["parse"], nil).Array("keys")
}

// chunking reads the argument of <buffer> and the timekey.
func (b *builder) chunking(o *options.Set, s *config.Section, d bufferDefaults) *chunking {
	c := &chunking{zone: time.Local}
	keys := chunkKeys(s.Arg)
	if strings.TrimSpace(s.Arg) == "" {
		keys = d.keys
	}
	for _, key := range keys {
		switch key {
		case "":
		case "tag":
			c.tag = true
		case "time":
			c.time = true
		default:
			path, err := record.ParseAccessor(key)
			if err != nil || strings.HasPrefix(key, "$[") || !anyPlaceholder.MatchString("${"+key+"}") {
				o.FailAt(s.Pos, "<buffer %s>: %q is no chunk key; there are tag, time, and names of fields such as key or $.key.inner", s.Arg, key)
			}
			c.names, c.paths = append(c.names, key), append(c.paths, path)
		}
	}
	c.timekey = o.Duration("timekey")
	if !o.Has("timekey") {
		c.timekey = d.timekey
	}
	if zone := o.String("timekey_zone"); zone != "" {
		var err error
		if c.zone, err = clock.Zone(zone); err != nil {
			o.Failf("timekey_zone", "timekey_zone: %v", err)
			c.zone = time.UTC
		}
	}
	if o.Bool("timekey_use_utc") {
		c.zone = time.UTC
	}
	if c.time && c.timekey < time.Second {
		o.Failf("timekey", "<buffer %s> needs a timekey of a second or more", s.Arg)
		c.timekey = time.Second
	}
	return c
}

func (b *builder) bufferLimits(made *buffered, o *options.Set, kind string, d bufferDefaults) {
	l := &made.limits
	l.Chunk, l.Total, l.Full, l.Records = 8<<20, 512<<20, 0.95, o.Int("chunk_limit_records")
	switch kind {
	case "memory":
		o.Ignore("path")
	case "file", "file_single":
		l.Chunk, l.Total = 256<<20, 64<<30
		made.path = b.bufferPath(made.part, o, d)
	default:
		o.Failf("@type", "the buffer %q is not built into logagent, which has file and memory", kind)
	}
	if d.chunk > 0 {
		l.Chunk = d.chunk
	}
	if n := o.Size("chunk_limit_size"); n > 0 {
		l.Chunk = n
	}
	if n := o.Size("total_limit_size"); n > 0 {
		l.Total = n
	}
	if n := o.Int("queue_limit_length"); n > 0 {
		l.Total = l.Chunk * int64(n)
	}
	if o.Has("chunk_full_threshold") {
		if l.Full = o.Number("chunk_full_threshold"); l.Full <= 0 || l.Full > 1 {
			o.Failf("chunk_full_threshold", "chunk_full_threshold must be above 0 and at most 1")
		}
	}
	if l.Records < 0 {
		o.Failf("chunk_limit_records", "chunk_limit_records must be 1 or more")
	}
}

// bufferPath is the folder of a file buffer; two outputs cannot share one.
func (b *builder) bufferPath(p *part, o *options.Set, d bufferDefaults) string {
	path := o.StringOr("path", d.path)
	if id := p.section.Value("@id"); path == "" && b.root != "" && id != "" {
		path = filepath.Join(b.root, "worker0", id, "buffer")
	}
	if path == "" {
		o.Failf("path", "a file buffer needs path, or root_dir in <system> and an @id of the output")
		return ""
	}
	// Fluentd makes files of the pattern; here the chunks of the output are files in a folder.
	path = filepath.Clean(strings.NewReplacer(".*", "", "*", "").Replace(path)) + ".chunks"
	if other := b.paths[path]; other != nil {
		o.Failf("path", "%s at %s uses the same path for its buffer; give each output a path of its own", other.name, other.section.Pos)
	}
	b.paths[path] = p
	return path
}

func (b *builder) bufferFlush(made *buffered, o *options.Set, memory bool, d bufferDefaults) {
	made.interval, made.wait = o.Duration("flush_interval"), o.Duration("timekey_wait")
	switch made.mode = strings.ToLower(o.String("flush_mode")); made.mode {
	case "default", "":
		made.mode = modeInterval
		if made.keys.time {
			made.mode = modeLazy
			if o.Has("flush_interval") {
				made.log.Warn("'flush_interval' is ignored because default 'flush_mode' is not 'interval': 'lazy'")
			}
		}
	case modeInterval:
	case modeLazy, modeImmediate:
		if o.Has("flush_interval") {
			o.Failf("flush_interval", "flush_interval can be set with flush_mode interval only, and flush_mode is %s", made.mode)
		}
	default:
		o.Failf("flush_mode", "there is no flush_mode %q; there are default, lazy, interval and immediate", made.mode)
	}
	if made.mode == modeInterval && made.interval <= 0 {
		made.interval = time.Millisecond
	}
	made.threads = max(o.Int("flush_thread_count"), 1)
	made.limits.Queued = made.threads
	if n := o.Int("queued_chunks_limit_size"); n > 0 {
		made.limits.Queued = n
	}
	made.atEnd = memory || d.atEnd
	if o.Has("flush_at_shutdown") {
		made.atEnd = o.Bool("flush_at_shutdown")
		if !made.atEnd && memory {
			made.log.Warn("'flush_at_shutdown' is false, and the buffer is in memory: what it holds is lost at the end")
		}
	}
	o.Ignore("flush_at_shutdown")
	switch made.overflow = strings.ToLower(o.String("overflow_action")); made.overflow {
	case "throw_exception", "block", "drop_oldest_chunk":
	default:
		o.Failf("overflow_action", "there is no overflow_action %q; there are throw_exception, block and drop_oldest_chunk", made.overflow)
	}
}

func retryPolicy(o *options.Set) buffer.Policy {
	p := buffer.Policy{Wait: o.Duration("retry_wait"), Base: o.Number("retry_exponential_backoff_base"), MaxInterval: o.Duration("retry_max_interval"),
		Timeout: 72 * time.Hour, MaxTimes: o.IntOr("retry_max_times", -1), Forever: o.Bool("retry_forever"), Randomize: o.Bool("retry_randomize"),
		Threshold: o.Number("retry_secondary_threshold")}
	if o.Has("retry_timeout") {
		p.Timeout = o.Duration("retry_timeout")
	}
	o.Ignore("retry_timeout")
	switch kind := strings.ToLower(o.String("retry_type")); kind {
	case "exponential_backoff":
	case "periodic":
		p.Periodic = true
	default:
		o.Failf("retry_type", "there is no retry_type %q; there are exponential_backoff and periodic", kind)
	}
	if p.Wait <= 0 {
		o.Failf("retry_wait", "retry_wait must be above 0")
	}
	if p.Base < 1 {
		o.Failf("retry_exponential_backoff_base", "retry_exponential_backoff_base must be 1 or more")
	}
	if p.Threshold <= 0 || p.Threshold >= 1 {
		o.Failf("retry_secondary_threshold", "retry_secondary_threshold must be above 0 and below 1")
	}
	return p
}
