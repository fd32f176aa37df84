package levels

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/weft-dev/weft/level/door"
	"github.com/weft-dev/weft/manager/webhook"
	"github.com/weft-dev/weft/supervise/control"
	"github.com/weft-dev/weft/test/graded"
	"github.com/weft-dev/weft/test/kube"
)

func TestMain(m *testing.M) { kube.Main(m) }

// supervisor is a user of the embedded cluster's own, which stands for the components of a cluster here.
const supervisor = "weft:supervisor"

// place is a cluster that asks a webhook, and the webhook, each of which may be down.
type place struct {
	*graded.Cluster // as the supervisor, while it runs
	t               *testing.T
	dir             string
	authority       *webhook.Authority
	address         string
	flags           []string // further ones of the cluster
}

func newPlace(t *testing.T) *place {
	p := &place{t: t, dir: t.TempDir()}
	p.authority = &webhook.Authority{Keeper: webhook.FileKeeper(filepath.Join(p.dir, "authority.json"))}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.address = l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	bundle, err := p.authority.Bundle(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err := p.authority.Client(t.Context(), "apiserver")
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := Kubeconfig("https://"+p.address+Path, bundle, certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	config, err := AuthorizationConfiguration(filepath.Join(p.dir, "webhook.kubeconfig"), Account{"weft", "levels"}, []string{supervisor})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"webhook.kubeconfig": kubeconfig, "authorization.yaml": config} {
		if err := os.WriteFile(filepath.Join(p.dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *place) startCluster() (stop func()) {
	p.t.Helper()
	_, stop = kube.Own(p.t, p.dir, append([]string{"--authorization-config", filepath.Join(p.dir, "authorization.yaml")}, p.flags...)...)
	p.Cluster = graded.Supervisor(p.t, p.dir)
	return stop
}

func (p *place) startWebhook() (stop func()) {
	p.t.Helper()
	l, err := net.Listen("tcp", p.address)
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	s := &Server{Config: p.Config, Authority: p.authority, Hosts: []string{"127.0.0.1"}, Name: "test", AuditFile: filepath.Join(p.dir, "audit.jsonl"), Exempt: []string{supervisor}, Log: slog.New(slog.DiscardHandler)}
	go func() { done <- s.Serve(ctx, l) }()
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			p.t.Error(err)
		}
	}
	p.t.Cleanup(stop)
	return stop
}

// reads is what comes of a user's list of secrets in a namespace: "ok", or who denied it.
func (p *place) reads(user, namespace string) string {
	_, err := p.As(user).CoreV1().Secrets(namespace).List(p.t.Context(), metav1.ListOptions{})
	switch {
	case err == nil:
		return "ok"
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "levels: your clearance does not reach"):
		return "levels"
	case apierrors.IsForbidden(err):
		return "forbidden"
	case apierrors.IsInternalError(err) && strings.Contains(err.Error(), p.address): // how an API server says that its webhook is down
		return "closed"
	}
	return err.Error()
}

// register has the API server ask the webhook about what is written. The embedded API server has a door of its own, which stands open from then on.
func (p *place) register() (remove func()) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, "cluster", control.LevelsOff), nil, 0o600); err != nil {
		p.t.Fatal(err)
	}
	bundle, err := p.authority.Bundle(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	text, err := ValidatingWebhook("https://"+p.address+AdmissionPath, bundle, Account{"weft", "levels"}, []string{supervisor})
	if err != nil {
		p.t.Fatal(err)
	}
	var c admissionregistrationv1.ValidatingWebhookConfiguration
	if err := yaml.UnmarshalStrict(text, &c); err != nil {
		p.t.Fatal(err)
	}
	configurations := p.As("").AdmissionregistrationV1().ValidatingWebhookConfigurations()
	if _, err := configurations.Create(p.t.Context(), &c, metav1.CreateOptions{}); err != nil {
		p.t.Fatal(err)
	}
	return func() {
		if err := configurations.Delete(p.t.Context(), c.Name, metav1.DeleteOptions{}); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *place) account(namespace string) string {
	_, err := p.As("").CoreV1().ServiceAccounts(namespace).Get(p.t.Context(), "default", metav1.GetOptions{})
	if err != nil {
		return err.Error()
	}
	return "ok"
}

func (p *place) door() string {
	u, err := p.Objects.Resource(door.Resource).Get(p.t.Context(), "webhook-test", metav1.GetOptions{})
	if err != nil {
		return err.Error()
	}
	text := func(field string) string { s, _, _ := unstructured.NestedString(u.Object, "report", field); return s }
	return text("kind") + " " + text("setting") + " " + text("state")
}
