package reference

import (
	"fmt"
	"strings"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
)

// finder collects the references of one object.
type finder struct {
	object *Object
	look   Lookup
	path   []string // of the value at hand, joined when something is found
	values int
	found  []Reference
	err    error
}

func find(o *Object, content map[string]any, look Lookup) ([]Reference, error) {
	f := &finder{object: o, look: look}
	f.metadata(content)
	if special, ok := specials[o.Resource]; ok {
		special(f, content)
	} else {
		f.generic(content)
	}
	if look.Paths != nil {
		for _, p := range look.Paths(o.Resource) {
			f.declared(content, p)
		}
	}
	return f.found, f.err
}

// generic walks through everything but what no kind uses to name objects.
func (f *finder) generic(content map[string]any) {
	for name, value := range content {
		switch name {
		case "apiVersion", "kind", "metadata", "status":
		default:
			f.in(name, func() { f.walk(name, value, false, 0) })
		}
	}
}

// in runs do with a longer path.
func (f *finder) in(segment string, do func()) {
	f.path = append(f.path, segment)
	do()
	f.path = f.path[:len(f.path)-1]
}

func (f *finder) at(more ...string) string {
	var b strings.Builder
	for _, p := range append(f.path[:len(f.path):len(f.path)], more...) {
		if b.Len() > 0 && !strings.HasPrefix(p, "[") {
			b.WriteByte('.')
		}
		b.WriteString(p)
	}
	return b.String()
}

func (f *finder) add(r Reference) {
	if len(f.found) >= maxFound {
		f.err = ErrTooLarge
		return
	}
	f.found = append(f.found, r)
}

// walk looks at a value and all below it. inPod says that the value is part of a pod's specification.
func (f *finder) walk(name string, value any, inPod bool, depth int) {
	if f.values++; f.values > maxValues || depth > maxDepth {
		f.err = ErrTooLarge
	}
	if f.err != nil {
		return
	}
	switch v := value.(type) {
	case map[string]any:
		if isPodSpec(v) {
			inPod = true
			f.pod(v)
		}
		f.names(name, v)
		for k, below := range v {
			if inPod && k == "labels" {
				continue
			}
			f.in(segment(k), func() {
				f.field(k, below, v, inPod)
				f.walk(k, below, inPod, depth+1)
			})
			if f.err != nil {
				return
			}
		}
	case []any:
		for i, below := range v {
			f.in(fmt.Sprintf("[%d]", i), func() {
				if m, ok := below.(map[string]any); ok {
					f.item(name, m)
				} else if s, ok := below.(string); ok && (name == "imagePullSecrets" || name == "secretNames") {
					f.named(secrets, s, f.object.Namespace, Reads)
				}
				f.walk("", below, inPod, depth+1)
			})
			if f.err != nil {
				return
			}
		}
	}
}

// segment is a key as part of a path.
func segment(k string) string {
	if strings.ContainsAny(k, "./[") {
		return "[" + k + "]"
	}
	return k
}

var (
	secrets         = level.Kind{Resource: "secrets"}
	configMaps      = level.Kind{Resource: "configmaps"}
	services        = level.Kind{Resource: "services"}
	serviceAccounts = level.Kind{Resource: "serviceaccounts"}
	claims          = level.Kind{Resource: "persistentvolumeclaims"}
	volumes         = level.Kind{Resource: "persistentvolumes"}
	pods            = level.Kind{Resource: "pods"}
	nodes           = level.Kind{Resource: "nodes"}
)

// byField are fields whose text is the name of an object, in every kind.
var byField = map[string]level.Kind{
	"secretName":                secrets,
	"configMapName":             configMaps,
	"claimName":                 claims,
	"persistentVolumeName":      volumes,
	"serviceName":               services,
	"storageClassName":          {Group: "storage.k8s.io", Resource: "storageclasses"},
	"volumeAttributesClassName": {Group: "storage.k8s.io", Resource: "volumeattributesclasses"},
	"priorityClassName":         {Group: "scheduling.k8s.io", Resource: "priorityclasses"},
	"runtimeClassName":          {Group: "node.k8s.io", Resource: "runtimeclasses"},
	"ingressClassName":          {Group: "networking.k8s.io", Resource: "ingressclasses"},
	"gatewayClassName":          {Group: "gateway.networking.k8s.io", Resource: "gatewayclasses"},
	"deviceClassName":           {Group: "resource.k8s.io", Resource: "deviceclasses"},
	"resourceClaimName":         {Group: "resource.k8s.io", Resource: "resourceclaims"},
	"resourceClaimTemplateName": {Group: "resource.k8s.io", Resource: "resourceclaimtemplates"},
	"volumeSnapshotName":        {Group: "snapshot.storage.k8s.io", Resource: "volumesnapshots"},
	"volumeSnapshotContentName": {Group: "snapshot.storage.k8s.io", Resource: "volumesnapshotcontents"},
	"volumeSnapshotClassName":   {Group: "snapshot.storage.k8s.io", Resource: "volumesnapshotclasses"},
}

// clusterWide are kinds of byField that live in no namespace.
func clusterWide(k level.Kind) bool {
	switch {
	case strings.HasSuffix(k.Resource, "classes"), k == volumes, k == nodes, k.Resource == "volumesnapshotcontents":
		return true
	}
	return false
}

// byEnding are endings of fields that hold an object with a name.
var byEnding = []struct {
	ending string
	kind   level.Kind
}{
	{"secretref", secrets}, {"secretkeyref", secrets}, {"configmapref", configMaps}, {"configmapkeyref", configMaps}, {"serviceaccountref", serviceAccounts},
}

func endsAs(field string) (level.Kind, bool) {
	if !strings.HasSuffix(field, "ef") {
		return level.Kind{}, false
	}
	lower := strings.ToLower(field)
	for _, e := range byEnding {
		if strings.HasSuffix(lower, e.ending) {
			return e.kind, true
		}
	}
	return level.Kind{}, false
}

// field looks at one field and its value.
func (f *finder) field(name string, value any, siblings map[string]any, inPod bool) {
	if target, ok := value.(string); ok {
		if target == "" {
			return
		}
		namespace := f.object.Namespace
		if kind, ok := byField[name]; ok {
			if other := text(siblings, strings.TrimSuffix(name, "Name")+"Namespace"); other != "" {
				namespace = other
			}
			f.named(kind, target, namespace, Reads)
			return
		}
		switch {
		case name == "serviceAccountName", name == "serviceAccount" && (inPod || f.object.Namespace != ""):
			f.account(namespace, target)
		case name == "volumeName" && isClaim(siblings):
			f.named(volumes, target, "", Reads)
		default:
			if kind, ok := endsAs(name); ok {
				f.use(kind, target, namespace)
			}
		}
		return
	}
	if inPod {
		f.machine(name, value)
	}
}

// names looks at a map that names an object by its field name and its own fields.
func (f *finder) names(field string, v map[string]any) {
	name := text(v, "name")
	if name == "" {
		return
	}
	namespace := text(v, "namespace")
	if namespace == "" {
		namespace = f.object.Namespace
	}
	if kind, ok := endsAs(field); ok {
		f.use(kind, name, namespace)
		return
	}
	switch field {
	case "secret":
		f.named(secrets, name, namespace, Reads)
	case "configMap":
		f.named(configMaps, name, namespace, Reads)
	case "service":
		f.named(services, name, namespace, Routes)
	case "claimRef":
		f.named(claims, name, namespace, Reads)
	default:
		if strings.HasSuffix(field, "Ref") || field == "dataSource" || field == "resource" {
			f.typed(field, v, name, namespace)
		}
	}
}

// item looks at an element of a list.
func (f *finder) item(list string, v map[string]any) {
	name := text(v, "name")
	if name == "" {
		return
	}
	namespace := text(v, "namespace")
	if namespace == "" {
		namespace = f.object.Namespace
	}
	switch list {
	case "imagePullSecrets", "secrets":
		f.named(secrets, name, namespace, Reads)
	default:
		if strings.HasSuffix(list, "Refs") {
			f.typed(list, v, name, namespace)
		}
	}
}

// assumed are the kinds that references without one have (the Gateway API's defaults).
var assumed = map[string]level.Kind{
	"backendRefs":       services,
	"backendRef":        services,
	"certificateRefs":   secrets,
	"certificateRef":    secrets,
	"caCertificateRefs": configMaps,
	"parentRefs":        {Group: "gateway.networking.k8s.io", Resource: "gateways"},
	"parentRef":         {Group: "gateway.networking.k8s.io", Resource: "gateways"},
}

// typed is a reference that says its kind.
func (f *finder) typed(field string, v map[string]any, name, namespace string) {
	target, known := assumed[field]
	if kind := text(v, "kind"); kind != "" {
		group := text(v, "group")
		if group == "" {
			group = text(v, "apiGroup")
		}
		if version := text(v, "apiVersion"); version != "" && group == "" {
			group, _, _ = strings.Cut(version, "/")
			if !strings.Contains(version, "/") {
				group = ""
			}
		}
		if _, said := v["group"]; !said && group == "" && kind == "Gateway" && known {
			group = target.Group
		}
		target, known = level.Kind{Group: group, Resource: plural(kind)}, true
	}
	if !known {
		return
	}
	use := Reads
	if field == "backendRefs" || field == "backendRef" || field == "parentRefs" || field == "parentRef" || field == "resource" {
		use = Routes
	}
	if level.Unplaced(target) {
		namespace = ""
	}
	if target == serviceAccounts {
		f.account(namespace, name)
		return
	}
	f.named(target, name, namespace, use)
}

func (f *finder) use(kind level.Kind, name, namespace string) {
	if kind == serviceAccounts {
		f.account(namespace, name)
		return
	}
	f.named(kind, name, namespace, Reads)
}

// named is a reference to an object by its name.
func (f *finder) named(kind level.Kind, name, namespace string, use Use) {
	if clusterWide(kind) || level.Unplaced(kind) {
		namespace = ""
	} else if namespace == "" { // named by an object without a namespace: it may be anywhere
		name = ""
	}
	verb := "get"
	if name == "" {
		verb = "list"
	}
	f.add(Reference{Field: f.at(), Use: use, Request: level.Request{Verb: verb, Group: kind.Group, Resource: kind.Resource, Namespace: namespace, Name: name},
		Requester: f.object.Namespace == ""})
}

// account is the use of a service account.
func (f *finder) account(namespace, name string) {
	f.add(Reference{Field: f.at(), Use: Runs, Requester: f.object.Namespace == "",
		Request: level.Request{Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: namespace, Name: name}})
}

// host is access to the machine below.
func (f *finder) host(field ...string) {
	f.add(Reference{Field: f.at(field...), Use: Host, Request: hostRequest, Requester: f.object.Namespace == ""})
}

// hostRequest reaches all that runs on a node.
var hostRequest = level.Request{Verb: "create", Resource: "nodes", Subresource: "proxy"}

// declared follows a field that somebody said names an object.
func (f *finder) declared(content map[string]any, p Path) {
	var follow func(value any, rest []string)
	follow = func(value any, rest []string) {
		switch v := value.(type) {
		case []any:
			for i, below := range v {
				f.in(fmt.Sprintf("[%d]", i), func() { follow(below, rest) })
			}
		case map[string]any:
			if len(rest) > 0 {
				f.in(rest[0], func() { follow(v[rest[0]], rest[1:]) })
			}
		case string:
			if len(rest) == 0 && v != "" {
				f.use(p.To, v, f.object.Namespace)
			}
		}
	}
	follow(content, strings.Split(p.Field, "."))
}

func text(m map[string]any, field string) string {
	s, _ := m[field].(string)
	return s
}

// Label is the text of the label that an object carries, empty if it carries none.
func Label(content map[string]any) string {
	labels := labelsOf(content)
	if l := text(labels, api.LevelLabel); l != "" {
		return l
	}
	return text(labels, api.TalkLabel)
}

func labelsOf(content map[string]any) map[string]any {
	metadata, _ := content["metadata"].(map[string]any)
	labels, _ := metadata["labels"].(map[string]any)
	return labels
}
