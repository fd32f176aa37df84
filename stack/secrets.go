package stack

import (
	"encoding/base64"

	"github.com/weft-dev/weft/stack/config"
	"github.com/weft-dev/weft/stack/spec"
)

// secretLength is how many letters and digits a made-up secret has.
const secretLength = 54

// secrets makes the Secrets of a workload.
func (g *generation) secrets(n config.Node) {
	n.Sorted(func(name string, v config.Node) {
		kind := v.Required("type").Text()
		data, generated := map[string]any{}, []string{}
		value := func(key string) string {
			if f := v.Field("data").Field(key); f.Is() {
				return f.Text()
			}
			return ""
		}
		make := func(keys ...string) { // values that nobody gave are made up
			for _, key := range keys {
				text := value(key)
				if text == "" && g.Random != nil {
					text, generated = g.Random(secretLength), append(generated, key)
				}
				data[key] = encode(text)
			}
		}
		types := map[string]string{"basic": "kubernetes.io/basic-auth", "token": "Opaque", "opaque": "Opaque", "certificate": "kubernetes.io/tls", "external": "Opaque"}
		switch kind {
		case "basic":
			make("username", "password")
		case "token":
			make("token")
		case "certificate":
			for _, key := range []string{"tls.crt", "tls.key"} {
				if v.Field("data").Field(key).Is() {
					data[key] = encode(value(key))
				}
			}
		case "opaque", "external":
			v.Field("data").Each(func(key string, f config.Node) {
				data[key] = encode(f.Text())
				if kind == "external" {
					g.checkReference(f)
				}
			})
			if kind == "external" && g.Workspace.SecretStore == nil {
				v.FailWith("Add one to the workspace: secretStore.provider.", "takes its values from a store of secrets, and the workspace %s has none", g.Workspace.Name)
			}
		default:
			if v.Field("type").Is() {
				v.Field("type").Fail("must be basic, token, opaque, certificate or external, got %q", kind)
			}
		}
		o := map[string]any{
			"apiVersion": "v1", "kind": "Secret", "immutable": v.Field("immutable").Bool(), "type": types[kind],
			"metadata": map[string]any{"creationTimestamp": nil, "name": name, "namespace": g.namespace},
		}
		if len(data) > 0 {
			o["data"] = data
		}
		r := spec.Object(o)
		r.Origin, r.Generated = v.Place(), generated
		g.add(r)
	})
}

func (g *generation) checkReference(n config.Node) {
	if text := n.Text(); spec.IsSecretRef(text) {
		if _, err := spec.ParseSecretRef(text); err != nil {
			n.Fail("%v", err)
		}
	}
}

func encode(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
