package input

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/pipeline/transport"
)

// Forward takes records by Fluentd's forward protocol (github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1.5), in all its modes.
type Forward struct {
	Host        Host
	Listen      func() (net.Listener, error)
	Tag, Prefix string           // Tag replaces the one of the sender, Prefix stands before it
	Limit       int              // bytes of a message; a longer one ends its connection
	Unpacked    int64            // bytes of a message that was compressed
	Security    *ForwardSecurity // nil: whoever connects may send
	Once        bool             // a connection ends after its first message
	// Drop and Warn are sizes of messages in bytes from which on they are dropped, or told in the log; 0 is no such size.
	Drop, Warn int
	SkipBad    bool // records that are none are left out and told, else their message is refused as a whole
	// Peer gives what is to be changed in the bodies of the records of a connection; it, or what it gives, may be nil.
	Peer func(ctx context.Context, conn net.Conn) func(body []byte) []byte
}

func newForward(o *options.Set, h Host) Input {
	server, unix := transport.NewServer(o, 24224), o.String("unix_path")
	f := &Forward{Host: h, Listen: server.Listen, Prefix: o.String("tag_prefix"), Limit: int(o.Size("buffer_max_size"))}
	f.Unpacked = int64(f.Limit) * 8
	o.Pass("buffer_chunk_size")
	if o.Has("tag") {
		f.Tag = h.Tag
	}
	key, self, users := o.String("shared_key"), o.String("self_hostname"), map[string]string{}
	for _, p := range o.All("security.users") {
		user, password := o.Pair(p)
		users[user] = password
	}
	if key != "" || o.Bool("empty_shared_key") {
		f.Security = &ForwardSecurity{SharedKey: key, Self: self, Users: users}
	} else if len(users) > 0 {
		o.Failf("security.users", "security.users needs shared_key, or empty_shared_key on")
	}
	var mode os.FileMode
	if perm := o.String("unix_perm"); perm != "" {
		n, err := strconv.ParseUint(perm, 8, 12)
		if err != nil {
			o.Failf("unix_perm", "unix_perm %q is not an octal mode such as 0660", perm)
		}
		mode = os.FileMode(n)
	}
	if unix != "" {
		f.Listen = func() (net.Listener, error) { return listenUnix(unix, mode) }
	}
	if f.Limit < 1024 {
		o.Failf("buffer_max_size", "Buffer_Max_Size must be at least 1k")
	}
	return f
}

// Run serves connections until ctx ends.
func (f *Forward) Run(ctx context.Context, sink flow.Sink) error {
	listener, err := f.Listen()
	if err != nil {
		return err
	}
	f.Host.Log.Info("listening", "address", listener.Addr())
	return transport.Serve(ctx, listener, f.Host.Log, func(ctx context.Context, conn net.Conn) {
		if err := f.serve(ctx, conn, sink); !errors.Is(err, io.EOF) && ctx.Err() == nil {
			f.Host.Log.Error("a connection is closed", "from", conn.RemoteAddr(), "error", err)
		}
	})
}

// listenUnix makes a socket in place of one that nobody serves any more.
func listenUnix(path string, mode os.FileMode) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		if conn, err := net.Dial("unix", path); err == nil {
			conn.Close()
			return nil, fmt.Errorf("the socket %s is served by another program", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if mode != 0 {
		if err := os.Chmod(path, mode); err != nil {
			l.Close()
			return nil, err
		}
	}
	return l, nil
}

func (f *Forward) serve(ctx context.Context, conn net.Conn, sink flow.Sink) error {
	in := &valueReader{in: conn, limit: f.Limit, buffer: make([]byte, 0, 32<<10)}
	if f.Security != nil {
		if err := f.handshake(conn, in); err != nil {
			return fmt.Errorf("handshake: %w", err)
		}
	}
	var change func([]byte) []byte
	if f.Peer != nil {
		change = f.Peer(ctx, conn)
	}
	var batch []byte
	for {
		message, err := in.next()
		if err != nil {
			return err
		}
		var ack []byte
		if batch, ack, err = f.take(ctx, sink, batch[:0], message, change); err != nil {
			return err
		}
		if cap(batch) > 1<<20 {
			batch = nil
		}
		if ack != nil {
			answer := record.AppendString(append([]byte(nil), 0x81), "ack")
			if _, err := conn.Write(append(answer, ack...)); err != nil {
				return err
			}
		}
		if f.Once {
			farewell(conn)
			return io.EOF
		}
	}
}

// farewell says that nothing more is taken, and waits a moment for the sender to end: if a connection is closed while something that was sent lies unread, the
// system discards what was answered, and the sender would send acknowledged records again.
func farewell(conn net.Conn) {
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || conn.SetReadDeadline(time.Now().Add(time.Second)) != nil {
		return
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(conn, 1<<20))
}

// take hands the records of a message over. ack is the chunk's name as the sender wrote it, if it wants an answer.
func (f *Forward) take(ctx context.Context, sink flow.Sink, batch, message []byte, change func([]byte) []byte) (_, ack []byte, err error) {
	switch {
	case record.KindOf(message) == record.Nil: // a heartbeat
		return batch, nil, nil
	case f.Drop > 0 && len(message) > f.Drop:
		f.Host.Log.Warn("a message is larger than the limit; it is dropped", "bytes", len(message), "limit", f.Drop)
		return batch, nil, nil
	case f.Warn > 0 && len(message) > f.Warn:
		f.Host.Log.Warn("a message is large", "bytes", len(message), "limit", f.Warn)
	}
	tag, batch, count, ack, err := f.decode(batch, message)
	if err != nil || count == 0 {
		return batch, ack, err
	}
	if change != nil {
		changed := make([]byte, 0, len(batch)+count*32)
		for r := record.NewReader(batch); r.Next(); {
			changed = record.AppendEvent(changed, r.Time, r.Meta, change(r.Body))
		}
		batch = changed
	}
	return batch, ack, sink.Append(ctx, flow.Batch{Tag: tag, Data: batch, Count: count})
}

// decode reads a message in one of the modes Message, Forward, PackedForward and CompressedPackedForward.
func (f *Forward) decode(batch, message []byte) (tag string, out []byte, count int, ack []byte, err error) {
	words := record.ItemsOf(message)
	if words.Count < 2 || !words.Next() {
		return "", batch, 0, nil, fmt.Errorf("%w: a message is an array of tag, records and options", record.ErrMalformed)
	}
	name, ok := record.Text(words.Value)
	if !ok {
		return "", batch, 0, nil, fmt.Errorf("%w: the tag is no text", record.ErrMalformed)
	}
	tag = string(name)
	if f.Tag != "" {
		tag = f.Tag
	}
	tag = f.Prefix + tag
	words.Next()
	body := words.Value
	var extra []byte
	switch record.KindOf(body) {
	case record.Array, record.String, record.Binary:
		if words.Next() && record.KindOf(words.Value) == record.Map {
			extra = words.Value
		}
	default: // a time: the mode Message
		if words.Count < 3 || !words.Next() {
			return "", batch, 0, nil, fmt.Errorf("%w: a record is missing", record.ErrMalformed)
		}
		fields := words.Value
		if words.Next() && record.KindOf(words.Value) == record.Map {
			extra = words.Value
		}
		t, ok := record.ReadTime(body)
		if bad := !ok || record.KindOf(fields) != record.Map; bad && f.SkipBad {
			f.skipped(tag)
			return tag, batch, 0, f.wanted(extra), nil
		} else if bad {
			return "", batch, 0, nil, fmt.Errorf("%w: a record is a time and a map", record.ErrMalformed)
		}
		if t.IsZero() {
			t = record.TimeOf(f.Host.Now())
		}
		batch, count = record.AppendEvent(batch, t, nil, fields), 1
		return tag, batch, count, f.wanted(extra), nil
	}
	batch, count, err = f.entries(tag, batch, body, extra)
	return tag, batch, count, f.wanted(extra), err
}

func (f *Forward) wanted(extra []byte) []byte {
	if extra == nil {
		return nil
	}
	chunk, _ := record.Get(extra, "chunk")
	return chunk
}

func (f *Forward) entries(tag string, batch, body, extra []byte) ([]byte, int, error) {
	count := 0
	if record.KindOf(body) == record.Array {
		for i := record.ItemsOf(body); i.Next(); {
			var err error
			if batch, err = f.entry(tag, batch, i.Value, &count); err != nil {
				return batch, count, err
			}
		}
		return batch, count, nil
	}
	packed, _ := record.Text(body)
	if how, ok := record.Get(extra, "compressed"); ok {
		name, _ := record.Text(how)
		var err error
		if packed, err = Uncompressed(string(name), packed, f.Unpacked); err != nil {
			return batch, 0, err
		}
	}
	for len(packed) > 0 {
		n, err := record.Skip(packed)
		if err != nil {
			return batch, count, err
		}
		if batch, err = f.entry(tag, batch, packed[:n], &count); err != nil {
			return batch, count, err
		}
		packed = packed[n:]
	}
	return batch, count, nil
}

func (f *Forward) entry(tag string, batch, value []byte, count *int) ([]byte, error) {
	e, err := record.ReadEvent(value)
	if err != nil && f.SkipBad {
		f.skipped(tag)
		return batch, nil
	}
	if err != nil {
		return batch, err
	}
	if e.Time.IsZero() {
		e.Time = record.TimeOf(f.Host.Now())
	}
	*count++
	return record.AppendEvent(batch, e.Time, e.Meta, e.Body), nil
}

func (f *Forward) skipped(tag string) {
	f.Host.Log.Warn("what is no record is skipped", "tag", tag)
}

// Uncompressed decodes what was compressed by gzip or zstd ("" for not at all), to at most limit bytes.
func Uncompressed(how string, data []byte, limit int64) ([]byte, error) {
	var in io.Reader
	switch how {
	case "", "text", "identity":
		return data, nil
	case "gzip":
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		in = z
	case "zstd":
		z, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(limit)+1<<20))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		in = z
	default:
		return nil, fmt.Errorf("the compression %.20q is not known", how)
	}
	out, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err == nil && int64(len(out)) > limit {
		err = fmt.Errorf("more than %d bytes when uncompressed", limit)
	}
	return out, err
}

// valueReader reads values of MessagePack one after the other, each of at most limit bytes.
type valueReader struct {
	in     io.Reader
	limit  int
	buffer []byte
	used   int // bytes of the value that was given last
}

// next gives a value that is valid until it is called again.
func (r *valueReader) next() ([]byte, error) {
	r.buffer = append(r.buffer[:0], r.buffer[r.used:]...)
	r.used = 0
	for {
		if len(r.buffer) > 0 {
			n, err := record.Skip(r.buffer)
			if err == nil {
				r.used = n
				return r.buffer[:n], nil
			}
			if !errors.Is(err, record.ErrShort) {
				return nil, err
			}
			if len(r.buffer) >= r.limit {
				return nil, fmt.Errorf("a message is longer than Buffer_Max_Size (%d bytes)", r.limit)
			}
		}
		if len(r.buffer) == cap(r.buffer) {
			grown := make([]byte, len(r.buffer), min(2*cap(r.buffer), r.limit+1))
			copy(grown, r.buffer)
			r.buffer = grown
		}
		n, err := r.in.Read(r.buffer[len(r.buffer):cap(r.buffer)])
		r.buffer = r.buffer[:len(r.buffer)+n]
		if err != nil && n == 0 {
			if errors.Is(err, io.EOF) && len(r.buffer) > 0 {
				return nil, io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}
