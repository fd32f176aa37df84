package reference

import (
	"slices"
	"strings"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
)

// isPodSpec recognizes the specification of a pod by its form, in whatever kind it stands.
func isPodSpec(m map[string]any) bool {
	for _, field := range []string{"containers", "initContainers", "ephemeralContainers"} {
		list, _ := m[field].([]any)
		for _, one := range list {
			c, _ := one.(map[string]any)
			if text(c, "name") != "" || text(c, "image") != "" {
				return true
			}
		}
	}
	return false
}

// isClaim recognizes the specification of a claim of storage.
func isClaim(m map[string]any) bool {
	for _, field := range []string{"accessModes", "resources", "storageClassName", "volumeMode"} {
		if _, ok := m[field]; ok {
			return true
		}
	}
	return false
}

// pod looks at what only a pod's specification has.
func (f *finder) pod(spec map[string]any) {
	if text(spec, "serviceAccountName") == "" && text(spec, "serviceAccount") == "" && f.object.Namespace != "" {
		f.in("serviceAccountName", func() { f.account(f.object.Namespace, "default") })
	}
	if node := text(spec, "nodeName"); node != "" {
		f.in("nodeName", func() { f.node(node) })
	}
	selector, _ := spec["nodeSelector"].(map[string]any)
	f.in("nodeSelector", func() {
		for k, v := range selector {
			if s, ok := v.(string); ok {
				f.in(segment(k), func() { f.nodesWith(k, s) })
			}
		}
	})
	affinity, _ := spec["affinity"].(map[string]any)
	affinity, _ = affinity["nodeAffinity"].(map[string]any)
	required, _ := affinity["requiredDuringSchedulingIgnoredDuringExecution"].(map[string]any)
	terms, _ := required["nodeSelectorTerms"].([]any)
	f.in("affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms", func() {
		for i, t := range terms {
			term, _ := t.(map[string]any)
			f.in(index(i), func() { f.term(term) })
		}
	})
}

// term is one way in which a pod's node may be chosen.
func (f *finder) term(term map[string]any) {
	for _, list := range []string{"matchExpressions", "matchFields"} {
		all, _ := term[list].([]any)
		for i, one := range all {
			e, _ := one.(map[string]any)
			if text(e, "operator") != "In" {
				continue
			}
			key := text(e, "key")
			values, _ := e["values"].([]any)
			for j, v := range values {
				s, _ := v.(string)
				f.in(list+index(i)+".values"+index(j), func() {
					if list == "matchFields" && key == "metadata.name" {
						f.node(s)
					} else if list == "matchExpressions" {
						f.nodesWith(key, s)
					}
				})
			}
		}
	}
}

// nodesWith are the nodes with a label.
func (f *finder) nodesWith(key, value string) {
	switch key {
	case "kubernetes.io/hostname":
		f.node(value)
	case api.LevelLabel, api.TalkLabel, NodeLevelLabel:
		f.add(Reference{Field: f.at(), Use: Places, Level: value})
	}
}

// NodeLevelLabel is the label of nodes that their own agents cannot change (k8s.io/kubernetes plugin/pkg/admission/noderestriction).
const NodeLevelLabel = "node-restriction.kubernetes.io/level"

func (f *finder) node(name string) {
	f.add(Reference{Field: f.at(), Use: Places, Request: level.Request{Verb: "get", Resource: "nodes", Name: name}})
}

// Harmless are capabilities that containers have anyway, or that reach nothing outside of them.
func Harmless() []string { return slices.Clone(harmless) }

var harmless = []string{"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"}

// machine looks at fields of a pod that open the machine below it.
func (f *finder) machine(name string, value any) {
	switch v := value.(type) {
	case bool:
		if v && (name == "hostNetwork" || name == "hostPID" || name == "hostIPC" || name == "privileged" || name == "hostProcess") {
			f.host()
		}
	case float64:
		if name == "hostPort" && v != 0 {
			f.host()
		}
	case int64:
		if name == "hostPort" && v != 0 {
			f.host()
		}
	case map[string]any:
		switch name {
		case "hostPath":
			f.host()
		case "capabilities":
			added, _ := v["add"].([]any)
			for i, c := range added {
				s, _ := c.(string)
				if !slices.Contains(harmless, strings.TrimPrefix(strings.ToUpper(s), "CAP_")) {
					f.host("add" + index(i))
				}
			}
		case "securityContext":
			if text(v, "procMount") == "Unmasked" {
				f.host("procMount")
			}
		}
	}
}

// mirrors are annotations by which the agent of a node says that a pod comes from a file on its node. Such pods run whatever the API server says.
var mirrors = []string{"kubernetes.io/config.mirror", "kubernetes.io/config.source", "kubernetes.io/config.hash"}

// metadata looks at owners and annotations.
func (f *finder) metadata(content map[string]any) {
	m, _ := content["metadata"].(map[string]any)
	owners, _ := m["ownerReferences"].([]any)
	for i, o := range owners {
		owner, _ := o.(map[string]any)
		group, _, grouped := strings.Cut(text(owner, "apiVersion"), "/")
		if !grouped {
			group = ""
		}
		kind := level.Kind{Group: group, Resource: plural(text(owner, "kind"))}
		namespace := f.object.Namespace
		if level.Unplaced(kind) {
			namespace = ""
		}
		f.add(Reference{Field: "metadata.ownerReferences" + index(i), Use: Owns, Requester: f.object.Namespace == "",
			Request: level.Request{Verb: "get", Group: kind.Group, Resource: kind.Resource, Namespace: namespace, Name: text(owner, "name")}})
	}
	annotations, _ := m["annotations"].(map[string]any)
	if class := text(annotations, "volume.beta.kubernetes.io/storage-class"); class != "" {
		f.in("metadata.annotations[volume.beta.kubernetes.io/storage-class]", func() { f.named(byField["storageClassName"], class, "", Reads) })
	}
	if f.object.Resource != pods {
		return
	}
	for _, name := range mirrors {
		if _, ok := annotations[name]; ok {
			f.add(Reference{Field: "metadata.annotations[" + name + "]", Use: Host, Request: hostRequest, Requester: true})
		}
	}
}
