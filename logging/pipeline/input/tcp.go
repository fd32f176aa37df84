package input

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/parser"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/pipeline/transport"
)

// tcp takes JSON, or lines of text, from connections.
type tcp struct {
	host      Host
	server    *transport.Server
	json      bool
	separator []byte
	limit     int
	source    string
	parser    *parser.Parser
}

func newTCP(o *options.Set, h Host) Input {
	t := &tcp{host: h, server: transport.NewServer(o, 5170), source: o.String("source_address_key")}
	switch f := strings.ToLower(o.StringOr("format", "json")); f {
	case "json":
		t.json = true
	case "none":
	default:
		o.Failf("format", "there is no format %q; there are json and none", f)
	}
	t.separator = []byte(unescapedSeparator(o.StringOr("separator", "\n")))
	t.limit = kilobytes(o, "buffer_size", kilobytes(o, "chunk_size", 32<<10))
	if name := o.String("parser"); name != "" {
		t.parser = namedParser(o, h, "parser", name)
		t.json = false
	}
	return t
}

// kilobytes reads a size that means kilobytes without a unit, as this input has it.
func kilobytes(o *options.Set, key string, other int) int {
	v := o.String(key)
	if v == "" {
		return other
	}
	if n, err := strconv.Atoi(v); err == nil && n > 0 {
		return n << 10
	}
	n, err := config.ParseSize(v)
	if err != nil || n <= 0 {
		o.Failf(key, "%s %q is not a size", key, v)
		return other
	}
	return int(n)
}

func unescapedSeparator(s string) string {
	return strings.NewReplacer(`\n`, "\n", `\r`, "\r", `\t`, "\t", `\0`, "\x00", `\\`, `\`).Replace(s)
}

func (t *tcp) Run(ctx context.Context, sink flow.Sink) error {
	listener, err := t.server.Listen()
	if err != nil {
		return err
	}
	t.host.Log.Info("listening", "address", listener.Addr())
	return transport.Serve(ctx, listener, t.host.Log, func(ctx context.Context, conn net.Conn) {
		if err := t.serve(ctx, conn, sink); err != nil && ctx.Err() == nil {
			t.host.Log.Error("a connection is closed", "from", conn.RemoteAddr(), "error", err)
		}
	})
}

func (t *tcp) serve(ctx context.Context, conn net.Conn, sink flow.Sink) error {
	source := ""
	if t.source != "" {
		source = addressOf(conn)
	}
	take := func(data []byte, last bool) (int, error) {
		batch, count, used, err := t.records(data, last, source)
		if count > 0 {
			if err := sink.Append(ctx, flow.Batch{Tag: t.host.Tag, Data: batch, Count: count}); err != nil {
				return used, err
			}
		}
		return used, err
	}
	return readAll(conn, t.limit, take)
}

func addressOf(conn net.Conn) string {
	host, _, err := net.SplitHostPort(conn.RemoteAddr().String())
	if err != nil {
		return conn.RemoteAddr().String()
	}
	return host
}

var errLong = errors.New("a record is longer than the buffer allows")

// readAll reads to the end, and gives what was read to take, which says how much of it was used.
func readAll(in io.Reader, limit int, take func(data []byte, last bool) (int, error)) error {
	buffer := make([]byte, 0, min(limit, 32<<10))
	for {
		n, err := in.Read(buffer[len(buffer):cap(buffer)])
		buffer = buffer[:len(buffer)+n]
		last := err != nil
		if n > 0 || last && len(buffer) > 0 {
			used, failed := take(buffer, last)
			if failed != nil {
				return failed
			}
			buffer = append(buffer[:0], buffer[used:]...)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(buffer) == cap(buffer) {
			if len(buffer) >= limit {
				return errLong
			}
			grown := make([]byte, len(buffer), min(2*cap(buffer), limit))
			copy(grown, buffer)
			buffer = grown
		}
	}
}

// records makes events of whole records; used is where the first one that is not whole begins.
func (t *tcp) records(data []byte, last bool, source string) (batch []byte, count, used int, err error) {
	now := record.TimeOf(t.host.Now())
	for used < len(data) {
		rest := data[used:]
		if t.json {
			blank := len(rest) - len(bytes.TrimLeft(rest, " \t\r\n\x00"))
			if blank > 0 {
				used += blank
				continue
			}
			size := jsonEnd(rest)
			if size == 0 && !last {
				return batch, count, used, nil
			}
			if size == 0 {
				size = len(rest)
			}
			value, _, err := record.FromJSON(nil, rest[:size])
			if err == nil && record.KindOf(value) != record.Map {
				value = append(record.AppendString(record.AppendMapHead(nil, 1), "msg"), value...)
			}
			if err != nil {
				return batch, count, used, errors.New("what was sent is not JSON")
			}
			used += size
			batch = record.AppendEvent(batch, now, nil, t.sourced(value, source))
			count++
			continue
		}
		end := bytes.Index(rest, t.separator)
		size := end + len(t.separator)
		if end < 0 {
			if !last {
				return batch, count, used, nil
			}
			end, size = len(rest), len(rest)
		}
		used += size
		line := bytes.TrimSuffix(rest[:end], []byte("\r"))
		if len(line) == 0 {
			continue
		}
		batch = t.line(batch, line, now, source)
		count++
	}
	return batch, count, used, nil
}

func (t *tcp) line(batch, line []byte, now record.Time, source string) []byte {
	var body []byte
	if t.parser != nil {
		if parsed, at, ok := t.parser.Parse(nil, line); ok {
			body = parsed
			if !at.IsZero() {
				now = at
			}
		}
	}
	if body == nil {
		body = append(body, 0x81)
		body = record.AppendString(record.AppendString(body, "log"), line)
	}
	return record.AppendEvent(batch, now, nil, t.sourced(body, source))
}

func (t *tcp) sourced(body []byte, source string) []byte {
	if source == "" {
		return body
	}
	return withText(body, t.source, source)
}

// jsonEnd is the size of the object that text begins with, 0 if it is not whole.
func jsonEnd(text []byte) int {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth--; depth <= 0 {
				return i + 1
			}
		case depth == 0:
			return i + 1 // no object: let the reader say so
		}
	}
	return 0
}
