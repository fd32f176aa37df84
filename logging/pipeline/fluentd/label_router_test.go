package fluentd

import (
	"strings"
	"testing"

	"github.com/weft-dev/weft/logging/pipeline/flow"
)

// Records go to the labels whose conditions their metadata meets, to several if several take them, and else to the default.
func TestLabelRouter(t *testing.T) {
	out, _ := play(t, `
<match **>
  @type label_router
  default_route @rest
  <route>
    @label @a
    <match>
      namespaces a,b
    </match>
  </route>
  <route>
    @label @web
    tag routed
    <match>
      labels app:db
      negate true
    </match>
    <match>
      labels app:web,tier:front
    </match>
    <match>
      namespaces c
      hosts n1
      container_names main
    </match>
  </route>
</match>
<label @a>
  <match **>
    @type stdout
    <format>
      @type single_value
      message_key a
    </format>
  </match>
</label>
<label @web>
  <match routed>
    @type stdout
    <format>
      @type single_value
      message_key w
    </format>
  </match>
</label>
<label @rest>
  <match x.*>
    @type stdout
    <format>
      @type single_value
      message_key r
    </format>
  </match>
</label>
`,
		`x.1 {"a":"a1","w":"w1","r":"r1","kubernetes":{"namespace_name":"b","labels":{"app":"web","tier":"front","more":"x"}}}`,
		`x.2 {"a":"a2","w":"w2","r":"r2","kubernetes":{"namespace_name":"c","labels":{"app":"web"},"host":"n2","container_name":"main"}}`,
		`x.3 {"a":"a3","w":"w3","r":"r3","kubernetes":{"namespace_name":"c","host":"n1","container_name":"main"}}`,
		`x.4 {"a":"a4","w":"w4","r":"r4","kubernetes":{"namespace_name":"c","host":"n1","container_name":"main","labels":{"app":"db"}}}`,
		`x.5 {"a":"a5","w":"w5","r":"r5"}`)
	if got, want := strings.Fields(out), strings.Fields("a1 w1 r2 w3 r4 r5"); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestLabelRouterRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"<match **>\n@type label_router\n<route>\n</route>\n</match>":                                            "fluent.conf:3:1: <route> needs @label",
		"<match **>\n@type label_router\n<route>\n@label @x\n</route>\n</match>":                                 "fluent.conf:4:8: there is no <label @x>",
		"<match **>\n@type label_router\ndefault_route @x\n</match>":                                             "there is no <label @x>",
		"<match **>\n@type label_router\ndefault_tag a\n</match>":                                                "name a label with default_route",
		"<match **>\n@type label_router\n<route>\n@label @ROOT\n<mach>\n</mach>\n</route>\n</match>":             "fluent.conf:5:1: <mach> is not built",
		"<match **>\n@type label_router\n<route>\n@label @ROOT\n<match>\nlabels a\n</match>\n</route>\n</match>": `expected name:value, found "a"`,
	} {
		x := &trial{}
		_, err := New(file(t, text), x.options([]flow.Batch{}))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}
