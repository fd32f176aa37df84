package level

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
)

// withoutNamespace are Kubernetes' own kinds that live in no namespace. A kind that is not here is taken to live in all of them.
var withoutNamespace = kinds(map[string][]string{
	"":                             {"componentstatuses", "namespaces", "nodes", "persistentvolumes"},
	"iam.kubesphere.io":            {"users", "globalroles", "globalrolebindings", "workspaceroles", "workspacerolebindings"},
	"tenant.kubesphere.io":         {"workspaces", "workspacetemplates"},
	"admissionregistration.k8s.io": {"mutatingadmissionpolicies", "mutatingadmissionpolicybindings", "mutatingwebhookconfigurations", "validatingadmissionpolicies", "validatingadmissionpolicybindings", "validatingwebhookconfigurations"},
	"apiextensions.k8s.io":         {"customresourcedefinitions"},
	"apiregistration.k8s.io":       {"apiservices"},
	"authentication.k8s.io":        {"selfsubjectreviews", "tokenreviews"},
	"authorization.k8s.io":         {"selfsubjectaccessreviews", "selfsubjectrulesreviews", "subjectaccessreviews"},
	"certificates.k8s.io":          {"certificatesigningrequests", "clustertrustbundles", "signers"},
	"flowcontrol.apiserver.k8s.io": {"flowschemas", "prioritylevelconfigurations"},
	"internal.apiserver.k8s.io":    {"storageversions"},
	"level.weft.dev":               {"registries", "clearances", "workspaces", "doors", "regrades"},
	"networking.k8s.io":            {"ingressclasses", "ipaddresses", "servicecidrs"},
	"node.k8s.io":                  {"runtimeclasses"},
	"policy.networking.k8s.io":     {"adminnetworkpolicies", "baselineadminnetworkpolicies", "clusternetworkpolicies"},
	"rbac.authorization.k8s.io":    {"clusterroles", "clusterrolebindings"},
	"resource.k8s.io":              {"deviceclasses", "devicetaintrules", "resourceslices"},
	"scheduling.k8s.io":            {"priorityclasses"},
	"storage.k8s.io":               {"csidrivers", "csinodes", "storageclasses", "volumeattachments", "volumeattributesclasses"},
	"storagemigration.k8s.io":      {"storageversionmigrations"},
})

// Unplaced says whether a kind is one of Kubernetes' own that live in no namespace.
func Unplaced(k Kind) bool { return withoutNamespace[k] }

// power are kinds whose writers gain power over objects of every level.
var power = kinds(map[string][]string{
	"":                             {"nodes", "persistentvolumes"},
	"admissionregistration.k8s.io": {"mutatingadmissionpolicies", "mutatingadmissionpolicybindings", "mutatingwebhookconfigurations", "validatingadmissionpolicies", "validatingadmissionpolicybindings", "validatingwebhookconfigurations"},
	"apiextensions.k8s.io":         {"customresourcedefinitions"},
	"apiregistration.k8s.io":       {"apiservices"},
	"certificates.k8s.io":          {"clustertrustbundles", "signers"},
	"level.weft.dev":               {"registries", "clearances", "workspaces", "doors", "regrades"},
	"policy.networking.k8s.io":     {"adminnetworkpolicies", "baselineadminnetworkpolicies", "clusternetworkpolicies"},
	"rbac.authorization.k8s.io":    {"clusterroles", "clusterrolebindings"},
	"storage.k8s.io":               {"csidrivers", "volumeattachments"},
})

// Guarded are the kinds whose writers gain power over everything, in order.
func Guarded() []Kind { return slices.SortedFunc(maps.Keys(power), compareKinds) }

func kinds(groups map[string][]string) map[Kind]bool {
	all := map[Kind]bool{}
	for group, resources := range groups {
		for _, resource := range resources {
			all[Kind{group, resource}] = true
		}
	}
	return all
}

// guarded says whether a request, which is no read, gives power over objects of every level. Asking for a certificate gives none,
// approving it does.
func guarded(r *Request) bool {
	k := Kind{r.Group, r.Resource}
	if r.Group == "certificates.k8s.io" && r.Resource == "certificatesigningrequests" {
		return r.Subresource != "" || AccessOf(r.Verb, "") == Change
	}
	return power[k] || r.Resource == "*" || r.Group == "*"
}

// opensNode says whether a request reaches the kubelet of a node, which shows logs, pods and figures of all that runs there.
func opensNode(r *Request) bool {
	return r.Resource == "nodes" && r.Group == "" && r.Subresource != "" && r.Subresource != "status"
}

// KindOf finds the kind that a word on a command line means: secrets, secret, deployments.apps. Where no group is given, that of a
// kind of Kubernetes without namespace or of a labelled object is taken.
func (s *Snapshot) KindOf(word string) (kind Kind, namespaced bool) {
	resource, group, grouped := strings.Cut(strings.ToLower(word), ".")
	if !strings.HasSuffix(resource, "s") || strings.HasSuffix(resource, "ss") {
		if resource != "*" && resource != "" {
			plural, _ := meta.UnsafeGuessKindToResource(schema.GroupVersionKind{Kind: resource})
			resource = plural.Resource
		}
	}
	kind = Kind{group, resource}
	if !grouped {
		known := func(k Kind) bool { return k.Resource == resource }
		if found := slices.SortedFunc(maps.Keys(withoutNamespace), compareKinds); slices.ContainsFunc(found, known) {
			kind = found[slices.IndexFunc(found, known)]
		} else {
			for _, spot := range s.Spots() {
				if known(spot.Kind) {
					kind = spot.Kind
					break
				}
			}
		}
	}
	return kind, !withoutNamespace[kind]
}

// compareKinds puts this project's own kinds before others of the same name.
func compareKinds(a, b Kind) int {
	if (a.Group == api.Group) != (b.Group == api.Group) {
		if a.Group == api.Group {
			return -1
		}
		return 1
	}
	return cmp.Or(strings.Compare(a.Group, b.Group), strings.Compare(a.Resource, b.Resource))
}
