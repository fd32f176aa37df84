package fanotify

import (
	"encoding/binary"
	"errors"
	"testing"
)

// encode makes an event as the kernel does.
func encode(fd int32, offset, count uint64) []byte {
	p := make([]byte, EventSize)
	ne := binary.NativeEndian
	ne.PutUint32(p, EventSize)
	p[4] = metadataVersion
	ne.PutUint16(p[6:], metadataSize)
	ne.PutUint64(p[8:], 0x100000)
	ne.PutUint32(p[16:], uint32(fd))
	ne.PutUint32(p[20:], 77)
	p[24] = infoRange
	ne.PutUint16(p[26:], rangeSize)
	ne.PutUint64(p[32:], offset)
	ne.PutUint64(p[40:], count)
	return p
}

func TestParse(t *testing.T) {
	e, err := Parse(append(encode(9, 4096, 131072), encode(10, 0, 1)...))
	if err != nil || e != (Event{FD: 9, PID: 77, Mask: 0x100000, Offset: 4096, Count: 131072, Size: EventSize}) {
		t.Errorf("%+v %v", e, err)
	}
	whole := encode(9, 0, 0)[:metadataSize]
	binary.NativeEndian.PutUint32(whole, metadataSize)
	if e, err := Parse(whole); err != nil || e.Count != -1 {
		t.Errorf("without a range: %+v %v", e, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, change := range map[string]func(p []byte) []byte{
		"short":           func(p []byte) []byte { return p[:20] },
		"cut":             func(p []byte) []byte { return p[:40] },
		"version":         func(p []byte) []byte { p[4] = 4; return p },
		"empty record":    func(p []byte) []byte { p[26] = 0; return p },
		"long record":     func(p []byte) []byte { p[26] = 200; return p },
		"short range":     func(p []byte) []byte { p[26] = 12; return p },
		"negative offset": func(p []byte) []byte { p[39] = 0x80; return p },
		"overflow":        func(p []byte) []byte { p[38], p[39], p[46], p[47] = 0xff, 0x7f, 0xff, 0x7f; return p },
	} {
		if e, err := Parse(change(encode(9, 1<<40, 4096))); !errors.Is(err, ErrEvent) {
			t.Errorf("%s: %+v %v", name, e, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(encode(9, 4096, 4096))
	f.Add(encode(9, 4096, 4096)[:24])
	f.Fuzz(func(t *testing.T, p []byte) {
		e, err := Parse(p)
		if err == nil && (e.Size > len(p) || e.Size < metadataSize || e.Offset < 0) {
			t.Errorf("%+v of %d bytes", e, len(p))
		}
	})
}
