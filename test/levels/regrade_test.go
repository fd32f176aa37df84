package levels

import (
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level/door"
	"github.com/weft-dev/weft/test/graded"
)

// regrades raises and lowers a namespace of a workspace by the verb, and kills it while it freezes and while it labels.
func (h *house) regrades(expect func(code int, texts []string, args ...string)) {
	h.t.Helper()
	h.Apply("workspaces", `{apiVersion: level.weft.dev/v1alpha1, kind: Workspace, metadata: {name: shops, labels: {level.weft.dev/level: low}},
  spec: {members: [{kind: User, name: alice, role: Viewer}, {kind: User, name: bob, role: Admin}]}}`)
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{api.LevelLabel: "low", api.WorkspaceLabel: "shops"}}}
	if _, err := h.As("").CoreV1().Namespaces().Create(h.t.Context(), n, metav1.CreateOptions{}); err != nil {
		h.t.Fatal(err)
	}
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "key", Labels: map[string]string{api.LevelLabel: "low"}}}
	if _, err := h.As("").CoreV1().Secrets("shop").Create(h.t.Context(), s, metav1.CreateOptions{}); err != nil {
		h.t.Fatal(err)
	}
	h.Eventually("the door knows the namespace", func() string { return h.lists("alice", "shop") + " " + h.lists("bob", "shop") }, "ok ok")
	up := []string{"level", "regrade", "namespace", "shop", "--to", "high"}
	expect(0, []string{"workspace shops", "namespace shop would be above it", "no longer cleared for their workspace", "user alice", "nothing was changed"}, append(up, "--plan")...)
	if got := h.labelled(); got != "low low low" {
		h.t.Errorf("after a plan: %s", got)
	}

	h.laggard()
	kill := h.begin(up...)
	h.Eventually("the door has frozen", func() string { return strings.Join(h.door().Regrades, " ") }, "cluster/Freezing")
	if got := h.lists("alice", "shop") + " " + h.labelled(); got != "levels low low low" {
		h.t.Errorf("while a door does not follow: %s", got)
	}
	kill()
	h.Remove("doors", "laggard")
	if got := h.lists("alice", "shop"); got != "levels" {
		h.t.Errorf("killed, and nobody has undone it yet: %s", got)
	}
	expect(0, []string{"interrupted was undone", "workspace shops", "done: every door has seen"}, up...)
	if got := h.labelled() + " " + h.lists("alice", "shop") + " " + h.lists("bob", "shop"); got != "high high low levels ok" {
		h.t.Errorf("raised: %s", got)
	}

	down := []string{"level", "regrade", "workspace", "shops", "--to", "low"}
	h.laggard("cluster/Freezing") // it never tells that it saw the labels
	kill = h.begin(down...)
	h.Eventually("the first label", func() string { return strings.Split(h.labelled(), " ")[1] }, "low")
	kill()
	// A door lets go by itself once it has seen that everything is labelled.
	if got, labels := h.lists("alice", "shop"), h.labelled(); got != "levels" && labels != "low low low" {
		h.t.Errorf("killed while it labelled, with %s: %s", labels, got)
	}
	h.Remove("doors", "laggard")
	expect(0, []string{"interrupted was finished", "it has that level already"}, down...)
	if got := h.labelled(); got != "low low low" {
		h.t.Errorf("lowered: %s", got)
	}
	h.Eventually("released", func() string { return h.lists("alice", "shop") }, "ok")
	expect(1, []string{`"lofty" names no level`, "low, high"}, "level", "regrade", "namespace", "shop", "--to", "lofty")
	expect(1, []string{"there is no namespace shopp"}, "level", "regrade", "namespace", "shopp", "--to", "high")
}

// labelled are the levels of the workspace, its namespace and the secret in it.
func (h *house) labelled() string {
	h.t.Helper()
	w, err1 := h.Objects.Resource(graded.Resource("workspaces")).Get(h.t.Context(), "shops", metav1.GetOptions{})
	n, err2 := h.As("").CoreV1().Namespaces().Get(h.t.Context(), "shop", metav1.GetOptions{})
	s, err3 := h.As("").CoreV1().Secrets("shop").Get(h.t.Context(), "key", metav1.GetOptions{})
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			h.t.Fatal(err)
		}
	}
	return w.GetLabels()[api.LevelLabel] + " " + n.Labels[api.LevelLabel] + " " + s.Labels[api.LevelLabel]
}

// laggard is a door that never tells that it followed further than this.
func (h *house) laggard(regrades ...any) {
	h.t.Helper()
	u := &unstructured.Unstructured{Object: map[string]any{"report": map[string]any{"kind": "Webhook", "setting": "Enforce", "state": "Ready",
		"renewed": time.Now().Add(door.Lease).UTC().Format(metav1.RFC3339Micro), "regrades": append([]any{}, regrades...)}}}
	u.SetAPIVersion(api.Group + "/" + api.Version)
	u.SetKind("Door")
	u.SetName("laggard")
	if _, err := h.Objects.Resource(door.Resource).Apply(h.t.Context(), "laggard", u, metav1.ApplyOptions{FieldManager: "test"}); err != nil {
		h.t.Fatal(err)
	}
}

// begin starts the program that users start; the function that is returned kills it.
func (h *house) begin(args ...string) (kill func()) {
	h.t.Helper()
	state := filepath.Join(h.dir, "cluster")
	args = append([]string{"--state", state, "--kubeconfig", filepath.Join(state, "components", "supervisor.kubeconfig")}, args...)
	c := exec.CommandContext(h.t.Context(), filepath.Join("..", "..", "bin", "weft"), args...)
	if err := c.Start(); err != nil {
		h.t.Fatal(err)
	}
	return func() {
		h.t.Helper()
		if err := c.Process.Kill(); err != nil {
			h.t.Error("it ended by itself:", err)
		}
		_ = c.Wait() // it was killed
	}
}
