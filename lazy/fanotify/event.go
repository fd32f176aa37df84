// Package fanotify speaks with the kernel's pre-content events (fanotify(7), FAN_PRE_ACCESS, Linux 6.14): before content of a marked file is
// read, the reader waits until the event is answered. The package must not know what files hold nor who fills them.
package fanotify

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// EventSize is the size of a pre-content event as the kernel writes it, in bytes: struct fanotify_event_metadata and struct
// fanotify_event_info_range of linux/fanotify.h.
const EventSize = metadataSize + rangeSize

const (
	metadataSize    = 24
	rangeSize       = 24
	metadataVersion = 3
	infoRange       = 6
)

// ErrEvent says that the bytes are not an event.
var ErrEvent = errors.New("not a fanotify event")

// Event is a reader that waits.
type Event struct {
	FD     int32 // of the file, open in the process that read the event; its number names the event in the answer
	PID    int32 // of the reader
	Mask   uint64
	Offset int64
	Count  int64
	Size   int // of the event, in bytes
}

// Parse reads the first event of p. Without a range it is one about the whole file: Count is -1.
func Parse(p []byte) (Event, error) {
	if len(p) < metadataSize {
		return Event{}, fmt.Errorf("%w: %d bytes", ErrEvent, len(p))
	}
	le := binary.NativeEndian
	size, head := int(le.Uint32(p)), int(le.Uint16(p[6:]))
	if p[4] != metadataVersion || head < metadataSize || size < head || size > len(p) {
		return Event{}, fmt.Errorf("%w: version %d, %d of %d bytes", ErrEvent, p[4], size, len(p))
	}
	e := Event{Mask: le.Uint64(p[8:]), FD: int32(le.Uint32(p[16:])), PID: int32(le.Uint32(p[20:])), Count: -1, Size: size}
	for at := head; at+4 <= size; {
		n := int(le.Uint16(p[at+2:]))
		if n < 4 || at+n > size {
			return Event{}, fmt.Errorf("%w: a record of %d bytes", ErrEvent, n)
		}
		if p[at] == infoRange {
			if n < rangeSize {
				return Event{}, fmt.Errorf("%w: a range of %d bytes", ErrEvent, n)
			}
			e.Offset, e.Count = int64(le.Uint64(p[at+8:])), int64(le.Uint64(p[at+16:]))
			if e.Offset < 0 || e.Count < 0 || e.Offset+e.Count < 0 {
				return Event{}, fmt.Errorf("%w: the range from %d with %d bytes", ErrEvent, e.Offset, e.Count)
			}
		}
		at += n
	}
	return e, nil
}
