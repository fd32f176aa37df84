package attack

import (
	"fmt"
	"net/http"
)

const (
	get    = http.MethodGet
	post   = http.MethodPost
	put    = http.MethodPut
	patch  = http.MethodPatch
	remove = http.MethodDelete

	merge     = "application/merge-patch+json"
	strategic = "application/strategic-merge-patch+json"
	jsonPatch = "application/json-patch+json"
	apply     = "application/apply-patch+yaml"

	inHigh  = "/api/v1/namespaces/HIGH"
	inLow   = "/api/v1/namespaces/LOW"
	rbac    = "/apis/rbac.authorization.k8s.io/v1"
	admit   = "/apis/admissionregistration.k8s.io/v1"
	lowered = `{"metadata":{"labels":{"level.weft.dev/level":"LEVELLOW"}}}`
	raised  = `{"metadata":{"labels":{"level.weft.dev/level":"LEVELHIGH"}}}`
)

// read is an attempt that admission does not see.
func read(name, path string) Attempt {
	return Attempt{Name: name, As: Low, Method: get, Path: path, OnlyReads: true, Expect: Denied}
}

func write(name, method, path, body string) Attempt {
	return Attempt{Name: name, As: Low, Method: method, Path: path, Body: body, Expect: Denied}
}

func patched(name, path, kind, body string) Attempt {
	a := write(name, patch, path, body)
	a.Type = kind
	return a
}

func connect(name, method, path string) Attempt {
	return Attempt{Name: name, As: Low, Method: method, Path: path, Connects: true, Expect: Denied}
}

// pod is a pod of the low namespace.
func pod(name, spec string) Attempt {
	return write(name, post, inLow+"/pods", `{"metadata":{"name":"weft-attack"},"spec":{"automountServiceAccountToken":false,`+spec+`}}`)
}

const container = `"containers":[{"name":"c","image":"none"}]`

func workload(name, path, template string) Attempt {
	return write(name, post, path, fmt.Sprintf(template, `{"metadata":{"labels":{"a":"b"}},"spec":{"restartPolicy":"RESTART",`+container+`,"volumes":[{"name":"v","secret":{"secretName":"weft-attack-raised"}}]}}`))
}

func allowed(name string, as Actor, method, path, body string) Attempt {
	return Attempt{Name: name, As: as, Method: method, Path: path, Body: body, Expect: Allowed}
}

func binding(name, path, kind, role, subject string) Attempt {
	a := write(name, post, path, fmt.Sprintf(`{"metadata":{"name":"weft-attack"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"%s","name":"%s"},"subjects":[%s]}`, kind, role, subject))
	a.As = High
	return a
}

const (
	lowAccount  = `{"kind":"ServiceAccount","namespace":"LOW","name":"attacker"}`
	impersonate = "Impersonate-User"
)

// impersonated is a request as somebody else. Admission sees the other one.
func impersonated(name string, header map[string]string) Attempt {
	a := read(name, "/version")
	a.Header = header
	return a
}

// Catalogue is every attempt, in order.
func Catalogue() []Row {
	rows := append(reads(), objects()...)
	rows = append(rows, power()...)
	return append(rows, controls()...)
}

func reads() []Row {
	return []Row{
		{Number: 1, Title: "read a secret above oneself with cluster-admin's rights", Attempts: []Attempt{
			read("get a secret", inHigh+"/secrets/weft-attack-secret"), read("list config maps", inHigh+"/configmaps"), read("list secrets of all namespaces as metadata", "/api/v1/secrets?limit=1"),
		}},
		{Number: 2, Title: "watch above oneself", Attempts: []Attempt{
			read("watch pods", inHigh+"/pods?watch=true&timeoutSeconds=2"), read("the old way to watch", "/api/v1/watch/namespaces/HIGH/pods?timeoutSeconds=2"), read("watch all namespaces", "/api/v1/secrets?watch=true&timeoutSeconds=2"),
		}},
		{Number: 3, Title: "exec into a higher pod", Attempts: []Attempt{
			connect("POST", post, inHigh+"/pods/weft-attack-pod/exec?command=id"), connect("GET", get, inHigh+"/pods/weft-attack-pod/exec?command=id"), connect("through the node", post, "/api/v1/nodes/NODE/proxy/exec/HIGH/weft-attack-pod/c?command=id"),
		}},
		{Number: 4, Title: "attach and forward ports", Attempts: []Attempt{
			connect("attach", post, inHigh+"/pods/weft-attack-pod/attach"), connect("forward ports", post, inHigh+"/pods/weft-attack-pod/portforward?ports=80"), connect("proxy of a service", post, inHigh+"/services/weft-attack/proxy/"),
		}},
		{Number: 5, Title: "logs of a higher pod", Attempts: []Attempt{
			read("log", inHigh+"/pods/weft-attack-pod/log"), read("log of the one before", inHigh+"/pods/weft-attack-pod/log?previous=true"), connect("through the node", get, "/api/v1/nodes/NODE/proxy/containerLogs/HIGH/weft-attack-pod/c"),
		}},
		{Number: 6, Title: "a container put into a higher pod", Attempts: []Attempt{
			patched("ephemeral container", inHigh+"/pods/weft-attack-pod/ephemeralcontainers", strategic, `{"spec":{"ephemeralContainers":[{"name":"d","image":"none","command":["id"]}]}}`),
			patched("another image", inHigh+"/pods/weft-attack-pod", strategic, `{"spec":{"containers":[{"name":"c","image":"other"}]}}`),
			patched("resized", inHigh+"/pods/weft-attack-pod/resize", strategic, `{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"2m"}}}]}}`),
		}},
		{Number: 7, Title: "delete what is higher", Attempts: []Attempt{
			write("all secrets", remove, inHigh+"/secrets", ""), write("the namespace", remove, "/api/v1/namespaces/HIGH", ""), write("an eviction", post, inHigh+"/pods/weft-attack-pod/eviction", `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"weft-attack-pod","namespace":"HIGH"},"deleteOptions":{"dryRun":["All"]}}`),
		}},
	}
}

func objects() []Row {
	return []Row{
		{Number: 8, Title: "lower a higher namespace", Attempts: []Attempt{
			patched("merge patch", "/api/v1/namespaces/HIGH", merge, lowered), patched("JSON patch that removes the label", "/api/v1/namespaces/HIGH", jsonPatch, `[{"op":"remove","path":"/metadata/labels/level.weft.dev~1level"}]`),
			patched("strategic patch that replaces all labels", "/api/v1/namespaces/HIGH", strategic, `{"metadata":{"labels":{"$patch":"replace","kubernetes.io/metadata.name":"HIGH"}}}`),
		}},
		{Number: 9, Title: "lower it by a subresource", Attempts: []Attempt{
			write("finalize", put, "/api/v1/namespaces/HIGH/finalize", `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"HIGH","labels":{"level.weft.dev/level":"LEVELLOW"}},"spec":{"finalizers":["kubernetes"]}}`),
			patched("status", "/api/v1/namespaces/HIGH/status", merge, lowered), write("status, replaced", put, "/api/v1/namespaces/HIGH/status", `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"HIGH"}}`),
		}},
		{Number: 10, Title: "lower it by server-side apply", Attempts: []Attempt{
			patched("apply with force", "/api/v1/namespaces/HIGH?fieldManager=a&force=true", apply, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"HIGH","labels":{"level.weft.dev/level":"LEVELLOW"}}}`),
			patched("under the talk's label", "/api/v1/namespaces/HIGH?fieldManager=a&force=true", apply, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"HIGH","labels":{"kubernetes.io/level":"LEVELLOW"}}}`),
			patched("a higher secret", inHigh+"/secrets/weft-attack-secret?fieldManager=a&force=true", apply, `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"weft-attack-secret","labels":{"level.weft.dev/level":"LEVELLOW"}}}`),
		}},
		{Number: 11, Title: "raise one's own above oneself", Attempts: []Attempt{
			patched("the namespace", "/api/v1/namespaces/LOW", merge, raised), patched("an object", inLow+"/secrets/weft-attack-own", merge, raised), write("a new namespace", post, "/api/v1/namespaces", `{"metadata":{"name":"weft-attack-new","labels":{"level.weft.dev/level":"LEVELHIGH"}}}`),
		}},
		{Number: 12, Title: "a namespace without a label", Attempts: []Attempt{
			allowed("is on the default level", Low, post, "/api/v1/namespaces", `{"metadata":{"name":"weft-attack-new"}}`), allowed("of a generated name", Low, post, "/api/v1/namespaces", `{"metadata":{"generateName":"weft-attack-"}}`),
			typed(allowed("by server-side apply", Low, patch, "/api/v1/namespaces/weft-attack-new?fieldManager=a", `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"weft-attack-new"}}`), apply),
		}},
		{Number: 13, Title: "mount a higher secret", Attempts: []Attempt{
			pod("volume", container+`,"volumes":[{"name":"v","secret":{"secretName":"weft-attack-raised"}}]`), pod("environment", `"containers":[{"name":"c","image":"none","envFrom":[{"secretRef":{"name":"weft-attack-raised"}}]}]`), pod("pull secret", container+`,"imagePullSecrets":[{"name":"weft-attack-raised"}]`),
		}},
		{Number: 14, Title: "the same by other volumes", Attempts: []Attempt{
			pod("projected", container+`,"volumes":[{"name":"v","projected":{"sources":[{"secret":{"name":"weft-attack-raised"}}]}}]`), pod("CSI", container+`,"volumes":[{"name":"v","csi":{"driver":"d","nodePublishSecretRef":{"name":"weft-attack-raised"}}}]`),
			pod("init container", container+`,"initContainers":[{"name":"i","image":"none","env":[{"name":"A","valueFrom":{"secretKeyRef":{"name":"weft-attack-raised","key":"a"}}}]}]`),
		}},
		{Number: 15, Title: "the same by a template", Attempts: []Attempt{
			workload("Deployment", "/apis/apps/v1/namespaces/LOW/deployments", `{"metadata":{"name":"weft-attack"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":%s}}`), workload("CronJob", "/apis/batch/v1/namespaces/LOW/cronjobs", `{"metadata":{"name":"weft-attack"},"spec":{"schedule":"0 0 1 1 *","jobTemplate":{"spec":{"template":%s}}}}`),
			workload("PodTemplate", inLow+"/podtemplates", `{"metadata":{"name":"weft-attack"},"template":%s}`),
		}},
		{Number: 16, Title: "storage above oneself", Attempts: []Attempt{
			write("by name", post, inLow+"/persistentvolumeclaims", `{"metadata":{"name":"weft-attack"},"spec":{"accessModes":["ReadWriteOnce"],"volumeName":"weft-attack-volume","storageClassName":"","resources":{"requests":{"storage":"1Mi"}}}}`),
			write("by class", post, inLow+"/persistentvolumeclaims", `{"metadata":{"name":"weft-attack"},"spec":{"accessModes":["ReadWriteOnce"],"storageClassName":"weft-attack-class","resources":{"requests":{"storage":"1Mi"}}}}`),
			write("a volume of one's own making", post, "/api/v1/persistentvolumes", `{"metadata":{"name":"weft-attack-mine"},"spec":{"accessModes":["ReadWriteOnce"],"capacity":{"storage":"1Mi"},"hostPath":{"path":"/"}}}`),
		}},
		{Number: 17, Title: "run as a higher account", Attempts: []Attempt{
			pod("serviceAccountName", container+`,"serviceAccountName":"raised"`), pod("the old field", container+`,"serviceAccount":"raised"`), write("in a template", post, "/apis/apps/v1/namespaces/LOW/deployments", `{"metadata":{"name":"weft-attack"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"serviceAccountName":"raised",`+container+`}}}}`),
		}},
		{Number: 18, Title: "a token of a higher account", Attempts: []Attempt{
			write("a Secret", post, inLow+"/secrets", `{"metadata":{"name":"weft-attack","annotations":{"kubernetes.io/service-account.name":"raised"}},"type":"kubernetes.io/service-account-token"}`),
			unseen(write("a TokenRequest", post, inLow+"/serviceaccounts/raised/token", `{"spec":{}}`)), write("a TokenRequest in a higher namespace", post, inHigh+"/serviceaccounts/attacker/token", `{"spec":{}}`),
		}},
	}
}

// unseen marks what generated policies do not see although it is a write.
func unseen(a Attempt) Attempt { a.OnlyReads = true; return a }

// missing is an attempt that succeeds if it is told that something is not there.
func missing(a Attempt) Attempt { a.Missing = true; return a }

func power() []Row {
	return []Row{
		{Number: 19, Title: "act as a higher user", Attempts: []Attempt{
			impersonated("a higher account", map[string]string{impersonate: "system:serviceaccount:HIGH:attacker"}), impersonated("a group that passes everywhere", map[string]string{impersonate: "system:serviceaccount:LOW:attacker", "Impersonate-Group": "system:masters"}), impersonated("a controller", map[string]string{impersonate: "system:kube-controller-manager"}),
		}},
		{Number: 20, Title: "act by other attributes", Attempts: []Attempt{
			impersonated("a UID", map[string]string{impersonate: "system:serviceaccount:LOW:attacker", "Impersonate-Uid": "1"}), impersonated("an extra field", map[string]string{impersonate: "system:serviceaccount:LOW:attacker", "Impersonate-Extra-Scopes": "all"}), impersonated("a user whom nobody cleared", map[string]string{impersonate: "weft-attack-nobody"}),
		}},
		{Number: 21, Title: "hand rights down", Attempts: []Attempt{
			binding("a role in a higher namespace", rbac+"/namespaces/HIGH/rolebindings", "ClusterRole", "view", `{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"weft-attack-nobody"}`),
			binding("to everybody", rbac+"/namespaces/HIGH/rolebindings", "ClusterRole", "view", `{"kind":"Group","apiGroup":"rbac.authorization.k8s.io","name":"system:authenticated"}`), binding("everywhere", rbac+"/clusterrolebindings", "ClusterRole", "cluster-admin", `{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"weft-attack-nobody"}`),
		}},
		{Number: 22, Title: "rights by roles", Attempts: []Attempt{
			write("a cluster role that binds", post, rbac+"/clusterroles", `{"metadata":{"name":"weft-attack"},"rules":[{"apiGroups":["rbac.authorization.k8s.io"],"resources":["clusterroles"],"verbs":["bind","escalate"]}]}`),
			write("a role in a higher namespace", post, rbac+"/namespaces/HIGH/roles", `{"metadata":{"name":"weft-attack"},"rules":[]}`), patched("a built-in role", rbac+"/clusterroles/view", merge, `{"rules":[]}`),
		}},
		{Number: 23, Title: "rights for a lower account", Attempts: []Attempt{
			binding("in a higher namespace", rbac+"/namespaces/HIGH/rolebindings", "ClusterRole", "edit", lowAccount), binding("by the group of accounts", rbac+"/namespaces/HIGH/rolebindings", "ClusterRole", "edit", `{"kind":"Group","apiGroup":"rbac.authorization.k8s.io","name":"system:serviceaccounts:LOW"}`),
			binding("everywhere", rbac+"/clusterrolebindings", "ClusterRole", "view", lowAccount),
		}},
		{Number: 24, Title: "run on a higher node", Attempts: []Attempt{
			pod("nodeName", container+`,"nodeName":"NODE"`), pod("by its name in a label", container+`,"nodeSelector":{"kubernetes.io/hostname":"NODE"}`), write("by a Binding", post, inLow+"/pods/weft-attack-pod/binding", `{"apiVersion":"v1","kind":"Binding","metadata":{"name":"weft-attack-pod"},"target":{"kind":"Node","name":"NODE"}}`),
		}},
		{Number: 25, Title: "be scheduled on a higher node", Attempts: []Attempt{
			pod("toleration and affinity", container+`,"tolerations":[{"operator":"Exists"}],"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"level.weft.dev/level","operator":"In","values":["LEVELHIGH"]}]}]}}}`),
			pod("by field", container+`,"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchFields":[{"key":"metadata.name","operator":"In","values":["NODE"]}]}]}}}`), pod("by selector", container+`,"nodeSelector":{"level.weft.dev/level":"LEVELHIGH"}`),
		}},
		{Number: 26, Title: "a node's level", Attempts: []Attempt{
			node("by its agent", "/api/v1/nodes/NODE", merge, lowered), node("by its agent, in its state", "/api/v1/nodes/NODE/status", strategic, lowered), patched("by a low user", "/api/v1/nodes/NODE", merge, lowered),
		}},
		{Number: 27, Title: "reach the machine below", Attempts: []Attempt{
			pod("a path", container+`,"volumes":[{"name":"v","hostPath":{"path":"/"}}]`), pod("processes", container+`,"hostPID":true`), pod("privileged", `"containers":[{"name":"c","image":"none","securityContext":{"privileged":true}}]`),
		}},
		{Number: 28, Title: "pretend to be a static pod", Attempts: []Attempt{
			write("mirror", post, inLow+"/pods", `{"metadata":{"name":"weft-attack","annotations":{"kubernetes.io/config.mirror":"a"}},"spec":{"nodeName":"NODE",`+container+`}}`), write("on another node", post, inLow+"/pods", `{"metadata":{"name":"weft-attack","annotations":{"kubernetes.io/config.mirror":"a"}},"spec":{"nodeName":"weft-attack-plain","automountServiceAccountToken":false,`+container+`}}`),
			patched("an annotation of a running pod", inHigh+"/pods/weft-attack-pod", merge, `{"metadata":{"annotations":{"a":"b"}}}`),
		}},
		{Number: 29, Title: "an owner above oneself", Attempts: []Attempt{
			write("a secret", post, inLow+"/configmaps", `{"metadata":{"name":"weft-attack","ownerReferences":[{"apiVersion":"v1","kind":"Secret","name":"weft-attack-raised","uid":"a"}]}}`),
			write("with blocking", post, inLow+"/secrets", `{"metadata":{"name":"weft-attack","ownerReferences":[{"apiVersion":"v1","kind":"Secret","name":"weft-attack-raised","uid":"a","blockOwnerDeletion":true}]}}`),
			patched("added later", inLow+"/secrets/weft-attack-own", merge, `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Secret","name":"weft-attack-raised","uid":"a"}]}}`),
		}},
		{Number: 30, Title: "keep a higher object from being deleted", Attempts: []Attempt{
			patched("a secret", inHigh+"/secrets/weft-attack-secret", merge, `{"metadata":{"finalizers":["weft.dev/attack"]}}`), patched("the namespace", "/api/v1/namespaces/HIGH", merge, `{"metadata":{"finalizers":["weft.dev/attack"]}}`), patched("an object with a level of its own", inLow+"/secrets/weft-attack-raised", merge, `{"metadata":{"finalizers":["weft.dev/attack"]}}`),
		}},
		{Number: 31, Title: "take the enforcement away", Attempts: []Attempt{
			unseen(write("a policy of the API server", remove, admit+"/validatingadmissionpolicybindings", "")), unseen(write("webhooks", remove, admit+"/validatingwebhookconfigurations", "")), write("a definition", remove, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/registries.level.weft.dev", ""),
		}},
		{Number: 32, Title: "a rogue API", Attempts: []Attempt{
			write("an APIService", post, "/apis/apiregistration.k8s.io/v1/apiservices", `{"metadata":{"name":"v1.rogue.example.com"},"spec":{"group":"rogue.example.com","version":"v1","groupPriorityMinimum":1,"versionPriority":1,"insecureSkipTLSVerify":true,"service":{"namespace":"LOW","name":"rogue"}}}`),
			unseen(write("a webhook", post, admit+"/mutatingwebhookconfigurations", `{"metadata":{"name":"weft-attack"},"webhooks":[]}`)), write("a definition", post, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", `{"metadata":{"name":"as.rogue.example.com"},"spec":{"group":"rogue.example.com","scope":"Cluster","names":{"plural":"as","kind":"A"},"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object"}}}]}}`),
		}},
		{Number: 33, Title: "a certificate for somebody else", Attempts: []Attempt{
			unseen(write("ask to be an administrator", post, "/apis/certificates.k8s.io/v1/certificatesigningrequests", `{"metadata":{"name":"weft-attack"},"spec":{"signerName":"kubernetes.io/kube-apiserver-client","usages":["client auth"],"request":"CERTIFICATE"}}`)),
			patched("approve one", "/apis/certificates.k8s.io/v1/certificatesigningrequests/weft-attack-request/approval", merge, `{"status":{"conditions":[{"type":"Approved","status":"True","reason":"a","message":"b"}]}}`),
			patched("change one", "/apis/certificates.k8s.io/v1/certificatesigningrequests/weft-attack-request", merge, `{"metadata":{"labels":{"a":"b"}}}`),
		}},
		{Number: 34, Title: "404 instead of 403 to find names", Attempts: []Attempt{missing(read("a name that is not there", inHigh+"/secrets/weft-attack-not-there")), read("a kind that is not there", inHigh+"/secrets?fieldSelector=metadata.name%3Dweft-attack-not-there"), missing(unseen(write("a deletion of what is not there", remove, inHigh+"/secrets/weft-attack-not-there", "")))}},
		{Number: 35, Title: "pages of a higher session", Attempts: []Attempt{read("a first page", inHigh+"/secrets?limit=1"), read("at a revision", inHigh+"/secrets?resourceVersion=0&resourceVersionMatch=NotOlderThan"), read("over all namespaces", "/api/v1/secrets?limit=1&fieldSelector=metadata.namespace%3DHIGH")}},
		{Number: 36, Title: "leaks of a watch", Attempts: []Attempt{read("initial events", inHigh+"/secrets?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=2"), read("one name", "/api/v1/watch/namespaces/HIGH/secrets/weft-attack-secret?timeoutSeconds=2"), read("by field", "/api/v1/secrets?watch=true&timeoutSeconds=2&fieldSelector=metadata.namespace%3DHIGH")}},
		{Number: 37, Title: "a stream kept after demotion", Scenes: []Scene{streams}},
		{Number: 38, Title: "headers through the proxy", Later: "needs the filtering proxy"},
		{Number: 39, Title: "an empty token to the proxy", Later: "needs the filtering proxy"},
		{Number: 40, Title: "an account of the same name elsewhere", Attempts: []Attempt{read("reads the other's namespace", inHigh+"/secrets/weft-attack-secret"), write("writes there", post, inHigh+"/configmaps", `{"metadata":{"name":"weft-attack"}}`), connect("connects there", post, inHigh+"/pods/weft-attack-pod/exec?command=id")}},
		{Number: 41, Title: "a network policy of one's own to reach what is higher", Attempts: []Attempt{
			effectless("allow all egress", `{"metadata":{"name":"weft-attack"},"spec":{"podSelector":{},"policyTypes":["Egress"],"egress":[{}]}}`), effectless("allow ingress from above", `{"metadata":{"name":"weft-attack"},"spec":{"podSelector":{},"ingress":[{"from":[{"namespaceSelector":{}}]}]}}`),
			write("one in the higher namespace", post, "/apis/networking.k8s.io/v1/namespaces/HIGH/networkpolicies", `{"metadata":{"name":"weft-attack"},"spec":{"podSelector":{},"ingress":[{}]}}`),
		}},
		{Number: 42, Title: "a Service that leads to higher pods", Attempts: []Attempt{
			write("an EndpointSlice", post, "/apis/discovery.k8s.io/v1/namespaces/LOW/endpointslices", `{"metadata":{"name":"weft-attack"},"addressType":"IPv4","endpoints":[{"addresses":["10.99.99.99"],"targetRef":{"kind":"Pod","namespace":"HIGH","name":"weft-attack-pod"}}]}`),
			write("Endpoints", post, inLow+"/endpoints", `{"metadata":{"name":"weft-attack"},"subsets":[{"addresses":[{"ip":"10.99.99.99","targetRef":{"kind":"Pod","namespace":"HIGH","name":"weft-attack-pod"}}]}]}`),
			write("an external name", post, inLow+"/services", `{"metadata":{"name":"weft-attack"},"spec":{"type":"ExternalName","externalName":"weft-attack.HIGH.svc.cluster.local"}}`),
		}},
		{Number: 43, Title: "a relay from low to high", Scenes: []Scene{relays}},
		{Number: 44, Title: "an approval used again", Later: "needs approvals"},
		{Number: 45, Title: "a door that is down", Scenes: []Scene{faults}},
	}
}

func node(name, path, kind, body string) Attempt {
	a := patched(name, path, kind, body)
	a.As = Node
	return a
}

func typed(a Attempt, kind string) Attempt { a.Type = kind; return a }

func effectless(name, body string) Attempt {
	a := write(name, post, "/apis/networking.k8s.io/v1/namespaces/LOW/networkpolicies", body)
	a.Expect = NoEffect
	return a
}

// controls must stay allowed.
func controls() []Row {
	system := func(name, controller, method, path, body string) Attempt {
		a := allowed(name, System, method, path, body)
		a.Controller = controller
		return a
	}
	return []Row{{Title: "must stay allowed", Attempts: []Attempt{
		allowed("low creates low", Low, post, inLow+"/configmaps", `{"metadata":{"name":"weft-attack"}}`),
		allowed("low reads low", Low, get, inLow+"/configmaps", ""),
		typed(allowed("low changes low", Low, patch, inLow+"/secrets/weft-attack-own", `{"stringData":{"a":"b"}}`), merge),
		allowed("low deletes low", Low, remove, inLow+"/secrets/weft-attack-own", ""),
		allowed("low runs a pod", Low, post, inLow+"/pods", `{"metadata":{"name":"weft-attack"},"spec":{"automountServiceAccountToken":false,`+container+`}}`),
		allowed("low asks what it may do", Low, post, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", `{"spec":{"resourceAttributes":{"verb":"get","resource":"pods","namespace":"HIGH"}}}`),
		allowed("high reads low", High, get, inLow+"/secrets", ""),
		allowed("high writes low", High, post, inLow+"/configmaps", `{"metadata":{"name":"weft-attack"}}`),
		typed(allowed("high changes low", High, patch, inLow+"/secrets/weft-attack-own", `{"stringData":{"a":"b"}}`), merge),
		allowed("high writes high", High, post, inHigh+"/configmaps", `{"metadata":{"name":"weft-attack"}}`),
		allowed("high gives an equal rights", High, post, rbac+"/namespaces/HIGH/rolebindings", `{"metadata":{"name":"weft-attack"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"view"},"subjects":[{"kind":"ServiceAccount","namespace":"HIGH","name":"attacker"}]}`),
		allowed("high gives an equal all rights in its namespace", High, post, rbac+"/namespaces/HIGH/rolebindings", `{"metadata":{"name":"weft-attack"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"admin"},"subjects":[{"kind":"ServiceAccount","namespace":"HIGH","name":"attacker"}]}`),
		system("a controller makes pods", "replicaset-controller", post, inHigh+"/pods", `{"metadata":{"name":"weft-attack"},"spec":{"automountServiceAccountToken":false,`+container+`}}`),
		system("the garbage collector deletes", "generic-garbage-collector", remove, inHigh+"/configmaps/weft-attack-config", ""),
		system("the namespace controller empties a namespace", "namespace-controller", remove, inHigh+"/configmaps", ""),
		system("the autoscaler scales", "horizontal-pod-autoscaler", get, "/apis/autoscaling/v2/horizontalpodautoscalers", ""),
		typed(allowed("a node's agent tells its state", Node, patch, "/api/v1/nodes/NODE/status", `{"metadata":{"annotations":{"a":"b"}}}`), strategic),
		allowed("a node's agent renews its lease", Node, post, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", `{"metadata":{"name":"NODE","ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"NODE","uid":"1"}]},"spec":{"holderIdentity":"NODE"}}`),
		allowed("a long list", High, get, inLow+"/configmaps?limit=10000", ""),
		allowed("high deletes its namespace", High, remove, "/api/v1/namespaces/HIGH", ""),
	}}}
}
