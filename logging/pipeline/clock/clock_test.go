package clock

import (
	"testing"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/record"
)

func TestFormat(t *testing.T) {
	at := time.Date(2026, 3, 7, 5, 8, 9, 12345678, time.FixedZone("JST", 9*3600))
	for format, want := range map[string]string{
		"%Y-%m-%d %H:%M:%S.%N %z": "2026-03-07 05:08:09.012345678 +0900",
		"%y%C %-m/%-d %e|%k|%l":   "2620 3/7  7| 5| 5",
		"%L %3N %6N %9N %1N %12N": "012 012 012345 012345678 0 012345678000",
		"%B %b %^b %A %a %p %P":   "March Mar MAR Saturday Sat AM am",
		"%F %T %D %R %c":          "2026-03-07 05:08:09 03/07/26 05:08 Sat Mar  7 05:08:09 2026",
		"%j %U %W %V %G %u %w":    "066 09 09 10 2026 6 6",
		"%:z %::z %Z %s %%":       "+09:00 +09:00:00 JST 1772827689 %",
		"%q % 100%":               "%q % 100%",
		"%_m %03d %5Y %10A":       " 3 007 02026   Saturday",
		"${tag}.%Y%m%d_**":        "${tag}.20260307_**",
	} {
		if got := string(Format(nil, format, at)); got != want {
			t.Errorf("%s: got %q, want %q", format, got, want)
		}
	}
}

func TestReader(t *testing.T) {
	now := func() time.Time { return time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC) }
	tokyo, err := Zone("+0900")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		s     Settings
		value []byte
		want  string // "" is an error
	}{
		{Settings{Type: "unixtime"}, record.AppendInt(nil, 1500000000), "2017-07-14T02:40:00Z"},
		{Settings{Type: "unixtime"}, record.AppendString(nil, "1500000000.9"), "2017-07-14T02:40:00Z"},
		{Settings{Type: "float"}, record.AppendString(nil, "1500000000.123"), "2017-07-14T02:40:00.123Z"},
		{Settings{Type: "float"}, record.AppendFloat(nil, 1500000000.5), "2017-07-14T02:40:00.5Z"},
		{Settings{Type: "float"}, record.AppendString(nil, "soon"), ""},
		{Settings{Type: "string", Zone: tokyo}, record.AppendString(nil, "2026-01-02 03:04:05"), "2026-01-01T18:04:05Z"},
		{Settings{Type: "string", Zone: tokyo}, record.AppendString(nil, "2026-01-02T03:04:05.25Z"), "2026-01-02T03:04:05.25Z"},
		{Settings{Type: "string", Format: "%d/%b/%Y:%H:%M:%S %z", Zone: time.UTC}, record.AppendString(nil, "28/Feb/2013:12:00:00 +0900"), "2013-02-28T03:00:00Z"},
		{Settings{Type: "string", Format: "%Y%m%d%H%M%S.%3N", Zone: tokyo}, record.AppendString(nil, "20260102030405.250"), "2026-01-01T18:04:05.25Z"},
		{Settings{Type: "string", Format: "%iso8601", Zone: time.UTC}, record.AppendString(nil, "2026-01-02T03:04:05+09:00"), "2026-01-01T18:04:05Z"},
		{Settings{Type: "mixed", Format: "%iso8601", Fallbacks: []string{"unixtime"}, Zone: time.UTC}, record.AppendString(nil, "1500000000"), "2017-07-14T02:40:00Z"},
		{Settings{Type: "string", Format: "%Y", Zone: time.UTC}, record.AppendInt(nil, 2026), ""},
	} {
		if c.s.Zone == nil {
			c.s.Zone = time.UTC
		}
		r, err := NewReader(c.s, now)
		if err != nil {
			t.Errorf("%+v: %v", c.s, err)
			continue
		}
		got := ""
		if at, err := r.Read(c.value); err == nil {
			got = at.Std().Format(time.RFC3339Nano)
		}
		if got != c.want {
			t.Errorf("%+v %s: got %q, want %q", c.s, c.value, got, c.want)
		}
	}
	for _, bad := range []string{"", "+2500", "Local", "Nowhere/Land", "JST"} {
		if _, err := Zone(bad); err == nil {
			t.Errorf("the zone %q is taken", bad)
		}
	}
}

func FuzzFormat(f *testing.F) {
	f.Add("%Y-%-m-%:z%")
	f.Fuzz(func(t *testing.T, format string) {
		if got := Format(nil, format, time.Unix(0, 0).UTC()); len(got) > maxWidth*(len(format)+1)*2 {
			t.Errorf("%q gives %d bytes", format, len(got))
		}
	})
}
