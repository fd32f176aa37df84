package resource

import "encoding/base64"

// FoundIn finds the content of references in the Secrets and ConfigMaps of a set.
func FoundIn(set *Set) Found {
	found := FoundMap{}
	add := func(d *Document, field string, encoded bool) {
		data, _ := d.Object[field].(map[string]any)
		for key, value := range data {
			text, ok := value.(string)
			if encoded {
				decoded, err := base64.StdEncoding.DecodeString(text)
				if ok = ok && err == nil; ok {
					text = string(decoded)
				}
			}
			if ok {
				found[Reference{Kind: d.Kind, Namespace: d.Namespace, Name: d.Name, Key: key}] = text
			}
		}
	}
	for _, d := range set.All() {
		if d.Group != "v1" {
			continue
		}
		switch d.Kind {
		case "Secret":
			add(d, "data", true)
			add(d, "stringData", false)
		case "ConfigMap":
			add(d, "data", false)
		}
	}
	return found
}
