package policy

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level/reference"
)

// placement is the policy that tells the scheduler which nodes a pod may run on: a required affinity to nodes by the labels that the
// registry's placement allows, as a list of names, since levels are no numbers. Every term that the pod has already is narrowed.
func (c *compiler) placement() []*unstructured.Unstructured {
	unlabelled := c.texts[0]
	for _, text := range c.texts {
		if c.labels[text] == (c.labels[unlabelled].Meet(c.labels[text])) {
			unlabelled = text
		}
	}
	allowed := map[string][]string{}
	for _, pod := range c.texts {
		allowed[pod] = []string{}
		for _, node := range c.texts {
			p, n := c.labels[pod], c.labels[node]
			below, above := p.Dominates(n), n.Dominates(p)
			switch c.registry.Spec().Placement {
			case api.AtLeast:
				below = true
			case api.Equal:
			default:
				above = true
			}
			if below && above {
				allowed[pod] = append(allowed[pod], node)
			}
		}
	}
	var plain []string // pods that may run on nodes without a label, which are on the lowest level
	for _, pod := range c.texts {
		if slices.Contains(allowed[pod], unlabelled) {
			plain = append(plain, pod)
		}
	}
	keys := []string{api.LevelLabel, api.TalkLabel, reference.NodeLevelLabel}
	variables := append(c.common(), c.holder(),
		variable{"allowed", lists(allowed)},
		variable{"fitting", fmt.Sprintf(`variables.holder in variables.allowed ? variables.allowed[variables.holder] : [%q]`, "level.weft.dev-none")},
		variable{"affinity", `has(object.spec.affinity) && has(object.spec.affinity.nodeAffinity)`},
		variable{"terms", `variables.affinity && has(object.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution) ? object.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms : []`},
	)
	term := "Object.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
	// Each way is one key that carries the level, or none of them.
	var ways []string
	expression := term + ".matchExpressions"
	for i, key := range keys {
		way := fmt.Sprintf(`%s{key: %s, operator: "In", values: variables.fitting}`, expression, quote(key))
		for _, other := range keys[:i] {
			way += fmt.Sprintf(`, %s{key: %s, operator: "DoesNotExist"}`, expression, quote(other))
		}
		ways = append(ways, "["+way+"]")
	}
	none := ""
	for i, key := range keys {
		if i > 0 {
			none += ", "
		}
		none += fmt.Sprintf(`%s{key: %s, operator: "DoesNotExist"}`, expression, quote(key))
	}
	build := func(way string) string {
		return fmt.Sprintf(`(variables.terms.size() == 0 ? [%[1]s{matchExpressions: %[2]s}] : variables.terms.map(t, %[1]s{matchExpressions: (has(t.matchExpressions) ? t.matchExpressions.map(e, has(e.values) ? %[3]s{key: e.key, operator: e.operator, values: e.values} : %[3]s{key: e.key, operator: e.operator}) : []) + %[2]s, ?matchFields: has(t.matchFields) ? optional.of(t.matchFields.map(f, %[1]s.matchFields{key: f.key, operator: f.operator, values: f.values})) : optional.none()}))`,
			term, way, expression)
	}
	all := ""
	for i, way := range ways {
		if i > 0 {
			all += " + "
		}
		all += build(way)
	}
	all += fmt.Sprintf(" + (variables.holder in %s ? %s : [])", list(append(plain, "")), build("["+none+"]"))
	// Lists of terms are replaced as a whole, which an apply configuration may not do.
	patch := fmt.Sprintf(`(has(object.spec.affinity) ? [] : [JSONPatch{op: "add", path: "/spec/affinity", value: Object.spec.affinity{}}]) + (variables.affinity ? [] : [JSONPatch{op: "add", path: "/spec/affinity/nodeAffinity", value: Object.spec.affinity.nodeAffinity{}}])`+
		` + [JSONPatch{op: "add", path: "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution", value: Object.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution{nodeSelectorTerms: %s}}]`, all)
	policy := object("admissionregistration.k8s.io/v1", "MutatingAdmissionPolicy", prefix+"placement")
	var written []any
	for _, v := range variables {
		written = append(written, map[string]any{"name": v.name, "expression": v.expression})
	}
	policy.Object["spec"] = map[string]any{
		"failurePolicy": "Fail", "reinvocationPolicy": "Never",
		"matchConstraints": map[string]any{"matchPolicy": "Equivalent", "resourceRules": []any{map[string]any{"apiGroups": []any{""}, "apiVersions": []any{"v1"}, "operations": []any{"CREATE"}, "resources": []any{"pods"}}}},
		"matchConditions": []any{
			map[string]any{"name": "not-in-the-system", "expression": `!has(request.namespace) || request.namespace != "kube-system"`},
			map[string]any{"name": "not-of-a-node", "expression": `!request.userInfo.username.startsWith("system:node:")`},
		},
		"variables": written,
		"mutations": []any{map[string]any{"patchType": "JSONPatch", "jsonPatch": map[string]any{"expression": patch}}},
	}
	binding := object("admissionregistration.k8s.io/v1", "MutatingAdmissionPolicyBinding", prefix+"placement")
	binding.Object["spec"] = map[string]any{"policyName": prefix + "placement"}
	if c.options.Setting != api.Enforce { // it has no setting between: pods would change where they run
		return nil
	}
	return []*unstructured.Unstructured{policy, binding}
}
