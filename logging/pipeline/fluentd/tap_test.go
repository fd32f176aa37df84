package fluentd

import (
	"context"
	"fmt"
	"testing"

	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/pipeline/tap"
)

// Each point shows what passes it.
func TestTapPoints(t *testing.T) {
	x, hub := &trial{}, new(tap.Hub)
	w := hub.Watch(tap.Query{Rate: 1000})
	defer w.Close()
	o := x.options(nil)
	o.Tap = hub
	engine, err := New(file(t, `<source>
  @type sample
  tag s
  sample {"a":1}
</source>
<filter s>
  @type record_transformer
  @id by
  <record>
    via fluentd
  </record>
</filter>
<match s>
  @type stdout
</match>
`), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx) }()
	got := ""
	for range 3 {
		s := <-w.Records()
		e, err := record.ReadEvent(s.Event)
		if err != nil {
			t.Fatal(err)
		}
		got += fmt.Sprintln(s.Point, s.Tag, string(record.AppendJSON(nil, e.Body)))
	}
	points := fmt.Sprint(hub.Points(""))
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	want := "input/sample.0 s {\"a\":1}\nfilter/by s {\"a\":1,\"via\":\"fluentd\"}\noutput/stdout.0 s {\"a\":1,\"via\":\"fluentd\"}\n"
	if got != want || points != "[input/sample.0 filter/by output/stdout.0]" {
		t.Errorf("got\n%swant\n%s%s", got, want, points)
	}
}
