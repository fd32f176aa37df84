package main

import (
	"fmt"
	"strings"
)

// testCase is one configuration in several languages.
type testCase struct {
	name, file string
	text       map[string]string
	flags      []string
}

func cases(k8s string) []testCase {
	list := []testCase{
		{name: "10,000 entries by a comprehension with a lambda", file: "dict", text: map[string]string{
			"kcl": `a = lambda x: int -> int {
    max([1, x])
}
temp = {"a${i}": a(1) for i in range(10000)}
`,
			"cue": `import "list"
temp: {for i in list.Range(0, 10000, 1) {"a\(i)": list.Max([1, 1])}}
`,
			"jsonnet": `local a(x) = std.max(1, x);
{ temp: { ["a" + i]: a(1) for i in std.range(0, 9999) } }
`,
		}},
		{name: "500 instances of a schema with checks and a nested schema", file: "schema", text: schemas(500)},
		{name: "schemas nested 24 deep", file: "nested", text: nested(24)},
		{name: "a configuration of 100,000 lines", file: "lines", text: lines(100_000)},
	}
	if k8s == "" {
		return list
	}
	flags := []string{"-E", "k8s=" + k8s}
	return append(list,
		testCase{name: "one apps.v1.Deployment of package k8s", file: "one", flags: flags, text: map[string]string{"kcl": deployments(1, "apps.Deployment ")}},
		testCase{name: "500 apps.v1.Deployments of package k8s", file: "many", flags: flags, text: map[string]string{"kcl": deployments(500, "apps.Deployment ")}},
		testCase{name: "the same 500 as plain dicts", file: "plain", text: map[string]string{"kcl": deployments(500, "")}},
	)
}

func schemas(n int) map[string]string {
	return map[string]string{
		"kcl": fmt.Sprintf(`schema Port:
    port: int
    protocol: "TCP" | "UDP" = "TCP"

schema App:
    name: str
    replicas: int = 1
    labels: {str:str}
    ports: [Port]

    check:
        replicas < 100, "too many"
        len(name) > 0

apps = [App {
    name = "app-${i}"
    replicas = i %% 50
    labels = {app = "app-${i}", tier = "web"}
    ports = [{port = 80}, {port = 443}]
} for i in range(%d)]
`, n),
		"cue": fmt.Sprintf(`import ("list", "strings")
#Port: {port: int, protocol: *"TCP" | "UDP"}
#App: {
	name:     strings.MinRunes(1)
	replicas: *1 | (int & <100)
	labels: [string]: string
	ports: [...#Port]
}
apps: [for i in list.Range(0, %d, 1) {#App & {
	name: "app-\(i)"
	replicas: mod(i, 50)
	labels: {app: "app-\(i)", tier: "web"}
	ports: [{port: 80}, {port: 443}]
}}]
`, n),
		"jsonnet": fmt.Sprintf(`local Port(p) = { port: p, protocol: "TCP" };
local App = { name: error "name", replicas: 1, labels: {}, ports: [], assert self.replicas < 100 : "too many", assert std.length(self.name) > 0 };
{ apps: [App { name: "app-" + i, replicas: i %% 50, labels: { app: "app-" + i, tier: "web" }, ports: [Port(80), Port(443)] } for i in std.range(0, %d - 1)] }
`, n),
	}
}

func nested(depth int) map[string]string {
	var kcl, kclBody, cue, cueBody strings.Builder
	kcl.WriteString("schema S0:\n    x: int = 1\n")
	cue.WriteString("#S0: {x: int | *1}\n")
	for i := 1; i < depth; i++ {
		fmt.Fprintf(&kcl, "schema S%d:\n    x: int = 1\n    inner: S%d\n", i, i-1)
		fmt.Fprintf(&cue, "#S%d: {x: int | *1, inner: #S%d}\n", i, i-1)
	}
	fmt.Fprintf(&kclBody, "S%d {", depth-1)
	for range depth - 1 {
		kclBody.WriteString("inner: {")
		cueBody.WriteString("inner: {")
	}
	kclBody.WriteString("x = 2" + strings.Repeat("}", depth))
	cueBody.WriteString("x: 2" + strings.Repeat("}", depth-1))
	jsonnet := "local S = { x: 1 };\n{ a: S {" + strings.Repeat("inner: S {", depth-1) + "x: 2" + strings.Repeat("}", depth) + " }\n"
	return map[string]string{
		"kcl": kcl.String() + "a = " + kclBody.String() + "\n", "jsonnet": jsonnet,
		"cue": cue.String() + fmt.Sprintf("a: #S%d & {%s}\n", depth-1, cueBody.String()),
	}
}

func lines(n int) map[string]string {
	var kcl, cue, jsonnet strings.Builder
	jsonnet.WriteString("{\n")
	for i := range n / 5 {
		fmt.Fprintf(&kcl, "item%d = {\n    name = \"item-%d\"\n    size = %d\n    on = True\n}\n", i, i, i)
		fmt.Fprintf(&cue, "item%d: {\n    name: \"item-%d\"\n    size: %d\n    on: true\n}\n", i, i, i)
		fmt.Fprintf(&jsonnet, "item%d: {\n    name: \"item-%d\",\n    size: %d,\n    on: true,\n},\n", i, i, i)
	}
	jsonnet.WriteString("}\n")
	return map[string]string{"kcl": kcl.String(), "cue": cue.String(), "jsonnet": jsonnet.String()}
}

func deployments(n int, schema string) string {
	head := ""
	if schema != "" {
		head = "import k8s.api.apps.v1 as apps\n\n"
	}
	return head + fmt.Sprintf(`items = [%s{
    apiVersion = "apps/v1"
    kind = "Deployment"
    metadata = {name = "app-${i}", labels = {app = "app-${i}"}}
    spec = {
        replicas = 2
        selector = {matchLabels = {app = "app-${i}"}}
        template = {
            metadata = {labels = {app = "app-${i}"}}
            spec = {
                containers = [{
                    name = "main"
                    image = "nginx:1.27"
                    ports = [{containerPort = 80}]
                    resources = {limits = {cpu = "1", memory = "256Mi"}}
                }]
            }
        }
    }
} for i in range(%d)]
`, schema, n)
}
