package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
)

// quote writes a text as CEL reads it: JSON's escapes are a part of CEL's.
func quote(s string) string {
	b, _ := json.Marshal(s) // a string always can be
	return string(b)
}

func list(all []string) string {
	parts := make([]string, len(all))
	for i, s := range all {
		parts[i] = quote(s)
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// table writes a map of texts; CEL needs to know the type of an empty one, so it is never empty.
func table(m map[string]string) string {
	parts := []string{`"": ""`}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, quote(k)+": "+quote(m[k]))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

func lists(m map[string][]string) string {
	parts := []string{`"": [""]`}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, quote(k)+": "+list(m[k]))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// labelOf is the label of an object, empty if it has none.
func labelOf(object string) string {
	ours, theirs := quote(api.LevelLabel), quote(api.TalkLabel)
	return fmt.Sprintf("!(%[1]s != null && has(%[1]s.metadata) && has(%[1]s.metadata.labels)) ? \"\" : %[2]s in %[1]s.metadata.labels ? string(%[1]s.metadata.labels[%[2]s]) : %[3]s in %[1]s.metadata.labels ? string(%[1]s.metadata.labels[%[3]s]) : \"\"",
		object, ours, theirs)
}

// variable is a named expression of a policy.
type variable struct{ name, expression string }

// common are the variables that all policies begin with.
func (c *compiler) common() []variable {
	r := c.registry
	unlabelled, _ := r.Unlabelled("")
	system, _ := r.Unlabelled("kube-system")
	fallback := quote(r.Format(unlabelled))
	if unlabelled != system {
		fallback = fmt.Sprintf(`(namespaceObject.metadata.name == "kube-system" ? %s : %s)`, quote(r.Format(system)), fallback)
	}
	return []variable{
		{"space", fmt.Sprintf(`namespaceObject == null ? "" : ("L" + (%s)) == "L" ? %s : (%s)`, labelOf("namespaceObject"), fallback, labelOf("namespaceObject"))},
		{"now", labelOf("object")},
		{"was", labelOf("oldObject")},
		{"below", lists(c.below())},
	}
}

// below are, for each label, the labels that one may name who holds it.
func (c *compiler) below() map[string][]string {
	all := map[string][]string{}
	for _, text := range c.texts {
		subject := level.ClearedFor(c.labels[text], false)
		for _, other := range c.texts {
			if !c.snapshot.Reach(subject, level.Read, level.Exactly(c.labels[other]), level.OwnLabel).Denied {
				all[text] = append(all[text], other)
			}
		}
	}
	return all
}

// requester are the variables of policies that ask what the requester is cleared for.
func (c *compiler) requester() []variable {
	classes := map[string][]string{}
	for name, texts := range c.classes {
		classes[name] = texts
	}
	return []variable{
		{"access", `request.operation == "CREATE" && (!has(request.subResource) || request.subResource == "") ? "create" : "change"`},
		{"holdings", table(c.holdings)},
		{"classes", lists(classes)},
		{"who", `("u:" + request.userInfo.username) in variables.holdings ? ["u:" + request.userInfo.username] : has(request.userInfo.groups) ? request.userInfo.groups.map(g, "g:" + g) : [""]`},
		{"every", fmt.Sprintf(`authorizer.group(%s).resource(%s).name(%s).check("change").allowed()`, quote(api.Group), quote(Resource), quote(wildcard))},
	}
}

// cleared asks whether the requester is cleared for a label. Who may do everything with labels, as administrators may with all there is, is looked
// up in the list instead.
func cleared(text, access string) string {
	return fmt.Sprintf(`(variables.every ? variables.who.exists(w, w in variables.holdings && (variables.holdings[w] + ":" + %[2]s) in variables.classes && %[1]s in variables.classes[variables.holdings[w] + ":" + %[2]s]) : authorizer.group(%[3]s).resource(%[4]s).name(%[1]s).check(%[2]s).allowed())`,
		text, access, quote(api.Group), quote(Resource))
}

type condition struct{ name, expression string }

type validation struct{ expression, message string }

type rule struct{ groups, resources, operations []string }

// policy is a ValidatingAdmissionPolicy and its binding.
type policy struct {
	name       string
	static     bool
	rules      []rule
	conditions []condition
	variables  []variable
	checks     []validation
}

func (c *compiler) validating(p policy) []*unstructured.Unstructured {
	var rules, conditions, variables, checks []any
	for _, r := range p.rules {
		rules = append(rules, map[string]any{"apiGroups": anys(r.groups), "apiVersions": []any{"*"}, "operations": anys(r.operations), "resources": anys(r.resources)})
	}
	for _, m := range p.conditions {
		conditions = append(conditions, map[string]any{"name": m.name, "expression": m.expression})
	}
	for _, v := range p.variables {
		variables = append(variables, map[string]any{"name": v.name, "expression": v.expression})
	}
	for _, v := range p.checks {
		checks = append(checks, map[string]any{"expression": v.expression, "message": "levels: " + v.message, "reason": "Forbidden"})
	}
	made := object("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", p.name)
	spec := map[string]any{"failurePolicy": "Fail", "matchConstraints": map[string]any{"matchPolicy": "Equivalent", "resourceRules": rules}, "validations": checks}
	if len(conditions) > 0 {
		spec["matchConditions"] = conditions
	}
	if len(variables) > 0 {
		spec["variables"] = variables
	}
	made.Object["spec"] = spec
	binding := object("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding", p.name)
	actions := map[api.DoorSetting][]any{api.Audit: {"Audit"}, api.Warn: {"Warn", "Audit"}, api.Enforce: {"Deny", "Audit"}}[c.options.Setting]
	if p.static {
		actions = []any{"Deny"}
	}
	binding.Object["spec"] = map[string]any{"policyName": p.name, "validationActions": actions}
	return []*unstructured.Unstructured{made, binding}
}

// unbound are the users that levels do not bind.
func (c *compiler) unbound() []condition {
	users := append([]string{"system:apiserver", "system:kube-controller-manager", "system:kube-scheduler", "system:kube-proxy"}, c.registry.Spec().Exempt...)
	return []condition{
		{"not-the-control-plane", fmt.Sprintf("!(request.userInfo.username in %s)", list(users))},
		{"not-the-system", `!request.userInfo.username.startsWith("system:serviceaccount:kube-system:")`},
		{"not-a-node-or-the-masters", `!(has(request.userInfo.groups) && ("system:masters" in request.userInfo.groups || "system:nodes" in request.userInfo.groups && request.userInfo.username.startsWith("system:node:")))`},
	}
}
