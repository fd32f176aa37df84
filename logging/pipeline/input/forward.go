package input

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/pipeline/transport"
)

// forward takes records by Fluentd's forward protocol (github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1.5), in all its modes.
type forward struct {
	host      Host
	server    *transport.Server
	unix      string
	mode      os.FileMode
	tag       string
	prefix    string
	chunk     int
	limit     int
	secure    bool
	sharedKey string
	users     map[string]string
	self      string
}

func newForward(o *options.Set, h Host) Input {
	f := &forward{host: h, server: transport.NewServer(o, 24224), unix: o.String("unix_path"), prefix: o.String("tag_prefix"),
		chunk: int(o.Size("buffer_chunk_size")), limit: int(o.Size("buffer_max_size")), sharedKey: o.String("shared_key"), self: o.String("self_hostname"), users: map[string]string{}}
	if o.Has("tag") {
		f.tag = h.Tag
	}
	f.secure = f.sharedKey != "" || o.Bool("empty_shared_key")
	for _, p := range o.All("security.users") {
		user, password := o.Pair(p)
		f.users[user] = password
	}
	if len(f.users) > 0 && !f.secure {
		o.Failf("security.users", "security.users needs shared_key, or empty_shared_key on")
	}
	if perm := o.String("unix_perm"); perm != "" {
		n, err := strconv.ParseUint(perm, 8, 12)
		if err != nil {
			o.Failf("unix_perm", "unix_perm %q is not an octal mode such as 0660", perm)
		}
		f.mode = os.FileMode(n)
	}
	if f.self == "" {
		f.self, _ = os.Hostname() // the protocol takes an empty name as well
	}
	if f.limit < 1024 {
		o.Failf("buffer_max_size", "Buffer_Max_Size must be at least 1k")
	}
	return f
}

func (f *forward) Run(ctx context.Context, sink flow.Sink) error {
	listener, err := f.listen()
	if err != nil {
		return err
	}
	f.host.Log.Info("listening", "address", listener.Addr())
	return transport.Serve(ctx, listener, f.host.Log, func(ctx context.Context, conn net.Conn) {
		if err := f.serve(ctx, conn, sink); !errors.Is(err, io.EOF) && ctx.Err() == nil {
			f.host.Log.Error("a connection is closed", "from", conn.RemoteAddr(), "error", err)
		}
	})
}

func (f *forward) listen() (net.Listener, error) {
	if f.unix == "" {
		return f.server.Listen()
	}
	return listenUnix(f.unix, f.mode)
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

func (f *forward) serve(ctx context.Context, conn net.Conn, sink flow.Sink) error {
	in := &valueReader{in: conn, limit: f.limit, buffer: make([]byte, 0, 32<<10)}
	if f.secure {
		if err := f.handshake(conn, in); err != nil {
			return fmt.Errorf("handshake: %w", err)
		}
	}
	var batch []byte
	for {
		message, err := in.next()
		if err != nil {
			return err
		}
		var ack []byte
		if batch, ack, err = f.take(ctx, sink, batch[:0], message); err != nil {
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
	}
}

// take hands the records of a message over. ack is the chunk's name as the sender wrote it, if it wants an answer.
func (f *forward) take(ctx context.Context, sink flow.Sink, batch, message []byte) (_, ack []byte, err error) {
	tag, batch, count, ack, err := f.decode(batch, message)
	if err != nil || count == 0 {
		return batch, ack, err
	}
	return batch, ack, sink.Append(ctx, flow.Batch{Tag: tag, Data: batch, Count: count})
}

// decode reads a message in one of the modes Message, Forward, PackedForward and CompressedPackedForward.
func (f *forward) decode(batch, message []byte) (tag string, out []byte, count int, ack []byte, err error) {
	words := record.ItemsOf(message)
	if words.Count < 2 || !words.Next() {
		return "", batch, 0, nil, fmt.Errorf("%w: a message is an array of tag, records and options", record.ErrMalformed)
	}
	name, ok := record.Text(words.Value)
	if !ok {
		return "", batch, 0, nil, fmt.Errorf("%w: the tag is no text", record.ErrMalformed)
	}
	tag = string(name)
	if f.tag != "" {
		tag = f.tag
	}
	tag = f.prefix + tag
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
		if !ok || record.KindOf(fields) != record.Map {
			return "", batch, 0, nil, fmt.Errorf("%w: a record is a time and a map", record.ErrMalformed)
		}
		if t.IsZero() {
			t = record.TimeOf(f.host.Now())
		}
		batch, count = record.AppendEvent(batch, t, nil, fields), 1
		return tag, batch, count, f.wanted(extra), nil
	}
	batch, count, err = f.entries(batch, body, extra)
	return tag, batch, count, f.wanted(extra), err
}

func (f *forward) wanted(extra []byte) []byte {
	if extra == nil {
		return nil
	}
	chunk, _ := record.Get(extra, "chunk")
	return chunk
}

func (f *forward) entries(batch, body, extra []byte) ([]byte, int, error) {
	if record.KindOf(body) == record.Array {
		count := 0
		for i := record.ItemsOf(body); i.Next(); count++ {
			var err error
			if batch, err = f.entry(batch, i.Value); err != nil {
				return batch, count, err
			}
		}
		return batch, count, nil
	}
	packed, _ := record.Text(body)
	if how, ok := record.Get(extra, "compressed"); ok {
		name, _ := record.Text(how)
		var err error
		if packed, err = Uncompressed(string(name), packed, int64(f.limit)*8); err != nil {
			return batch, 0, err
		}
	}
	count := 0
	for len(packed) > 0 {
		n, err := record.Skip(packed)
		if err != nil {
			return batch, count, err
		}
		if batch, err = f.entry(batch, packed[:n]); err != nil {
			return batch, count, err
		}
		packed = packed[n:]
		count++
	}
	return batch, count, nil
}

func (f *forward) entry(batch, value []byte) ([]byte, error) {
	e, err := record.ReadEvent(value)
	if err != nil {
		return batch, err
	}
	if e.Time.IsZero() {
		e.Time = record.TimeOf(f.host.Now())
	}
	return record.AppendEvent(batch, e.Time, e.Meta, e.Body), nil
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

// handshake sends HELO, checks PING and answers PONG.
func (f *forward) handshake(conn net.Conn, in *valueReader) error {
	random := func() string {
		var b [16]byte
		rand.Read(b[:])
		return hex.EncodeToString(b[:])
	}
	nonce, auth := random(), ""
	if len(f.users) > 0 {
		auth = random()
	}
	helo := record.AppendString(append([]byte(nil), 0x92), "HELO")
	helo = append(helo, 0x83)
	helo = record.AppendString(record.AppendString(helo, "nonce"), nonce)
	helo = record.AppendString(record.AppendString(helo, "auth"), auth)
	helo = record.AppendBool(record.AppendString(helo, "keepalive"), true)
	if _, err := conn.Write(helo); err != nil {
		return err
	}
	ping, err := in.next()
	if err != nil {
		return err
	}
	var words []string
	for i := record.ItemsOf(ping); i.Next(); {
		text, _ := record.Text(i.Value)
		words = append(words, string(text))
	}
	if len(words) < 6 || words[0] != "PING" {
		return errors.New("the client does not answer with PING")
	}
	reason := ""
	if !same(words[3], hexSum(words[2], words[1], nonce, f.sharedKey)) {
		reason = "shared_key mismatch"
	} else if password, ok := f.users[words[4]]; len(f.users) > 0 && (!ok || !same(words[5], hexSum(auth, words[4], password))) {
		reason = "username/password mismatch"
	}
	pong := record.AppendString(append([]byte(nil), 0x95), "PONG")
	pong = record.AppendBool(pong, reason == "")
	pong = record.AppendString(pong, reason)
	pong = record.AppendString(pong, f.self)
	digest := ""
	if reason == "" {
		digest = hexSum(words[2], f.self, nonce, f.sharedKey)
	}
	pong = record.AppendString(pong, digest)
	if _, err := conn.Write(pong); err != nil {
		return err
	}
	if reason != "" {
		return errors.New(reason)
	}
	return nil
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func hexSum(parts ...string) string {
	sum := sha512.Sum512([]byte(strings.Join(parts, "")))
	return hex.EncodeToString(sum[:])
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
