package stack

import (
	"encoding/json"
	"maps"
	"slices"

	jsonpatch "github.com/evanphx/json-patch/v5"

	"github.com/weft-dev/weft/stack/config"
	"github.com/weft-dev/weft/stack/module"
	"github.com/weft-dev/weft/stack/spec"
)

// removal is the value that takes a label, an annotation or a variable away.
const removal = "ops://kusionstack.io/remove"

// The types of patches of any resource.
const (
	mergePatch = "MergePatch"
	jsonPatch  = "JSONPatch"
)

// patch changes the workload, and other resources, as a module asks.
func (g *generation) patch(n config.Node, workload *spec.Resource, p *module.Patcher) {
	if workload != nil {
		patchWorkload(workload.Attributes, p)
	}
	for _, id := range slices.Sorted(maps.Keys(p.JSON)) {
		i := slices.IndexFunc(g.spec.Resources, func(r spec.Resource) bool { return r.ID == id })
		if i < 0 {
			g.warnings = append(g.warnings, n.Place().String()+": a patch is for "+id+", which is not made")
			continue
		}
		patched, err := patchJSON(g.spec.Resources[i].Attributes, p.JSON[id])
		if err != nil {
			n.Fail("a patch for %s cannot be applied: %v", id, err)
			continue
		}
		g.spec.Resources[i].Attributes = patched
	}
}

func patchWorkload(o map[string]any, p *module.Patcher) {
	mergeTexts(child(o, "metadata"), "labels", p.Labels)
	mergeTexts(child(o, "metadata"), "annotations", p.Annotations)
	template := child(child(o, "spec"), "template")
	if job, ok := child(o, "spec")["jobTemplate"].(map[string]any); ok {
		template = child(child(job, "spec"), "template")
	}
	mergeTexts(child(template, "metadata"), "labels", p.PodLabels)
	mergeTexts(child(template, "metadata"), "annotations", p.PodAnnotations)
	containers, _ := child(template, "spec")["containers"].([]any)
	for _, c := range containers {
		if c, ok := c.(map[string]any); ok && len(p.Environments) > 0 {
			c["env"] = patchEnvironment(c["env"], p.Environments)
		}
	}
}

// child is a map in a map, made if it is not there.
func child(m map[string]any, name string) map[string]any {
	if c, ok := m[name].(map[string]any); ok {
		return c
	}
	c := map[string]any{}
	m[name] = c
	return c
}

// mergeTexts sets or removes labels, annotations and the like.
func mergeTexts(m map[string]any, field string, texts map[string]string) {
	if len(texts) == 0 {
		return
	}
	had, _ := m[field].(map[string]any)
	next := maps.Clone(had) // pods and workload may share it
	if next == nil {
		next = map[string]any{}
	}
	for name, text := range texts {
		if text == removal {
			delete(next, name)
			continue
		}
		next[name] = text
	}
	m[field] = next
}

// patchEnvironment puts variables before those of a container, each before the last, so that the container's own may refer to them.
func patchEnvironment(env any, patch []map[string]any) []any {
	list, _ := env.([]any)
	list = slices.Clone(list)
	for _, e := range patch {
		if e["value"] == removal {
			list = slices.DeleteFunc(list, func(v any) bool {
				m, ok := v.(map[string]any)
				return ok && m["name"] == e["name"]
			})
		}
	}
	for _, e := range patch {
		if e["value"] != removal {
			list = slices.Insert(list, 0, any(maps.Clone(e)))
		}
	}
	return list
}

func patchJSON(attributes map[string]any, p module.JSONPatch) (map[string]any, error) {
	before, err := json.Marshal(attributes)
	if err != nil {
		return nil, err
	}
	var after []byte
	switch p.Type {
	case mergePatch:
		after, err = jsonpatch.MergePatch(before, p.Payload)
	case jsonPatch:
		var patch jsonpatch.Patch
		if patch, err = jsonpatch.DecodePatch(p.Payload); err == nil {
			o := jsonpatch.NewApplyOptions()
			o.AllowMissingPathOnRemove, o.EnsurePathExistsOnAdd = true, true // as upstream
			after, err = patch.ApplyWithOptions(before, o)
		}
	default:
		err = &config.Problem{What: "its type must be " + mergePatch + " or " + jsonPatch + ", got " + p.Type}
	}
	if err != nil {
		return nil, err
	}
	tree, err := config.ParseYAML("", after) // JSON is YAML, and whole numbers stay whole
	if err != nil {
		return nil, err
	}
	m, _ := tree.Plain().(map[string]any)
	return m, nil
}
