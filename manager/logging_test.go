package manager

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	weftkube "github.com/weft-dev/weft/kube"
	"github.com/weft-dev/weft/logging/resource"
	"github.com/weft-dev/weft/test/kube"
)

func TestMain(m *testing.M) { kube.Main(m) }

// cluster is a manager that serves logging in one namespace of a real API server.
type cluster struct {
	kube.Place
	t       *testing.T
	objects dynamic.Interface
}

// serve runs a manager, or two of which one holds the lease. What is wanted of the part logging is set before they run.
func serve(t *testing.T, elected bool, set ...func(*Logging)) *cluster {
	t.Helper()
	place := kube.Namespace(t)
	objects, err := dynamic.NewForConfig(place.Config)
	if err != nil {
		t.Fatal(err)
	}
	managers := 1
	if elected {
		managers = 2
	}
	for i := range managers {
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		part := NewLogging(place.Namespace)
		for _, f := range set {
			f(part)
		}
		m := &Manager{Config: place.Config, Parts: []Part{part}, Install: i == 0, Settle: 20 * time.Millisecond}
		go func() {
			if elected {
				done <- m.RunElected(ctx, place.Namespace)
			} else {
				done <- m.Run(ctx)
			}
		}()
		t.Cleanup(func() {
			stop()
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(2 * time.Minute):
				t.Error("the manager does not end")
			}
		})
	}
	return &cluster{place, t, objects}
}

// apply makes the objects of a text, in which NS stands for the namespace.
func (c *cluster) apply(text string) {
	c.t.Helper()
	for part := range strings.SplitSeq("\n"+strings.ReplaceAll(text, "NS", c.Namespace), "\n---") {
		var o map[string]any
		if err := yaml.Unmarshal([]byte(part), &o); err != nil {
			c.t.Fatal(err)
		}
		u := &unstructured.Unstructured{Object: o}
		group, _, _ := strings.Cut(u.GetAPIVersion(), "/")
		gvr := loggingResource(group, u.GetKind())
		if group == "v1" {
			gvr = secrets
		}
		c.eventually("applying "+u.GetName(), func() error {
			_, err := c.objects.Resource(gvr).Namespace(u.GetNamespace()).Apply(c.t.Context(), u.GetName(), u, metav1.ApplyOptions{FieldManager: "test", Force: true})
			return err
		})
	}
}

func (c *cluster) remove(group, kind, namespace, name string) {
	c.t.Helper()
	if err := c.objects.Resource(loggingResource(group, kind)).Namespace(namespace).Delete(c.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) eventually(what string, try func() error) {
	c.t.Helper()
	var err error
	for range 900 {
		if err = try(); err == nil {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	c.t.Fatalf("%s: %v", what, err)
}

// config is a file of the agents' Secret.
func (c *cluster) config(secret, file string) (string, error) {
	s, err := c.Clients.CoreV1().Secrets(c.Namespace).Get(c.t.Context(), secret, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	return string(s.Data[file]), nil
}

func (c *cluster) condition(group, kind, namespace, name string) (string, string) {
	u, err := c.objects.Resource(loggingResource(group, kind)).Namespace(namespace).Get(c.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		return "", err.Error()
	}
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	if len(conditions) == 0 {
		return "", "no condition"
	}
	condition := conditions[0].(map[string]any)
	return condition["status"].(string), condition["reason"].(string)
}

const agents = `
apiVersion: fluentbit.fluent.io/v1alpha2
kind: FluentBit
metadata: {name: agent, namespace: NS, labels: {app: agent}}
spec: {image: example.test/fluent-bit, fluentBitConfigName: NS-config, namespaceFluentBitCfgSelector: {matchLabels: {for: NS}}}
---
apiVersion: fluentbit.fluent.io/v1alpha2
kind: ClusterFluentBitConfig
metadata: {name: NS-config}
spec:
  namespace: NS
  service: {httpServer: true}
  inputSelector: {matchLabels: {for: NS}}
  filterSelector: {matchLabels: {for: NS}}
  outputSelector: {matchLabels: {for: NS}}
  parserSelector: {matchLabels: {for: NS}}
  multilineParserSelector: {matchLabels: {for: NS}}
---
apiVersion: fluentbit.fluent.io/v1alpha2
kind: ClusterInput
metadata: {name: NS-tail, labels: {for: NS}}
spec: {tail: {path: /var/log/containers/*.log, tag: kube.*}}
---
apiVersion: fluentbit.fluent.io/v1alpha2
kind: ClusterOutput
metadata: {name: NS-out, labels: {for: NS}}
spec: {match: kube.*, http: {host: good, httpPassword: {valueFrom: {secretKeyRef: {name: password, key: p}}}}}
---
apiVersion: v1
kind: Secret
metadata: {name: password, namespace: NS}
stringData: {p: first}
---
apiVersion: fluentbit.fluent.io/v1alpha2
kind: FluentBitConfig
metadata: {name: tenant, namespace: NS, labels: {for: NS}}
spec: {}
---
apiVersion: fluentbit.fluent.io/v1alpha2
kind: Output
metadata: {name: tenant, namespace: NS}
spec: {match: "*", stdout: {}}
`

func TestLogging(t *testing.T) {
	c := serve(t, false)
	c.apply(agents)
	c.eventually("the configuration", func() error {
		text, err := c.config(c.Namespace+"-config", "fluent-bit.conf")
		if err == nil && (!strings.Contains(text, "http_Passwd    first") || !strings.Contains(text, "stdout")) {
			err = fmt.Errorf("%s", text)
		}
		return err
	})
	c.eventually("the agents", func() error {
		_, err := c.Clients.AppsV1().DaemonSets(c.Namespace).Get(t.Context(), "agent", metav1.GetOptions{})
		return err
	})
	role := "fluent-operator-fluent-bit-" + c.Namespace + "-agent"
	for what, get := range map[string]func() error{
		"the service account": func() error {
			_, err := c.Clients.CoreV1().ServiceAccounts(c.Namespace).Get(t.Context(), "agent", metav1.GetOptions{})
			return err
		},
		"the service": func() error {
			_, err := c.Clients.CoreV1().Services(c.Namespace).Get(t.Context(), "agent", metav1.GetOptions{})
			return err
		},
		"the rights": func() error {
			_, err := c.Clients.RbacV1().ClusterRoleBindings().Get(t.Context(), role, metav1.GetOptions{})
			return err
		},
	} {
		c.eventually(what, get)
	}

	t.Run("a secret changes", func(t *testing.T) {
		c.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: password, namespace: NS}\nstringData: {p: second}")
		c.eventually("the new password", func() error {
			text, err := c.config(c.Namespace+"-config", "fluent-bit.conf")
			if err == nil && !strings.Contains(text, "http_Passwd    second") {
				err = fmt.Errorf("%s", text)
			}
			return err
		})
	})
	t.Run("a broken resource harms nobody", func(t *testing.T) {
		c.apply(`
apiVersion: fluentbit.fluent.io/v1alpha2
kind: Output
metadata: {name: broken, namespace: NS}
spec: {match: "*", http: {host: bad, httpPassword: {valueFrom: {secretKeyRef: {name: missing, key: p}}}}}
---
apiVersion: fluentbit.fluent.io/v1alpha2
kind: Output
metadata: {name: another, namespace: NS}
spec: {match: "*", http: {host: another}}`)
		c.eventually("the good one", func() error {
			text, err := c.config(c.Namespace+"-config", "fluent-bit.conf")
			if err == nil && (!strings.Contains(text, "another") || strings.Contains(text, "bad")) {
				err = fmt.Errorf("%s", text)
			}
			return err
		})
		c.eventually("the condition", func() error {
			if status, reason := c.condition(resource.FluentBitGroup, "Output", c.Namespace, "broken"); status != "False" || reason != "SecretNotFound" {
				return fmt.Errorf("%s %s", status, reason)
			}
			if status, reason := c.condition(resource.FluentBitGroup, "Output", c.Namespace, "another"); status != "True" {
				return fmt.Errorf("%s %s", status, reason)
			}
			return nil
		})
		c.eventually("the event", func() error {
			events, err := c.Clients.CoreV1().Events(c.Namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=broken"})
			if err == nil && (len(events.Items) == 0 || events.Items[0].Reason != "SecretNotFound" || events.Items[0].Type != corev1.EventTypeWarning) {
				err = fmt.Errorf("%v", events.Items)
			}
			return err
		})
	})
	t.Run("a configuration that the engine would refuse is not rolled out", func(t *testing.T) {
		before, err := c.config(c.Namespace+"-config", "fluent-bit.conf")
		if err != nil {
			t.Fatal(err)
		}
		c.apply("apiVersion: fluentbit.fluent.io/v1alpha2\nkind: ClusterFluentBitConfig\nmetadata: {name: NS-config}\nspec: {namespace: NS, service: {multilineBufferLimit: 5M, storage: {backlogMemLimit: much}}, inputSelector: {matchLabels: {for: NS}}, filterSelector: {matchLabels: {for: NS}}, outputSelector: {matchLabels: {for: NS}}, parserSelector: {matchLabels: {for: NS}}, multilineParserSelector: {matchLabels: {for: NS}}}")
		c.eventually("the condition", func() error {
			if status, reason := c.condition(resource.FluentBitGroup, "ClusterFluentBitConfig", "", c.Namespace+"-config"); status != "False" || reason != "InvalidValue" {
				return fmt.Errorf("%s %s", status, reason)
			}
			return nil
		})
		time.Sleep(time.Second) // time enough to do the wrong thing
		if after, err := c.config(c.Namespace+"-config", "fluent-bit.conf"); err != nil || after != before {
			t.Errorf("the configuration changed: %v\n%s", err, after)
		}
	})
	t.Run("what the cluster refuses is told", func(t *testing.T) {
		c.apply(`
apiVersion: fluentbit.fluent.io/v1alpha2
kind: FluentBit
metadata: {name: refused, namespace: NS}
spec: {image: example.test/fluent-bit, fluentBitConfigName: NS-config, volumesMounts: [{name: nothing, mountPath: /x}]}`)
		c.eventually("the condition", func() error {
			u, err := c.objects.Resource(loggingResource(resource.FluentBitGroup, "FluentBit")).Namespace(c.Namespace).Get(t.Context(), "refused", metav1.GetOptions{})
			if err != nil {
				return err
			}
			conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
			for _, item := range conditions {
				if x := item.(map[string]any); x["type"] == "Applied" && x["status"] == "False" && strings.Contains(fmt.Sprint(x["message"]), "volumeMounts[") {
					return nil
				}
			}
			return fmt.Errorf("%v", conditions)
		})
		c.remove(resource.FluentBitGroup, "FluentBit", c.Namespace, "refused")
	})
	t.Run("removal leaves nothing", func(t *testing.T) {
		c.remove(resource.FluentBitGroup, "FluentBit", c.Namespace, "agent")
		c.eventually("the end", func() error {
			for _, get := range []func() error{
				func() error {
					_, err := c.Clients.AppsV1().DaemonSets(c.Namespace).Get(t.Context(), "agent", metav1.GetOptions{})
					return err
				},
				func() error {
					_, err := c.Clients.CoreV1().Secrets(c.Namespace).Get(t.Context(), c.Namespace+"-config", metav1.GetOptions{})
					return err
				},
				func() error {
					_, err := c.Clients.RbacV1().ClusterRoles().Get(t.Context(), role, metav1.GetOptions{})
					return err
				},
				func() error {
					_, err := c.Clients.RbacV1().ClusterRoleBindings().Get(t.Context(), role, metav1.GetOptions{})
					return err
				},
			} {
				if err := get(); !apierrors.IsNotFound(err) {
					return errors.Join(errors.New("something is left"), err)
				}
			}
			return nil
		})
	})
}

// A Fluentd becomes a StatefulSet, and says in its status what it did.
func TestFluentd(t *testing.T) {
	c := serve(t, true)
	c.apply(`
apiVersion: fluentd.fluent.io/v1alpha1
kind: Fluentd
metadata: {name: fluentd, namespace: NS}
spec: {image: example.test/fluentd, globalInputs: [{forward: {bind: 0.0.0.0, port: 24224}}], fluentdCfgSelector: {matchLabels: {for: NS}}}
---
apiVersion: fluentd.fluent.io/v1alpha1
kind: FluentdConfig
metadata: {name: mine, namespace: NS, labels: {for: NS}}
spec: {outputSelector: {}}
---
apiVersion: fluentd.fluent.io/v1alpha1
kind: Output
metadata: {name: out, namespace: NS}
spec: {outputs: [{stdout: {}}]}`)
	c.eventually("the configuration", func() error {
		text, err := c.config("fluentd-config", "app.conf")
		if err == nil && !strings.Contains(text, "@type  stdout") {
			err = fmt.Errorf("%s", text)
		}
		return err
	})
	c.eventually("the StatefulSet", func() error {
		_, err := c.Clients.AppsV1().StatefulSets(c.Namespace).Get(t.Context(), "fluentd", metav1.GetOptions{})
		return err
	})
	c.eventually("the state", func() error {
		u, err := c.objects.Resource(loggingResource(resource.FluentdGroup, "Fluentd")).Namespace(c.Namespace).Get(t.Context(), "fluentd", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if state, _, _ := unstructured.NestedString(u.Object, "status", "state"); state != "active" {
			return fmt.Errorf("state %q", state)
		}
		return nil
	})
}

// The rights of the manifests are enough: a manager with these alone does its work.
func TestDeploymentRights(t *testing.T) {
	place := kube.Namespace(t)
	client, err := weftkube.New(place.Config)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range Deployment(place.Namespace, "example.test/weft") {
		if o.GetKind() == "Namespace" {
			continue
		}
		if _, err := client.ApplyObject(t.Context(), o, true, true); err != nil {
			t.Fatal(err)
		}
	}
	cfg := rest.CopyConfig(place.Config)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:" + place.Namespace + ":weft-manager", Groups: []string{"system:serviceaccounts", "system:authenticated"}}
	objects, err := dynamic.NewForConfig(place.Config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	m := &Manager{Config: cfg, Parts: []Part{NewLogging(place.Namespace)}, Install: true, Settle: 20 * time.Millisecond}
	go func() { done <- m.RunElected(ctx, place.Namespace) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	c := &cluster{place, t, objects}
	c.apply(agents)
	role := "fluent-operator-fluent-bit-" + c.Namespace + "-agent"
	c.eventually("the agents", func() error {
		if _, err := c.Clients.AppsV1().DaemonSets(c.Namespace).Get(t.Context(), "agent", metav1.GetOptions{}); err != nil {
			return err
		}
		if status, reason := c.condition(resource.FluentBitGroup, "ClusterInput", "", c.Namespace+"-tail"); status != "True" {
			return fmt.Errorf("%s %s", status, reason)
		}
		_, err := c.Clients.RbacV1().ClusterRoleBindings().Get(t.Context(), role, metav1.GetOptions{})
		return err
	})
	c.remove(resource.FluentBitGroup, "FluentBit", c.Namespace, "agent")
	c.eventually("the end", func() error {
		if _, err := c.Clients.RbacV1().ClusterRoles().Get(t.Context(), role, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return errors.Join(errors.New("the rights are left"), err)
		}
		return nil
	})
}
