package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weft-dev/weft/supervise/control"
)

// graded are levels, and two users who are cleared for the higher one and may do everything as far as roles are concerned.
const graded = `
{apiVersion: level.weft.dev/v1alpha1, kind: Registry, metadata: {name: cluster}, spec: {levels: [{name: low}, {name: high}], exempt: [weft-admin], doors: {authorizer: Enforce}}}
---
{apiVersion: level.weft.dev/v1alpha1, kind: Clearance, metadata: {name: alice}, spec: {subjects: [{kind: User, name: alice}], label: high}}
---
{apiVersion: level.weft.dev/v1alpha1, kind: Clearance, metadata: {name: bob}, spec: {subjects: [{kind: User, name: bob}], label: high}}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: graded}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin},
  subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: alice}, {kind: User, apiGroup: rbac.authorization.k8s.io, name: bob}]}
---
{apiVersion: v1, kind: Namespace, metadata: {name: upper, labels: {level.weft.dev/level: high}}}
`

// tap is a kubectl of a user that holds a stream open.
type tap struct {
	name  string
	cmd   *exec.Cmd
	mu    sync.Mutex
	said  bytes.Buffer
	ended chan struct{}
	at    time.Time
}

func (t *tap) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.said.Write(p)
}

func (t *tap) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.said.String()
}

// tapped starts a kubectl as a user; it waits for nothing.
func (c *Cluster) tapped(ctx context.Context, user, name string, env []string, args ...string) (*tap, error) {
	one := &tap{name: name, ended: make(chan struct{})}
	one.cmd = exec.CommandContext(ctx, c.Node, append([]string{"kubectl", "--kubeconfig", filepath.Join(c.State, "components", "supervisor.kubeconfig"), "--as", user, "-n", "upper"}, args...)...)
	one.cmd.Env = append(os.Environ(), env...)
	one.cmd.Stdout, one.cmd.Stderr = one, one
	if _, err := one.cmd.StdinPipe(); err != nil { // never closed: the stream does not end by itself
		return nil, err
	}
	if err := one.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = one.cmd.Wait() // how it ends is seen by what it said
		one.at = time.Now()
		close(one.ended)
	}()
	return one, nil
}

// TestStreamsAreCutWhenAClearanceEnds holds streams of every kind open, by both protocols, while the clearance of who opened them ends. Those of
// another one go on.
func TestStreamsAreCutWhenAClearanceEnds(t *testing.T) {
	c := Own(t)
	c.grade(t, graded)
	script := "while :; do echo tick; sleep 0.2; done"
	if _, err := c.Kubectl(t.Context(), strings.ReplaceAll(shell("talker", script), "IMAGE", TestImage), "-n", "upper", "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Kubectl(t.Context(), "", "-n", "upper", "wait", "--for=condition=Ready", "pod/talker", "--timeout=180s"); err != nil {
		t.Fatal(err)
	}
	spdy := []string{"KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false", "KUBECTL_PORT_FORWARD_WEBSOCKETS=false"}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	open := func(user string) []*tap {
		var all []*tap
		for _, s := range []struct {
			name string
			env  []string
			args []string
			says string
		}{
			{"exec by WebSocket", nil, []string{"exec", "-i", "talker", "--", "sh", "-c", "echo ready; cat"}, "ready"},
			{"exec by SPDY", spdy, []string{"exec", "-i", "talker", "--", "sh", "-c", "echo ready; cat"}, "ready"},
			{"attach", nil, []string{"attach", "talker"}, "tick"},
			{"forwarded port by WebSocket", nil, []string{"port-forward", "talker", ":8080"}, "Forwarding from"},
			{"forwarded port by SPDY", spdy, []string{"port-forward", "talker", ":8080"}, "Forwarding from"},
			{"log", nil, []string{"logs", "-f", "talker"}, "tick"},
			{"watch", nil, []string{"get", "pods", "-w"}, "talker"},
		} {
			one, err := c.tapped(ctx, user, s.name, s.env, s.args...)
			if err != nil {
				t.Fatal(err)
			}
			await(t, user+"'s "+s.name, func() bool {
				select {
				case <-one.ended:
					t.Fatalf("%s's %s ended at once: %s", user, s.name, one.text())
				default:
				}
				return strings.Contains(one.text(), s.says)
			})
			all = append(all, one)
		}
		return all
	}
	alices, bobs := open("alice"), open("bob")
	revoked := time.Now()
	if _, err := c.Kubectl(t.Context(), "", "delete", "clearance", "alice"); err != nil {
		t.Fatal(err)
	}
	patient, done := context.WithTimeout(t.Context(), 30*time.Second) // they would never end: what counts is that they do
	defer done()
	for _, one := range alices {
		select {
		case <-one.ended:
			t.Logf("%s: ended %s after kubectl began to delete the clearance", one.name, one.at.Sub(revoked).Round(time.Millisecond))
		case <-patient.Done():
			t.Errorf("%s goes on: %s", one.name, last(one.text()))
		}
	}
	for _, one := range bobs {
		select {
		case <-one.ended:
			t.Errorf("the %s of another one was cut: %s", one.name, last(one.text()))
		default:
		}
	}
	if out, err := c.Kubectl(t.Context(), "", "-n", "upper", "--as", "alice", "exec", "talker", "--", "true"); err == nil {
		t.Errorf("afterwards alice runs a command: %s", out)
	}
	cuts := 0
	records, err := os.ReadFile(filepath.Join(c.State, "logs", "levels-audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(records)) {
		if strings.Contains(line, `"event":"Cut"`) && strings.Contains(line, `"user":"alice"`) {
			cuts++
		}
	}
	if cuts < len(alices) {
		t.Error(fmt.Sprint(cuts, " cuts were written down, of ", len(alices)))
	}
}

// grade installs levels, and objects.
func (c *Cluster) grade(t *testing.T, objects string) {
	t.Helper()
	definitions := filepath.Join("..", "..", "api", "level", "v1alpha1", "crds")
	for _, apply := range [][]string{{"apply", "-f", definitions}, {"wait", "--for=condition=Established", "crd", "--all", "--timeout=180s"}} {
		if _, err := c.Kubectl(t.Context(), "", apply...); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Kubectl(t.Context(), objects, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
}

// last is the end of a text.
func last(text string) string { return text[max(0, len(text)-300):] }

// asked is what the API server's webhook judges; what is in its own process stands open in this test.
const asked = `
{apiVersion: level.weft.dev/v1alpha1, kind: Registry, metadata: {name: cluster}, spec: {levels: [{name: low}, {name: high}], exempt: [weft-admin], doors: {webhook: Enforce, admission: Enforce}}}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: graded}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin},
  subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: alice}]}
---
{apiVersion: v1, kind: Namespace, metadata: {name: upper, labels: {level.weft.dev/level: high}}}
`

// webhookAddress is free among the addresses of Services.
const webhookAddress = "10.43.0.53"

// TestWebhookInPods runs the webhook in the cluster that asks it: from the manifests, over a replacement of its pods, and from a stopped cluster, in which
// nobody can say who may until pods run again, which nobody helps.
func TestWebhookInPods(t *testing.T) {
	node := program(t)
	dir := t.TempDir()
	state, files := filepath.Join(dir, "state"), filepath.Join(dir, "files")
	c, err := Run(t.Context(), node, state)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(c.Stop(0), c.Clean()); err != nil {
			t.Error(err)
		}
	})
	status, err := c.Control.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	weft := func(args ...string) string {
		t.Helper()
		args = append([]string{"--kubeconfig", filepath.Join(state, "components", "supervisor.kubeconfig"), "level", "webhook"}, args...)
		for _, user := range []string{"weft-admin", "weft:supervisor", "weft:agent", "weft:dns"} {
			args = append(args, "--exempt", user)
		}
		cmd := exec.CommandContext(t.Context(), filepath.Join(filepath.Dir(node), "weft"), args...)
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%q: %v %s", args, err, said.String())
		}
		return string(out)
	}
	c.grade(t, asked)
	if err := os.WriteFile(filepath.Join(state, control.LevelsOff), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Kubectl(t.Context(), weft("manifests", "--image", pushPrograms(t, c, status.Registry, "weft"), "--address", webhookAddress, "--level", "high"), "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	weft("config", "--url", "https://"+webhookAddress+":9443", "--authority-secret", "weft/levels-authority", "--dir", files)
	ready := func() {
		t.Helper()
		if out, err := c.Kubectl(t.Context(), "", "-n", "weft", "rollout", "status", "statefulset/levels", "--timeout=180s"); err != nil {
			pods, _ := c.Kubectl(t.Context(), "", "-n", "weft", "describe", "pods")
			logs, _ := c.Kubectl(t.Context(), "", "-n", "weft", "logs", "-l", "app.kubernetes.io/name=levels", "--tail=20")
			t.Fatal(err, out, pods, logs)
		}
	}
	ready()
	if err := c.Stop(time.Second); err != nil {
		t.Fatal(err)
	}
	if c, err = Run(t.Context(), node, state, "--authorization-config", filepath.Join(files, "authorization.yaml")); err != nil {
		t.Fatal(err)
	}
	reads := func(namespace string) string {
		out, err := c.Kubectl(t.Context(), "", "--kubeconfig", filepath.Join(state, "components", "supervisor.kubeconfig"), "--as", "alice", "-n", namespace, "get", "secrets")
		switch {
		case err == nil:
			return "ok"
		case strings.Contains(err.Error(), "levels: your clearance does not reach"):
			return "levels"
		case strings.Contains(err.Error(), webhookAddress):
			return "closed"
		}
		return out + err.Error()
	}
	judged := func() bool { return reads("upper") == "levels" && reads("default") == "ok" }
	await(t, "the webhook to judge", judged)
	if _, err := c.Kubectl(t.Context(), "", "apply", "-f", filepath.Join(files, "validating.yaml")); err != nil {
		t.Fatal(err)
	}
	leads := func() bool {
		_, err := c.Kubectl(t.Context(), "", "--kubeconfig", filepath.Join(state, "components", "supervisor.kubeconfig"), "--as", "alice", "create", "service", "externalname", "way",
			"--external-name", "a.upper.svc.cluster.local", "--dry-run=server")
		return err != nil && strings.Contains(err.Error(), "spec.externalName")
	}
	await(t, "what objects name to be judged", leads)

	for _, args := range [][]string{{"delete", "pods", "--all", "--wait=false"}, {"delete", "pods", "--all", "--force", "--grace-period=0"}} {
		if out, err := c.Kubectl(t.Context(), "", append([]string{"-n", "weft"}, args...)...); err != nil {
			t.Fatal(err, out)
		}
		for range 5 {
			if got := reads("upper"); got == "ok" {
				t.Error("while its pods are replaced alice reads what is higher")
			}
		}
		ready()
		await(t, "the webhook to judge again", judged)
	}
	if err := c.Stop(time.Second); err != nil {
		t.Fatal(err)
	}
	if c, err = Run(t.Context(), node, state, "--authorization-config", filepath.Join(files, "authorization.yaml")); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if got := reads("upper"); got == "ok" {
			t.Error("from a stopped cluster alice reads what is higher")
		}
	}
	await(t, "the webhook to judge from a stopped cluster", func() bool { return judged() && leads() })
}
