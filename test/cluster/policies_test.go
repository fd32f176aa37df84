package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// policyCases are the situations of Kubernetes' own NetworkPolicy tests. Each is tried by all connections of the grid.
var policyCases = []struct {
	name     string
	policies [][3]string // namespace, name, specification
	allowed  func(check) bool
}{

	{"no policy", nil, func(check) bool { return true }},
	{"deny all ingress of x", [][3]string{{"x", "deny", `{podSelector: {}}`}}, func(c check) bool { return !in("x", c.to) }},
	{"deny all egress of x", [][3]string{{"x", "deny", `{podSelector: {}, policyTypes: [Egress]}`}}, func(c check) bool { return !in("x", c.from) }},
	{
		"deny all of x", [][3]string{{"x", "deny", `{podSelector: {}, policyTypes: [Ingress, Egress]}`}},
		func(c check) bool { return !in("x", c.from) && !in("x", c.to) },
	},
	{
		"by pod of the same namespace", [][3]string{{"x", "p", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]}`}},
		func(c check) bool { return c.to != "x/a" || c.from == "x/b" },
	},
	{
		"by namespace", [][3]string{{"x", "p", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: "y"}}}]}]}`}},
		func(c check) bool { return c.to != "x/a" || in("y", c.from) },
	},
	{
		"by namespace name", [][3]string{{"x", "p", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: NAME-OF-z}}}]}]}`}},
		func(c check) bool { return !in("x", c.to) || in("z", c.from) },
	},
	{
		"by pod and namespace, one port", [][3]string{{"x", "p", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [
			{namespaceSelector: {matchExpressions: [{key: ns, operator: In, values: ["y", z]}]}, podSelector: {matchLabels: {pod: b}}}], ports: [{port: 81}]}]}`}},
		func(c check) bool {
			return c.to != "x/a" || (is("b", c.from) && !in("x", c.from) && c.protocol == "tcp" && c.port == 81)
		},
	},
	{
		"port range", [][3]string{{"x", "p", `{podSelector: {}, ingress: [{ports: [{port: 81, endPort: 90}, {protocol: UDP, port: 79, endPort: 80}]}]}`}},
		func(c check) bool {
			return !in("x", c.to) || (c.protocol == "tcp" && c.port == 81) || (c.protocol == "udp" && c.port == 80)
		},
	},
	{
		"named ports", [][3]string{{"x", "p", `{podSelector: {}, ingress: [{ports: [{port: serve-80-tcp}, {port: serve-81-udp, protocol: UDP}]}]}`}},
		func(c check) bool {
			return !in("x", c.to) || (c.protocol == "tcp" && c.port == 80) || (c.protocol == "udp" && c.port == 81)
		},
	},
	{
		"named port for egress", [][3]string{{"x", "p", `{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}], ports: [{port: serve-81-tcp}]}]}`}},
		func(c check) bool { return !in("x", c.from) || (c.protocol == "tcp" && c.port == 81) },
	},
	{
		"egress to pods of a namespace", [][3]string{{"x", "p", `{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: [
			{namespaceSelector: {matchLabels: {ns: "y"}}, podSelector: {matchLabels: {pod: c}}}], ports: [{protocol: UDP, port: 80}]}]}`}},
		func(c check) bool { return c.from != "x/a" || (c.to == "y/c" && c.protocol == "udp" && c.port == 80) },
	},
	{
		"egress of one and ingress of the other", [][3]string{
			{"x", "out", `{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: "y"}}}]}]}`},
			{"y", "in", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {}}]}]}`},
		},
		func(c check) bool {
			return (!in("x", c.from) || in("y", c.to)) && (c.to != "y/a" || in("y", c.from))
		},
	},
	{
		"policies add up", [][3]string{
			{"x", "deny", `{podSelector: {}}`},
			{"x", "one", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: "y"}}}], ports: [{port: 80}]}]}`},
			{"x", "two", `{podSelector: {matchExpressions: [{key: pod, operator: NotIn, values: [c]}]}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {pod: b}}}], ports: [{port: 81}]}]}`},
		},
		func(c check) bool {
			return !in("x", c.to) || (c.to == "x/a" && in("y", c.from) && c.protocol == "tcp" && c.port == 80) ||
				(!is("c", c.to) && is("b", c.from) && c.protocol == "tcp" && c.port == 81)
		},
	},
	{
		"allow all beats deny all", [][3]string{{"x", "deny", `{podSelector: {}, policyTypes: [Ingress, Egress]}`}, {"x", "allow", `{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}], egress: [{}]}`}},
		func(check) bool { return true },
	},
}

func TestNetworkPolicies(t *testing.T) {
	g := newGrid(t)
	for i, c := range policyCases {
		t.Run(c.name, func(t *testing.T) {
			g.t = t
			g.clear()
			for _, p := range c.policies {
				g.policy(p[0], p[1], p[2])
			}
			g.expect(i%2 == 1, c.allowed)
		})
	}
	t.Run("block with an exception", func(t *testing.T) {
		g.t = t
		g.clear()
		g.policy("x", "p", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{ipBlock: {cidr: 10.42.0.0/16, except: [IP-OF-y/b/32]}}]}]}`)
		g.expect(false, func(c check) bool { return c.to != "x/a" || c.from != "y/b" })
		g.policy("x", "also", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{ipBlock: {cidr: IP-OF-y/b/32}}], ports: [{port: 80}]}]}`)
		g.expect(false, func(c check) bool { return c.to != "x/a" || c.from != "y/b" || (c.protocol == "tcp" && c.port == 80) })
	})
	t.Run("a policy is changed and deleted", func(t *testing.T) {
		g.t = t
		g.clear()
		g.policy("x", "p", `{podSelector: {}}`)
		g.expect(false, func(c check) bool { return !in("x", c.to) })
		g.policy("x", "p", `{podSelector: {}, ingress: [{ports: [{port: 80}]}]}`)
		g.expect(true, func(c check) bool { return !in("x", c.to) || (c.protocol == "tcp" && c.port == 80) })
		g.clear()
		g.expect(false, func(check) bool { return true })
	})
	t.Run("labels change", func(t *testing.T) {
		g.t = t
		g.clear()
		g.policy("x", "p", `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: red}}}, {podSelector: {matchLabels: {friend: "yes"}}}]}]}`)
		g.expect(false, func(c check) bool { return c.to != "x/a" })
		g.label("x", "c", `{"metadata":{"labels":{"friend":"yes"}}}`)
		g.expect(true, func(c check) bool { return c.to != "x/a" || c.from == "x/c" })
		g.label("z", "", `{"metadata":{"labels":{"team":"red"}}}`)
		g.expect(false, func(c check) bool { return c.to != "x/a" || c.from == "x/c" || in("z", c.from) })
		g.label("z", "", `{"metadata":{"labels":{"team":null}}}`)
		g.label("x", "c", `{"metadata":{"labels":{"friend":null}}}`)
		g.label("x", "a", `{"metadata":{"labels":{"pod":"other"}}}`)
		g.expect(false, func(check) bool { return true })
		g.label("x", "a", `{"metadata":{"labels":{"pod":"a"}}}`)
	})
	t.Run("Services and DNS under egress rules", func(t *testing.T) {
		g.t = t
		g.clear()
		g.ns = g.spaces["y"]
		g.apply("apiVersion: v1\nkind: Service\nmetadata: {name: svc}\nspec: {selector: {pod: a}, ports: [{name: web, port: 8000, targetPort: 81}]}\n")
		name := "svc." + g.spaces["y"] + ".svc.cluster.local:8000"
		reach := func(want bool) {
			t.Helper()
			g.until(fmt.Sprintf("the Service being reachable to be %v", want), func() (bool, string) {
				_, err := g.Kubectl(t.Context(), "", "-n", g.spaces["x"], "exec", "a", "--", "testpod", "tcp", "-timeout", "1500ms", name, "hello")
				return (err == nil) == want, fmt.Sprint(err)
			})
		}
		reach(true)
		g.policy("x", "p", `{podSelector: {}, policyTypes: [Egress]}`)
		reach(false)
		if _, err := g.Kubectl(t.Context(), "", "-n", g.spaces["x"], "exec", "a", "--", "testpod", "resolve", "kubernetes.default"); err != nil {
			t.Errorf("DNS runs on the node, which every pod may reach: %v", err)
		}
		// The port is that of the pod behind the Service.
		g.policy("x", "p", `{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: "y"}}}], ports: [{port: 8000}]}]}`)
		reach(false)
		g.policy("x", "p", `{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: "y"}}}], ports: [{port: 81}]}]}`)
		reach(true)
	})
	t.Run("policies of the administrator", func(t *testing.T) {
		g.t = t
		g.clear()
		administratorPolicies(g)
	})
	t.Run("another program flushes the tables, the agent is killed", func(t *testing.T) {
		g.t = t
		g.clear()
		g.policy("x", "p", `{podSelector: {}}`)
		denied := func(c check) bool { return !in("x", c.to) }
		g.expect(false, denied)
		g.inNode("nft", "delete", "table", "inet", "weft-policy")
		g.expect(false, denied)
		pid := g.agent()
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		g.expect(false, denied) // also while it is away
		g.until("the agent to come back", func() (bool, string) {
			now := g.agent()
			return now != pid && now != 0, fmt.Sprint(now)
		})
		g.clear()
		g.expect(false, func(check) bool { return true })
	})
}

// clusterPolicyDefinition is the shortest form in which the API knows ClusterNetworkPolicies.
const clusterPolicyDefinition = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: clusternetworkpolicies.policy.networking.k8s.io
  annotations: {api-approved.kubernetes.io: "https://github.com/kubernetes-sigs/network-policy-api/pull/300"}
spec:
  group: policy.networking.k8s.io
  names: {kind: ClusterNetworkPolicy, listKind: ClusterNetworkPolicyList, plural: clusternetworkpolicies, singular: clusternetworkpolicy, shortNames: [cnp]}
  scope: Cluster
  versions:
  - name: v1alpha2
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

// clusterPolicy applies a ClusterNetworkPolicy; its specification is YAML in one line.
func (g *grid) clusterPolicy(name, spec string) {
	g.t.Helper()
	manifest := fmt.Sprintf("apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: %s}\nspec: %s\n", name, spec)
	g.until("the ClusterNetworkPolicy being accepted", func() (bool, string) { // a new definition is known a moment later
		_, err := g.Kubectl(g.t.Context(), manifest, "apply", "-f", "-")
		return err == nil, fmt.Sprint(err)
	})
}

// administratorPolicies installs the definition of ClusterNetworkPolicies while the cluster runs, and removes it again.
func administratorPolicies(g *grid) {
	t := g.t
	if _, err := g.Kubectl(t.Context(), clusterPolicyDefinition, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	installed := true
	uninstall := func() {
		if installed {
			installed = false
			if _, err := g.Kubectl(context.Background(), clusterPolicyDefinition, "delete", "-f", "-", "--timeout=60s"); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(uninstall)
	g.clusterPolicy("admin", `{tier: Admin, priority: 10, subject: {namespaces: {matchLabels: {ns: x}}}, ingress: [
		{name: friends, action: Accept, from: [{pods: {namespaceSelector: {matchLabels: {ns: "y"}}, podSelector: {matchLabels: {pod: b}}}}], protocols: [{tcp: {destinationPort: {number: 80}}}]},
		{name: own, action: Pass, from: [{namespaces: {matchLabels: {ns: x}}}]},
		{name: rest, action: Deny, from: [{namespaces: {}}]}]}`)
	friends := func(c check) bool { return c.from == "y/b" && c.protocol == "tcp" && c.port == 80 }
	g.expect(false, func(c check) bool { return !in("x", c.to) || in("x", c.from) || friends(c) })
	// The administrator's word goes before a policy of the namespace, in both directions; what he passes on is theirs.
	g.policy("x", "open", `{podSelector: {}, ingress: [{}]}`)
	g.expect(true, func(c check) bool { return !in("x", c.to) || in("x", c.from) || friends(c) })
	g.policy("x", "open", `{podSelector: {}}`)
	g.expect(false, func(c check) bool { return !in("x", c.to) || friends(c) })
	g.clear()
	// Tier Baseline comes last: for pods that no policy of their namespace isolates.
	g.clusterPolicy("admin", `{tier: Baseline, priority: 10, subject: {namespaces: {matchExpressions: [{key: ns, operator: In, values: [x, z]}]}}, egress: [
		{action: Deny, to: [{namespaces: {matchLabels: {ns: "y"}}}], protocols: [{udp: {}}]}]}`)
	g.policy("z", "open", `{podSelector: {}, policyTypes: [Egress], egress: [{}]}`)
	baseline := func(c check) bool { return !in("x", c.from) || !in("y", c.to) || c.protocol != "udp" }
	g.expect(true, baseline)
	pid := g.agent()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	g.until("the agent to come back", func() (bool, string) { now := g.agent(); return now != pid && now != 0, fmt.Sprint(now) })
	g.expect(false, baseline)
	uninstall()
	g.expect(false, func(check) bool { return true })
}

// agent returns the process id of the node's agent.
func (p place) agent() int {
	p.t.Helper()
	status, err := p.Control.Status(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	for _, c := range status.Components {
		if c.Name == "agent" {
			return c.PID
		}
	}
	return 0
}

// inNode runs a program of the host in the node's network namespace.
func (p place) inNode(args ...string) string {
	p.t.Helper()
	if _, err := exec.LookPath(args[0]); err != nil {
		p.t.Skipf("needs the program %s", args[0])
	}
	file, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", p.agent()))
	if err != nil {
		p.t.Fatal(err)
	}
	defer file.Close()
	var out []byte
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread is in another namespace
		err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			out, err = exec.Command(args[0], args[1:]...).CombinedOutput()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		p.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// A pod that a policy isolates never gets out, from its first instruction on; one that no policy isolates gets out at once.
func TestNewPodsHaveNoOpenWindow(t *testing.T) {
	p := newPlace(t)
	p.apply(gridPod("server"))
	ips := podIPs(t, p.pod("server", "ready", ready))
	manifest := "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny}\nspec: {podSelector: {matchLabels: {kind: isolated}}, policyTypes: [Egress]}\n"
	if _, err := p.Kubectl(t.Context(), manifest, "-n", p.ns, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`for i in 1 2 3 4 5 6 7 8; do testpod tcp -timeout 200ms %s:80 hello && echo through $i; done; echo end`, ips[0])
	for i := range 5 {
		for _, kind := range []string{"isolated", "free"} {
			p.apply(fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %[1]s-%[2]d, labels: {kind: %[1]s}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  containers:
  - {name: c, image: IMAGE, command: [sh, -c, "%[3]s"]}
`, kind, i, script))
		}
	}
	for i := range 5 {
		for _, kind := range []string{"isolated", "free"} {
			name := fmt.Sprintf("%s-%d", kind, i)
			p.pod(name, "succeeded", succeeded)
			out, err := p.Kubectl(context.Background(), "", "-n", p.ns, "logs", name)
			if err != nil || !strings.Contains(out, "end") {
				t.Fatalf("%v: %s", err, out)
			}
			through := strings.Contains(out, "through")
			switch {
			case kind == "isolated" && through:
				t.Errorf("pod %s got out although its policy is older than itself:\n%s", name, out)
			case kind == "free" && !through:
				t.Errorf("pod %s never got out:\n%s", name, out)
			case kind == "free" && !strings.Contains(out, "through 1\n"):
				t.Logf("pod %s did not get out at its first attempt:\n%s", name, out)
			}
		}
	}
}
