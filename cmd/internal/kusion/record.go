package kusion

import (
	"encoding/base64"
	"time"

	"github.com/weft-dev/weft/stack/spec"
)

// Outcome is what came of an apply or a destroy.
type Outcome struct {
	Project, Stack, Workspace string
	Destroyed                 bool
	Spec                      *spec.Spec
	// Made are the ids of what exists now, by what the engine's state holds.
	Made   map[string]bool
	Failed bool
	Now    time.Time
	// Revision is that of the engine's state, 0 if there is none.
	Revision uint64
}

// Record writes a release that upstream reads: its state holds what exists and nothing else, also after a failure, and no value of a
// Secret.
func (r *Releases) Record(o Outcome) error {
	release := &spec.Release{Project: o.Project, Workspace: o.Workspace, Stack: o.Stack, Revision: r.Latest() + 1, Phase: spec.Succeeded,
		State: &spec.State{Resources: []spec.Resource{}}, CreateTime: o.Now, ModifiedTime: o.Now}
	if o.Failed {
		release.Phase = spec.Failed
	}
	if o.Revision > 0 {
		release.Weft = &spec.WeftNote{Revision: o.Revision}
	}
	release.Spec = &spec.Spec{Resources: []spec.Resource{}}
	var before []spec.Resource
	if latest := r.Latest(); latest > 0 {
		last, err := r.Get(latest)
		if err != nil {
			return err
		}
		before = last.State.Resources
	}
	written := map[string]bool{}
	if o.Spec != nil {
		release.Spec.SecretStore, release.Spec.Context = o.Spec.SecretStore, o.Spec.Context
		for _, resource := range o.Spec.Resources {
			hidden := hideSecrets(resource)
			if !o.Destroyed {
				release.Spec.Resources = append(release.Spec.Resources, hidden)
			}
			if o.Made[resource.ID] {
				release.State.Resources = append(release.State.Resources, hidden)
				written[resource.ID] = true
			}
		}
	}
	for _, resource := range before { // no longer wanted and not gone yet
		if o.Made[resource.ID] && !written[resource.ID] {
			release.State.Resources = append(release.State.Resources, resource)
		}
	}
	return r.Put(release, true)
}

// hiddenValue stands for a value of a Secret in files. Upstream only compares with it.
const hiddenValue = "(sensitive)"

// hideSecrets takes the values of a Secret out, except for those that stand for a value kept elsewhere.
func hideSecrets(r spec.Resource) spec.Resource {
	if r.Kind() != "Secret" {
		return r
	}
	attributes := map[string]any{}
	for k, v := range r.Attributes {
		attributes[k] = v
	}
	for field, encoded := range map[string]bool{"data": true, "stringData": false} {
		values, ok := attributes[field].(map[string]any)
		if !ok {
			continue
		}
		hidden := map[string]any{}
		for key, v := range values {
			text, _ := v.(string)
			plain, value := text, hiddenValue
			if encoded {
				if b, err := base64.StdEncoding.DecodeString(text); err == nil {
					plain = string(b)
				}
				value = base64.StdEncoding.EncodeToString([]byte(hiddenValue))
			}
			if spec.IsSecretRef(plain) {
				value = text
			}
			hidden[key] = value
		}
		attributes[field] = hidden
	}
	r.Attributes = attributes
	return r
}
