package policy

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
)

var every = []string{"CREATE", "UPDATE", "DELETE", "CONNECT"}

// writes are the policies about who writes and connects where, and which labels he gives.
func (c *compiler) writes() []*unstructured.Unstructured {
	top := quote(c.registry.Format(c.snapshot.Everything().High))
	var guarded []string
	for _, k := range level.Guarded() {
		if k.Group != "admissionregistration.k8s.io" { // never seen by policies
			guarded = append(guarded, strings.TrimSuffix(k.Resource+"."+k.Group, "."))
		}
	}
	variables := append(c.common(), c.requester()...)
	variables = append(variables,
		variable{"kind", `request.resource.resource + (request.resource.group == "" ? "" : "." + request.resource.group)`},
		variable{"sub", `has(request.subResource) ? request.subResource : ""`},
		variable{"guarded", fmt.Sprintf(`variables.kind in %s || variables.kind == "nodes" && variables.sub == "proxy" || variables.kind == "certificatesigningrequests.certificates.k8s.io" && (variables.sub != "" || request.operation != "CREATE")`, list(guarded))},
		variable{"isNamespace", `variables.kind == "namespaces"`},
	)
	checks := []validation{
		{`variables.space == "" || variables.isNamespace || ` + cleared("variables.space", "variables.access"), "your clearance does not reach for this namespace"},
		{`variables.now == "" || ` + cleared("variables.now", "variables.access"), "you cannot give an object a level that you are not cleared for"},
		{`variables.was == "" || ` + cleared("variables.was", `"change"`), "your clearance does not reach for this"},
		{`!variables.guarded || ` + cleared(top, `"change"`), "this kind gives power over everything"},
		{fmt.Sprintf(`!(object != null && has(object.metadata) && has(object.metadata.labels) && %[1]s in object.metadata.labels && %[2]s in object.metadata.labels) || object.metadata.labels[%[1]s] == object.metadata.labels[%[2]s]`, quote(api.LevelLabel), quote(api.TalkLabel)),
			"the two labels of the level differ: remove one of them"},
	}
	if c.registry.Spec().Mode == api.Authority {
		checks = append(checks, validation{`variables.isNamespace || variables.space == "" || variables.now == "" || variables.now == variables.was || variables.space in variables.below && variables.now in variables.below[variables.space]`,
			"an object cannot be above its namespace"})
	}
	made := c.validating(policy{name: prefix + "writes", rules: []rule{{[]string{"*"}, []string{"*/*"}, every}}, conditions: c.unbound(), variables: variables, checks: checks})
	// The agent of a node is not bound by levels, but does not say what level its node has.
	nodes := policy{name: prefix + "nodes", rules: []rule{{[]string{""}, []string{"nodes", "nodes/*"}, []string{"CREATE", "UPDATE"}}},
		conditions: []condition{{"an-agent", `request.userInfo.username.startsWith("system:node:")`}},
		variables:  []variable{{"now", labelOf("object")}, {"was", labelOf("oldObject")}},
		checks:     []validation{{`variables.now == variables.was`, "the agent of a node does not say what level the node has"}}}
	return append(made, c.validating(nodes)...)
}

// guard are the static policies: nobody but guardians changes the objects of levels, whatever rights he has.
func (c *compiler) guard() []*unstructured.Unstructured {
	users := append([]string{"system:apiserver"}, c.registry.Spec().Exempt...)
	users = append(users, c.options.Guardians...)
	mark := fmt.Sprintf(`(variables.it != null && has(variables.it.metadata.labels) && %[1]s in variables.it.metadata.labels)`, quote(PartLabel))
	changes := []string{"CREATE", "UPDATE", "DELETE"}
	return c.validating(policy{
		name: "weft-levels-guard.static.k8s.io", static: true,
		rules: []rule{
			{[]string{"admissionregistration.k8s.io"}, []string{"*"}, []string{"UPDATE", "DELETE"}},
			{[]string{"rbac.authorization.k8s.io"}, []string{"clusterroles", "clusterrolebindings"}, changes},
			{[]string{api.Group}, []string{"*/*"}, changes},
			{[]string{"apiextensions.k8s.io"}, []string{"customresourcedefinitions", "customresourcedefinitions/*"}, []string{"UPDATE", "DELETE"}},
		},
		conditions: []condition{
			{"no-guardian", fmt.Sprintf("!(request.userInfo.username in %s)", list(users))},
		},
		variables: []variable{
			{"it", "oldObject != null ? oldObject : object"},
			{"ours", fmt.Sprintf(`request.resource.group == %[1]s || request.resource.group == "apiextensions.k8s.io" && request.name.endsWith("." + %[1]s) || request.resource.group == "admissionregistration.k8s.io" && (%[2]s || request.name.startsWith(%[3]s)) || request.resource.group == "rbac.authorization.k8s.io" && (%[2]s || request.name.startsWith(%[4]s))`,
				quote(api.Group), mark, quote(prefix), quote(rolePrefix))},
			// The API server itself keeps the state of definitions.
			{"state", `has(request.subResource) && request.subResource == "status"`},
		},
		checks: []validation{{`!variables.ours || variables.state && request.resource.group == "apiextensions.k8s.io"`, "this object belongs to levels, and only their guardians change it"}},
	})
}
