package fluentd

import (
	"time"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/fluentd/buffer"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// chunking says which records may be in one chunk: the argument of a <buffer> section.
type chunking struct {
	tag     bool
	time    bool
	timekey time.Duration
	zone    *time.Location
	names   []string // fields
	paths   []record.Path
}

// timekeyOf is the beginning of the span of time that a moment belongs to, in seconds since 1970.
func (c *chunking) timekeyOf(t record.Time) int64 {
	_, offset := t.Std().In(c.zone).Zone()
	span := int64(c.timekey / time.Second)
	rest := (t.Sec + int64(offset)) % span
	if rest < 0 {
		rest += span
	}
	return t.Sec - rest
}

// pieces sorts the records of a batch by their keys, in the order in which keys are met.
func (c *chunking) pieces(b flow.Batch) []buffer.Piece {
	base := buffer.Key{Timed: c.time}
	if c.tag {
		base.Tag = b.Tag
	}
	if !c.time && len(c.names) == 0 {
		return []buffer.Piece{{Key: base, Data: b.Data, Count: b.Count, Ack: b.Ack}}
	}
	var all []buffer.Piece
	at := map[string]int{}
	for r := record.NewReader(b.Data); r.Next(); {
		key := base
		id := make([]byte, 0, 64)
		if c.time {
			key.Time = c.timekeyOf(r.Time)
			id = record.AppendInt(id, key.Time)
		}
		if len(c.paths) > 0 {
			key.Vars = make(map[string]string, len(c.paths))
			for i, p := range c.paths {
				var text []byte
				if v, ok := p.Find(r.Body); ok && record.KindOf(v) != record.Nil {
					text = record.AppendText(nil, v)
				}
				key.Vars[c.names[i]] = string(text)
				id = record.AppendString(id, text)
			}
		}
		i, ok := at[string(id)]
		if !ok {
			i = len(all)
			at[string(id)] = i
			all = append(all, buffer.Piece{Key: key, Ack: b.Ack})
		}
		all[i].Data = append(all[i].Data, r.Raw...)
		all[i].Count++
	}
	return all
}
