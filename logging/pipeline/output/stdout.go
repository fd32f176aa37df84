package output

import (
	"bytes"
	"context"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// stdout prints records.
type stdout struct {
	mu    sync.Mutex
	out   io.Writer
	style jsonStyle
	buf   []byte
}

func newStdout(o *options.Set, _ Host) Output {
	shape := strings.ToLower(o.StringOr("format", "msgpack"))
	switch shape {
	case "msgpack", "json", "json_lines", "json_stream":
	default:
		o.Failf("format", "there is no format %q; there are msgpack, json, json_lines and json_stream", shape)
	}
	return &stdout{out: os.Stdout, style: newJSONStyle(o, shape)}
}

func (s *stdout) Write(_ context.Context, c Chunk) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf = s.buf[:0]
	if c.Metrics {
		s.buf = metricsText(s.buf, c)
	} else if s.style.shape != "msgpack" {
		s.buf = s.style.appendChunk(s.buf, c.Data)
		if s.style.shape != "json_lines" {
			s.buf = append(s.buf, '\n')
		}
	} else {
		n := 0
		for r := record.NewReader(c.Data); r.Next(); n++ {
			s.buf = append(s.buf, '[')
			s.buf = strconv.AppendInt(s.buf, int64(n), 10)
			s.buf = append(s.buf, "] "...)
			s.buf = append(s.buf, c.Tag...)
			s.buf = append(s.buf, ": [["...)
			s.buf = appendDecimalTime(s.buf, r.Time)
			s.buf = append(s.buf, ", "...)
			s.buf = appendText(s.buf, r.Meta)
			s.buf = append(s.buf, "], "...)
			s.buf = appendText(s.buf, r.Body)
			s.buf = append(s.buf, "]\n"...)
		}
	}
	_, err := s.out.Write(s.buf)
	if cap(s.buf) > 1<<20 {
		s.buf = nil
	}
	return err
}

// appendText prints a value as MessagePack's own library for C does: {"key"=>"value"}. Unlike there control characters in text are escaped, so that
// no record can look like two, or speak to a terminal.
func appendText(b, value []byte) []byte {
	switch record.KindOf(value) {
	case record.Map:
		b = append(b, '{')
		first := true
		for f := record.FieldsOf(value); f.Next(); first = false {
			if !first {
				b = append(b, ", "...)
			}
			b = appendText(b, f.Raw[:len(f.Raw)-len(f.Value)])
			b = append(b, "=>"...)
			b = appendText(b, f.Value)
		}
		return append(b, '}')
	case record.Array:
		b = append(b, '[')
		first := true
		for i := record.ItemsOf(value); i.Next(); first = false {
			if !first {
				b = append(b, ", "...)
			}
			b = appendText(b, i.Value)
		}
		return append(b, ']')
	case record.Real:
		f, _ := record.Float(value)
		return strconv.AppendFloat(b, f, 'f', 6, 64)
	case record.Nil:
		return append(b, "nil"...)
	case record.String, record.Binary:
		text, _ := record.Text(value)
		b = append(b, '"')
		for _, c := range text {
			if c < ' ' || c == 0x7f {
				b = append(b, bytes.Trim(record.AppendJSONString(nil, []byte{c}), `"`)...)
			} else {
				b = append(b, c)
			}
		}
		return append(b, '"')
	}
	return record.AppendJSON(b, value)
}

// TakesMetrics says that metrics are printed, in their text form whatever the format is.
func (s *stdout) TakesMetrics() {}

func (s *stdout) Close() error { return nil }
