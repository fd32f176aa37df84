package input

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// tailed is one file that is followed.
type tailed struct {
	key, name, tag string
	file           *os.File
	offset         int64 // up to where lines were taken
	seen           int64 // size when it was last read to the end
	dirty          bool  // there may be more to read
	moved          bool
	unlisted       bool // it is not to be followed any more
	skipping       bool // inside of a line that is too long
	given          bool // up: a line is too long and must not be skipped
	rotated        time.Time
	watch          int32
	stream         *lineStream
	head           Position // fingerprint

	mu          sync.Mutex
	outstanding []*handed // in the order of the file
	committed   int64     // up to where records are safe
	generation  int       // of the content: a truncated file begins anew
	store       *PositionStore
	progress    chan<- struct{} // is told that a position may be saved; nil if nothing saves it
	closed      bool            // the input has ended: nobody else puts positions into the store
}

// handed is a batch that was handed over and is not safe yet.
type handed struct {
	end  int64
	safe bool
}

func fileKey(info os.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return info.Name()
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// hand notes that the records up to end are on their way; the acknowledgement tells when they are safe.
func (f *tailed) hand(end int64) *flow.Ack {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := &handed{end: end}
	f.outstanding = append(f.outstanding, h)
	generation := f.generation
	return flow.NewAck(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if h.safe = true; generation != f.generation {
			return
		}
		for len(f.outstanding) > 0 && f.outstanding[0].safe {
			f.committed = f.outstanding[0].end
			f.outstanding = f.outstanding[1:]
		}
		switch {
		case f.closed: // what was on its way when the input ended
			p := f.head
			p.Name, p.Offset = f.name, f.committed
			f.store.Set(f.key, p)
		case f.progress != nil:
			f.put()
			select {
			case f.progress <- struct{}{}:
			default: // it was told already
			}
		}
	})
}

// restart forgets what is on its way: the file was truncated and its old content is no place to return to.
func (f *tailed) restart() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.generation++
	f.outstanding, f.committed = nil, 0
	f.offset, f.seen, f.skipping, f.given = 0, 0, false, false
	f.head = Position{}
}

// rename notes that the file has another name now. The name is written by the input's loop alone; acknowledgements read it.
func (f *tailed) rename(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.name = name
}

// settled tells whether all records are safe.
func (f *tailed) settled() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.outstanding) == 0
}

// close ends reading; positions of what is still on its way go to the store.
func (f *tailed) close() {
	f.mu.Lock()
	f.closed = true
	f.put()
	f.mu.Unlock()
	f.file.Close()
}

// fingerprint is over how many bytes a file is known again.
const fingerprint = 256

var sums = crc64.MakeTable(crc64.ECMA)

// remember writes the position up to which all is safe.
func (f *tailed) remember() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.put()
}

// put is remember for who holds the lock.
func (f *tailed) put() {
	if want := min(f.committed, fingerprint); f.head.Head < want {
		var b [fingerprint]byte
		if n, err := f.file.ReadAt(b[:want], 0); int64(n) == want && (err == nil || err == io.EOF) {
			f.head = Position{Head: want, Sum: crc64.Checksum(b[:want], sums)}
		}
	}
	p := f.head
	p.Name, p.Offset = f.name, f.committed
	f.store.Set(f.key, p)
}

// sameHead tells whether the file begins as the one whose position is known.
func (f *tailed) sameHead(p Position) bool {
	if p.Head == 0 {
		return true
	}
	b := make([]byte, min(p.Head, fingerprint))
	n, err := f.file.ReadAt(b, 0)
	if n < len(b) || err != nil && err != io.EOF {
		return false
	}
	f.head = Position{Head: p.Head, Sum: p.Sum}
	return crc64.Checksum(b, sums) == p.Sum
}

// turn is how much of a file is read before the next one has its turn.
const turn = 4 << 20

// readAll reads all files that may have more, in turns.
func (t *tail) readAll(ctx context.Context) error {
	for {
		busy := false
		for _, f := range t.files {
			if !f.dirty || f.given {
				continue
			}
			more, err := t.read(ctx, f)
			if err != nil {
				if ctx.Err() != nil {
					return nil // what was not handed over is read again
				}
				return err
			}
			busy = busy || more
		}
		if !busy || ctx.Err() != nil {
			return nil
		}
	}
}

// read takes lines of one file for one turn; more says that there are others.
func (t *tail) read(ctx context.Context, f *tailed) (more bool, err error) {
	if t.buffer == nil {
		t.buffer = make([]byte, readSize)
	}
	for done := 0; done < turn; {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		most := -1
		if t.hooks.Pace != nil {
			if most = t.hooks.Pace.Allow(f.name, t.host.Now()); most == 0 {
				return false, nil // it stays dirty: the next look at all files tries again
			}
		}
		n, err := f.file.ReadAt(t.buffer, f.offset)
		if err != nil && !errors.Is(err, io.EOF) {
			t.host.Log.Error("reading failed; it is tried again", "file", f.name, "error", err)
			f.dirty = false
			return false, nil
		}
		if n == 0 && t.truncated(f) {
			continue
		}
		lines := 0
		used, err := t.take(ctx, f, t.buffer[:n], most, &lines)
		if err != nil {
			return false, err
		}
		if t.hooks.Pace != nil && used > 0 {
			t.hooks.Pace.Took(f.name, lines, used, t.host.Now())
		}
		if used == 0 {
			if n == len(t.buffer) {
				t.grow(f)
				continue
			}
			f.dirty, f.seen = false, f.offset+int64(n)
			t.shrink()
			return false, nil
		}
		done += used
		f.offset += int64(used)
	}
	return true, nil
}

// truncated finds that the file is shorter than what was read of it: it begins anew.
func (t *tail) truncated(f *tailed) bool {
	info, err := f.file.Stat()
	if err != nil || info.Size() >= f.offset {
		return false
	}
	t.host.Log.Info("the file was truncated", "file", f.name, "was", f.offset, "is", info.Size())
	f.restart()
	f.remember()
	return true
}

// grow makes room for a line that is longer than the buffer.
func (t *tail) grow(*tailed) {
	t.buffer = make([]byte, min(2*len(t.buffer), max(t.maxLine+2, readSize)))
}

// shrink gives a large buffer back; without files that are busy there is none.
func (t *tail) shrink() {
	if len(t.buffer) > readSize {
		t.buffer = nil
		t.batch = nil
		t.buffer = make([]byte, readSize)
	}
}

// take turns the whole lines of data, but at most so many if most is not negative, into records and hands them over; it gives the bytes that were used and
// counts the lines.
func (t *tail) take(ctx context.Context, f *tailed, data []byte, most int, lines *int) (int, error) {
	t.batch = t.batch[:0]
	count, used := 0, 0
	now := record.TimeOf(t.host.Now())
	for used < len(data) && *lines != most {
		rest := data[used:]
		n := bytes.IndexByte(rest, '\n')
		if n < 0 {
			if len(rest) <= t.maxLine && !f.skipping {
				break
			}
			if !t.tooLong(f, rest, &count, now) {
				break
			}
			used = len(data)
			break
		}
		line := rest[:n]
		at := f.offset + int64(used)
		used += n + 1
		*lines++
		if f.skipping {
			f.skipping = false
			continue
		}
		if n > t.maxLine {
			if !t.tooLong(f, line, &count, now) {
				used -= n + 1
				break
			}
			f.skipping = false
			continue
		}
		if n > 0 && line[n-1] == '\r' {
			line = line[:n-1]
		}
		if at == 0 || len(line) > 0 && line[0] == 0 {
			line = bytes.TrimLeft(line, "\x00") // copy and truncate leaves holes
			line = bytes.TrimPrefix(line, []byte("\xEF\xBB\xBF"))
		}
		if len(line) == 0 && t.skipEmpty {
			continue
		}
		count += t.line(f, line, at, now)
	}
	if used == 0 || count == 0 {
		if used > 0 && count == 0 {
			t.safeUpTo(f, f.offset+int64(used))
		}
		return used, nil
	}
	return used, t.send(ctx, f, count, f.offset+int64(used))
}

// safeUpTo notes that nothing up to end makes a record, unless lines are held back.
func (t *tail) safeUpTo(f *tailed, end int64) {
	if held, ok := f.stream.held(); ok {
		end = held
	}
	f.hand(end).Release()
}

func (t *tail) send(ctx context.Context, f *tailed, count int, end int64) error {
	if held, ok := f.stream.held(); ok {
		end = held
	}
	ack := f.hand(end)
	err := t.sink.Append(ctx, flow.Batch{Tag: f.tag, Data: t.batch, Count: count, Ack: ack})
	if err != nil {
		return err // never released: the lines come again
	}
	ack.Release()
	return nil
}

// tooLong deals with a line that is longer than Buffer_Max_Size; false means that the file is given up.
func (t *tail) tooLong(f *tailed, line []byte, count *int, now record.Time) bool {
	switch {
	case f.skipping:
		return true
	case t.truncateLong:
		cut := line[:min(len(line), max(t.maxLine-1, 1))]
		for n := 0; n < 3 && len(cut) > 1 && len(cut) < len(line) && line[len(cut)]&0xc0 == 0x80; n++ {
			cut = cut[:len(cut)-1]
		}
		*count += t.line(f, cut, f.offset, now)
		t.host.Log.Warn("a line is longer than Buffer_Max_Size; it is cut", "file", f.name, "limit", t.maxLine)
	case t.skipLong:
		t.host.Log.Warn("a line is longer than Buffer_Max_Size; it is skipped", "file", f.name, "limit", t.maxLine)
	default:
		f.given = true
		t.host.Log.Error("a line is longer than Buffer_Max_Size; the file is not read any further. Set Skip_Long_Lines or a larger Buffer_Max_Size",
			"file", f.name, "limit", t.maxLine, "offset", f.offset)
		return false
	}
	f.skipping = true
	return true
}

// line appends the record of one line to the batch; it gives the number of records that became complete.
func (t *tail) line(f *tailed, line []byte, at int64, now record.Time) int {
	if f.stream != nil {
		return f.stream.add(line, at, now)
	}
	t.appendLine(f, line, at, now)
	return 1
}

// appendLine appends a record of text that stands for itself.
func (t *tail) appendLine(f *tailed, line []byte, at int64, now record.Time) {
	if t.parser != nil {
		start := len(t.batch)
		t.batch = record.AppendEventHead(t.batch, now, nil)
		body := len(t.batch)
		out, parsed, ok := t.parser.Parse(t.batch, line)
		if ok {
			t.batch = out
			if !parsed.IsZero() {
				record.AppendTime(t.batch[start+2:start+2], parsed)
			}
			t.extras(f, body, at)
			return
		}
		t.batch = t.batch[:start]
	}
	t.batch = record.AppendEventHead(t.batch, now, nil)
	t.batch = append(t.batch, byte(0x81+t.extraCount()))
	t.batch = t.appendExtras(t.batch, f, at)
	t.batch = record.AppendString(t.batch, t.key)
	t.batch = record.AppendString(t.batch, line)
}

func (t *tail) extraCount() int {
	n := 0
	if t.pathKey != "" {
		n++
	}
	if t.offsetKey != "" {
		n++
	}
	return n
}

func (t *tail) appendExtras(b []byte, f *tailed, at int64) []byte {
	if t.pathKey != "" {
		b = record.AppendString(b, t.pathKey)
		b = record.AppendString(b, f.name)
	}
	if t.offsetKey != "" {
		b = record.AppendString(b, t.offsetKey)
		b = record.AppendInt(b, at)
	}
	return b
}

// extras adds path and offset behind the pairs of the body that begins at start and ends the batch.
func (t *tail) extras(f *tailed, start int, at int64) {
	n := t.extraCount()
	if n == 0 {
		return
	}
	fields := record.FieldsOf(t.batch[start:])
	head, err := record.ReadHead(t.batch[start:])
	if err != nil {
		return // a body that was just made
	}
	t.batch = t.appendExtras(t.batch, f, at)
	var exact [5]byte
	h := record.AppendMapHead(exact[:0], fields.Count+n)
	if grown := len(h) - head.Size; grown > 0 {
		t.batch = append(t.batch, exact[:grown]...)
		copy(t.batch[start+len(h):], t.batch[start+head.Size:len(t.batch)-grown])
	}
	copy(t.batch[start:], h)
}

// flushLines sends messages that waited for more lines long enough, or all of them.
func (t *tail) flushLines(ctx context.Context, all bool) error {
	for _, f := range t.files {
		if f.stream == nil {
			continue
		}
		t.batch = t.batch[:0]
		if n := f.stream.flush(record.TimeOf(t.host.Now()), all); n > 0 {
			if err := t.send(ctx, f, n, f.offset); err != nil {
				return err
			}
		}
	}
	return nil
}
