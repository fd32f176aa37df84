package output

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/pipeline/transport"
)

// Forward speaks Fluentd's forward protocol (github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1.5), in its modes
// PackedForward, Forward for events with metadata, and Message if tags are made of records.
type Forward struct {
	ForwardSettings
	mu   sync.Mutex
	free []*forwardConn // connections that wait for the next chunk
}

// ForwardSettings say what is sent, and to whom.
type ForwardSettings struct {
	Client         *transport.Client
	Tag            *record.Template // nil for that of the chunk
	Secure         bool             // a handshake is made
	SharedKey      string
	Hostname       string // "" for the machine's
	User, Password string
	Ack            bool // the server must say that it has a chunk
	// How long the handshake, sending a chunk, and the answer may take; 0 for half a minute.
	HandshakeTime, SendTime, AckTime time.Duration
	Compress                         string // gzip, zstd or ""
	WholeSeconds                     bool   // of times
	Metadata                         bool   // of events goes along, if they have some
	Tell                             bool   // options go along: of how many records, and which
	Options                          [][2]string
	Idle                             time.Duration // how old a connection that waits may be, 0 for any age
}

type forwardConn struct {
	net.Conn
	in   *bufio.Reader
	made time.Time
}

func newForward(o *options.Set, _ Host) Output {
	f := &Forward{ForwardSettings: ForwardSettings{Client: transport.NewClient(o, "127.0.0.1", 24224), SharedKey: o.String("shared_key"),
		Hostname: o.String("self_hostname"), User: o.String("username"), Password: o.String("password"), Ack: o.Bool("require_ack_response"),
		Compress: strings.ToLower(o.String("compress")), WholeSeconds: o.Bool("time_as_integer"), Metadata: o.Bool("retain_metadata_in_forward_mode"), Tell: o.Bool("send_options")}}
	if text := o.String("tag"); text != "" {
		t, err := record.ParseTemplate(text)
		if err != nil {
			o.Failf("tag", "Tag: %v", err)
		}
		f.Tag = &t
	}
	f.Secure = f.SharedKey != "" || o.Bool("empty_shared_key")
	if path := o.String("unix_path"); path != "" {
		f.Client.Unix(path)
	}
	switch f.Compress {
	case "", "text", "false":
		f.Compress = ""
	case "gzip", "zstd":
	default:
		o.Failf("compress", "there is no compression %q; there are gzip and zstd", f.Compress)
	}
	for _, p := range o.All("add_option") {
		k, v := o.Pair(p)
		f.Options = append(f.Options, [2]string{k, v})
	}
	// Servers need the options to acknowledge and to unpack.
	f.Tell = f.Tell || f.Ack || f.Compress != "" || len(f.Options) > 0
	switch {
	case f.Compress != "" && f.Tag != nil && f.Tag.OfRecord():
		o.Failf("compress", "Compress %s and a Tag made of records do not go together: each record is sent alone", f.Compress)
	case !f.Secure && (f.User != "" || f.Password != ""):
		o.Failf("username", "Username and Password are part of a handshake: set Shared_Key, or Empty_Shared_Key on")
	}
	o.Pass("fluentd_compat") // of metrics and traces, which are not sent
	return f
}

// Write sends a chunk.
func (f *Forward) Write(ctx context.Context, c Chunk) error {
	all, err := f.messages(c)
	if err != nil {
		return err
	}
	conn, reused, err := f.connect(ctx)
	if err != nil {
		return err
	}
	err = f.exchange(ctx, conn, all)
	if err != nil && reused {
		// The server may have closed a connection that waited. Without an answer nothing is known of the first try: it is made again.
		conn.Close()
		f.drop()
		if conn, _, err = f.connect(ctx); err != nil {
			return err
		}
		err = f.exchange(ctx, conn, all)
	}
	if err != nil || !f.Client.Keeps() {
		conn.Close()
		return err
	}
	f.mu.Lock()
	f.free = append(f.free, conn)
	f.mu.Unlock()
	return nil
}

func (f *Forward) connect(ctx context.Context) (*forwardConn, bool, error) {
	f.mu.Lock()
	for n := len(f.free); n > 0; n = len(f.free) {
		conn := f.free[n-1]
		f.free = f.free[:n-1]
		if f.Idle > 0 && time.Since(conn.made) > f.Idle {
			conn.Close()
			continue
		}
		f.mu.Unlock()
		return conn, true, nil
	}
	f.mu.Unlock()
	plain, err := f.Client.Dial(ctx)
	if err != nil {
		return nil, false, err
	}
	conn := &forwardConn{plain, bufio.NewReader(plain), time.Now()}
	if f.Secure {
		if err := f.handshake(conn); err != nil {
			conn.Close()
			return nil, false, fmt.Errorf("handshake with %s: %w", f.Client.Address, err)
		}
	}
	return conn, false, nil
}

func (f *Forward) drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.free {
		c.Close()
	}
	f.free = nil
}

// Try connects, and proves who this is where the server asks for it.
func (f *Forward) Try(ctx context.Context) error {
	conn, _, err := f.connect(ctx)
	if err != nil {
		return err
	}
	return conn.Close()
}

// answerTime is how long the server may take to answer, unless something else is said.
const answerTime = 30 * time.Second

func (f *Forward) exchange(ctx context.Context, conn *forwardConn, all []message) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	send, answer := answerTime, answerTime
	if f.SendTime > 0 {
		send = f.SendTime
	}
	if f.AckTime > 0 {
		answer = f.AckTime
	}
	for _, m := range all {
		if err := conn.SetWriteDeadline(time.Now().Add(send)); err != nil {
			return err
		}
		if _, err := conn.Write(m.data); err != nil {
			return err
		}
		if m.id == "" {
			continue
		}
		if err := conn.SetReadDeadline(time.Now().Add(answer)); err != nil {
			return err
		}
		said, err := readValue(conn.in, 4096)
		if err != nil {
			return fmt.Errorf("no acknowledgement from %s: %w", f.Client.Address, err)
		}
		if words := items(said); len(words) > 0 && text(words[0]) == "HELO" {
			return fmt.Errorf("%s asks for a shared key, and none is set", f.Client.Address)
		}
		got, _ := record.Get(said, "ack")
		if text, _ := record.Text(got); string(text) != m.id {
			return fmt.Errorf("%s acknowledged another chunk", f.Client.Address)
		}
	}
	return conn.SetDeadline(time.Time{})
}

// message is what is sent at once; id is "" if no acknowledgement is wanted.
type message struct {
	data []byte
	id   string
}

// messages are a chunk as [tag, entries, options], or as [tag, time, record, options] for each record if tags are made of records.
func (f *Forward) messages(c Chunk) ([]message, error) {
	tag := []byte(c.Tag)
	if f.Tag != nil {
		if f.Tag.OfRecord() {
			var all []message
			for r := record.NewReader(c.Data); r.Next(); {
				tag, _ = f.Tag.Append(tag[:0], record.Scope{Tag: c.Tag, Body: r.Body})
				b := record.AppendString([]byte{0x94}, tag)
				b = append(f.appendTime(b, r.Time), r.Body...)
				all = append(all, f.close(b, 0, r.Meta))
			}
			return all, nil
		}
		tag, _ = f.Tag.Append(tag[:0], record.Scope{Tag: c.Tag})
	}
	entries, metadata := make([]byte, 0, len(c.Data)), false
	for r := record.NewReader(c.Data); r.Next(); {
		if f.Metadata && !f.WholeSeconds && record.FieldsOf(r.Meta).Count > 0 {
			metadata = true
			entries = append(record.AppendEventHead(entries, r.Time, r.Meta), r.Body...)
			continue
		}
		entries = append(f.appendTime(append(entries, 0x92), r.Time), r.Body...)
	}
	b := record.AppendString([]byte{0x92 + btoi(f.Tell)}, tag)
	if metadata && f.Compress == "" {
		// Fluentd knows metadata in the mode Forward only.
		b = append(record.AppendArrayHead(b, c.Count), entries...)
		return []message{f.close(b, c.Count, nil)}, nil
	}
	entries, err := compressed(f.Compress, entries)
	if err != nil {
		return nil, err
	}
	b = record.AppendBinary(b, entries)
	return []message{f.close(b, c.Count, nil)}, nil
}

func btoi(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func (f *Forward) appendTime(b []byte, t record.Time) []byte {
	if f.WholeSeconds {
		return record.AppendInt(b, t.Sec)
	}
	return record.AppendTime(b, t)
}

// close appends the options of a message with so many entries, 0 for a single record, whose metadata they hold.
func (f *Forward) close(b []byte, entries int, meta []byte) message {
	if !f.Tell && entries > 0 {
		return message{data: b}
	}
	m := message{}
	options, n := []byte{0x80}, 0
	add := func(key string) {
		options = record.AppendString(options, key)
		n++
	}
	if f.Ack {
		var random [16]byte
		rand.Read(random[:])
		m.id = base64.StdEncoding.EncodeToString(random[:])
		add("chunk")
		options = record.AppendString(options, m.id)
	}
	if entries > 0 {
		add("size")
		options = record.AppendInt(options, int64(entries))
		if f.Compress != "" {
			add("compressed")
			options = record.AppendString(options, f.Compress)
		}
	}
	add("fluent_signal") // what is sent are logs
	options = record.AppendInt(options, 0)
	for _, o := range f.Options {
		add(o[0])
		options = record.AppendString(options, o[1])
	}
	if record.FieldsOf(meta).Count > 0 {
		add("metadata")
		options = append(options, meta...)
	}
	m.data = append(b, record.CloseMap(options, 0, n)...)
	return m
}

// handshake answers the server's HELO with PING and checks its PONG.
func (f *Forward) handshake(conn *forwardConn) error {
	limit := answerTime
	if f.HandshakeTime > 0 {
		limit = f.HandshakeTime
	}
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	hostname := f.Hostname
	if hostname == "" {
		hostname, _ = os.Hostname() // the protocol takes an empty name as well
	}
	helo, err := readValue(conn.in, 4096)
	if err != nil {
		return err
	}
	words := items(helo)
	if len(words) < 2 || text(words[0]) != "HELO" {
		return errors.New("the server does not begin with HELO; it asks for no shared key")
	}
	get := func(key string) string {
		v, _ := record.Get(words[1], key)
		return text(v)
	}
	nonce, auth := get("nonce"), get("auth")
	var random [16]byte
	rand.Read(random[:])
	salt := hex.EncodeToString(random[:])
	digest := hexSum(salt, hostname, nonce, f.SharedKey)
	user, password := "", ""
	if auth != "" {
		user, password = f.User, hexSum(auth, f.User, f.Password)
	}
	ping := []byte{0x96}
	for _, s := range []string{"PING", hostname, salt, digest, user, password} {
		ping = record.AppendString(ping, s)
	}
	if _, err := conn.Write(ping); err != nil {
		return err
	}
	pong, err := readValue(conn.in, 4096)
	if err != nil {
		return fmt.Errorf("no PONG: %w", err)
	}
	words = items(pong)
	if len(words) < 5 || text(words[0]) != "PONG" {
		return errors.New("the server does not answer with PONG")
	}
	if ok, _ := record.Truth(words[1]); !ok {
		return fmt.Errorf("the server refuses: %s", text(words[2]))
	}
	if text(words[4]) != hexSum(salt, text(words[3]), nonce, f.SharedKey) {
		return errors.New("the server does not know the shared key")
	}
	return conn.SetDeadline(time.Time{})
}

func hexSum(parts ...string) string {
	sum := sha512.Sum512([]byte(strings.Join(parts, "")))
	return hex.EncodeToString(sum[:])
}

func text(b []byte) string {
	t, _ := record.Text(b)
	return string(t)
}

func items(b []byte) [][]byte {
	var all [][]byte
	for i := record.ItemsOf(b); i.Next(); {
		all = append(all, i.Value)
	}
	return all
}

// readValue reads one value of MessagePack of at most limit bytes.
func readValue(in *bufio.Reader, limit int) ([]byte, error) {
	var b []byte
	for len(b) <= limit {
		c, err := in.ReadByte()
		if err != nil {
			if errors.Is(err, io.EOF) && len(b) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		b = append(b, c)
		n, err := record.Skip(b)
		if err == nil {
			return b[:n], nil
		}
		if !errors.Is(err, record.ErrShort) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("the answer has more than %d bytes", limit)
}

// Close ends the connections that wait.
func (f *Forward) Close() error {
	f.drop()
	return nil
}
