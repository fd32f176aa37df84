package input

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/parser"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/pipeline/transport"
)

// syslog takes messages of RFC 3164 and RFC 5424 from sockets; a parser makes records of them. Over streams, messages are lines, or are
// counted as RFC 6587 has it.
type syslog struct {
	host    Host
	mode    string
	server  *transport.Server
	path    string
	perm    os.FileMode
	parser  *parser.Parser
	limit   int
	receive int
	source  string
	rawKey  string
}

func newSyslog(o *options.Set, h Host) Input {
	s := &syslog{host: h, mode: strings.ToLower(o.StringOr("mode", "unix_udp")), server: transport.NewServer(o, 5140), path: o.String("path"),
		limit: int(max(o.Size("buffer_max_size"), o.Size("buffer_chunk_size"), 1024)), receive: int(o.Size("receive_buffer_size")),
		source: o.String("source_address_key"), rawKey: o.String("raw_message_key")}
	name := "syslog-rfc5424"
	if strings.HasPrefix(s.mode, "unix") {
		name = "syslog-rfc3164-local"
		if s.path == "" {
			o.Failf("mode", "Mode %s needs Path, the name of the socket", s.mode)
		}
	}
	s.parser = namedParser(o, h, "parser", o.StringOr("parser", name))
	if perm := o.String("unix_perm"); perm != "" {
		n, err := strconv.ParseUint(perm, 8, 12)
		if err != nil {
			o.Failf("unix_perm", "Unix_Perm %q is not an octal mode such as 0660", perm)
		}
		s.perm = os.FileMode(n)
	}
	if f := strings.ToLower(o.String("format")); f != "" && f != "newline" && f != "octet_counting" {
		o.Failf("format", "there is no format %q; there are newline and octet_counting", f)
	}
	return s
}

func (s *syslog) Run(ctx context.Context, sink flow.Sink) error {
	switch s.mode {
	case "udp", "unix_udp":
		return s.packets(ctx, sink)
	}
	var listener net.Listener
	var err error
	if s.mode == "unix_tcp" {
		listener, err = listenUnix(s.path, s.perm)
	} else {
		listener, err = s.server.Listen()
	}
	if err != nil {
		return err
	}
	s.host.Log.Info("listening", "address", listener.Addr())
	return transport.Serve(ctx, listener, s.host.Log, func(ctx context.Context, conn net.Conn) {
		source := ""
		if s.mode == "tcp" {
			source = "tcp://" + conn.RemoteAddr().String()
		}
		err := readAll(conn, s.limit, func(data []byte, last bool) (int, error) { return s.stream(ctx, sink, data, last, source) })
		if err != nil && ctx.Err() == nil {
			s.host.Log.Error("a connection is closed", "from", conn.RemoteAddr(), "error", err)
		}
	})
}

func (s *syslog) packets(ctx context.Context, sink flow.Sink) error {
	network, address := "udp", s.server.Address
	if s.mode == "unix_udp" {
		network, address = "unixgram", s.path
		if info, err := os.Lstat(s.path); err == nil && info.Mode()&os.ModeSocket != 0 {
			if err := os.Remove(s.path); err != nil {
				return err
			}
		}
	}
	conn, err := net.ListenPacket(network, address)
	if err != nil {
		return err
	}
	if s.mode == "unix_udp" {
		defer os.Remove(s.path)
		if s.perm != 0 {
			if err := os.Chmod(s.path, s.perm); err != nil {
				return errors.Join(err, conn.Close())
			}
		}
	}
	if b, ok := conn.(interface{ SetReadBuffer(int) error }); ok && s.receive > 0 {
		if err := b.SetReadBuffer(s.receive); err != nil {
			s.host.Log.Warn("Receive_Buffer_Size", "error", err)
		}
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	s.host.Log.Info("listening", "address", conn.LocalAddr())
	buffer := make([]byte, max(s.limit, 64<<10))
	for {
		n, from, err := conn.ReadFrom(buffer)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		source := ""
		if from != nil {
			source = network + "://" + from.String()
		}
		batch, count := s.message(nil, bytes.TrimRight(buffer[:n], "\r\n\x00"), source)
		if count > 0 {
			if err := sink.Append(ctx, flow.Batch{Tag: s.host.Tag, Data: batch, Count: count}); err != nil {
				return err
			}
		}
	}
}

// stream takes whole messages out of what was read of a connection.
func (s *syslog) stream(ctx context.Context, sink flow.Sink, data []byte, last bool, source string) (int, error) {
	var batch []byte
	count, used := 0, 0
	for used < len(data) {
		message, size, err := s.frame(data[used:], last)
		if err != nil {
			return used, err
		}
		if size == 0 {
			break
		}
		used += size
		made := 0
		batch, made = s.message(batch, message, source)
		count += made
	}
	if count == 0 {
		return used, nil
	}
	return used, sink.Append(ctx, flow.Batch{Tag: s.host.Tag, Data: batch, Count: count})
}

// frame finds the first message and its size; the size is 0 if it is not whole.
func (s *syslog) frame(data []byte, last bool) (message []byte, size int, err error) {
	if data[0] >= '1' && data[0] <= '9' {
		space := bytes.IndexByte(data[:min(len(data), 12)], ' ')
		if space > 0 {
			n, err := strconv.Atoi(string(data[:space]))
			if err == nil {
				if n > s.limit {
					return nil, 0, fmt.Errorf("a message of %d bytes is longer than Buffer_Max_Size (%d)", n, s.limit)
				}
				if len(data) < space+1+n {
					return nil, 0, nil
				}
				return bytes.TrimRight(data[space+1:space+1+n], "\r\n\x00"), space + 1 + n, nil
			}
		}
	}
	end := bytes.IndexAny(data, "\n\x00")
	if end < 0 {
		if !last {
			return nil, 0, nil
		}
		return data, len(data), nil
	}
	return bytes.TrimRight(data[:end], "\r"), end + 1, nil
}

func (s *syslog) message(batch, message []byte, source string) ([]byte, int) {
	if len(message) == 0 || s.parser == nil {
		return batch, 0
	}
	body, at, ok := s.parser.Parse(nil, message)
	if !ok {
		s.host.Log.Warn("a message is not of the parser's form and is dropped", "message", string(message[:min(len(message), 200)]))
		return batch, 0
	}
	if at.IsZero() {
		at = record.TimeOf(s.host.Now())
	}
	if s.rawKey != "" {
		body = withText(body, s.rawKey, string(message))
	}
	if s.source != "" && source != "" {
		body = withText(body, s.source, source)
	}
	return record.AppendEvent(batch, at, nil, body), 1
}
