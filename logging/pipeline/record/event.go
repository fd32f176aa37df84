package record

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// Time is a moment as the formats carry it: seconds since 1970 and nanoseconds.
type Time struct {
	Sec  int64
	Nsec uint32
}

// IsZero tells whether no time was given.
func (t Time) IsZero() bool { return t == Time{} }

// Std is the moment for the standard library.
func (t Time) Std() time.Time { return time.Unix(t.Sec, int64(t.Nsec)).UTC() }

// Float is the moment in seconds.
func (t Time) Float() float64 { return float64(t.Sec) + float64(t.Nsec)/1e9 }

// TimeOf turns a moment of the standard library.
func TimeOf(t time.Time) Time { return Time{t.Unix(), uint32(t.Nanosecond())} }

// AppendTime appends the time as extension 0 with 8 bytes, as Fluentd's forward protocol defines it (EventTime).
func AppendTime(b []byte, t Time) []byte {
	b = append(b, 0xd7, 0x00)
	b = binary.BigEndian.AppendUint32(b, uint32(t.Sec))
	return binary.BigEndian.AppendUint32(b, t.Nsec)
}

// ReadTime reads an extension, a whole or a floating point number of seconds.
func ReadTime(b []byte) (Time, bool) {
	switch KindOf(b) {
	case Extension:
		switch {
		case len(b) >= 10 && b[0] == 0xd7 && b[1] == 0:
			return Time{int64(binary.BigEndian.Uint32(b[2:])), binary.BigEndian.Uint32(b[6:])}, true
		case len(b) >= 11 && b[0] == 0xc7 && b[1] == 8 && b[2] == 0:
			return Time{int64(binary.BigEndian.Uint32(b[3:])), binary.BigEndian.Uint32(b[7:])}, true
		}
	case Int:
		n, ok := Integer(b)
		return Time{Sec: n}, ok
	case Real:
		f, ok := Float(b)
		if !ok || !(math.Abs(f) < 1<<53) {
			return Time{}, false
		}
		sec := math.Floor(f)
		return Time{int64(sec), uint32((f - sec) * 1e9)}, true
	}
	return Time{}, false
}

// EmptyMap is a map without pairs: the metadata of most events.
var EmptyMap = []byte{0x80}

// AppendEvent appends an event. Meta and body are maps.
func AppendEvent(b []byte, t Time, meta, body []byte) []byte {
	b = AppendEventHead(b, t, meta)
	return append(b, body...)
}

// AppendEventHead appends all of an event up to the body, which has to follow. No meta is an empty map.
func AppendEventHead(b []byte, t Time, meta []byte) []byte {
	b = append(b, 0x92, 0x92)
	b = AppendTime(b, t)
	if len(meta) == 0 {
		return append(b, 0x80)
	}
	return append(b, meta...)
}

// Event is a view into the bytes of a batch.
type Event struct {
	Time Time
	Meta []byte // a map
	Body []byte // a map
	Raw  []byte // the event as it stands
}

// Reader walks over the events of a batch that was checked or made by this package.
type Reader struct {
	Event
	rest []byte
	Err  error // why Next ended before the end
}

// NewReader begins with the first event.
func NewReader(batch []byte) Reader { return Reader{rest: batch} }

// Rest are the bytes behind the present event.
func (r *Reader) Rest() []byte { return r.rest }

// Next goes to the next event; false at the end and at a malformed event.
func (r *Reader) Next() bool {
	b := r.rest
	if len(b) == 0 {
		return false
	}
	if len(b) > 13 && b[0] == 0x92 && b[1] == 0x92 && b[2] == 0xd7 && b[3] == 0 && b[12] == 0x80 {
		n, err := Skip(b[13:])
		if err == nil && KindOf(b[13:]) == Map {
			r.Time = Time{int64(binary.BigEndian.Uint32(b[4:])), binary.BigEndian.Uint32(b[8:])}
			r.Meta = b[12:13]
			r.Body = b[13 : 13+n]
			r.Raw = b[:13+n]
			r.rest = b[13+n:]
			return true
		}
	}
	event, err := ReadEvent(b)
	if err != nil {
		r.Err = err
		return false
	}
	r.Event = event
	r.rest = b[len(event.Raw):]
	return true
}

// ReadEvent reads one event in format 2, or in format 1 ([time, body]).
func ReadEvent(b []byte) (Event, error) {
	n, err := Skip(b)
	if err != nil {
		return Event{}, err
	}
	raw := b[:n]
	pair := ItemsOf(raw)
	if pair.Count < 2 || !pair.Next() {
		return Event{}, fmt.Errorf("%w: an event is an array of time and body", ErrMalformed)
	}
	head := pair.Value
	e := Event{Raw: raw, Meta: EmptyMap}
	ok := false
	if KindOf(head) == Array {
		inner := ItemsOf(head)
		if inner.Next() {
			e.Time, ok = ReadTime(inner.Value)
		}
		if inner.Next() && KindOf(inner.Value) == Map {
			e.Meta = inner.Value
		}
	} else {
		e.Time, ok = ReadTime(head)
	}
	if !ok || !pair.Next() || KindOf(pair.Value) != Map {
		return Event{}, fmt.Errorf("%w: an event needs a time and a map", ErrMalformed)
	}
	e.Body = pair.Value
	return e, nil
}

// Count is the number of events of a batch, up to the first that is malformed.
func Count(batch []byte) int {
	n := 0
	for r := NewReader(batch); r.Next(); {
		n++
	}
	return n
}
