package logging_test

import (
	"strings"
	"testing"
	"time"

	"github.com/weft-dev/weft/logging"
	"github.com/weft-dev/weft/logging/resource"
	"github.com/weft-dev/weft/logging/route"
	"github.com/weft-dev/weft/logging/usage"
)

func parse(t *testing.T, text string) *resource.Set {
	t.Helper()
	var all []*resource.Document
	for part := range strings.SplitSeq("\n"+text, "\n---") {
		if o := readYAML(t, []byte(part)); o != nil {
			all = append(all, resource.New(o, nil))
		}
	}
	return resource.NewSet(all)
}

const pipeline = `
apiVersion: fluentbit.fluent.io/v1alpha2
kind: FluentBit
metadata: {name: fb, namespace: fluent}
spec: {image: example.test/fluent-bit, fluentBitConfigName: main}
---
apiVersion: fluentbit.fluent.io/v1alpha2
kind: ClusterFluentBitConfig
metadata: {name: main}
spec: {service: {flushSeconds: 1}, parserSelector: {matchLabels: {take: "yes"}}}
---
apiVersion: fluentbit.fluent.io/v1alpha2
kind: ClusterInput
metadata: {name: in}
spec: {dummy: {tag: a}}
---
apiVersion: fluentbit.fluent.io/v1alpha2
kind: ClusterParser
metadata: {name: p, labels: {take: "yes"}}
spec: {regex: {regex: "(?<a>x"}}
---
apiVersion: fluentbit.fluent.io/v1alpha2
kind: ClusterFilter
metadata: {name: needs-p}
spec: {match: "*", filters: [{parser: {keyName: log, parser: p}}]}
---
apiVersion: fluentbit.fluent.io/v1alpha2
kind: ClusterOutput
metadata: {name: out, generation: 3}
spec: {match: "*", http: {host: h, httpPassword: {valueFrom: {secretKeyRef: {name: s, key: k}}}}}
---
apiVersion: fluentbit.fluent.io/v1alpha2
kind: ClusterParser
metadata: {name: unused}
spec: {json: {}}
`

// A parser that does not compile takes the filter that needs it along, and nothing else; what depends on a missing Secret waits for it.
func TestIsolation(t *testing.T) {
	set := parse(t, pipeline)
	planner := logging.Planner{Namespace: "other"}
	result := planner.Plan(set, resource.FoundMap{})
	if len(result.Configurations) != 1 {
		t.Fatalf("%d configurations", len(result.Configurations))
	}
	text := string(result.Configurations[0].Files["fluent-bit.conf"])
	if !strings.Contains(text, "dummy") || strings.Contains(text, "parser") || strings.Contains(text, "http") || !strings.Contains(text, "null") {
		t.Errorf("rendered\n%s", text)
	}
	reasons := map[string]string{}
	for _, p := range result.Problems {
		reasons[p.Document.Name] = p.Reason
	}
	if reasons["p"] != "InvalidRegex" || reasons["needs-p"] != "ParserNotFound" || reasons["out"] != "SecretNotFound" {
		t.Errorf("reasons %v", reasons)
	}
	// with the Secret the output is there, from what was kept of the rest
	found := resource.FoundMap{{Kind: "Secret", Namespace: "other", Name: "s", Key: "k"}: "secret\n"}
	again := planner.Plan(set, found)
	if text := string(again.Configurations[0].Files["fluent-bit.conf"]); !strings.Contains(text, "http_Passwd    secret\n") {
		t.Errorf("rendered\n%s", text)
	}
	if len(again.Objects) != 6 || again.Objects[0].Document.Name != "main" || again.Objects[0].Owner.Name != "fb" {
		t.Errorf("objects %v", again.Objects)
	}
}

// A mistake in what holds for the whole configuration stops it, so that the last good one stays.
func TestServiceStopsTheConfiguration(t *testing.T) {
	set := parse(t, strings.Replace(pipeline, "flushSeconds: 1", "httpPort: 99999", 1))
	planner := logging.Planner{}
	result := planner.Plan(set, resource.FoundMap{})
	if result.Configurations[0].Files != nil || result.Objects[0].Object["kind"] == "Secret" {
		t.Error("a configuration was made")
	}
}

func TestNeeds(t *testing.T) {
	needs := logging.Needs(parse(t, pipeline), "other")
	if len(needs) != 1 || needs[0] != (resource.Reference{Kind: "Secret", Namespace: "other", Name: "s", Key: "k"}) {
		t.Errorf("%v", needs)
	}
}

func TestObserve(t *testing.T) {
	set := parse(t, pipeline)
	planner := logging.Planner{Namespace: "other"}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	conditions := map[string]logging.Condition{}
	for _, s := range logging.Observe(set, planner.Plan(set, resource.FoundMap{}), nil, now) {
		conditions[s.Document.Name] = s.Conditions[0]
	}
	for name, want := range map[string][2]string{"in": {"True", "Accepted"}, "p": {"False", "InvalidRegex"}, "out": {"False", "SecretNotFound"}, "unused": {"True", "NotSelected"}} {
		if c := conditions[name]; c.Status != want[0] || c.Reason != want[1] {
			t.Errorf("%s: %+v", name, c)
		}
	}
	if c := conditions["out"]; c.ObservedGeneration != 3 || c.LastTransitionTime != "2026-01-02T03:04:05Z" || !strings.Contains(c.Message, "spec.http.httpPassword") {
		t.Errorf("%+v", c)
	}
}

// What a customPlugin of Fluentd misspells is told with its line; what the engine would refuse is left out.
func TestCustomPluginIsChecked(t *testing.T) {
	set := parse(t, `
apiVersion: fluentd.fluent.io/v1alpha1
kind: FluentdConfig
metadata: {name: mine, namespace: a}
spec: {outputSelector: {}}
---
apiVersion: fluentd.fluent.io/v1alpha1
kind: Output
metadata: {name: misspelt, namespace: a}
spec: {outputs: [{customPlugin: {config: "<match x>\n  @type file\n  path /a\n  appendd true\n</match>"}}]}
---
apiVersion: fluentd.fluent.io/v1alpha1
kind: Output
metadata: {name: refused, namespace: a}
spec: {outputs: [{customPlugin: {config: "<match y>\n  @type file\n</match>"}}]}
---
apiVersion: fluentd.fluent.io/v1alpha1
kind: Output
metadata: {name: gem, namespace: a}
spec: {outputs: [{customPlugin: {config: "<match z>\n  @type of_a_gem\n</match>"}}]}
`)
	var planner logging.Planner
	result := planner.Plan(set, resource.Found(nil))
	var got []string
	for _, p := range result.Problems {
		got = append(got, string(p.Severity)+" "+p.Error())
	}
	want := []string{
		`warning Output a/gem: spec.outputs[0].customPlugin.config: line 2: the output "of_a_gem" comes neither with Fluentd nor with the operator's image, so its options are not checked; it needs a gem`,
		`warning Output a/misspelt: spec.outputs[0].customPlugin.config: line 4: file has no option "appendd" that is known here; is append meant?`,
		`error Output a/refused: spec.outputs[0].customPlugin.config: line 1: file needs path`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if app := string(result.Configurations[0].Files["app.conf"]); strings.Contains(app, "<match y>") || !strings.Contains(app, "<match x>") || !strings.Contains(app, "<match z>") {
		t.Errorf("%s", app)
	}
}

// A namespace under a quota is told whether it keeps it, in each of its FluentBitConfigs; one without is told nothing.
func TestObserveQuota(t *testing.T) {
	set := parse(t, strings.ReplaceAll(pipeline, "dummy: {tag: a}", "tail: {path: /var/log/containers/*.log, tag: kube.*}")+`
---
apiVersion: fluentbit.fluent.io/v1alpha2
kind: FluentBit
metadata: {name: agents, namespace: fluent}
spec: {image: example.test/fluent-bit, fluentBitConfigName: quotas, namespaceFluentBitCfgSelector: {}}
---
apiVersion: fluentbit.fluent.io/v1alpha2
kind: ClusterFluentBitConfig
metadata: {name: quotas}
spec: {service: {httpServer: true}, tenancy: {routing: tag, quotas: {noisy: {recordsPerSecond: 5}}}}
---
apiVersion: fluentbit.fluent.io/v1alpha2
kind: FluentBitConfig
metadata: {name: logs, namespace: noisy}
spec: {}
---
apiVersion: fluentbit.fluent.io/v1alpha2
kind: FluentBitConfig
metadata: {name: logs, namespace: calm}
spec: {}
`)
	var planner logging.Planner
	result := planner.Plan(set, resource.FoundMap{})
	quota := route.Quota{Records: 5}
	for _, c := range []struct {
		known map[string]usage.Namespace
		want  string
	}{
		{nil, "Unknown NotMeasured"},
		{map[string]usage.Namespace{"noisy": {Quota: quota, Nodes: map[string]usage.Excess{"n1": {Rate: true}}}}, "False OverRate"},
		{map[string]usage.Namespace{"noisy": {Quota: quota, Nodes: map[string]usage.Excess{"n1": {}}}}, "True WithinQuota"},
	} {
		told := 0
		for _, s := range logging.Observe(set, result, c.known, time.Now()) {
			for _, x := range s.Conditions {
				if x.Type != "WithinQuota" {
					continue
				}
				told++
				if got := x.Status + " " + x.Reason; got != c.want || s.Document.Namespace != "noisy" || s.Document.Kind != "FluentBitConfig" {
					t.Errorf("%s: %s, want %s", s.Document, got, c.want)
				}
			}
		}
		if told != 1 {
			t.Errorf("%s: told %d times", c.want, told)
		}
	}
}
