package network

import (
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// scenarios are policies with connections that must and must not work under them, written down from the documentation of
// NetworkPolicy. Each connection is tried in IPv4 and IPv6 with packets and asked of Evaluate.
// A check is "from > to protocol port"; a list of ports is separated by commas.
var scenarios = []struct {
	name, policies string
	allow, deny    []string
}{
	{name: "no policy", allow: []string{"x/a > x/b tcp 80,81", "x/a > y/b udp 80", "outside > x/a tcp 80", "x/a > outside tcp 80"}},
	{
		name:     "default deny ingress",
		policies: `{metadata: {name: deny}, spec: {podSelector: {}}}`,
		allow:    []string{"x/a > y/a tcp 80", "x/a > outside udp 81", "node > x/a tcp 80", "node > x/a udp 80", "y/a > y/b tcp 80"},
		deny:     []string{"x/b > x/a tcp 80", "y/a > x/a udp 80", "outside > x/a tcp 80"},
	},
	{
		name:     "default deny egress",
		policies: `{metadata: {name: deny}, spec: {podSelector: {}, policyTypes: [Egress]}}`,
		allow:    []string{"y/a > x/a tcp 80", "outside > x/a tcp 80", "x/a > node tcp 80", "node > x/a tcp 80"},
		deny:     []string{"x/a > x/b tcp 80", "x/a > y/a udp 80", "x/a > outside tcp 80"},
	},
	{
		name:     "default deny both",
		policies: `{metadata: {name: deny}, spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}`,
		allow:    []string{"y/a > z/a tcp 80", "node > x/b tcp 81"},
		deny:     []string{"x/a > y/a tcp 80", "y/a > x/a tcp 80", "x/a > x/b udp 81"},
	},
	{
		name: "allow all beats deny all",
		policies: `{metadata: {name: deny}, spec: {podSelector: {}}}
---
{metadata: {name: allow}, spec: {podSelector: {}, ingress: [{}]}}`,
		allow: []string{"x/b > x/a tcp 80", "y/a > x/a udp 80", "outside > x/a tcp 81"},
	},
	{
		name:     "by pod of the same namespace",
		policies: `{metadata: {name: p}, spec: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]}}`,
		allow:    []string{"x/b > x/a tcp 80,81", "x/b > x/a udp 80", "y/a > x/b tcp 80"},
		deny:     []string{"x/c > x/a tcp 80", "y/b > x/a tcp 80"},
	},
	{
		name:     "by namespace",
		policies: `{metadata: {name: p}, spec: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: 'y'}}}]}]}}`,
		allow:    []string{"y/a > x/a tcp 80", "y/c > x/a udp 81"},
		deny:     []string{"x/b > x/a tcp 80", "z/a > x/a tcp 80", "outside > x/a tcp 80"},
	},
	{
		name: "by namespace name",
		policies: `{metadata: {name: p}, spec: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [
			{namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [x, z]}]}}]}]}}`,
		allow: []string{"y/a > x/a tcp 80"},
		deny:  []string{"x/b > x/a tcp 80", "z/a > x/a tcp 80"},
	},
	{
		name: "by pod and namespace together",
		policies: `{metadata: {name: p}, spec: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [
			{namespaceSelector: {matchLabels: {ns: 'y'}}, podSelector: {matchLabels: {pod: b}}}]}]}}`,
		allow: []string{"y/b > x/a tcp 80"},
		deny:  []string{"y/a > x/a tcp 80", "x/b > x/a tcp 80", "z/b > x/a tcp 80"},
	},
	{
		name: "by pod or namespace",
		policies: `{metadata: {name: p}, spec: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [
			{namespaceSelector: {matchLabels: {ns: 'y'}}}, {podSelector: {matchLabels: {pod: b}}}]}]}}`,
		allow: []string{"y/a > x/a tcp 80", "x/b > x/a tcp 80"},
		deny:  []string{"x/c > x/a tcp 80", "z/b > x/a tcp 80"},
	},
	{
		name:     "one port",
		policies: `{metadata: {name: p}, spec: {podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: 80}]}]}}`,
		allow:    []string{"x/b > x/a tcp 80", "outside > x/a tcp 80"},
		deny:     []string{"x/b > x/a tcp 81", "x/b > x/a udp 80"},
	},
	{
		name: "a rule of the other policy adds its port",
		policies: `{metadata: {name: p}, spec: {podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: 80}]}]}}
---
{metadata: {name: q}, spec: {podSelector: {}, ingress: [{from: [{podSelector: {}}], ports: [{port: 81}]}]}}`,
		allow: []string{"x/b > x/a tcp 80,81", "y/b > x/a tcp 80"},
		deny:  []string{"y/b > x/a tcp 81", "x/a > x/b tcp 80"},
	},
	{
		name:     "UDP only",
		policies: `{metadata: {name: p}, spec: {podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: 80, protocol: UDP}]}]}}`,
		allow:    []string{"x/b > x/a udp 80"},
		deny:     []string{"x/b > x/a tcp 80", "x/b > x/a udp 81"},
	},
	{
		name:     "any port of a protocol",
		policies: `{metadata: {name: p}, spec: {podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{protocol: UDP}]}]}}`,
		allow:    []string{"x/b > x/a udp 80,81,5005,8080"},
		deny:     []string{"x/b > x/a tcp 80"},
	},
	{
		name:     "port range",
		policies: `{metadata: {name: p}, spec: {podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: 81, endPort: 5005}]}]}}`,
		allow:    []string{"x/b > x/a tcp 81,5005"},
		deny:     []string{"x/b > x/a tcp 80,8080", "x/b > x/a udp 81"},
	},
	{
		name:     "named port for ingress",
		policies: `{metadata: {name: p}, spec: {podSelector: {}, ingress: [{ports: [{port: serve-81}]}]}}`,
		allow:    []string{"x/b > x/a tcp 81", "outside > x/b tcp 81"},
		deny:     []string{"x/b > x/a tcp 80", "x/a > x/b udp 81", "x/a > x/c tcp 81"},
	},
	{
		name:     "named port for egress",
		policies: `{metadata: {name: p}, spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}], ports: [{port: serve-81}]}]}}`,
		allow:    []string{"x/a > x/b tcp 81", "x/a > y/b tcp 81"},
		deny:     []string{"x/a > x/b tcp 80", "x/a > outside tcp 81", "x/a > y/c tcp 81"},
	},
	{
		name: "block with exceptions",
		policies: `{metadata: {name: p}, spec: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [
			{ipBlock: {cidr: 10.244.0.0/24, except: [10.244.0.16/28]}}, {ipBlock: {cidr: "fd00:10:244::/64", except: ["fd00:10:244::10/124"]}}]}]}}`,
		allow: []string{"x/b > x/a tcp 80", "z/a > x/a tcp 80"},
		deny:  []string{"y/b > x/a tcp 80", "outside > x/a tcp 80"},
	},
	{
		name: "another entry allows what an exception leaves out",
		policies: `{metadata: {name: p}, spec: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [
			{ipBlock: {cidr: 0.0.0.0/0, except: [10.244.0.16/28]}}, {ipBlock: {cidr: "::/0", except: ["fd00:10:244::10/124"]}},
			{namespaceSelector: {matchLabels: {ns: 'y'}}, podSelector: {matchLabels: {pod: b}}}]}]}}`,
		allow: []string{"x/b > x/a tcp 80", "outside > x/a udp 80", "y/b > x/a tcp 80"},
		deny:  []string{"y/a > x/a tcp 80", "y/c > x/a udp 80"},
	},
	{
		name: "egress to a block",
		policies: `{metadata: {name: p}, spec: {podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: [
			{ipBlock: {cidr: 192.0.2.0/24}}, {ipBlock: {cidr: "2001:db8::/32"}}], ports: [{port: 80}]}]}}`,
		allow: []string{"x/a > outside tcp 80", "x/b > y/a tcp 80"},
		deny:  []string{"x/a > outside tcp 81", "x/a > x/b tcp 80"},
	},
	{
		name: "egress to one port of pods, as to a DNS server",
		policies: `{metadata: {name: dns}, spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [
			{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: z}}, podSelector: {matchLabels: {pod: a}}}],
			ports: [{port: 5005, protocol: UDP}, {port: 5005}]}]}}`,
		allow: []string{"x/a > z/a udp 5005", "x/c > z/a tcp 5005"},
		deny:  []string{"x/a > z/a udp 80", "x/a > z/b udp 5005", "x/a > x/b tcp 5005"},
	},
	{
		name: "egress of the one and ingress of the other must both allow",
		policies: `{metadata: {name: out, namespace: x}, spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: 'y'}}}]}]}}
---
{metadata: {name: in, namespace: 'y'}, spec: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {}}]}]}}`,
		allow: []string{"x/a > y/b tcp 80", "y/b > y/a tcp 80"},
		deny:  []string{"x/a > y/a tcp 80", "x/a > z/a tcp 80", "z/a > y/a tcp 80"},
	},
	{
		name:     "egress rules without the type are still meant",
		policies: `{metadata: {name: p}, spec: {podSelector: {matchLabels: {pod: a}}, egress: [{to: [{podSelector: {matchLabels: {pod: b}}}]}]}}`,
		allow:    []string{"x/a > x/b tcp 80"},
		deny:     []string{"x/a > x/c tcp 80", "x/b > x/a tcp 80"},
	},
	{
		name:     "rules of a type that is not listed are not meant",
		policies: `{metadata: {name: p}, spec: {podSelector: {matchLabels: {pod: a}}, policyTypes: [Ingress], egress: [{ports: [{port: 1}]}], ingress: [{}]}}`,
		allow:    []string{"x/a > x/c tcp 80", "x/b > x/a tcp 80"},
	},
	{
		name: "expressions",
		policies: `{metadata: {name: p}, spec: {podSelector: {matchExpressions: [{key: pod, operator: NotIn, values: [c]}, {key: nothing, operator: DoesNotExist}]},
			ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: ns, operator: In, values: ['y', z]}]}, podSelector: {matchExpressions: [{key: pod, operator: Exists}]}}]}]}}`,
		allow: []string{"y/a > x/a tcp 80", "z/c > x/b tcp 80", "x/a > x/c tcp 80"},
		deny:  []string{"x/b > x/a tcp 80", "x/a > x/b udp 80"},
	},
	{
		name: "tier Admin denies what a NetworkPolicy allows",
		policies: `{kind: ClusterNetworkPolicy, metadata: {name: no-y}, spec: {tier: Admin, priority: 10, subject: {namespaces: {matchLabels: {ns: x}}},
			ingress: [{name: hands-off, action: Deny, from: [{namespaces: {matchLabels: {ns: 'y'}}}]}]}}
---
{metadata: {name: open}, spec: {podSelector: {}, ingress: [{}]}}`,
		allow: []string{"z/a > x/a tcp 80", "x/b > x/a udp 80", "outside > x/a tcp 80", "node > x/a tcp 80", "x/a > y/a tcp 80"},
		deny:  []string{"y/a > x/a tcp 80", "y/b > x/c udp 81"},
	},
	{
		name: "tier Admin accepts what a NetworkPolicy denies",
		policies: `{kind: ClusterNetworkPolicy, metadata: {name: monitoring}, spec: {tier: Admin, priority: 10, subject: {namespaces: {}},
			ingress: [{action: Accept, from: [{pods: {namespaceSelector: {matchLabels: {ns: z}}, podSelector: {matchLabels: {pod: a}}}}], protocols: [{tcp: {destinationPort: {number: 80}}}]}]}}
---
{metadata: {name: deny}, spec: {podSelector: {}}}`,
		allow: []string{"z/a > x/a tcp 80", "z/a > y/a tcp 81"},
		deny:  []string{"z/a > x/a tcp 81", "z/a > x/a udp 80", "z/b > x/a tcp 80", "x/b > x/a tcp 80"},
	},
	{
		name: "the first rule that matches decides, and Accept of egress does not decide about ingress",
		policies: `{kind: ClusterNetworkPolicy, metadata: {name: p}, spec: {tier: Admin, priority: 1, subject: {pods: {namespaceSelector: {matchLabels: {ns: x}}, podSelector: {matchLabels: {pod: a}}}},
			egress: [{action: Accept, to: [{namespaces: {matchLabels: {ns: 'y'}}}], protocols: [{udp: {}}]}, {action: Deny, to: [{namespaces: {matchLabels: {ns: 'y'}}}]}]}}
---
{metadata: {name: deny, namespace: 'y'}, spec: {podSelector: {matchLabels: {pod: c}}}}`,
		allow: []string{"x/a > y/a udp 80,5005", "x/a > z/a tcp 80", "x/b > y/a tcp 80"},
		deny:  []string{"x/a > y/a tcp 80", "x/a > y/c udp 80"},
	},
	{
		name: "the lower number is asked first; Pass skips the rest of the tier",
		policies: `{kind: ClusterNetworkPolicy, metadata: {name: a-late}, spec: {tier: Admin, priority: 20, subject: {namespaces: {matchLabels: {ns: x}}},
			ingress: [{action: Deny, from: [{namespaces: {}}]}]}}
---
{kind: ClusterNetworkPolicy, metadata: {name: z-early}, spec: {tier: Admin, priority: 10, subject: {namespaces: {matchLabels: {ns: x}}},
			ingress: [{action: Accept, from: [{namespaces: {matchLabels: {ns: z}}}]}, {action: Pass, from: [{namespaces: {matchLabels: {ns: 'y'}}}]}]}}
---
{metadata: {name: some}, spec: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {pod: b}}}]}]}}`,
		allow: []string{"z/a > x/a tcp 80", "y/b > x/a tcp 80", "y/a > x/b tcp 80"},
		deny:  []string{"x/b > x/a tcp 80", "y/a > x/a tcp 80", "x/c > x/b udp 80"},
	},
	{
		name: "tier Baseline holds for pods that no NetworkPolicy isolates",
		policies: `{kind: ClusterNetworkPolicy, metadata: {name: isolate}, spec: {tier: Baseline, priority: 5, subject: {namespaces: {}},
			ingress: [{action: Accept, from: [{namespaces: {matchLabels: {ns: z}}}]}, {action: Pass, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {pod: c}}}}]}, {action: Deny, from: [{namespaces: {}}]}]}}
---
{metadata: {name: own}, spec: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]}}`,
		allow: []string{"x/b > x/a tcp 80", "z/b > x/b tcp 80", "y/c > x/b udp 80", "outside > x/b tcp 80", "node > y/a tcp 80"},
		deny:  []string{"z/b > x/a tcp 80", "y/c > x/a tcp 80", "y/a > x/b tcp 80", "x/a > x/b tcp 80"},
	},
	{
		name: "Pass of tier Admin leads to tier Baseline",
		policies: `{kind: ClusterNetworkPolicy, metadata: {name: a}, spec: {tier: Admin, priority: 5, subject: {namespaces: {matchLabels: {ns: x}}},
			egress: [{action: Pass, to: [{namespaces: {matchLabels: {ns: 'y'}}}]}, {action: Accept, to: [{namespaces: {}}]}]}}
---
{kind: ClusterNetworkPolicy, metadata: {name: b}, spec: {tier: Baseline, priority: 5, subject: {namespaces: {}}, egress: [{action: Deny, to: [{namespaces: {}}]}]}}`,
		allow: []string{"x/a > z/a tcp 80", "x/a > outside tcp 80", "y/a > outside udp 80"},
		deny:  []string{"x/a > y/a tcp 80", "y/a > z/a tcp 80", "z/a > z/b udp 80"},
	},
	{
		name: "networks, ranges of ports and named ports",
		policies: `{kind: ClusterNetworkPolicy, metadata: {name: p}, spec: {tier: Admin, priority: 5, subject: {namespaces: {matchLabels: {ns: x}}}, egress: [
			{action: Accept, to: [{namespaces: {}}], protocols: [{destinationNamedPort: serve-81}]},
			{action: Accept, to: [{networks: [192.0.2.0/24, "2001:db8::/32"]}], protocols: [{tcp: {destinationPort: {range: {start: 80, end: 90}}}}, {udp: {destinationPort: {number: 5005}}}]},
			{action: Deny, to: [{networks: [0.0.0.0/0, "::/0"]}]}]}}`,
		allow: []string{"x/a > x/b tcp 81", "x/a > outside tcp 80,81", "x/a > outside udp 5005", "y/a > x/a tcp 80"},
		deny:  []string{"x/a > x/c tcp 81", "x/a > x/b tcp 80", "x/a > outside tcp 8080", "x/a > outside udp 80"},
	},
	{
		name: "a Deny before an Accept decides, in both directions of one policy",
		policies: `{kind: ClusterNetworkPolicy, metadata: {name: p}, spec: {tier: Admin, priority: 1, subject: {namespaces: {matchLabels: {ns: x}}},
			ingress: [{action: Deny, from: [{namespaces: {matchLabels: {ns: 'y'}}}]}, {action: Accept, from: [{namespaces: {matchLabels: {ns: 'y'}}}]}, {action: Pass, from: [{namespaces: {matchLabels: {ns: 'y'}}}]}],
			egress: [{action: Deny, to: [{namespaces: {matchLabels: {ns: z}}}], protocols: [{udp: {destinationPort: {number: 80}}}]}, {action: Accept, to: [{namespaces: {matchLabels: {ns: z}}}]}]}}`,
		allow: []string{"z/a > x/a tcp 80", "x/a > y/a tcp 80", "x/a > z/a udp 81", "x/a > z/a tcp 80"},
		deny:  []string{"y/a > x/a tcp 80", "y/c > x/b udp 81", "x/a > z/a udp 80"},
	},
	{
		name: "a Pass before an Accept and a Deny leaves it to NetworkPolicies, and to tier Baseline if there is none",
		policies: `{kind: ClusterNetworkPolicy, metadata: {name: p}, spec: {tier: Admin, priority: 1, subject: {namespaces: {}},
			ingress: [{action: Pass, from: [{namespaces: {}}]}, {action: Accept, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}]}}
---
{metadata: {name: some, namespace: x}, spec: {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: 'y'}}}]}]}}
---
{kind: ClusterNetworkPolicy, metadata: {name: b}, spec: {tier: Baseline, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {matchLabels: {ns: 'y'}}}]}]}}`,
		allow: []string{"y/a > x/a tcp 80", "z/a > y/a tcp 80"},
		deny:  []string{"z/a > x/a tcp 80", "y/a > z/a udp 80"},
	},
	{
		name: "tier Baseline by protocol and port, the first rule that matches",
		policies: `{kind: ClusterNetworkPolicy, metadata: {name: b}, spec: {tier: Baseline, priority: 1, subject: {namespaces: {matchLabels: {ns: x}}},
			ingress: [{action: Accept, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 80}}}, {udp: {destinationPort: {number: 81}}}]}, {action: Deny, from: [{namespaces: {}}]}],
			egress: [{action: Deny, to: [{namespaces: {}}], protocols: [{destinationNamedPort: serve-81}]}, {action: Accept, to: [{namespaces: {}}]}]}}`,
		allow: []string{"y/a > x/a tcp 80", "y/a > x/a udp 81", "x/a > y/a tcp 80", "x/a > y/c tcp 81", "x/a > y/a udp 81"},
		deny:  []string{"y/a > x/a tcp 81", "y/a > x/a udp 80", "x/a > y/a tcp 81"},
	},
	{
		name: "networks of tier Baseline, the narrow one before the wide one",
		policies: `{kind: ClusterNetworkPolicy, metadata: {name: b}, spec: {tier: Baseline, priority: 1, subject: {namespaces: {matchLabels: {ns: x}}},
			egress: [{action: Accept, to: [{networks: [192.0.2.10/32, "2001:db8::10/128"]}]}, {action: Deny, to: [{networks: [0.0.0.0/0, "::/0"]}]}]}}`,
		allow: []string{"x/a > outside tcp 80", "y/a > z/a tcp 80"},
		deny:  []string{"x/a > y/a tcp 80", "x/a > x/b udp 80"},
	},
	{
		name: "a rule that is not understood fails closed",
		policies: `{kind: ClusterNetworkPolicy, metadata: {name: p}, spec: {tier: Admin, priority: 5, subject: {namespaces: {matchLabels: {ns: x}}},
			ingress: [{action: Accept, from: [{}]}, {action: Deny, from: [{namespaces: {matchLabels: {ns: 'y'}}}]}],
			egress: [{action: Pass, to: [{domainNames: [example.com]}]}, {action: Accept, to: [{namespaces: {}}]}]}}`,
		allow: []string{"z/a > x/a tcp 80"},
		deny:  []string{"y/a > x/a tcp 80", "x/a > z/a tcp 80", "x/a > outside tcp 80"},
	},
}

// scenarioObjects are pods a, b and c in x, y and z; port 81 of a and b is called serve-81.
func scenarioObjects(t testing.TB, policies string) Objects {
	o := newGenerator(1).objects()
	o.Policies = nil
	for i := range o.Pods {
		p := &o.Pods[i]
		p.Labels = map[string]string{"pod": p.Name}
		p.Ports = nil
		if p.Name != "c" {
			p.Ports = []NamedPort{{"serve-81", TCP, 81}}
		}
	}
	for i := range o.Namespaces {
		o.Namespaces[i].Labels = map[string]string{"ns": o.Namespaces[i].Name}
	}
	o.Cluster = nil
	var plain []string
	for _, doc := range strings.Split(strings.ReplaceAll(policies, "\t", " "), "\n---\n") {
		switch {
		case strings.Contains(doc, "ClusterNetworkPolicy"):
			cp := &ClusterPolicy{}
			if err := yaml.UnmarshalStrict([]byte(doc), cp); err != nil {
				t.Fatal(err)
			}
			o.Cluster = append(o.Cluster, cp)
		case doc != "":
			plain = append(plain, doc)
		}
	}
	if len(plain) > 0 {
		o.Policies = parseYAML(t, strings.Join(plain, "\n---\n"))
	}
	return o
}
