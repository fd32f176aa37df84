package manager

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/weft-dev/weft/logging/resource"
)

// invalid is a bad resource of each of the 22 kinds twice: one that its definition refuses, and one that only its status can explain.
const invalid = `
fluentbit FluentBit               | {fluentBitConfigName: NS-config, image: 5}                        | {fluentBitConfigName: nowhere, image: x}                                          | ConfigNotFound spec.fluentBitConfigName
fluentbit Collector               | {fluentBitConfigName: NS-config, image: x, replicas: many}        | {fluentBitConfigName: nowhere, image: x}                                          | ConfigNotFound spec.fluentBitConfigName
fluentbit ClusterFluentBitConfig  | {service: {httpPort: http}}                                       | {service: {storage: {backlogMemLimit: much}}}                                     | InvalidValue spec.service.storage.backlogMemLimit
fluentbit FluentBitConfig         | {outputSelector: all}                                             | {outputSelector: {matchExpressions: [{key: a, operator: Like, values: [b]}]}}     | InvalidSelector spec.outputSelector
fluentbit ClusterInput            | {tail: {path: /a, rotateWaitSeconds: soon}}                       | {tail: {path: /a, parser: nothing}}                                               | ParserNotFound spec.tail.parser
fluentbit ClusterFilter           | {match: "*", filters: [{grep: all}]}                              | {match: "*", filters: [{grep: {regex: "log (a"}}]}                                | InvalidRegex spec.filters[0].grep.regex
fluentbit Filter                  | {match: "*", filters: {grep: {}}}                                 | {match: "*", filters: [{parser: {keyName: log, parser: nothing}}]}                | ParserNotFound spec.filters[0].parser.parser
fluentbit ClusterOutput           | {match: "*", es: {port: 70000}}                                   | {match: "*", http: {host: h, httpUser: {valueFrom: {secretKeyRef: {name: none, key: k}}}}} | SecretNotFound spec.http.httpUser
fluentbit Output                  | {match: "*", retry_limit: [1], stdout: {}}                        | {match: "*", kafka: {topics: t}}                                                  | MissingOption Brokers
fluentbit ClusterParser           | {regex: "(a"}                                                     | {regex: {regex: "(?<a>x"}}                                                        | InvalidRegex spec.regex.regex
fluentbit Parser                  | {json: {timeKeep: 5}}                                             | {regex: {regex: "^(?<a>(x+)+)$"}}                                                 | ExplodingRegex spec.regex.regex
fluentbit ClusterMultilineParser  | {type: regex, flushTimeout: soon}                                 | {type: regex, rules: [{start: start_state, regex: "/(a/", next: start_state}]}    | InvalidRegex spec.rules
fluentbit MultilineParser         | {type: sideways}                                                  | {type: regex, rules: [{start: begin, regex: "/a/", next: cont}]}                  | InvalidValue spec.rules
fluentd   Fluentd                 | {image: x, workers: many}                                         | {globalInputs: [{forward: {}}]}                                                   | MissingField spec.image
fluentd   ClusterFluentdConfig    | {watchedNamespaces: a}                                            | {clusterOutputSelector: {matchExpressions: [{key: a, operator: Like}]}}           | InvalidSelector spec.clusterOutputSelector
fluentd   FluentdConfig           | {pluginSortOrder: sideways}                                       | {outputSelector: {matchExpressions: [{key: a, operator: Like}]}}                  | InvalidSelector spec.outputSelector
fluentd   ClusterInput            | {inputs: [{forward: {port: 70000}}]}                              | {inputs: [{customPlugin: {config: "<match a>\n</match>"}}]}                       | InvalidValue spec.inputs[0].customPlugin.config
fluentd   Input                   | {inputs: {forward: {}}}                                           | {inputs: []}                                                                      | NoPlugin spec.inputs
fluentd   ClusterFilter           | {filters: [{parser: {parse: {type: sideways}}}]}                  | {filters: [{parser: {keyName: a, parse: {type: regexp, expression: "/(a/"}}}]}    | InvalidRegex
fluentd   Filter                  | {filters: [{tag: 5, stdout: {}}]}                                 | {filters: [{stdout: {}, grep: {}}]}                                               | TwoPlugins spec.filters[0].
fluentd   ClusterOutput           | {outputs: [{buffer: {type: air}, stdout: {}}]}                    | {outputs: [{customPlugin: {config: "@include /etc/passwd"}}]}                     | InvalidValue spec.outputs[0].customPlugin.config
fluentd   Output                  | {outputs: [{kafka: {compressionCodec: loud}}]}                    | {outputs: [{elasticsearch: {host: h, user: {valueFrom: {secretKeyRef: {name: none, key: k}}}}}]} | SecretNotFound spec.outputs[0].elasticsearch.user
`

// Invalid resources of every kind: the definition refuses, or the status explains with the field; and none of them harms the configuration.
func TestInvalidOfEveryKind(t *testing.T) {
	c := serve(t, false)
	c.apply(agents + `
---
apiVersion: fluentbit.fluent.io/v1alpha2
kind: FluentBit
metadata: {name: second, namespace: NS}
spec: {image: example.test/fluent-bit, fluentBitConfigName: NS-told}
---
apiVersion: fluentd.fluent.io/v1alpha1
kind: Fluentd
metadata: {name: fluentd, namespace: NS}
spec: {image: example.test/fluentd, fluentdCfgSelector: {matchLabels: {for: NS}}}
---
apiVersion: fluentd.fluent.io/v1alpha1
kind: ClusterFluentdConfig
metadata: {name: NS-all, labels: {for: NS}}
spec: {watchedNamespaces: [NS], clusterInputSelector: {}, clusterFilterSelector: {}, clusterOutputSelector: {}}
---
apiVersion: fluentd.fluent.io/v1alpha1
kind: FluentdConfig
metadata: {name: all, namespace: NS, labels: {for: NS}}
spec: {inputSelector: {}, filterSelector: {}, outputSelector: {}}
---
apiVersion: fluentd.fluent.io/v1alpha1
kind: ClusterOutput
metadata: {name: NS-good}
spec: {outputs: [{stdout: {}}]}`)
	kinds := map[string]bool{}
	for line := range strings.Lines(strings.ReplaceAll(strings.TrimSpace(invalid), "NS", c.Namespace)) {
		columns := strings.Split(strings.TrimSpace(line), " | ")
		group, kind, _ := strings.Cut(columns[0], " ")
		kind = strings.TrimSpace(kind)
		group = map[string]string{"fluentbit": resource.FluentBitGroup, "fluentd": resource.FluentdGroup}[group]
		kinds[group+" "+kind] = true
		t.Run(group+" "+kind, func(t *testing.T) {
			c := &cluster{c.Place, t, c.objects}
			if err := c.create(group, kind, "refused", columns[1]); err == nil || !strings.Contains(err.Error(), "spec") {
				t.Errorf("%s was not refused with its field: %v", strings.TrimSpace(columns[1]), err)
			}
			if err := c.create(group, kind, "told", columns[2]); err != nil {
				t.Fatalf("%s: %v", strings.TrimSpace(columns[2]), err)
			}
			reason, field, _ := strings.Cut(strings.TrimSpace(columns[3]), " ")
			name, namespace := c.named(kind, "told")
			c.eventually("the status", func() error {
				u, err := c.objects.Resource(loggingResource(group, kind)).Namespace(namespace).Get(t.Context(), name, metav1.GetOptions{})
				if err != nil {
					return err
				}
				conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
				if text := fmt.Sprint(conditions); !strings.Contains(text, "reason:"+reason+" ") || !strings.Contains(text, "status:False") || !strings.Contains(text, field) {
					return fmt.Errorf("%s", text)
				}
				return nil
			})
			c.remove(group, kind, namespace, name)
		})
	}
	if len(kinds) != len(NewLogging("").Resources()) {
		t.Errorf("%d kinds of %d", len(kinds), len(NewLogging("").Resources()))
	}
	text, err := c.config(c.Namespace+"-config", "fluent-bit.conf")
	if err != nil || !strings.Contains(text, "host    good") {
		t.Errorf("the good configuration: %v\n%s", err, text)
	}
}

// named is a name for a test's resource, and its namespace.
func (c *cluster) named(kind, name string) (string, string) {
	if strings.HasPrefix(kind, "Cluster") {
		return c.Namespace + "-" + name, ""
	}
	return name, c.Namespace
}

// create makes a resource that the configurations of the test select.
func (c *cluster) create(group, kind, name, spec string) error {
	var s any
	if err := yaml.Unmarshal([]byte(spec), &s); err != nil {
		c.t.Fatal(err)
	}
	gvr := loggingResource(group, kind)
	name, namespace := c.named(kind, name)
	metadata := map[string]any{"name": name, "labels": map[string]any{"for": c.Namespace}}
	if namespace != "" {
		metadata["namespace"] = namespace
	}
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": gvr.GroupVersion().String(), "kind": kind, "metadata": metadata, "spec": s}}
	_, err := c.objects.Resource(gvr).Namespace(namespace).Create(c.t.Context(), u, metav1.CreateOptions{})
	return err
}
