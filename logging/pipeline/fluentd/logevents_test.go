package fluentd

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// What the engine says in its log comes as events, to @FLUENT_LOG or else to the top, and makes no more of itself.
func TestLogEvents(t *testing.T) {
	for name, c := range map[string]struct{ conf, to string }{
		"label": {"<label @FLUENT_LOG>\n<match fluent.warn>\n@type stdout\n</match>\n</label>\n<match **>\n@type null\n</match>", ""},
		"top":   {"<match fluent.*>\n@type stdout\n</match>", "deprecated"},
	} {
		x := start(t, "<source>\n@type http\n@id web\nport "+freePort(t)+"\nbind 127.0.0.1\n</source>\n<filter a>\n@type record_transformer\n@id parts\nrenew_time_key at\n</filter>\n"+
			strings.Replace(c.conf, "<match **>", "<match a>\n@type null\n</match>\n<match **>", 1))
		base := "http://" + x.address(t)
		resp, err := http.Post(base+"/a", "application/json", strings.NewReader(`{"at":"never"}`))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		await(t, name, func() bool { return strings.Contains(x.out.String(), "dump an error event") })
		x.end(t)
		got := lines(x.out.String())
		i := slices.IndexFunc(got, func(line string) bool { return strings.Contains(line, "dump an error event") })
		if !strings.HasPrefix(got[i], `fluent.warn: {`) || !strings.Contains(got[i], `"tag":"a"`) || !strings.Contains(got[i], `"message":"[parts] dump an error event`) {
			t.Errorf("%s: got %q", name, got)
		}
		if info := strings.Contains(x.out.String(), "fluent.info"); info != (name == "top") || !strings.Contains(x.said.String(), c.to) {
			t.Errorf("%s: %q; %s", name, got, x.said.String())
		}
	}
}

// An event of the log that cannot be handed over is told in the log alone.
func TestLogEventsEnd(t *testing.T) {
	x := start(t, "<source>\n@type sample\ntag a\nrate 50\n</source>\n<match a>\n@type null\n</match>\n<label @FLUENT_LOG>\n<filter **>\n@type record_transformer\nrenew_time_key message\n</filter>\n"+
		"<match **>\n@type stdout\n</match>\n</label>")
	await(t, "a word", func() bool { return strings.Contains(x.said.String(), "dump an error event") })
	time.Sleep(100 * time.Millisecond) // in which there would be many
	x.end(t)
	said := x.said.String()
	if n, all := strings.Count(said, "dump an error event"), strings.Count(said, "\n"); n > all-n {
		t.Errorf("what is said of an event makes another one: %d of %d words", n, all)
	}
}

// Records that an output does not take go to @ERROR, and their sender is not told.
func TestErrorLabelTakesWhatOverflows(t *testing.T) {
	out, said := play(t, "<match a>\n@type stdout\n<buffer>\ntotal_limit_size 1\n</buffer>\n</match>\n<label @ERROR>\n<match **>\n@type stdout\n</match>\n</label>", `a {"n":1}`, `a {"n":2}`)
	if got := lines(out); !slices.Equal(got, []string{`a: {"n":2}`, `a: {"n":1}`}) || !strings.Contains(said, "send an error event stream to @ERROR") {
		t.Errorf("got %q; %s", got, said)
	}
}
