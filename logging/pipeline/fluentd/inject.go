package fluentd

import (
	"slices"

	"github.com/weft-dev/weft/logging/pipeline/clock"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/plugin"
)

// injector adds hostname, worker, tag and time to records: an <inject> section. nil adds nothing.
type injector struct {
	hostKey, host, workerKey, tagKey, timeKey string
	worker                                    int
	times                                     clock.Writer
}

func (b *builder) injector(p *part) *injector {
	s := p.child("inject")
	if s == nil {
		return nil
	}
	o := options.New(s, plugin.Fluentd().Groups["inject"], nil)
	i := &injector{hostKey: o.String("hostname_key"), host: o.StringOr("hostname", hostname()), workerKey: o.String("worker_id_key"), tagKey: o.String("tag_key"),
		timeKey: o.String("time_key"), worker: p.worker.id, times: clock.Writer{Settings: clock.Read(o, "float")}}
	if buffer := p.child("buffer"); buffer != nil && i.hostKey != "" && slices.Contains(chunkKeys(buffer.Arg), i.hostKey) {
		o.Failf("hostname_key", "%s is a chunk key as well: chunks are made of what records have before <inject>; add it by a filter", i.hostKey)
	}
	if i.timeKey == "" {
		o.Pass("time_format")
	}
	p.finish(o)
	return i
}

func (i *injector) apply(tag string, t record.Time, body []byte) []byte {
	if i == nil {
		return body
	}
	more, n := []byte{0x80}, 0
	add := func(key string, value []byte) {
		if key != "" {
			more = append(record.AppendString(more, key), value...)
			n++
		}
	}
	add(i.hostKey, record.AppendString(nil, i.host))
	add(i.workerKey, record.AppendInt(nil, int64(i.worker)))
	add(i.tagKey, record.AppendString(nil, tag))
	if i.timeKey != "" {
		add(i.timeKey, i.times.Value(nil, t))
	}
	return mergedMaps(body, record.CloseMap(more, 0, n))
}

// all adds to each event of a batch.
func (i *injector) all(tag string, data []byte) []byte {
	if i == nil {
		return data
	}
	var out []byte
	for r := record.NewReader(data); r.Next(); {
		out = record.AppendEvent(out, r.Time, r.Meta, i.apply(tag, r.Time, r.Body))
	}
	return out
}
