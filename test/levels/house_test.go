package levels

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level/door"
	"github.com/weft-dev/weft/test/graded"
	"github.com/weft-dev/weft/test/kube"
)

func TestMain(m *testing.M) { kube.Main(m) }

// house is an embedded cluster, as one test sees it.
type house struct {
	*graded.Cluster // as the supervisor, whom levels do not bind
	t               *testing.T
	dir             string
}

func newHouse(t *testing.T) *house {
	dir := t.TempDir()
	kube.Own(t, dir)
	return houseIn(t, dir)
}

// shared is the cluster that the tests share which put nothing but levels into it; what earlier ones left of clearances is taken away.
func shared(t *testing.T) *house {
	h := houseIn(t, filepath.Dir(filepath.Dir(kube.Start(t).Kubeconfig)))
	h.Install()
	if err := h.Objects.Resource(graded.Resource("clearances")).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	return h
}

func houseIn(t *testing.T, dir string) *house {
	t.Helper()
	return &house{graded.Supervisor(t, dir), t, dir}
}

func (h *house) set(setting api.DoorSetting) {
	h.t.Helper()
	h.Apply("registries", fmt.Sprintf(`{apiVersion: level.weft.dev/v1alpha1, kind: Registry, metadata: {name: cluster}, spec: {levels: [{name: low}, {name: middle}, {name: high}], doors: {authorizer: %s}}}`, setting))
	h.Eventually("the door is set", func() string { return h.door().Setting() }, string(setting))
}

// levels installs the kinds, a registry and users who may do everything as far as roles are concerned.
func (h *house) levels(setting api.DoorSetting, users ...string) {
	h.t.Helper()
	h.Install()
	for _, user := range users {
		h.Grant(user)
	}
	for _, label := range []string{"low", "middle", "high"} {
		h.AddNamespace(label, map[string]string{api.LevelLabel: label})
	}
	h.set(setting)
}

type report struct{ api.DoorReport }

func (r report) Setting() string { return string(r.DoorReport.Setting) }

func (h *house) door() report {
	u, err := h.Objects.Resource(door.Resource).Get(h.t.Context(), "authorizer", metav1.GetOptions{})
	if err != nil {
		return report{}
	}
	var d api.Door
	content, err := u.MarshalJSON()
	if err == nil {
		err = yaml.Unmarshal(content, &d)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return report{d.Report}
}

// outcome of a request: ok, levels, or the error.
func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "levels: "):
		return "levels"
	case apierrors.IsNotFound(err):
		return "not found"
	}
	return err.Error()
}

func (h *house) lists(user, namespace string) string {
	_, err := h.As(user).CoreV1().Secrets(namespace).List(h.t.Context(), metav1.ListOptions{})
	return outcome(err)
}
