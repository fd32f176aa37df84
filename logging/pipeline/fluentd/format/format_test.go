package format

import (
	"strings"
	"testing"
	"time"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

func section(t *testing.T, options string) *config.Section {
	t.Helper()
	f, err := config.Parse("fluent.conf", []byte("<format>\n"+options+"\n</format>"), config.Options{Format: config.Fluentd})
	if err != nil {
		t.Fatal(err)
	}
	return f.Sections[0]
}

func TestFormat(t *testing.T) {
	defer func(z *time.Location) { time.Local = z }(time.Local)
	time.Local = time.FixedZone("", 3600)
	body, _, err := record.FromJSON(nil, []byte(`{"a":"x","n":1,"f":1.0,"z":null,"m":{"k":["v",null,true]},"s":"q\"\tü"}`))
	if err != nil {
		t.Fatal(err)
	}
	at := record.Time{Sec: 1767323045, Nsec: 250000000}
	for options, want := range map[string]string{
		"@type json":                      `{"a":"x","n":1,"f":1.0,"z":null,"m":{"k":["v",null,true]},"s":"q\"\tü"}` + "\n",
		"@type json\nadd_newline false":   `{"a":"x","n":1,"f":1.0,"z":null,"m":{"k":["v",null,true]},"s":"q\"\tü"}`,
		"@type out_file\ndelimiter COMMA": `2026-01-02T04:04:05+01:00,t.g,{"a":"x","n":1,"f":1.0,"z":null,"m":{"k":["v",null,true]},"s":"q\"\tü"}` + "\n",
		"@type out_file\noutput_tag false\nutc\ntime_format %H:%M:%S.%L": "03:04:05.250\t" + `{"a":"x","n":1,"f":1.0,"z":null,"m":{"k":["v",null,true]},"s":"q\"\tü"}` + "\n",
		"@type ltsv":                                            "a:x\tn:1\tf:1.0\tz:\tm:{\"k\"=>[\"v\", nil, true]}\ts:q\" ü\n",
		"@type csv\nfields a,s,no,n,z":                          `"x","q""` + "\tü\",\"\",\"1\",\"\"\n",
		"@type csv\nfields a,s,no,n\nforce_quotes no":           `x,"q""` + "\tü\",,1\n",
		"@type csv\nfields a,$.m.k[0]":                          `"x","v"` + "\n",
		"@type tsv\nkeys a,no,n":                                "x\t\t1\n",
		"@type single_value\nmessage_key s":                     "q\"\tü\n",
		"@type single_value\nnewline crlf":                      "\r\n",
		"@type hash":                                            `{"a"=>"x", "n"=>1, "f"=>1.0, "z"=>nil, "m"=>{"k"=>["v", nil, true]}, "s"=>"q\"\tü"}` + "\n",
		"@type stdout\noutput_type single_value\nmessage_key a": "2026-01-02 04:04:05.250000000 +0100 t.g: x\n",
	} {
		f, err := New(section(t, options), "")
		if err != nil {
			t.Errorf("%q: %v", options, err)
			continue
		}
		if got := string(f.Append(nil, "t.g", at, body)); got != want {
			t.Errorf("%q: got %q, want %q", options, got, want)
		}
	}
	for options, want := range map[string]string{"@type protobuf": `fluent.conf:2:7: the formatter "protobuf" is not built`, "@type csv": "the formatter needs fields", "@type json\nnewline cr": "fluent.conf:3:9: newline"} {
		if _, err := New(section(t, options), ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", options, err, want)
		}
	}
}
