package input

import (
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// FuzzNetwork gives bytes to everything that takes records from the network: what comes out is whole events.
func FuzzNetwork(f *testing.F) {
	host := Host{Host: flow.Host{Now: time.Now, Log: slog.New(slog.DiscardHandler)}, Tag: "t"}
	forwarding := &Forward{Host: host, Limit: 1 << 20, Unpacked: 8 << 20}
	skipping := &Forward{Host: host, Limit: 1 << 20, Unpacked: 8 << 20, SkipBad: true}
	posting := &httpInput{host: host}
	lines := &tcp{host: host, json: true, limit: 1 << 16}
	messages := &syslog{host: host, limit: 1 << 16}
	entry := record.AppendTime([]byte{0x92}, record.Time{Sec: 1})
	entry = append(entry, 0x81, 0xa1, 'a', 1)
	f.Add(record.AppendBinary(record.AppendString([]byte{0x92}, "tag"), entry))
	f.Add(append(record.AppendInt(record.AppendString([]byte{0x93}, "tag"), 1), 0x80))
	f.Add([]byte(`{"a":1} {"b":2}`))
	f.Add([]byte("12 <13>message\n<14>x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		check := func(batch []byte, count int) {
			if n := record.Count(batch); n != count {
				t.Fatalf("%d events, said to be %d: %x", n, count, batch)
			}
		}
		if n, err := record.Skip(data); err == nil {
			if _, batch, count, _, err := forwarding.decode(nil, data[:n]); err == nil {
				check(batch, count)
			}
			if _, batch, count, _, err := skipping.decode(nil, data[:n]); err == nil {
				check(batch, count)
			}
		}
		for _, kind := range []string{"application/json", "application/msgpack", "application/x-www-form-urlencoded"} {
			r, err := http.NewRequest(http.MethodPost, "http://x/a", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", kind)
			if batches, err := posting.decode(r, data); err == nil {
				for _, b := range batches {
					check(b.Data, b.Count)
				}
			}
		}
		if batch, count, used, err := lines.records(data, true, ""); err == nil {
			if check(batch, count); used > len(data) {
				t.Fatal("more than there was")
			}
		}
		for rest := data; len(rest) > 0; {
			_, size, err := messages.frame(rest, true)
			if err != nil || size == 0 {
				break
			}
			rest = rest[size:]
		}
	})
}

// FuzzPositions reads databases of foreign content.
func FuzzPositions(f *testing.F) {
	f.Add([]byte(databaseMark + `{"1:2":{"name":"a","offset":3}}`))
	f.Add([]byte("SQLite format 3\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &PositionStore{path: "x"}
		if s.decode(data) != nil {
			return
		}
		for key, p := range s.all {
			if p.Offset < 0 {
				t.Fatalf("%s: %v", key, p)
			}
		}
	})
}
