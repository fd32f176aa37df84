package policy

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/kube/manifest"
	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/test/kube"
)

// The API server of these tests begins with the static policies, as one with levels does.
func TestMain(m *testing.M) {
	// Under this name the next start of a server removes it.
	folder, err := os.MkdirTemp("", fmt.Sprintf("weft-test-%d-", os.Getpid()))
	if err == nil {
		err = writeStatic(filepath.Join(folder, "ValidatingAdmissionPolicy"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	kube.Main(m, "--admission-manifests", folder)
}

func writeStatic(folder string) error {
	made, err := compile(context.Background())
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	for i, u := range made.Static {
		data, err := yaml.Marshal(u.Object)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("%d.yaml", i)), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

const world = `
apiVersion: level.weft.dev/v1alpha1
kind: Registry
metadata: {name: cluster}
spec:
  levels: [{name: base}, {name: low}, {name: mid, aliases: ["2.5"]}, {name: high}]
  categories: [{name: hr}, {name: it}]
---
apiVersion: level.weft.dev/v1alpha1
kind: Clearance
metadata: {name: low}
spec: {label: low, subjects: [{kind: User, name: lois}, {kind: User, name: root}]}
---
apiVersion: level.weft.dev/v1alpha1
kind: Clearance
metadata: {name: mid}
spec: {label: mid.hr, subjects: [{kind: Group, name: mids}]}
---
apiVersion: level.weft.dev/v1alpha1
kind: Clearance
metadata: {name: high}
spec: {label: high.hr.it, subjects: [{kind: User, name: hans}, {kind: User, name: weft-admin}, {kind: ServiceAccount, namespace: low, name: robot}]}
---
{apiVersion: v1, kind: Namespace, metadata: {name: open}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: kube-system}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: low, labels: {level.weft.dev/level: low}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: mid, labels: {level.weft.dev/level: "2.5"}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: staff, labels: {kubernetes.io/level: mid.hr}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: high, labels: {level.weft.dev/level: high}}}
---
{apiVersion: v1, kind: Secret, metadata: {name: key, namespace: low, labels: {level.weft.dev/level: high}}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: plan, namespace: low, labels: {level.weft.dev/level: high}}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: robot, namespace: low}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: low}}
---
{apiVersion: v1, kind: Node, metadata: {name: fort, labels: {level.weft.dev/level: high}}}
---
{apiVersion: v1, kind: Node, metadata: {name: plain}}
`

func compile(ctx context.Context) (*Policies, error) {
	objects, err := manifest.Reader{Stdin: strings.NewReader(world)}.Read(ctx, "-")
	if err != nil {
		return nil, err
	}
	loaded, err := level.Load(objects)
	if err != nil {
		return nil, err
	}
	return Compile(loaded.Model, Options{Now: time.Now(), Setting: api.Enforce, Guardians: []string{"weft-admin"}})
}

func compiled(t testing.TB) *Policies {
	t.Helper()
	made, err := compile(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// place is a real API server as a user sees it.
type place struct {
	t      *testing.T
	client dynamic.Interface
}

func as(t *testing.T, config *rest.Config, user string, groups ...string) place {
	t.Helper()
	c := rest.CopyConfig(config)
	if user != "" {
		c.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: append(groups, "system:authenticated")}
	}
	client, err := dynamic.NewForConfig(c)
	if err != nil {
		t.Fatal(err)
	}
	return place{t, client}
}

func parse(t testing.TB, text string) *unstructured.Unstructured {
	t.Helper()
	var m map[string]any
	if err := yaml.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err, text)
	}
	return &unstructured.Unstructured{Object: m}
}

func (p place) of(u *unstructured.Unstructured) dynamic.ResourceInterface {
	plural, _ := meta.UnsafeGuessKindToResource(u.GroupVersionKind())
	if u.GetNamespace() == "" {
		return p.client.Resource(plural)
	}
	return p.client.Resource(plural).Namespace(u.GetNamespace())
}

func (p place) create(text string) error {
	u := parse(p.t, text)
	_, err := p.of(u).Create(p.t.Context(), u, metav1.CreateOptions{})
	return err
}

func (p place) update(text, sub string) error {
	u := parse(p.t, text)
	now, err := p.of(u).Get(p.t.Context(), u.GetName(), metav1.GetOptions{})
	if err != nil {
		return err
	}
	now.SetLabels(u.GetLabels())
	var subs []string
	if sub != "" {
		subs = []string{sub}
	}
	_, err = p.of(u).Update(p.t.Context(), now, metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}}, subs...)
	return err
}

func install(t *testing.T, config *rest.Config) {
	t.Helper()
	admin := as(t, config, "")
	objects, err := manifest.Reader{Stdin: strings.NewReader(world)}.Read(t.Context(), "-")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if o.GroupVersionKind().Group == api.Group {
			continue // the policies were made of them; their definitions are not here
		}
		if _, err := admin.of(o.Unstructured).Create(t.Context(), o.Unstructured, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
	// lois and mia may do everything in every namespace, root everything; their rights alone would let all through.
	for _, text := range []string{
		`{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: much}, rules: [{apiGroups: ["", apps, batch, discovery.k8s.io, rbac.authorization.k8s.io, networking.k8s.io, scheduling.k8s.io], resources: ["*"], verbs: ["*"]}]}`,
		`{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: much}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: much}, subjects: [{kind: User, name: lois}, {kind: User, name: hans}, {kind: Group, name: mids}, {kind: User, name: nobody}]}`,
		`{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: all}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}, subjects: [{kind: User, name: root}, {kind: User, name: hans}]}`,
	} {
		if err := admin.create(text); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
	for _, u := range compiled(t).Objects {
		if _, err := admin.of(u).Create(t.Context(), u, metav1.CreateOptions{FieldValidation: "Strict"}); err != nil {
			t.Fatalf("%s %s: %v", u.GetKind(), u.GetName(), err)
		}
	}
}

// The policies hold on a real API server with no component of ours running.
func TestOnARealAPIServer(t *testing.T) {
	server := kube.Start(t)
	install(t, server.Config)
	users := map[string]place{
		"lois": as(t, server.Config, "lois"), "root": as(t, server.Config, "root"), "hans": as(t, server.Config, "hans"), "mia": as(t, server.Config, "mia", "mids"),
		"nobody": as(t, server.Config, "nobody"), "replicaset-controller": as(t, server.Config, "system:serviceaccount:kube-system:replicaset-controller", "system:serviceaccounts", "system:serviceaccounts:kube-system"),
		"node": as(t, server.Config, "system:node:plain", "system:nodes"), "scheduler": as(t, server.Config, "system:kube-scheduler"),
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for { // an API server learns of policies a moment after they are made
		err := users["lois"].create(`{apiVersion: v1, kind: ConfigMap, metadata: {generateName: a-, namespace: high}}`)
		bound := users["lois"].create(`{apiVersion: v1, kind: Pod, metadata: {generateName: a-, namespace: low}, spec: {hostPID: true, containers: [{name: c, image: i}]}}`)
		routed := users["lois"].create(`{apiVersion: v1, kind: Service, metadata: {generateName: a-, namespace: low}, spec: {type: ExternalName, externalName: a.high.svc}}`)
		if err != nil && bound != nil && routed != nil && strings.Contains(err.Error(), "levels:") {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatal("the policies do not hold:", err, bound, routed)
		case <-time.After(100 * time.Millisecond):
		}
	}
	pod := func(name, namespace, spec string) string {
		return fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: %s}, spec: {automountServiceAccountToken: false, %s}}`, name, namespace, spec)
	}
	const c = "containers: [{name: c, image: i}]"
	for _, one := range []struct{ name, user, object, denial string }{
		{"low writes high", "lois", `{apiVersion: v1, kind: ConfigMap, metadata: {generateName: a-, namespace: high}}`, "does not reach for this namespace"},
		{"low with all rights writes high", "root", `{apiVersion: v1, kind: ConfigMap, metadata: {generateName: a-, namespace: high}}`, "does not reach for this namespace"},
		{"high writes high", "hans", `{apiVersion: v1, kind: ConfigMap, metadata: {generateName: a-, namespace: high}}`, ""},
		{"high writes low", "hans", `{apiVersion: v1, kind: ConfigMap, metadata: {generateName: a-, namespace: low}}`, ""},
		{"low writes low", "lois", `{apiVersion: v1, kind: ConfigMap, metadata: {generateName: a-, namespace: low}}`, ""},
		{"low with all rights writes low", "root", `{apiVersion: v1, kind: ConfigMap, metadata: {generateName: a-, namespace: low}}`, ""},
		{"low writes an alias of mid", "lois", `{apiVersion: v1, kind: ConfigMap, metadata: {generateName: a-, namespace: mid}}`, "does not reach for this namespace"},
		{"a group writes an alias of mid", "mia", `{apiVersion: v1, kind: ConfigMap, metadata: {generateName: a-, namespace: mid}}`, ""},
		{"a group writes under the talk's label, with a category", "mia", `{apiVersion: v1, kind: ConfigMap, metadata: {generateName: a-, namespace: staff}}`, ""},
		{"nobody writes the lowest", "nobody", `{apiVersion: v1, kind: ConfigMap, metadata: {generateName: a-, namespace: open}}`, ""},
		{"nobody writes low", "nobody", `{apiVersion: v1, kind: ConfigMap, metadata: {generateName: a-, namespace: low}}`, "does not reach for this namespace"},
		{"nobody writes the system", "nobody", `{apiVersion: v1, kind: ConfigMap, metadata: {generateName: a-, namespace: kube-system}}`, "does not reach for this namespace"},
		{"a namespace above oneself", "lois", `{apiVersion: v1, kind: Namespace, metadata: {generateName: a-, labels: {level.weft.dev/level: high}}}`, "that you are not cleared for"},
		{"a label that is in use nowhere", "hans", `{apiVersion: v1, kind: Namespace, metadata: {generateName: a-, labels: {level.weft.dev/level: hgih}}}`, "that you are not cleared for"},
		{"two labels that differ", "hans", `{apiVersion: v1, kind: Namespace, metadata: {generateName: a-, labels: {level.weft.dev/level: high, kubernetes.io/level: low}}}`, "differ"},
		{"an object above its namespace", "hans", `{apiVersion: v1, kind: ConfigMap, metadata: {generateName: a-, namespace: low, labels: {level.weft.dev/level: high}}}`, "cannot be above its namespace"},
		{"a kind of power", "lois", `{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: x}, rules: []}`, "power over everything"},
		{"a secret volume", "lois", pod("p1", "low", c+`, volumes: [{name: v, secret: {secretName: key}}]`), "a volume leads"},
		{"a secret volume by a controller", "replicaset-controller", pod("p2", "low", c+`, volumes: [{name: v, secret: {secretName: key}}]`), "a volume leads"},
		{"a projected volume", "lois", pod("p3", "low", c+`, volumes: [{name: v, projected: {sources: [{configMap: {name: plan}}]}}]`), "a projected volume"},
		{"an environment", "lois", pod("p4", "low", `containers: [{name: c, image: i, envFrom: [{secretRef: {name: key}}]}]`), "environment variable"},
		{"an environment of an init container", "lois", pod("p5", "low", c+`, initContainers: [{name: d, image: i, env: [{name: A, valueFrom: {secretKeyRef: {name: key, key: a}}}]}]`), "environment variable"},
		{"a pull secret", "lois", pod("p6", "low", c+`, imagePullSecrets: [{name: key}]`), "pull secret"},
		{"a storage secret", "lois", pod("p7", "low", c+`, volumes: [{name: v, csi: {driver: d, nodePublishSecretRef: {name: key}}}]`), "a volume leads"},
		{"an account", "lois", pod("p8", "low", c+`, serviceAccountName: robot`), "service account is above"},
		{"a node", "lois", pod("p9", "low", c+`, nodeName: fort`), "node is above"},
		{"a node's name", "lois", pod("p10", "low", c+`, nodeSelector: {kubernetes.io/hostname: fort}`), "node is above"},
		{"a node's level", "lois", pod("p11", "low", c+`, affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: level.weft.dev/level, operator: In, values: [high]}]}]}}}`), "node is above"},
		{"a path of the host", "lois", pod("p12", "low", c+`, volumes: [{name: v, hostPath: {path: /}}]`), "machine below"},
		{"a privileged container", "lois", pod("p13", "low", `containers: [{name: c, image: i, securityContext: {privileged: true}}]`), "machine below"},
		{"a capability", "lois", pod("p14", "low", `containers: [{name: c, image: i, securityContext: {capabilities: {add: [CAP_SYS_ADMIN]}}}]`), "machine below"},
		{"a mirror", "lois", `{apiVersion: v1, kind: Pod, metadata: {name: p15, namespace: low, annotations: {kubernetes.io/config.mirror: a}}, spec: {nodeName: plain, ` + c + `}}`, "comes from a file"},
		{"a pod of the system", "replicaset-controller", pod("p16", "kube-system", c+`, hostNetwork: true, volumes: [{name: v, hostPath: {path: /}}]`), ""},
		{"a pod of one's level", "lois", pod("p17", "low", `containers: [{name: c, image: i, ports: [{containerPort: 80}], securityContext: {capabilities: {add: [NET_BIND_SERVICE]}}}], nodeName: plain, volumes: [{name: v, secret: {secretName: mine}}, {name: w, emptyDir: {}}]`), ""},
		{"a Deployment", "lois", `{apiVersion: apps/v1, kind: Deployment, metadata: {name: d, namespace: low}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {` + c + `, volumes: [{name: v, secret: {secretName: key}}]}}}}`, "a volume leads"},
		{"a CronJob", "lois", `{apiVersion: batch/v1, kind: CronJob, metadata: {name: d, namespace: low}, spec: {schedule: "* * * * *", jobTemplate: {spec: {template: {spec: {restartPolicy: Never, serviceAccountName: robot, ` + c + `}}}}}}`, "service account is above"},
		{"a PodTemplate", "lois", `{apiVersion: v1, kind: PodTemplate, metadata: {name: d, namespace: low}, template: {spec: {hostIPC: true, ` + c + `}}}`, "machine below"},
		{"a Deployment of one's level", "lois", `{apiVersion: apps/v1, kind: Deployment, metadata: {name: e, namespace: low}, spec: {replicas: 0, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {` + c + `}}}}`, ""},
		{"a name in a higher namespace", "lois", `{apiVersion: v1, kind: Service, metadata: {name: s1, namespace: low}, spec: {type: ExternalName, externalName: web.high.svc.cluster.local}}`, "higher namespace"},
		{"a name outside", "lois", `{apiVersion: v1, kind: Service, metadata: {name: s2, namespace: low}, spec: {type: ExternalName, externalName: example.com}}`, ""},
		{"external addresses", "lois", `{apiVersion: v1, kind: Service, metadata: {name: s3, namespace: low}, spec: {externalIPs: [1.2.3.4], ports: [{port: 80}]}}`, "external addresses"},
		{"an endpoint", "lois", `{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: e1, namespace: low}, addressType: IPv4, endpoints: [{addresses: [10.0.0.7], targetRef: {kind: Pod, name: x, namespace: high}}]}`, "an endpoint"},
		{"a token", "lois", `{apiVersion: v1, kind: Secret, metadata: {name: t1, namespace: low, annotations: {kubernetes.io/service-account.name: robot}}, type: kubernetes.io/service-account-token}`, "service account is above"},
		{"a token of one's level", "lois", `{apiVersion: v1, kind: Secret, metadata: {name: t2, namespace: low, annotations: {kubernetes.io/service-account.name: default}}, type: kubernetes.io/service-account-token}`, ""},
		{"an owner", "lois", `{apiVersion: v1, kind: ConfigMap, metadata: {name: o1, namespace: low, ownerReferences: [{apiVersion: v1, kind: Secret, name: key, uid: a}]}}`, "an owner"},
		{"rights for a lower user", "hans", `{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: b1, namespace: high}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}, subjects: [{kind: User, name: lois}]}`, "above its clearance"},
		{"rights for a lower account", "hans", `{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: b2, namespace: high}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}, subjects: [{kind: ServiceAccount, namespace: low, name: default}]}`, "above its clearance"},
		{"rights for everybody", "hans", `{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: b3, namespace: high}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}, subjects: [{kind: Group, name: "system:authenticated"}]}`, "above its clearance"},
		{"rights for equals", "hans", `{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: b4, namespace: high}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}, subjects: [{kind: User, name: hans}, {kind: ServiceAccount, namespace: high, name: default}]}`, ""},
		{"rights everywhere", "hans", `{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: b5}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}, subjects: [{kind: User, name: lois}]}`, "above its clearance"},
		{"harmless rights everywhere", "hans", `{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: b6}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:discovery"}, subjects: [{kind: User, name: lois}]}`, ""},
	} {
		t.Run(one.name, func(t *testing.T) {
			p := users[one.user]
			p.t = t
			expect(t, p.create(one.object), one.denial)
		})
	}
	for _, one := range []struct{ name, user, object, sub, denial string }{
		{"lower a high namespace", "lois", `{apiVersion: v1, kind: Namespace, metadata: {name: high, labels: {level.weft.dev/level: low}}}`, "", "levels:"},
		{"lower it by finalize", "root", `{apiVersion: v1, kind: Namespace, metadata: {name: high, labels: {level.weft.dev/level: low}}}`, "finalize", "levels:"},
		{"lower it by status", "lois", `{apiVersion: v1, kind: Namespace, metadata: {name: high}}`, "status", "levels:"},
		{"lower a namespace of one's level", "lois", `{apiVersion: v1, kind: Namespace, metadata: {name: low, labels: {level.weft.dev/level: base}}}`, "", ""},
		{"raise a namespace above oneself", "lois", `{apiVersion: v1, kind: Namespace, metadata: {name: low, labels: {level.weft.dev/level: high}}}`, "", "that you are not cleared for"},
		{"a node's own level by its agent", "node", `{apiVersion: v1, kind: Node, metadata: {name: plain, labels: {level.weft.dev/level: high}}}`, "status", "agent of a node"},
	} {
		t.Run(one.name, func(t *testing.T) {
			p := users[one.user]
			p.t = t
			expect(t, p.update(one.object, one.sub), one.denial)
		})
	}
	t.Run("a deletion", func(t *testing.T) {
		if err := as(t, server.Config, "").create(`{apiVersion: v1, kind: ConfigMap, metadata: {name: kept, namespace: high}}`); err != nil {
			t.Fatal(err)
		}
		maps := users["root"].client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace("high")
		expect(t, maps.Delete(t.Context(), "kept", metav1.DeleteOptions{}), "does not reach")
		if err := maps.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err == nil {
			t.Error("a low user empties a high namespace")
		}
		if _, err := maps.Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
			t.Error("something was deleted:", err)
		}
	})
	t.Run("a connection", func(t *testing.T) {
		admin := as(t, server.Config, "")
		admin.t = t
		if err := admin.create(pod("target", "high", c)); err != nil {
			t.Fatal(err)
		}
		config := rest.CopyConfig(server.Config)
		config.Impersonate = rest.ImpersonationConfig{UserName: "root", Groups: []string{"system:authenticated"}}
		config.APIPath, config.GroupVersion = "/api", &schema.GroupVersion{Version: "v1"}
		config.NegotiatedSerializer = serializer
		client, err := rest.RESTClientFor(config)
		if err != nil {
			t.Fatal(err)
		}
		for _, sub := range []string{"exec", "attach", "portforward", "proxy"} {
			err := client.Post().Namespace("high").Resource("pods").Name("target").SubResource(sub).Do(t.Context()).Error()
			expect(t, err, "does not reach")
		}
	})
	t.Run("the policies themselves", func(t *testing.T) {
		root := users["root"]
		admission := func(resource string) dynamic.ResourceInterface {
			return root.client.Resource(schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: resource})
		}
		for _, resource := range []string{"validatingadmissionpolicies", "validatingadmissionpolicybindings"} {
			expect(t, admission(resource).Delete(t.Context(), "weft-levels-writes", metav1.DeleteOptions{}), "only their guardians")
			if err := admission(resource).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err == nil {
				t.Errorf("all %s are gone", resource)
			}
			if _, err := admission(resource).Get(t.Context(), "weft-levels-writes", metav1.GetOptions{}); err != nil {
				t.Error(err)
			}
		}
		expect(t, admission("mutatingadmissionpolicies").Delete(t.Context(), "weft-levels-placement", metav1.DeleteOptions{}), "only their guardians")
		_, err := admission("validatingadmissionpolicybindings").Patch(t.Context(), "weft-levels-writes", types.MergePatchType, []byte(`{"spec":{"validationActions":["Audit"]}}`), metav1.PatchOptions{})
		expect(t, err, "only their guardians")
		root.t = t
		expect(t, root.create(`{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: "weft:level:mine"}, rules: []}`), "levels:")
		expect(t, root.create(`{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: "weft:level:mine"}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "weft:level:high.hr.it"}, subjects: [{kind: User, name: root}]}`), "levels:")
		guardian := as(t, server.Config, "")
		policies := guardian.client.Resource(schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "mutatingadmissionpolicybindings"})
		expect(t, policies.Delete(t.Context(), "weft-levels-placement", metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}), "")
	})
	t.Run("nodes that pods may run on", func(t *testing.T) { placements(t, users, pod) })
}

func expect(t *testing.T, err error, denial string) {
	t.Helper()
	switch {
	case denial == "" && err != nil:
		t.Error("is denied:", err)
	case denial != "" && err == nil:
		t.Error("is let through")
	case denial != "" && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), denial)):
		t.Errorf("want a denial with %q, got %v", denial, err)
	}
}
