package cluster

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// grid is pods a, b and c in each of three namespaces that the tests call x, y and z. Every pod serves TCP and UDP on ports 80 and 81.
type grid struct {
	place
	spaces map[string]string // x to the namespace's real name
	ips    map[string][2]string
}

var gridSpaces, gridPods = []string{"x", "y", "z"}, []string{"a", "b", "c"}

func newGrid(t *testing.T) *grid {
	g := &grid{spaces: map[string]string{}, ips: map[string][2]string{}}
	for _, s := range gridSpaces {
		g.place = newPlace(t)
		g.spaces[s] = g.ns
		g.label(s, "", `{"metadata":{"labels":{"ns":"`+s+`"}}}`)
		for _, p := range gridPods {
			g.apply(gridPod(p))
		}
	}
	for _, s := range gridSpaces {
		g.ns = g.spaces[s]
		for _, p := range gridPods {
			pod := g.pod(p, "ready", ready)
			g.ips[s+"/"+p] = podIPs(t, pod)
		}
	}
	return g
}

func podIPs(t *testing.T, pod *corev1.Pod) (out [2]string) {
	t.Helper()
	if len(pod.Status.PodIPs) != 2 {
		t.Fatalf("pod %s has the addresses %v, wanted one of each family", pod.Name, pod.Status.PodIPs)
	}
	for _, ip := range pod.Status.PodIPs {
		i := 0
		if strings.Contains(ip.IP, ":") {
			i = 1
		}
		out[i] = ip.IP
	}
	return out
}

func gridPod(name string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {pod: %[1]s}}
spec:
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  containers:
  - name: c
    image: IMAGE
    command: [testpod, serve, -http, "", -tcp, ":80,:81", -udp, ":80,:81"]
    ports:
    - {name: serve-80-tcp, containerPort: 80}
    - {name: serve-81-tcp, containerPort: 81}
    - {name: serve-81-udp, containerPort: 81, protocol: UDP}
`, name)
}

// label patches a pod of a namespace, or the namespace itself.
func (g *grid) label(space, pod, patch string) {
	g.t.Helper()
	var err error
	if pod == "" {
		_, err = g.Clients.CoreV1().Namespaces().Patch(g.t.Context(), g.spaces[space], types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	} else {
		_, err = g.Clients.CoreV1().Pods(g.spaces[space]).Patch(g.t.Context(), pod, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	}
	if err != nil {
		g.t.Fatal(err)
	}
}

// policy applies a NetworkPolicy in a namespace; its specification is YAML in one line or more.
func (g *grid) policy(space, name, spec string) {
	g.t.Helper()
	manifest := fmt.Sprintf("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: %s}\nspec: %s\n", name, spec)
	for s, real := range g.spaces {
		manifest = strings.ReplaceAll(manifest, "NAME-OF-"+s, real)
	}
	for spot, ips := range g.ips {
		manifest = strings.ReplaceAll(manifest, "IP-OF-"+spot, ips[0])
	}
	if _, err := g.Kubectl(g.t.Context(), manifest, "-n", g.spaces[space], "apply", "-f", "-"); err != nil {
		g.t.Fatal(err)
	}
}

// clear removes all policies and labels of an earlier case.
func (g *grid) clear() {
	g.t.Helper()
	for _, real := range g.spaces {
		err := g.Clients.NetworkingV1().NetworkPolicies(real).DeleteCollection(g.t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{})
		if err != nil {
			g.t.Fatal(err)
		}
	}
}

// check is one connection.
type check struct {
	from, to string
	protocol string // tcp or udp
	port     int
}

// matrix tries every connection of the grid from inside the pods, in one family.
func (g *grid) matrix(v6 bool) map[check]bool {
	g.t.Helper()
	var (
		mu    sync.Mutex
		out   = map[check]bool{}
		group sync.WaitGroup
		fail  error
	)
	for from := range g.ips {
		group.Go(func() {
			got, err := g.row(from, v6)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				fail = err
			}
			for c, ok := range got {
				out[c] = ok
			}
		})
	}
	group.Wait()
	if fail != nil {
		g.t.Fatal(fail)
	}
	return out
}

// row tries all connections of one pod at the same time.
func (g *grid) row(from string, v6 bool) (map[check]bool, error) {
	family := 0
	if v6 {
		family = 1
	}
	var checks []check
	var script strings.Builder
	for to, ips := range g.ips {
		for _, protocol := range []string{"tcp", "udp"} {
			for _, port := range []int{80, 81} {
				host := ips[family]
				if v6 {
					host = "[" + host + "]"
				}
				fmt.Fprintf(&script, "(testpod %s -timeout 1500ms %s:%d hello >/dev/null 2>&1 && echo %d) & ", protocol, host, port, len(checks))
				checks = append(checks, check{from, to, protocol, port})
			}
		}
	}
	script.WriteString("wait")
	space, pod, _ := strings.Cut(from, "/")
	text, err := g.Kubectl(g.t.Context(), "", "-n", g.spaces[space], "exec", pod, "--", "sh", "-c", script.String())
	if err != nil {
		return nil, err
	}
	out := map[check]bool{}
	for _, c := range checks {
		out[c] = false
	}
	for _, line := range strings.Fields(text) {
		n, err := strconv.Atoi(line)
		if err != nil || n >= len(checks) {
			return nil, fmt.Errorf("pod %s printed %q", from, line)
		}
		out[checks[n]] = true
	}
	return out, nil
}

// expect tries the whole grid until every connection is as wanted. A pod always reaches itself.
func (g *grid) expect(v6 bool, allowed func(check) bool) {
	g.t.Helper()
	deadline := time.Now().Add(Patience)
	for {
		got := g.matrix(v6)
		var wrong []string
		open := 0
		for c, ok := range got {
			want := c.from == c.to || allowed(c)
			if want {
				open++
			}
			if ok != want {
				wrong = append(wrong, fmt.Sprintf("%s to %s %s %d: came through %v", c.from, c.to, c.protocol, c.port, ok))
			}
		}
		if len(wrong) == 0 {
			g.t.Logf("%d connections as wanted, %d of them allowed", len(got), open)
			return
		}
		if time.Now().After(deadline) {
			slices.Sort(wrong)
			g.t.Fatalf("%d of %d connections are wrong:\n%s", len(wrong), len(got), strings.Join(wrong, "\n"))
		}
	}
}

func in(space, spot string) bool { return strings.HasPrefix(spot, space+"/") }
func is(pod, spot string) bool   { return strings.HasSuffix(spot, "/"+pod) }
