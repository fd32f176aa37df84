package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// newRecorder makes the server for the outputs of a case: of forward, or over HTTP.
func newRecorder(t *testing.T, text string) recorder {
	t.Helper()
	lower := strings.ToLower(text)
	if strings.Contains(lower, "name forward") {
		return newForwardRecorder(t)
	}
	r := &httpRecorder{loki: strings.Contains(lower, "name loki")}
	r.Server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.Close)
	return r
}

// transcript is text that grows by whole messages, in the order of their text: the order of arrival is nobody's promise.
type transcript struct {
	mu  sync.Mutex
	all []string
}

func (l *transcript) add(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, text)
}

func (l *transcript) told() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	sorted := slices.Clone(l.all)
	slices.Sort(sorted)
	return strings.Join(sorted, "")
}

type httpRecorder struct {
	*httptest.Server
	transcript
	loki bool
}

func (r *httpRecorder) port() string { return r.URL[strings.LastIndexByte(r.URL, ':')+1:] }

func (r *httpRecorder) serve(w http.ResponseWriter, q *http.Request) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", q.Method, q.RequestURI)
	var names []string
	for name := range q.Header {
		switch name {
		case "Content-Length", "Connection", "Accept-Encoding", "Host":
		default:
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range q.Header[name] {
			fmt.Fprintf(&b, "%s: %s\n", name, value)
		}
	}
	body, err := plainBody(q)
	switch {
	case err != nil:
		fmt.Fprintf(&b, "%v\n", err)
	case r.loki:
		b.WriteString(lokiLines(body))
	case q.Header.Get("Content-Type") == "application/msgpack":
		for e := record.NewReader(body); e.Next(); {
			b.WriteString(msgpackText(e.Raw) + "\n")
		}
	default:
		b.Write(body)
		if !bytes.HasSuffix(body, []byte("\n")) {
			b.WriteString("\n")
		}
	}
	r.add(b.String())
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"took":1,"errors":false,"items":[]}`) // the client may have gone
}

func plainBody(q *http.Request) ([]byte, error) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return nil, err
	}
	switch q.Header.Get("Content-Encoding") {
	case "gzip":
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(z)
	case "snappy":
		return snappy.Decode(nil, body)
	case "zstd":
		z, err := zstd.NewReader(nil)
		if err != nil {
			return nil, err
		}
		defer z.Close()
		return z.DecodeAll(body, nil)
	}
	return body, nil
}

// lokiLines are the entries of a push request, one a line: how they are gathered to streams means nothing.
func lokiLines(body []byte) string {
	var push struct {
		Streams []struct {
			Stream json.RawMessage
			Values [][]json.RawMessage
		}
	}
	if err := json.Unmarshal(body, &push); err != nil {
		return fmt.Sprintf("%v: %s\n", err, body)
	}
	var lines []string
	for _, s := range push.Streams {
		for _, v := range s.Values {
			line := fmt.Sprintf("%s %s", v[0], s.Stream)
			for _, rest := range v[1:] {
				line += " " + string(rest)
			}
			lines = append(lines, line+"\n")
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// forwardRecorder takes messages of the forward protocol and acknowledges them.
type forwardRecorder struct {
	transcript
	listener net.Listener
}

func newForwardRecorder(t *testing.T) *forwardRecorder {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &forwardRecorder{listener: l}
	var group sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		group.Wait()
	})
	group.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer conn.Close()
				if err := r.serve(conn); err != nil {
					r.add(fmt.Sprintf("%v\n", err))
				}
			})
		}
	})
	return r
}

func (r *forwardRecorder) port() string {
	_, port, _ := net.SplitHostPort(r.listener.Addr().String())
	return port
}

func (r *forwardRecorder) serve(conn net.Conn) error {
	in := bufio.NewReader(conn)
	var held []byte
	for {
		part := make([]byte, 64<<10)
		n, err := in.Read(part)
		held = append(held, part[:n]...)
		for len(held) > 0 {
			size, short := record.Skip(held)
			if errors.Is(short, record.ErrShort) {
				break
			}
			if short != nil {
				return short
			}
			text, chunk := forwardText(held[:size])
			r.add(text)
			if chunk != "" {
				answer := record.AppendMapHead(nil, 1)
				answer = record.AppendString(record.AppendString(answer, "ack"), chunk)
				if _, err := conn.Write(answer); err != nil {
					return err
				}
			}
			held = held[size:]
		}
		if err != nil {
			return nil
		}
	}
}

// forwardText tells a message whatever its mode: tag, options, and the entries a line each. chunk is what has to be acknowledged.
func forwardText(message []byte) (text, chunk string) {
	var parts [][]byte
	for i := record.ItemsOf(message); i.Next(); {
		parts = append(parts, i.Value)
	}
	var b strings.Builder
	tag, _ := record.Text(parts[0])
	options := []byte(nil)
	var entries []string
	switch {
	case len(parts) > 2 && record.KindOf(parts[1]) != record.Array && record.KindOf(parts[1]) != record.Binary && record.KindOf(parts[1]) != record.String: // one message
		entries = append(entries, "["+msgpackText(parts[1])+","+msgpackText(parts[2])+"]")
		if len(parts) > 3 {
			options = parts[3]
		}
	default:
		if len(parts) > 2 {
			options = parts[2]
		}
		if record.KindOf(parts[1]) == record.Array {
			for i := record.ItemsOf(parts[1]); i.Next(); {
				entries = append(entries, msgpackText(i.Value))
			}
			break
		}
		packed, _ := record.Text(parts[1])
		how, _ := record.Get(options, "compressed")
		if name, _ := record.Text(how); string(name) == "gzip" {
			z, err := gzip.NewReader(bytes.NewReader(packed))
			if err == nil {
				packed, err = io.ReadAll(z)
			}
			if err != nil {
				entries = append(entries, err.Error())
			}
		}
		for len(packed) > 0 {
			n, err := record.Skip(packed)
			if err != nil {
				entries = append(entries, err.Error())
				break
			}
			entries = append(entries, msgpackText(packed[:n]))
			packed = packed[n:]
		}
	}
	told := "none"
	if options != nil {
		var all []string
		for f := record.FieldsOf(options); f.Next(); {
			value := msgpackText(f.Value)
			if string(f.Key) == "chunk" {
				t, _ := record.Text(f.Value)
				chunk, value = string(t), "ID"
			}
			all = append(all, string(f.Key)+"="+value)
		}
		slices.Sort(all)
		told = strings.Join(all, " ")
	}
	fmt.Fprintf(&b, "tag %s, options %s\n", tag, told)
	for _, e := range entries {
		fmt.Fprintf(&b, "  %s\n", e)
	}
	return b.String(), chunk
}

// msgpackText shows a value with what JSON does not tell: times.
func msgpackText(v []byte) string {
	switch record.KindOf(v) {
	case record.Array:
		var all []string
		for i := record.ItemsOf(v); i.Next(); {
			all = append(all, msgpackText(i.Value))
		}
		if len(all) == 2 && all[1] == "{}" && strings.HasPrefix(all[0], "time(") {
			return all[0] // without metadata: older servers know a time alone
		}
		return "[" + strings.Join(all, ",") + "]"
	case record.Extension:
		if at, ok := record.ReadTime(v); ok {
			return fmt.Sprintf("time(%d.%09d)", at.Sec, at.Nsec)
		}
	}
	return string(record.AppendJSON(nil, v))
}
