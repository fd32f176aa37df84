package filter

import (
	"sync"

	"github.com/weft-dev/weft/logging/pipeline/record"
)

// pair is a key with its value, as bytes of MessagePack.
type pair struct {
	key   []byte // the text of the key; nil if it is no text
	raw   []byte // the key as it stands
	value []byte
}

// pairs is the map of a record, taken apart. Its memory is used again for the next record.
type pairs struct {
	all   []pair
	arena []byte // for keys and values that were not in the record
}

var pairsPool = sync.Pool{New: func() any { return new(pairs) }}

func (p *pairs) load(body []byte) {
	p.all, p.arena = p.all[:0], p.arena[:0]
	for f := record.FieldsOf(body); f.Next(); {
		p.all = append(p.all, pair{f.Key, f.Raw[:len(f.Raw)-len(f.Value)], f.Value})
	}
}

func (p *pairs) appendTo(b []byte) []byte {
	b = record.AppendMapHead(b, len(p.all))
	for i := range p.all {
		b = append(b, p.all[i].raw...)
		b = append(b, p.all[i].value...)
	}
	return b
}

func (p *pairs) find(key string) int {
	for i := range p.all {
		if string(p.all[i].key) == key && p.all[i].key != nil {
			return i
		}
	}
	return -1
}

// text is a string in the form of MessagePack that lives as long as the record is worked on.
func text(s string) []byte { return record.AppendString(nil, s) }

func (p *pairs) remove(drop func(*pair) bool) bool {
	kept := p.all[:0]
	for i := range p.all {
		if !drop(&p.all[i]) {
			kept = append(kept, p.all[i])
		}
	}
	changed := len(kept) != len(p.all)
	p.all = kept
	return changed
}

// mapEvents rewrites the body of each event; change says whether it did.
func mapEvents(dst, data []byte, change func(p *pairs, e *record.Event) bool) ([]byte, error) {
	p := pairsPool.Get().(*pairs)
	defer pairsPool.Put(p)
	r := record.NewReader(data)
	changed := false
	at := 0
	for r.Next() {
		p.load(r.Body)
		if !change(p, &r.Event) {
			if changed {
				dst = append(dst, r.Raw...)
			}
			at += len(r.Raw)
			continue
		}
		if !changed {
			dst = append(dst, data[:at]...)
			changed = true
		}
		dst = record.AppendEventHead(dst, r.Time, r.Meta)
		dst = p.appendTo(dst)
		at += len(r.Raw)
	}
	if !changed {
		return data, r.Err
	}
	return dst, r.Err
}
