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

// Forward speaks Fluentd's forward protocol (github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1.5), in its mode PackedForward.
type Forward struct {
	ForwardSettings
	mu   sync.Mutex
	free []*forwardConn // connections that wait for the next chunk
}

// ForwardSettings say what is sent, and to whom.
type ForwardSettings struct {
	Client         *transport.Client
	Tag            string // "" for that of the chunk
	Secure         bool   // a handshake is made
	SharedKey      string
	Hostname       string // "" for the machine's
	User, Password string
	Ack            bool // the server must say that it has a chunk
	// How long sending a chunk, and the answer, may take; 0 for half a minute.
	SendTime, AckTime time.Duration
	Compress          string // gzip, zstd or ""
	WholeSeconds      bool   // of times
	Options           [][2]string
	Idle              time.Duration // how old a connection that waits may be, 0 for any age
}

type forwardConn struct {
	net.Conn
	in   *bufio.Reader
	made time.Time
}

func newForward(o *options.Set, _ Host) Output {
	f := &Forward{ForwardSettings: ForwardSettings{Client: transport.NewClient(o, "127.0.0.1", 24224), Tag: o.String("tag"), SharedKey: o.String("shared_key"),
		Hostname: o.String("self_hostname"), User: o.String("username"), Password: o.String("password"), Ack: o.Bool("require_ack_response"),
		Compress: strings.ToLower(o.String("compress")), WholeSeconds: o.Bool("time_as_integer")}}
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
	o.Ignore("send_options", "retain_metadata_in_forward_mode", "fluentd_compat")
	return f
}

// Write sends a chunk.
func (f *Forward) Write(ctx context.Context, c Chunk) error {
	message, id, err := f.message(c)
	if err != nil {
		return err
	}
	conn, reused, err := f.connect(ctx)
	if err != nil {
		return err
	}
	err = f.exchange(ctx, conn, message, id)
	if err != nil && reused {
		// The server may have closed a connection that waited. Without an answer nothing is known of the first try: it is made again.
		conn.Close()
		f.drop()
		if conn, _, err = f.connect(ctx); err != nil {
			return err
		}
		err = f.exchange(ctx, conn, message, id)
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

func (f *Forward) exchange(ctx context.Context, conn *forwardConn, message []byte, id string) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	send, answer := answerTime, answerTime
	if f.SendTime > 0 {
		send = f.SendTime
	}
	if f.AckTime > 0 {
		answer = f.AckTime
	}
	if err := conn.SetWriteDeadline(time.Now().Add(send)); err != nil {
		return err
	}
	if _, err := conn.Write(message); err != nil {
		return err
	}
	if id == "" {
		return conn.SetDeadline(time.Time{})
	}
	if err := conn.SetReadDeadline(time.Now().Add(answer)); err != nil {
		return err
	}
	said, err := readValue(conn.in, 4096)
	if err != nil {
		return fmt.Errorf("no acknowledgement from %s: %w", f.Client.Address, err)
	}
	got, _ := record.Get(said, "ack")
	if text, _ := record.Text(got); string(text) != id {
		return fmt.Errorf("%s acknowledged another chunk", f.Client.Address)
	}
	return conn.SetDeadline(time.Time{})
}

// message is a chunk as [tag, entries, options]; id is "" if no acknowledgement is wanted.
func (f *Forward) message(c Chunk) (message []byte, id string, err error) {
	tag := c.Tag
	if f.Tag != "" {
		tag = f.Tag
	}
	entries := make([]byte, 0, len(c.Data))
	for r := record.NewReader(c.Data); r.Next(); {
		entries = append(entries, 0x92)
		if f.WholeSeconds {
			entries = record.AppendInt(entries, r.Time.Sec)
		} else {
			entries = record.AppendTime(entries, r.Time)
		}
		entries = append(entries, r.Body...)
	}
	n := 1 + len(f.Options)
	if f.Compress != "" {
		if entries, err = compressed(f.Compress, entries); err != nil {
			return nil, "", err
		}
		n++
	}
	if f.Ack {
		var random [16]byte
		rand.Read(random[:])
		id = base64.StdEncoding.EncodeToString(random[:])
		n++
	}
	message = append(message, 0x93)
	message = record.AppendString(message, tag)
	message = record.AppendBinary(message, entries)
	message = record.AppendMapHead(message, n)
	message = record.AppendInt(record.AppendString(message, "size"), int64(c.Count))
	if f.Compress != "" {
		message = record.AppendString(record.AppendString(message, "compressed"), f.Compress)
	}
	if f.Ack {
		message = record.AppendString(record.AppendString(message, "chunk"), id)
	}
	for _, o := range f.Options {
		message = record.AppendString(record.AppendString(message, o[0]), o[1])
	}
	return message, id, nil
}

// handshake answers the server's HELO with PING and checks its PONG.
func (f *Forward) handshake(conn *forwardConn) error {
	if err := conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
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
