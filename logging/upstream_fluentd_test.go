package logging_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/weft-dev/weft/logging/render"
	"github.com/weft-dev/weft/logging/resource"
)

// shadowed are cases in which the operator writes several <match> with one tag side by side, of which Fluentd gives records to the first only. Here they
// become a copy output; with KeepShadowed the text is the operator's.
var shadowed = []string{"fluentd-mixed-cfgs-multi-tenant-output.cfg", "fluentd-cluster-cfg-output-order-by-index.cfg", "fluentd-cluster-cfg-output-buffer-example.cfg",
	"fluentd-cluster-cfg-output-memory-buffer.cfg", "duplicate-removal-cr-specs.cfg", "fluentd-mixed-cfgs-output-copy-3.cfg", "fluentd-mixed-cfgs-output-copy-4.cfg"}

// different are cases that differ for another reason.
var different = map[string]string{
	"fluentd-cluster-cfg-filter-recordTransformer.cfg": "it names autoTypeCast, which the definitions do not have (autoTypecast is meant): here an error",
}

// The operator's Fluentd cases: resources as YAML inside of its test's source, and the configuration that is expected.
func TestUpstreamFluentd(t *testing.T) {
	folder := filepath.Join(upstream(t), "apis/fluentd/v1alpha1/tests")
	texts, variables := literals(t, filepath.Join(folder, "tools.go"))
	cases := namedIn(t, filepath.Join(folder, "helper_test.go"))
	expected, err := filepath.Glob(filepath.Join(folder, "expected/*.cfg"))
	if err != nil || len(expected) == 0 {
		t.Fatal("no expected configurations", err)
	}
	selected, ofSelected := literals(t, filepath.Join(upstream(t), "tests/e2e/fluentd/label_selector_test.go"))
	cases["fluentd-namespaced-cfg-filter-selector.cfg"] = []string{"Fluentd", "FluentdConfigFilterOnly", "FluentdFilterGrep", "FluentdClusterOutput"}
	cases["fluentd-namespaced-cfg-filter-output-selector.cfg"] = []string{"Fluentd", "FluentdConfig", "FluentdFilter", "FluentdOutput"}
	cases["fluentd-cluster-cfg-output-custom.cfg"] = []string{"Fluentd", "FluentdClusterFluentdConfig1", "FluentdClusterOutputCustom"} // no test of the operator's uses it
	equal, copied := 0, 0
	for _, file := range expected {
		name := filepath.Base(file)
		if why := different[name]; why != "" {
			t.Logf("%s: %s", name, why)
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var objects []object
		for _, variable := range cases[name] {
			if variable == "Fluentd" && slices.ContainsFunc(cases[name], func(v string) bool { return strings.HasPrefix(v, "FluentdInput") }) {
				continue // only its namespace is used
			}
			text := texts[variables[variable]]
			if strings.HasSuffix(name, "-selector.cfg") { // whose resources are those of another test
				text = selected[ofSelected[variable]]
			}
			if text != "" {
				for part := range strings.SplitSeq("\n"+text, "\n---") {
					if o := readYAML(t, []byte(part)); o != nil {
						objects = append(objects, o)
					}
				}
			}
		}
		if name == "duplicate-removal-cr-specs.cfg" {
			objects = duplicates(t)
			// Its parsers name no key to parse, which Fluentd requires: here each is an error, and left out.
			data = regexp.MustCompile(`(?s)  <filter \*\*>\n    @id  [^\n]*filter3-0\n.*?</filter>\n`).ReplaceAll(data, nil)
		}
		want := strings.TrimRight(string(data), "\n")
		keep := slices.Contains(shadowed, name)
		if strings.HasSuffix(name, "order-by-index.cfg") { // the test sets it in Go
			for _, o := range objects {
				if o["kind"] == "ClusterFluentdConfig" {
					o["spec"].(object)["pluginSortOrder"] = "index"
				}
			}
		}
		asIs, all := app(t, objects, false, keep), app(t, objects, true, keep)
		if asIs != want && all != want {
			t.Errorf("%s (%v):\n%s", name, cases[name], diff.Diff("want", []byte(want), "got", []byte(all)))
			continue
		}
		equal++
		if keep {
			copied++
		}
	}
	t.Logf("%d of %d equal; in %d of them outputs that are shadowed become copies unless KeepShadowed is set", equal, len(expected), copied)
}

// duplicates are the resources of the operator's test of plugins that stand twice, which it makes in Go: its CreateFluentdFilterSpecs, CreateFluentdOutputSpecs and
// GlobalInputs in apis/fluentd/v1alpha1/tests/tools.go.
func duplicates(t *testing.T) []object {
	const (
		transformer = "{recordTransformer: {records: [{key: avg, value: '${record[\"total\"] / record[\"count\"]}'}, {key: message, value: 'yay, ${record[\"message\"]}'}]}}"
		grep        = `{grep: {regexp: [{key: message, pattern: /cool/}, {key: hostname, pattern: '/^web\d+\.example\.com$/'}], exclude: [{key: message, pattern: /exclude/}, {key: hostname, pattern: '/^web\d+\.error\.com$/'}]}}`
		stdout      = "{stdout: {format: {type: json}}}"
		parse       = `{parser: {parse: {type: regexp, timeFormat: '%d/%b/%Y:%H:%M:%S %z', expression: '/^(?<host>[^ ]*) [^ ]* (?<user>[^ ]*) [(?<time>[^\]]*)\] "(?<method>\S+)(?: +(?<path>[^ ]*) +\S*)?" (?<code>[^ ]*) (?<size>[^ ]*)$/'}}}`
		buffer      = "buffer: {id: common_buffer, type: file, path: /buffers/fd.log, totalLimitSize: 5GB, tag: buffertag.*}"
		forward     = "{" + buffer + ", forward: {servers: [{host: host, port: '14423'}], serviceDiscovery: {type: file, path: /sd/path}}}"
		kafka       = "{" + buffer + ", kafka: {brokers: 'broker1,broker2'}}"
		http        = "{" + buffer + ", http: {endpoint: 'http://logserver.com:9000/api', openTimeout: 2, auth: {auth: basic}}}"
		labels      = "{label0: lv0, label1: lv1, label2: lv2, label3: lv3}"
	)
	list := []object{
		readYAML(t, []byte("{apiVersion: fluentd.fluent.io/v1alpha1, kind: Fluentd, metadata: {name: f, namespace: testnamespace}, spec: {globalInputs: [{id: forward-001, label: forward-test, logLevel: info, forward: "+
			"{port: 24224, transport: {protocol: tls, certPath: /etc/td-agent/certs/fluentd.crt, privateKeyPath: /etc/td-agent/certs/fluentd.key}}}]}}")),
		readYAML(t, []byte("{apiVersion: fluentd.fluent.io/v1alpha1, kind: ClusterFluentdConfig, metadata: {name: clusterfluentdconfig0}, spec: {watchedNamespaces: [ns1, ns2], watchedLabels: "+labels+"}}")),
		readYAML(t, []byte("{apiVersion: fluentd.fluent.io/v1alpha1, kind: FluentdConfig, metadata: {name: fluentdconfig0, namespace: testnamespace}, spec: {watchedLabels: "+labels+"}}")),
	}
	for i, filters := range []string{transformer + ", " + grep, transformer + ", " + stdout, parse + ", " + stdout} {
		for _, cluster := range []string{"cluster", ""} {
			list = append(list, readYAML(t, fmt.Appendf(nil, "{apiVersion: fluentd.fluent.io/v1alpha1, kind: %s, metadata: {name: %sfilter%d, namespace: %q}, spec: {filters: [%s]}}",
				kindOf(cluster, "Filter"), cluster, i+1, namespaceOf(cluster), filters)))
		}
	}
	for i, outputs := range []string{forward + ", " + kafka, forward + ", " + http, http + ", " + kafka} {
		for _, cluster := range []string{"cluster", ""} {
			list = append(list, readYAML(t, fmt.Appendf(nil, "{apiVersion: fluentd.fluent.io/v1alpha1, kind: %s, metadata: {name: %soutput%d, namespace: %q}, spec: {outputs: [%s]}}",
				kindOf(cluster, "Output"), cluster, i+1, namespaceOf(cluster), outputs)))
		}
	}
	return list
}

func kindOf(cluster, kind string) string {
	if cluster != "" {
		return "Cluster" + kind
	}
	return kind
}

func namespaceOf(cluster string) string {
	if cluster != "" {
		return ""
	}
	return "testnamespace"
}

// literals are the string constants of a Go file, and for each variable the constant that is parsed into it.
func literals(t *testing.T, path string) (map[string]string, map[string]string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	texts, variables := map[string]string{}, map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ValueSpec:
			for i, name := range n.Names {
				if i < len(n.Values) {
					if lit, ok := n.Values[i].(*ast.BasicLit); ok && lit.Kind == token.STRING {
						texts[name.Name], _ = strconv.Unquote(lit.Value)
					}
				}
			}
		case *ast.CallExpr:
			f, _ := n.Fun.(*ast.Ident)
			if of, ok := n.Fun.(*ast.SelectorExpr); ok {
				f = of.Sel
			}
			if f != nil && f.Name == "MustParseIntoObject" && len(n.Args) == 2 {
				raw, ok1 := n.Args[0].(*ast.Ident)
				pointer, ok2 := n.Args[1].(*ast.UnaryExpr)
				if ok1 && ok2 {
					if v, ok := pointer.X.(*ast.Ident); ok {
						variables[v.Name] = raw.Name
					}
				}
			}
		}
		return true
	})
	return texts, variables
}

var expectedFile = regexp.MustCompile(`expected/([\w.-]+\.cfg)`)

// namedIn are the variables that the test function of an expected file names, in order.
func namedIn(t *testing.T, path string) map[string][]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		var names []string
		want := ""
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Ident:
				if !slices.Contains(names, n.Name) {
					names = append(names, n.Name)
				}
			case *ast.BasicLit:
				if m := expectedFile.FindStringSubmatch(n.Value); m != nil {
					want = m[1]
				}
			}
			return true
		})
		if want != "" {
			all[want] = names
		}
	}
	return all
}

// app renders, with the selectors as they are or with such that select everything.
func app(t *testing.T, objects []object, everything, keep bool) string {
	t.Helper()
	var documents []*resource.Document
	for _, o := range objects {
		copied := maps.Clone(o)
		if spec, ok := o["spec"].(object); ok {
			spec = maps.Clone(spec)
			copied["spec"] = spec
			switch o["kind"] {
			case "Fluentd":
				spec["fluentdCfgSelector"] = object{}
			case "ClusterFluentdConfig", "FluentdConfig":
				if everything {
					for _, s := range []string{"clusterInputSelector", "clusterFilterSelector", "clusterOutputSelector", "inputSelector", "filterSelector", "outputSelector"} {
						if o["kind"] == "FluentdConfig" || strings.HasPrefix(s, "cluster") {
							spec[s] = object{}
						}
					}
				}
			}
		}
		documents = append(documents, resource.New(copied, nil))
	}
	set := resource.NewSet(documents)
	c := render.Compiler{Found: secretsAnywhere{resource.FoundIn(set), set}, Namespace: "fluent"}
	routers := c.Fluentd(set)
	if len(routers) != 1 {
		return ""
	}
	for _, p := range routers[0].Problems {
		if p.Severity == resource.Error {
			t.Log(p)
		}
	}
	routers[0].KeepShadowed = keep
	text, err := routers[0].App()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// secretsAnywhere finds Secrets in any namespace: the cases' Secrets have none.
type secretsAnywhere struct {
	resource.Found
	set *resource.Set
}

func (s secretsAnywhere) Lookup(r resource.Reference) (string, bool) {
	for _, d := range s.set.Kind("v1", "Secret") {
		r.Namespace = d.Namespace
		if value, ok := s.Found.Lookup(r); ok {
			return value, true
		}
	}
	return "", false
}
