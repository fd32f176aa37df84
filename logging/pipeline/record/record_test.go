package record

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestJSONThereAndBack(t *testing.T) {
	for _, text := range []string{`{}`, `[]`, `{"a":1,"b":-1.5,"c":"x","d":null,"e":true,"f":[1,[2,{"g":[]}]]}`, `"\"\\\n\t\u0001"`, `18446744073709551615`, `-9223372036854775808`,
		`[` + strings.Repeat("1,", 70000) + `1]`, `"` + strings.Repeat("ü", 40000) + `"`, `"😀"`} {
		value, n, err := FromJSON(nil, []byte(text))
		if err != nil || n != len(text) {
			t.Errorf("%.40s: %d, %v", text, n, err)
			continue
		}
		if size, err := Skip(value); err != nil || size != len(value) {
			t.Errorf("%.40s: Skip gives %d of %d, %v", text, size, len(value), err)
		}
		if got := string(AppendJSON(nil, value)); got != text {
			t.Errorf("%.60s\nbecame %.60s", text, got)
		}
	}
	for text, want := range map[string]string{`"\ud83d\ude00"`: `"😀"`, `"\ud83d"`: `"` + "\uFFFD" + `"`, `"\u00e4\/"`: `"ä/"`, ` 1e3 `: `1000.0`, `1e999`: `null`, `{"a":1,"b":3,"a":2}`: `{"b":3,"a":2}`} {
		value, _, err := FromJSON(nil, []byte(text))
		if got := string(AppendJSON(nil, value)); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", text, got, err, want)
		}
	}
}

func TestBadJSON(t *testing.T) {
	for _, text := range []string{``, `{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,}`, `{a:1}`, `[1,]`, `[1 2]`, `"a`, `"\x"`, `"\u12"`, `tru`, `nul`, `-`, `{"a":1]`, strings.Repeat("[", 1000), strings.Repeat(`{"a":`, 1000)} {
		if _, _, err := FromJSON(nil, []byte(text)); err == nil {
			t.Errorf("%.20q is taken", text)
		}
	}
}

func TestBadMessagePack(t *testing.T) {
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"nothing": {nil, ErrShort}, "unknown": {[]byte{0xc1}, ErrMalformed}, "short text": {[]byte{0xa5, 'a'}, ErrShort}, "long map": {[]byte{0xdf, 0xff, 0xff, 0xff, 0xff}, ErrShort},
		"long array": {[]byte{0xdd, 0x7f, 0xff, 0xff, 0xff, 1}, ErrShort}, "long binary": {[]byte{0xc6, 0xff, 0xff, 0xff, 0xff, 1}, ErrShort}, "deep": {[]byte(strings.Repeat("\x91", 1000) + "\x01"), ErrDeep},
	} {
		if _, err := Skip(c.data); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestPaths(t *testing.T) {
	body, _, err := FromJSON(nil, []byte(`{"a":{"b c":[10,{"d":"x"}]},"a.b":1}`))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{"$a['b c'][0]": "10", "$a['b c'][1]['d']": `"x"`, "a.b": "1", "$a['b c'][2]": "none", "$x": "none", "$a[0]": "none"} {
		p, err := ParsePath(text)
		if err != nil {
			t.Fatal(err)
		}
		got := "none"
		if v, ok := p.Find(body); ok {
			got = string(AppendJSON(nil, v))
		}
		if got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	for _, bad := range []string{"$", "$a[", "$a['b", "$a[x]", "$a[-1]", "$a]b"} {
		if p, err := ParsePath(bad); err == nil && bad != "$a]b" {
			t.Errorf("%s is a path: %v", bad, p)
		}
	}
}

func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,-2.5e3,"x\u00e4\n",null,true]}`, `[[[]]]`, `"\ud83d\ude00"`, `1e`, `{"a":1}{"b":2}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		value, n, err := FromJSON(nil, text)
		if err != nil {
			return
		}
		if size, err := Skip(value); err != nil || size != len(value) {
			t.Fatalf("%q becomes what cannot be skipped: %v", text, err)
		}
		back := AppendJSON(nil, value)
		if !json.Valid(back) {
			t.Fatalf("%q becomes %q, which is no JSON", text, back)
		}
		var a, b any
		if utf8.Valid(text) && json.Unmarshal(text[:n], &a) == nil && json.Unmarshal(back, &b) == nil && !reflect.DeepEqual(a, b) && !strings.ContainsAny(string(text), "eE.") && len(text) < 15 {
			t.Fatalf("%q becomes %q", text, back)
		}
	})
}

func FuzzEvents(f *testing.F) {
	f.Add(AppendEvent(nil, Time{1, 2}, nil, []byte{0x81, 0xa1, 'a', 1}))
	f.Add([]byte{0x92, 0xce, 0, 0, 0, 1, 0x80})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := NewReader(data)
		for r.Next() {
			for fields := FieldsOf(r.Body); fields.Next(); {
				AppendJSON(nil, fields.Value)
			}
			var again Event
			made := AppendEvent(nil, r.Time, r.Meta, r.Body)
			again, err := ReadEvent(made)
			if err != nil || string(again.Body) != string(r.Body) {
				t.Fatalf("%x: %v", made, err)
			}
		}
	})
}

// As Fluent Bit writes them (printed by its stdout with format json_lines).
func TestFloatsInJSON(t *testing.T) {
	for _, c := range []struct {
		f    float64
		want string
	}{
		{4000000000.5, "4000000000.5"}, {4000000005, "4000000005.0"}, {0, "0.0"}, {-1, "-1.0"}, {1e15, "1000000000000000.0"}, {1 << 62, "4611686018427387904.0"},
		{1e20, "1e+20"}, {1.5e-7, "1.5e-07"}, {0.0001, "0.0001"}, {0.1, "0.1"}, {0.1 + 0.2, "0.3"}, {1706702400.123456789, "1706702400.123457"},
		{1.0 / 3, "0.3333333333333333"}, {123456789012.75, "123456789012.75"}, {2.5e300, "2.5e+300"}, {math.NaN(), "null"}, {math.Inf(1), "null"},
	} {
		if got := string(AppendJSON(nil, AppendFloat(nil, c.f))); got != c.want {
			t.Errorf("%v: got %s, want %s", c.f, got, c.want)
		}
	}
	for n, want := range map[int64]string{4000000005: "4000000005", math.MaxInt64: "9223372036854775807", math.MinInt64: "-9223372036854775808"} {
		if got := string(AppendJSON(nil, AppendInt(nil, n))); got != want {
			t.Errorf("%d: got %s", n, got)
		}
	}
}

// Numbers are those of the standard library to the last bit, whichever way they are read.
func TestNumbersToTheLastBit(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	texts := []string{"0.1", "-0.0", "9007199254740993.0", "999999999999999.9", "0.000000000000001", "1.", "1.5e3", "123456789012345678.5", "0.1234567890123456789"}
	for range 20000 {
		text := strconv.FormatUint(r.Uint64()>>r.UintN(64), 10)
		if r.UintN(2) == 0 {
			text = "-" + text
		}
		texts = append(texts, text+"."+strconv.FormatUint(r.Uint64()>>r.UintN(64), 10))
	}
	for _, text := range texts {
		want, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		value, n, err := FromJSON(nil, []byte(text))
		got, ok := Float(value)
		if err != nil || n != len(text) || !ok || math.Float64bits(got) != math.Float64bits(want) {
			t.Fatalf("%s is read as %v (%v), want %v", text, got, err, want)
		}
	}
}

// Strings of every length end at their quote, wherever an escape or a byte of many bits stands.
func TestStringsOfEveryLength(t *testing.T) {
	for n := range 70 {
		for at := range n + 1 {
			for _, c := range []string{"", `\n`, `\"`, `\\`, "\xff", "\xa2", "\xdc", "#", "]", "!"} {
				text := strings.Repeat("a", at) + c + strings.Repeat("b", n-at)
				want := strings.Repeat("a", at) + strings.NewReplacer(`\n`, "\n", `\"`, `"`, `\\`, `\`).Replace(c) + strings.Repeat("b", n-at)
				value, end, err := FromJSON(nil, []byte(`"`+text+`","next"`))
				got, _ := Text(value)
				if err != nil || end != len(text)+2 || string(got) != want {
					t.Fatalf("%q is read as %q up to %d (%v)", text, got, end, err)
				}
			}
		}
	}
}

func TestDepth(t *testing.T) {
	deep := []byte(strings.Repeat("\x91", MaxDepth) + "\x01")
	if n, err := Skip(deep); err != nil || n != len(deep) {
		t.Errorf("%d levels: %d, %v", MaxDepth, n, err)
	}
	if _, err := Skip(append([]byte{0x91}, deep...)); !errors.Is(err, ErrDeep) {
		t.Errorf("%d levels: %v", MaxDepth+1, err)
	}
	two := []byte("\x93\x81\xa1a\x92\x01\x02\xd9\x01x\xc0rest")
	if n, err := Skip(two); err != nil || n != len(two)-4 {
		t.Errorf("values behind an inner one: %d, %v", n, err)
	}
}
