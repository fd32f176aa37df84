package policy

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/reference"
)

// references are the policies about what objects lead to. They hold for controllers as well: what an object may name depends on its level alone.
func (c *compiler) references() []*unstructured.Unstructured {
	var made []*unstructured.Unstructured
	for _, p := range []policy{c.pods(), c.bindings(), c.others()} {
		p.conditions = append(p.conditions, condition{"not-in-the-system", `!has(request.namespace) || request.namespace != "kube-system"`})
		made = append(made, c.validating(p)...)
	}
	return made
}

// labelled are the labelled objects of a kind, by namespace and name.
func (c *compiler) labelled(kind level.Kind) map[string]string {
	all := map[string]string{}
	for _, o := range c.model.Objects {
		if o.Kind == kind {
			all[strings.TrimPrefix(o.Namespace+"/"+o.Name, "/")] = c.registry.Format(o.Label)
		}
	}
	return all
}

// holder is the label that an object's references are judged by.
func (c *compiler) holder() variable {
	return variable{"holder", `variables.now != "" && variables.now in variables.below ? variables.now : variables.space in variables.below ? variables.space : ""`}
}

func (c *compiler) pods() policy {
	variables := append(c.common(), c.holder(),
		variable{"ns", `has(request.namespace) ? request.namespace : ""`},
		variable{"spec", `object.kind == "Pod" ? object.spec : object.kind == "CronJob" ? object.spec.jobTemplate.spec.template.spec : object.kind == "PodTemplate" ? object.template.spec : object.spec.template.spec`},
		variable{"containers", `variables.spec.containers + (has(variables.spec.initContainers) ? variables.spec.initContainers : []) + (has(variables.spec.ephemeralContainers) ? variables.spec.ephemeralContainers : [])`},
		variable{"volumes", `has(variables.spec.volumes) ? variables.spec.volumes : []`},
		variable{"projected", `variables.volumes.filter(v, has(v.projected) && has(v.projected.sources))`},
		variable{"secrets", table(c.labelled(level.Kind{Resource: "secrets"}))},
		variable{"configmaps", table(c.labelled(level.Kind{Resource: "configmaps"}))},
		variable{"claims", table(c.labelled(level.Kind{Resource: "persistentvolumeclaims"}))},
		variable{"accounts", table(c.accounts())},
		variable{"nodes", table(c.labelled(level.Kind{Resource: "nodes"}))},
		variable{"priorities", table(c.labelled(level.Kind{Group: "scheduling.k8s.io", Resource: "priorityclasses"}))},
	)
	low := func(list, name string) string {
		return fmt.Sprintf(`(!((%[2]s) in variables.%[1]s) || variables.%[1]s[%[2]s] in variables.below[variables.holder])`, list, `variables.ns + "/" + `+name)
	}
	secret := func(name string) string { return low("secrets", name) }
	configMap := func(name string) string { return low("configmaps", name) }
	volumes := `variables.volumes.all(v, (!has(v.secret) || !has(v.secret.secretName) || ` + secret("v.secret.secretName") + `) && (!has(v.configMap) || !has(v.configMap.name) || ` + configMap("v.configMap.name") + `)` +
		` && (!has(v.persistentVolumeClaim) || ` + low("claims", "v.persistentVolumeClaim.claimName") + `) && (!has(v.csi) || !has(v.csi.nodePublishSecretRef) || ` + secret("v.csi.nodePublishSecretRef.name") + `)` +
		` && (!has(v.azureFile) || ` + secret("v.azureFile.secretName") + `)` + storage(secret, "cephfs", "rbd", "iscsi", "scaleIO", "storageos", "flexVolume") + `)`
	projected := `variables.projected.all(v, v.projected.sources.all(s, (!has(s.secret) || !has(s.secret.name) || ` + secret("s.secret.name") + `) && (!has(s.configMap) || !has(s.configMap.name) || ` + configMap("s.configMap.name") + `)))`
	env := `variables.containers.all(c, (!has(c.env) || c.env.all(e, !has(e.valueFrom) || (!has(e.valueFrom.secretKeyRef) || !has(e.valueFrom.secretKeyRef.name) || ` + secret("e.valueFrom.secretKeyRef.name") + `) && (!has(e.valueFrom.configMapKeyRef) || !has(e.valueFrom.configMapKeyRef.name) || ` + configMap("e.valueFrom.configMapKeyRef.name") + `)))` +
		` && (!has(c.envFrom) || c.envFrom.all(e, (!has(e.secretRef) || !has(e.secretRef.name) || ` + secret("e.secretRef.name") + `) && (!has(e.configMapRef) || !has(e.configMapRef.name) || ` + configMap("e.configMapRef.name") + `))))`
	pull := `!has(variables.spec.imagePullSecrets) || variables.spec.imagePullSecrets.all(s, !has(s.name) || ` + secret("s.name") + `)`
	account := `has(variables.spec.serviceAccountName) && variables.spec.serviceAccountName != "" ? ` + low("accounts", "variables.spec.serviceAccountName") + ` : ` + low("accounts", `"default"`)
	node := func(name string) string {
		return fmt.Sprintf(`(!(%[1]s in variables.nodes) || variables.nodes[%[1]s] in variables.below[variables.holder])`, name)
	}
	wanted := fmt.Sprintf(`["level.weft.dev/level", "kubernetes.io/level", %q]`, "node-restriction.kubernetes.io/level")
	affinity := "variables.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"
	placed := `(!has(variables.spec.nodeName) || ` + node("variables.spec.nodeName") + `) && (!has(variables.spec.nodeSelector) || variables.spec.nodeSelector.all(k, k in ` + wanted + ` ? variables.spec.nodeSelector[k] in variables.below[variables.holder] : k == "kubernetes.io/hostname" ? ` + node("variables.spec.nodeSelector[k]") + ` : true))` +
		` && (!has(variables.spec.affinity) || !has(variables.spec.affinity.nodeAffinity) || !has(` + affinity + `) || ` + affinity + `.nodeSelectorTerms.all(t, (!has(t.matchFields) || t.matchFields.all(f, f.operator != "In" || !has(f.values) || f.values.all(x, ` + node("x") + `)))` +
		` && (!has(t.matchExpressions) || t.matchExpressions.all(e, e.operator != "In" || !has(e.values) || e.values.all(x, e.key in ` + wanted + ` ? x in variables.below[variables.holder] : e.key == "kubernetes.io/hostname" ? ` + node("x") + ` : true)))))`
	top := quote(c.registry.Format(c.snapshot.Everything().High))
	host := `variables.holder in variables.below && ` + top + ` in variables.below[variables.holder] || (!has(variables.spec.hostNetwork) || !variables.spec.hostNetwork) && (!has(variables.spec.hostPID) || !variables.spec.hostPID) && (!has(variables.spec.hostIPC) || !variables.spec.hostIPC) && variables.volumes.all(v, !has(v.hostPath))` +
		` && variables.containers.all(c, (!has(c.ports) || c.ports.all(p, !has(p.hostPort) || p.hostPort == 0)) && (!has(c.securityContext) || (!has(c.securityContext.privileged) || !c.securityContext.privileged) && (!has(c.securityContext.procMount) || c.securityContext.procMount != "Unmasked")` +
		` && (!has(c.securityContext.capabilities) || !has(c.securityContext.capabilities.add) || c.securityContext.capabilities.add.all(a, a.upperAscii() in ` + list(harmlessCapabilities()) + `))))`
	mirror := `object.kind != "Pod" || request.userInfo.username.startsWith("system:node:") || !has(object.metadata.annotations) || !("kubernetes.io/config.mirror" in object.metadata.annotations)`
	old := func(check string) string { return `variables.holder == "" || ` + check }
	return policy{
		name: prefix + "pods",
		rules: []rule{
			{[]string{""}, []string{"pods", "pods/ephemeralcontainers", "replicationcontrollers", "podtemplates"}, []string{"CREATE", "UPDATE"}},
			{[]string{"apps", "batch"}, []string{"deployments", "statefulsets", "daemonsets", "replicasets", "jobs", "cronjobs"}, []string{"CREATE", "UPDATE"}},
		},
		conditions: []condition{{"what-is-new", `oldObject == null || object.spec != oldObject.spec || has(request.subResource) && request.subResource != ""`}, {"with-pods", `object.kind != "ReplicationController" || has(object.spec.template)`}},
		variables:  variables,
		checks: []validation{
			{old(volumes), "a volume leads to something above this object"},
			{old(projected), "a projected volume leads to something above this object"},
			{old(env), "an environment variable leads to something above this object"},
			{old(pull), "a pull secret is above this object"},
			{old(account), "the service account is above this object"},
			{old(placed), "the node is above this object"},
			{old(host), "this object cannot reach the machine below"},
			{`!has(variables.spec.priorityClassName) || variables.holder == "" || !(variables.spec.priorityClassName in variables.priorities) || variables.priorities[variables.spec.priorityClassName] in variables.below[variables.holder]`, "the priority class is above this object"},
			{mirror, "only the agent of a node says that a pod comes from a file on it"},
			{`variables.holder != ""`, "the level of this object is not known to the policies: make them anew"},
		},
	}
}

// storage are volumes with a reference to a secret.
func storage(secret func(string) string, kinds ...string) string {
	var b strings.Builder
	for _, k := range kinds {
		fmt.Fprintf(&b, ` && (!has(v.%[1]s) || !has(v.%[1]s.secretRef) || !has(v.%[1]s.secretRef.name) || %[2]s)`, k, secret("v."+k+".secretRef.name"))
	}
	return b.String()
}

func harmlessCapabilities() []string {
	var all []string
	for _, name := range reference.Harmless() {
		all = append(all, name, "CAP_"+name)
	}
	return all
}

// accounts are the service accounts that have a clearance of their own.
func (c *compiler) accounts() map[string]string {
	all := map[string]string{}
	for _, g := range c.model.Grants {
		if g.Subject.Kind == level.ServiceAccount {
			all[g.Subject.Namespace+"/"+g.Subject.Name] = c.registry.Format(g.Label)
		}
	}
	return all
}

// bindings are about whom rights are given to.
func (c *compiler) bindings() policy {
	everything := c.snapshot.Everything().High
	holdings := map[string]string{}
	for holding, class := range c.holdings {
		holdings[holding] = c.registry.Format(c.groups[class].label)
	}
	fallback := quote(holdings["g:system:authenticated"])
	key := `(s.kind == "Group" ? "g:" + s.name : s.kind == "User" ? "u:" + s.name : ("u:system:serviceaccount:" + (has(s.namespace) ? s.namespace : variables.ns) + ":" + s.name) in variables.holds ? "u:system:serviceaccount:" + (has(s.namespace) ? s.namespace : variables.ns) + ":" + s.name : "g:system:serviceaccounts:" + (has(s.namespace) ? s.namespace : variables.ns))`
	holds := fmt.Sprintf(`(%[1]s in variables.holds ? variables.holds[%[1]s] : %[2]s)`, key, fallback)
	trusted := `s.kind == "Group" && (s.name == "system:masters" || s.name == "system:nodes") || s.kind == "User" && s.name in ` + list(append([]string{"system:apiserver", "system:kube-controller-manager", "system:kube-scheduler", "system:kube-proxy"}, c.registry.Spec().Exempt...)) + ` || s.kind == "ServiceAccount" && has(s.namespace) && s.namespace == "kube-system"`
	return policy{
		name:       prefix + "bindings",
		rules:      []rule{{[]string{"rbac.authorization.k8s.io"}, []string{"rolebindings", "clusterrolebindings"}, []string{"CREATE", "UPDATE"}}},
		conditions: []condition{{"what-is-new", `oldObject == null || object != null && (!has(oldObject.subjects) || !has(object.subjects) || object.subjects != oldObject.subjects)`}, {"with-subjects", "has(object.subjects)"}, {"not-the-server-itself", `request.userInfo.username != "system:apiserver"`}, {"not-ours", `!object.metadata.name.startsWith("` + rolePrefix + `")`}},
		variables: append(c.common(),
			variable{"ns", `has(request.namespace) ? request.namespace : ""`},
			variable{"holds", table(holdings)},
			variable{"target", fmt.Sprintf(`variables.ns == "" ? %s : variables.space`, quote(c.registry.Format(everything)))},
		),
		checks: []validation{{`variables.ns == "" && object.roleRef.name in ["system:discovery", "system:basic-user", "system:public-info-viewer", "system:service-account-issuer-discovery"] || object.subjects.all(s, ` + trusted + ` || variables.target in variables.below[` + holds + `])`,
			"a subject would get rights above its clearance"}},
	}
}

// others are Services, EndpointSlices, Endpoints, tokens, routes, claims, bindings of pods and owners.
func (c *compiler) others() policy {
	spaces := map[string]string{}
	for _, n := range c.model.Namespaces {
		l, _ := c.snapshot.Namespace(n.Name)
		spaces[n.Name] = c.registry.Format(l)
	}
	owners := map[string]string{}
	for _, o := range c.model.Objects {
		owners[o.Namespace+"/"+o.Resource+"/"+o.Name] = c.registry.Format(o.Label)
	}
	in := func(name string) string {
		return fmt.Sprintf(`(!(%[1]s in variables.spaces) || variables.spaces[%[1]s] in variables.below[variables.holder])`, name)
	}
	kind := func(kinds string, check string) string {
		return fmt.Sprintf(`!(request.resource.resource in %s) || variables.holder == "" || %s`, kinds, check)
	}
	endpoint := `(!has(e.targetRef) || !has(e.targetRef.namespace) || ` + in("e.targetRef.namespace") + `)`
	// Names of the cluster's DNS: NAME.NAMESPACE.svc and below.
	dns := `variables.dns.size() < 3 || variables.dns[2] != "svc" && variables.dns[2] != "pod" || ` + in("variables.dns[1]")
	return policy{
		name: prefix + "routes",
		rules: []rule{
			{[]string{""}, []string{"services", "endpoints", "secrets", "persistentvolumeclaims", "bindings", "pods/binding", "configmaps"}, []string{"CREATE", "UPDATE"}},
			{[]string{"discovery.k8s.io"}, []string{"endpointslices"}, []string{"CREATE", "UPDATE"}},
			{[]string{"gateway.networking.k8s.io"}, []string{"*"}, []string{"CREATE", "UPDATE"}},
			{[]string{"networking.k8s.io"}, []string{"ingresses"}, []string{"CREATE", "UPDATE"}},
		},
		variables: append(c.common(), c.holder(),
			variable{"ns", `has(request.namespace) ? request.namespace : ""`},
			variable{"spaces", table(spaces)},
			variable{"owned", table(owners)},
			variable{"accounts", table(c.accounts())},
			variable{"secrets", table(c.labelled(level.Kind{Resource: "secrets"}))},
			variable{"services", table(c.labelled(level.Kind{Resource: "services"}))},
			variable{"nodes", table(c.labelled(level.Kind{Resource: "nodes"}))},
			variable{"pods", table(c.labelled(level.Kind{Resource: "pods"}))},
			variable{"volumes", table(c.labelled(level.Kind{Resource: "persistentvolumes"}))},
			variable{"classes", table(c.labelled(level.Kind{Group: "storage.k8s.io", Resource: "storageclasses"}))},
			variable{"dns", `request.resource.resource == "services" && has(object.spec.externalName) ? object.spec.externalName.lowerAscii().split(".") : []`},
			variable{"binder", `(variables.ns + "/" + request.name) in variables.pods ? variables.pods[variables.ns + "/" + request.name] : variables.space`},
		),
		checks: []validation{
			{kind(`["services"]`, dns), "the name leads into a higher namespace"},
			{kind(`["services"]`, `!has(object.spec.externalIPs) || object.spec.externalIPs.size() == 0 || `+quote(c.registry.Format(c.snapshot.Everything().High))+` in variables.below[variables.holder]`), "external addresses take over what others reach"},
			{kind(`["endpointslices"]`, `!has(object.endpoints) || object.endpoints == null || object.endpoints.all(e, `+endpoint+`)`), "an endpoint is above this object"},
			{kind(`["endpoints"]`, `!has(object.subsets) || object.subsets.all(s, (!has(s.addresses) || s.addresses.all(e, `+endpoint+`)) && (!has(s.notReadyAddresses) || s.notReadyAddresses.all(e, `+endpoint+`)))`), "an endpoint is above this object"},
			{kind(`["secrets"]`, `object.type != "kubernetes.io/service-account-token" || !has(object.metadata.annotations) || !("kubernetes.io/service-account.name" in object.metadata.annotations) || !((variables.ns + "/" + object.metadata.annotations["kubernetes.io/service-account.name"]) in variables.accounts) || variables.accounts[variables.ns + "/" + object.metadata.annotations["kubernetes.io/service-account.name"]] in variables.below[variables.holder]`), "the service account is above this object"},
			{kind(`["persistentvolumeclaims"]`, `(!has(object.spec.volumeName) || !(object.spec.volumeName in variables.volumes) || variables.volumes[object.spec.volumeName] in variables.below[variables.holder]) && (!has(object.spec.storageClassName) || !(object.spec.storageClassName in variables.classes) || variables.classes[object.spec.storageClassName] in variables.below[variables.holder])`), "the volume is above this object"},
			{kind(`["bindings", "pods"]`, `!has(object.target) || !(object.target.name in variables.nodes) || variables.binder in variables.below && variables.nodes[object.target.name] in variables.below[variables.binder]`), "the node is above this pod"},
			{kind(`["ingresses"]`, `(!has(object.spec.tls) || object.spec.tls.all(t, !has(t.secretName) || !((variables.ns + "/" + t.secretName) in variables.secrets) || variables.secrets[variables.ns + "/" + t.secretName] in variables.below[variables.holder]))`+
				` && (!has(object.spec.rules) || object.spec.rules.all(r, !has(r.http) || r.http.paths.all(p, !has(p.backend.service) || !((variables.ns + "/" + p.backend.service.name) in variables.services) || variables.services[variables.ns + "/" + p.backend.service.name] in variables.below[variables.holder])))`), "a route leads to something above this object"},
			{`request.resource.group != "gateway.networking.k8s.io" || variables.holder == "" || (!has(object.spec.parentRefs) || object.spec.parentRefs.all(p, !has(p.namespace) || ` + in("p.namespace") + `)) && (!has(object.spec.rules) || object.spec.rules.all(r, !has(r.backendRefs) || r.backendRefs.all(b, !has(b.namespace) || ` + in("b.namespace") + `)))` +
				` && (!has(object.spec.listeners) || object.spec.listeners.all(l, !has(l.tls) || !has(l.tls.certificateRefs) || l.tls.certificateRefs.all(b, !has(b.namespace) || ` + in("b.namespace") + `)))`, "a route leads to something above this object"},
			{`variables.holder == "" || !has(object.metadata.ownerReferences) || object.metadata.ownerReferences.all(o, !((variables.ns + "/" + o.kind.lowerAscii() + "s/" + o.name) in variables.owned) || variables.owned[variables.ns + "/" + o.kind.lowerAscii() + "s/" + o.name] in variables.below[variables.holder])`, "an owner is above this object"},
		},
	}
}
