package reference

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/netip"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
)

// specials are kinds whose content means what no form tells.
var specials = map[level.Kind]func(*finder, map[string]any){
	pods:                    (*finder).podOrBinding,
	{Resource: "bindings"}:  (*finder).binding,
	secrets:                 (*finder).secret,
	configMaps:              func(*finder, map[string]any) {}, // its data is anything
	services:                (*finder).service,
	{Resource: "endpoints"}: (*finder).endpoints,
	{Resource: "events"}:    func(*finder, map[string]any) {},
	{Resource: "nodes"}:     func(*finder, map[string]any) {},

	{Group: "events.k8s.io", Resource: "events"}:                   (func(*finder, map[string]any) {}),
	{Group: "discovery.k8s.io", Resource: "endpointslices"}:        (*finder).endpointSlice,
	{Group: "rbac.authorization.k8s.io", Resource: "roles"}:        (*finder).role,
	{Group: "rbac.authorization.k8s.io", Resource: "clusterroles"}: (*finder).role,

	{Group: "rbac.authorization.k8s.io", Resource: "rolebindings"}:        (*finder).roleBinding,
	{Group: "rbac.authorization.k8s.io", Resource: "clusterrolebindings"}: (*finder).roleBinding,

	{Group: "certificates.k8s.io", Resource: "certificatesigningrequests"}:               (*finder).certificate,
	{Group: "admissionregistration.k8s.io", Resource: "validatingwebhookconfigurations"}: (*finder).webhooks,
	{Group: "admissionregistration.k8s.io", Resource: "mutatingwebhookconfigurations"}:   (*finder).webhooks,
	{Group: "apiregistration.k8s.io", Resource: "apiservices"}:                           (*finder).apiService,
	{Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions"}:               (*finder).definition,
	{Group: api.Group, Resource: "workspaces"}:                                           (*finder).workspace,
}

func index(i int) string { return "[" + strconv.Itoa(i) + "]" }

func plural(kind string) string {
	p, _ := meta.UnsafeGuessKindToResource(schema.GroupVersionKind{Kind: kind})
	return p.Resource
}

// each calls do with the maps of a list.
func (f *finder) each(m map[string]any, list string, do func(map[string]any)) {
	all, _ := m[list].([]any)
	for i, one := range all {
		v, _ := one.(map[string]any)
		if v == nil || f.err != nil {
			continue
		}
		f.in(list+index(i), func() { do(v) })
	}
}

func (f *finder) below(m map[string]any, field string, do func(map[string]any)) {
	if v, ok := m[field].(map[string]any); ok {
		f.in(field, func() { do(v) })
	}
}

func texts(m map[string]any, field string) []string {
	all, _ := m[field].([]any)
	var out []string
	for _, v := range all {
		if s, ok := v.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// podOrBinding is a pod, or what its subresource binding holds.
func (f *finder) podOrBinding(content map[string]any) {
	if f.object.Subresource == "binding" {
		f.binding(content)
		return
	}
	f.generic(content)
}

// binding puts a pod on a node.
func (f *finder) binding(content map[string]any) {
	f.below(content, "target", func(target map[string]any) {
		if kind := text(target, "kind"); kind == "" || kind == "Node" {
			f.in("name", func() { f.node(text(target, "name")) })
		}
	})
}

// secret can be a service account's token.
func (f *finder) secret(content map[string]any) {
	if text(content, "type") != "kubernetes.io/service-account-token" {
		return
	}
	m, _ := content["metadata"].(map[string]any)
	annotations, _ := m["annotations"].(map[string]any)
	if name := text(annotations, "kubernetes.io/service-account.name"); name != "" {
		f.in("metadata.annotations[kubernetes.io/service-account.name]", func() { f.account(f.object.Namespace, name) })
	}
}

func (f *finder) service(content map[string]any) {
	f.generic(content)
	f.below(content, "spec", func(spec map[string]any) {
		for i := range texts(spec, "externalIPs") { // takes over whatever others reach under that address
			f.host("externalIPs" + index(i))
		}
		if text(spec, "type") != "ExternalName" {
			return
		}
		f.in("externalName", func() { f.name(text(spec, "externalName")) })
	})
}

// name is a name of the cluster's DNS: NAME.NAMESPACE.svc, 10-0-0-1.NAMESPACE.pod, with or without the cluster's domain.
func (f *finder) name(dns string) {
	parts := strings.Split(strings.TrimSuffix(strings.ToLower(dns), "."), ".")
	for i := len(parts) - 1; i >= 2; i-- {
		switch parts[i] {
		case "svc":
			f.named(services, parts[i-2], parts[i-1], Routes)
			return
		case "pod":
			f.named(pods, "", parts[i-1], Routes)
			return
		}
	}
	if _, err := netip.ParseAddr(dns); err == nil {
		f.address(dns)
	}
}

// address is traffic to an address, which may be a pod's.
func (f *finder) address(ip string) {
	if f.look.Pod == nil {
		return
	}
	if namespace, name, ok := f.look.Pod(ip); ok {
		f.named(pods, name, namespace, Routes)
	}
}

func (f *finder) endpoints(content map[string]any) {
	f.each(content, "subsets", func(subset map[string]any) {
		for _, list := range []string{"addresses", "notReadyAddresses"} {
			f.each(subset, list, func(a map[string]any) { f.endpoint(a, text(a, "ip")) })
		}
	})
}

func (f *finder) endpointSlice(content map[string]any) {
	f.each(content, "endpoints", func(e map[string]any) { f.endpoint(e, texts(e, "addresses")...) })
}

func (f *finder) endpoint(e map[string]any, addresses ...string) {
	f.below(e, "targetRef", func(target map[string]any) {
		if text(target, "kind") == "Pod" {
			f.names("targetRef", target)
		}
	})
	for i, a := range addresses {
		f.in("addresses"+index(i), func() { f.address(a) })
	}
}

// role gives whoever is bound to it rights; whoever writes it must be able to have them.
func (f *finder) role(content map[string]any) {
	var bound []Holding
	if f.look.Bound != nil {
		labels := map[string]string{}
		for k, v := range labelsOf(content) {
			labels[k], _ = v.(string)
		}
		bound = f.look.Bound(f.object.Namespace, f.object.Name, labels)
	}
	f.each(content, "rules", func(r map[string]any) {
		rule := ruleOf(r)
		for _, request := range rule.Requests(f.object.Namespace) {
			f.add(Reference{Field: f.at(), Use: Gives, Request: request, Requester: true})
		}
		for i := range bound { // what a role gives, those get who have it
			for _, request := range rule.Requests(bound[i].Namespace) {
				f.add(Reference{Field: f.at(), Use: Gives, Request: request, Subject: &bound[i].Subject})
			}
		}
	})
}

// RulesOf are the rules of a role (rbac.authorization.k8s.io/v1 Role and ClusterRole) in its JSON form; what is no rule is left out.
func RulesOf(role map[string]any) []Rule {
	var all []Rule
	list, _ := role["rules"].([]any)
	for _, one := range list {
		if r, ok := one.(map[string]any); ok {
			all = append(all, ruleOf(r))
		}
	}
	return all
}

func ruleOf(r map[string]any) Rule {
	return Rule{texts(r, "verbs"), texts(r, "apiGroups"), texts(r, "resources"), texts(r, "resourceNames")}
}

// Requests are the requests that a rule allows in a namespace, or everywhere. Where it allows requests of any name, there is one without a name.
func (r Rule) Requests(namespace string) []level.Request {
	var all []level.Request
	names := r.Names
	if len(names) == 0 {
		names = []string{""}
	}
	for _, verb := range r.Verbs {
		for _, group := range r.Groups {
			for _, resource := range r.Resources {
				resource, sub, _ := strings.Cut(resource, "/")
				for _, name := range names {
					request := level.Request{Verb: verb, Group: group, Resource: resource, Subresource: sub, Namespace: namespace, Name: name}
					all = append(all, request)
					if namespace != "" {
						all = append(all, accounts(request)...)
					}
				}
			}
		}
	}
	return all
}

// accounts are the requests among those that a request with wildcards stands for by which one acts as a service account of its namespace: those may be
// cleared for more than what else is there.
func accounts(r level.Request) []level.Request {
	const any = "*"
	resource, sub := r.Resource, r.Subresource
	if r.Group != "" && r.Group != any || resource != "serviceaccounts" && resource != any {
		return nil
	}
	act, token := r, r
	act.Verb, act.Group, act.Resource = "impersonate", "", "serviceaccounts"
	token.Verb, token.Group, token.Resource, token.Subresource = "create", "", "serviceaccounts", "token"
	var all []level.Request
	if sub == "" && (r.Verb == any || resource == any && r.Verb == "impersonate") {
		all = append(all, act)
	}
	if resource == any && (sub == "" || sub == "token") && (r.Verb == any || r.Verb == "create") {
		all = append(all, token)
	}
	return all
}

// roleBinding gives rights to subjects.
func (f *finder) roleBinding(content map[string]any) {
	ref, _ := content["roleRef"].(map[string]any)
	where, namespace := f.object.Namespace, f.object.Namespace
	if text(ref, "kind") == "ClusterRole" {
		where = ""
	}
	requests := []level.Request{{Verb: "get", Group: "*", Resource: "*", Namespace: namespace}}
	if f.look.Rules != nil {
		if rules, ok := f.look.Rules(where, text(ref, "name")); ok {
			requests = nil
			for _, r := range rules {
				requests = append(requests, r.Requests(namespace)...)
			}
		}
	}
	f.each(content, "subjects", func(s map[string]any) {
		name := level.SubjectName{Kind: level.SubjectKind(text(s, "kind")), Name: text(s, "name"), Namespace: text(s, "namespace")}
		if name.Kind == level.ServiceAccount && name.Namespace == "" {
			name.Namespace = namespace
		}
		for _, request := range requests {
			f.add(Reference{Field: f.at(), Use: Gives, Request: request, Subject: &name})
		}
	})
}

// certificate asks to be known by a name and groups.
func (f *finder) certificate(content map[string]any) {
	f.below(content, "spec", func(spec map[string]any) {
		signer := text(spec, "signerName")
		if signer != "kubernetes.io/kube-apiserver-client" && signer != "kubernetes.io/kube-apiserver-client-kubelet" && signer != "kubernetes.io/legacy-unknown" {
			return
		}
		everybody := level.Request{Verb: "impersonate", Resource: "users"} // one that nobody knows
		f.in("request", func() {
			der, err := base64.StdEncoding.DecodeString(text(spec, "request"))
			block, _ := pem.Decode(der)
			if err != nil || block == nil {
				f.add(Reference{Field: f.at(), Use: Identity, Request: everybody, Requester: true})
				return
			}
			request, err := x509.ParseCertificateRequest(block.Bytes)
			if err != nil {
				f.add(Reference{Field: f.at(), Use: Identity, Request: everybody, Requester: true})
				return
			}
			if signer == "kubernetes.io/kube-apiserver-client-kubelet" && request.Subject.CommonName == text(spec, "username") {
				return // a node's agent renews what it has
			}
			if signer == "kubernetes.io/kube-apiserver-client-kubelet" && contains(texts(spec, "groups"), "system:bootstrappers") {
				return // a node joins
			}
			f.add(Reference{Field: f.at(), Use: Identity, Request: level.Request{Verb: "impersonate", Resource: "users", Name: request.Subject.CommonName}, Requester: true})
			for _, group := range request.Subject.Organization {
				f.add(Reference{Field: f.at(), Use: Identity, Request: level.Request{Verb: "impersonate", Resource: "groups", Name: group}, Requester: true})
			}
		})
	})
}

func contains(all []string, one string) bool {
	for _, s := range all {
		if s == one {
			return true
		}
	}
	return false
}

// hook is a service that the API server shows objects of every namespace.
func (f *finder) hook(client map[string]any, seen ...level.Request) {
	f.below(client, "service", func(s map[string]any) {
		for _, request := range seen {
			f.add(Reference{Field: f.at(), Use: Hooks, Request: request, Backend: text(s, "namespace")})
		}
	})
}

func (f *finder) webhooks(content map[string]any) {
	f.each(content, "webhooks", func(w map[string]any) {
		f.below(w, "clientConfig", func(c map[string]any) { f.hook(c, level.Request{Verb: "list", Group: "*", Resource: "*"}) })
	})
}

func (f *finder) apiService(content map[string]any) {
	f.below(content, "spec", func(spec map[string]any) {
		f.hook(spec, level.Request{Verb: "list", Group: text(spec, "group"), Resource: "*"})
	})
}

func (f *finder) definition(content map[string]any) {
	f.below(content, "spec", func(spec map[string]any) {
		names, _ := spec["names"].(map[string]any)
		request := level.Request{Verb: "list", Group: text(spec, "group"), Resource: text(names, "plural")}
		f.below(spec, "conversion", func(c map[string]any) {
			f.below(c, "webhook", func(w map[string]any) {
				f.below(w, "clientConfig", func(c map[string]any) { f.hook(c, request) })
			})
		})
	})
}

// workspace invites its members.
func (f *finder) workspace(content map[string]any) {
	label := Label(content)
	if label == "" {
		return
	}
	f.below(content, "spec", func(spec map[string]any) {
		f.each(spec, "members", func(m map[string]any) {
			name := level.SubjectName{Kind: level.SubjectKind(text(m, "kind")), Name: text(m, "name"), Namespace: text(m, "namespace")}
			f.add(Reference{Field: f.at(), Use: Gives, Level: label, Subject: &name})
		})
	})
}
