package feed

import (
	"context"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	weftkube "github.com/weft-dev/weft/kube"
	"github.com/weft-dev/weft/kube/manifest"
	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/test/graded"
	"github.com/weft-dev/weft/test/kube"
)

func TestMain(m *testing.M) { kube.Main(m) }

type world struct {
	kube.Place
	*graded.Cluster
	t *testing.T
}

func newWorld(t *testing.T) *world {
	place := kube.Namespace(t)
	return &world{place, graded.New(t, place.Config), t}
}

// define makes a further kind.
func (w *world) define(singular string) {
	w.t.Helper()
	client, err := weftkube.New(w.Config)
	if err != nil {
		w.t.Fatal(err)
	}
	all, err := manifest.Parse("kind.yaml", []byte(strings.ReplaceAll(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: NAMEs.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: NAME, plural: NAMEs, singular: NAME}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
`, "NAME", singular)), manifest.Limits{})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := client.ApplyObject(w.t.Context(), all[0], true, true); err != nil {
		w.t.Fatal(err)
	}
	if err := client.Wait(w.t.Context(), all, nil); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) feed(config *rest.Config) *Feed {
	w.t.Helper()
	f, err := New(config)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	w.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	return f
}

func eventually(t *testing.T, f *Feed, what string, ok func(*State) bool) {
	t.Helper()
	for range 1500 {
		if ok(f.State()) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("never: %s; %+v", what, f.State())
}

// registry enforces at the door that the server of the tests does not have: its own would deny the administrator.
const registry = `{apiVersion: level.weft.dev/v1alpha1, kind: Registry, metadata: {name: cluster}, spec: {levels: [{name: low}, {name: middle}, {name: high}], doors: {webhook: Enforce}}}`

// denied judges a read of a secret.
func denied(s *State, user, namespace, name string) bool {
	if s.Snapshot == nil {
		return false
	}
	r := level.Request{Verb: "get", Resource: "secrets", Namespace: namespace, Name: name}
	return s.Snapshot.Decide(s.Snapshot.Resolve(user, nil), &r).Denied
}

func (w *world) label(label map[string]string) {
	w.t.Helper()
	n, err := w.Clients.CoreV1().Namespaces().Get(w.t.Context(), w.Namespace, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	n.Labels = label
	if _, err := w.Clients.CoreV1().Namespaces().Update(w.t.Context(), n, metav1.UpdateOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

func TestFollowsTheCluster(t *testing.T) {
	w := newWorld(t)
	f := w.feed(w.Config)
	eventually(t, f, "it is known that there are no levels", func(s *State) bool { return s.Known && s.Snapshot == nil && !s.Stale })
	w.Install()
	w.Apply("registries", registry)
	eventually(t, f, "the registry", func(s *State) bool {
		return s.Snapshot != nil && s.Doors.Webhook == api.Enforce && s.Doors.Authorizer == api.Audit
	})
	w.label(map[string]string{api.LevelLabel: "middle"})
	eventually(t, f, "the namespace's label", func(s *State) bool { return denied(s, "alice", w.Namespace, "x") })
	w.Apply("clearances", `{apiVersion: level.weft.dev/v1alpha1, kind: Clearance, metadata: {name: alice}, spec: {subjects: [{kind: User, name: alice}], label: middle}}`)
	eventually(t, f, "the clearance", func(s *State) bool { return !denied(s, "alice", w.Namespace, "x") })

	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "x", Labels: map[string]string{api.TalkLabel: "high"}}}
	secret, err := w.Clients.CoreV1().Secrets(w.Namespace).Create(t.Context(), secret, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, f, "the object's own label", func(s *State) bool {
		return denied(s, "alice", w.Namespace, "x") && !denied(s, "alice", w.Namespace, "y")
	})
	secret.Labels = nil
	if _, err := w.Clients.CoreV1().Secrets(w.Namespace).Update(t.Context(), secret, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, f, "the label is gone", func(s *State) bool { return !denied(s, "alice", w.Namespace, "x") })

	// What cannot be read opens nothing.
	w.label(map[string]string{api.LevelLabel: "no-such"})
	eventually(t, f, "a label that cannot be read is the top", func(s *State) bool {
		return denied(s, "alice", w.Namespace, "x") && slices.ContainsFunc(s.Problems, func(p string) bool { return strings.Contains(p, "no-such") })
	})
	w.label(map[string]string{api.LevelLabel: "middle"})
	eventually(t, f, "the problem is gone", func(s *State) bool { return !denied(s, "alice", w.Namespace, "x") && len(s.Problems) == 0 })
	w.Apply("clearances", `{apiVersion: level.weft.dev/v1alpha1, kind: Clearance, metadata: {name: alice}, spec: {subjects: [{kind: User, name: alice}], label: no-such}}`)
	eventually(t, f, "a clearance that cannot be read clears for the lowest", func(s *State) bool { return denied(s, "alice", w.Namespace, "x") && len(s.Problems) > 0 })

	// A Registry that is wrong leaves the last one in force; one who comes later knows nothing.
	w.Apply("clearances", `{apiVersion: level.weft.dev/v1alpha1, kind: Clearance, metadata: {name: alice}, spec: {subjects: [{kind: User, name: alice}], label: low}}`)
	eventually(t, f, "no problem", func(s *State) bool { return len(s.Problems) == 0 })
	w.Apply("registries", strings.Replace(registry, "{name: middle}", "{name: middle, aliases: [low]}", 1))
	eventually(t, f, "the wrong registry is told", func(s *State) bool { return len(s.Problems) > 0 && denied(s, "alice", w.Namespace, "x") })
	late := w.feed(w.Config)
	eventually(t, late, "a late one knows that it knows nothing", func(s *State) bool {
		return s.Known && s.Snapshot == nil && s.Stale && s.Doors.Webhook == api.Enforce && len(s.Problems) > 0
	})
	w.Apply("registries", registry)
	eventually(t, late, "the registry is repaired", func(s *State) bool { return s.Snapshot != nil && !s.Stale && len(s.Problems) == 0 })

	w.Apply("clearances", `{apiVersion: level.weft.dev/v1alpha1, kind: Clearance, metadata: {name: alice}, spec: {subjects: [{kind: User, name: alice}], label: high, expires: "`+
		time.Now().Add(3*time.Second).UTC().Format(time.RFC3339)+`"}}`)
	eventually(t, f, "the clearance", func(s *State) bool { return !denied(s, "alice", w.Namespace, "x") })
	eventually(t, f, "the end of the clearance", func(s *State) bool { return denied(s, "alice", w.Namespace, "x") })

	w.Remove("registries", "cluster")
	eventually(t, f, "there are no levels any more", func(s *State) bool { return s.Known && s.Snapshot == nil && !s.Stale })
	w.Remove("clearances", "alice")
}

// wire is a connection to the API server that can be cut, or go silent.
type wire struct {
	listener net.Listener
	to       string
	mu       sync.Mutex
	conns    []net.Conn
	cut      bool
	silent   bool // bytes are held back
	deaf     bool // those to the server are
}

func newWire(t *testing.T, to string) *wire {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: l, to: to}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go w.carry(c)
		}
	}()
	t.Cleanup(func() { l.Close(); w.set(true) })
	return w
}

func (w *wire) carry(c net.Conn) {
	d, err := net.Dial("tcp", w.to)
	w.mu.Lock()
	if err != nil || w.cut {
		w.mu.Unlock()
		c.Close()
		return
	}
	w.conns = append(w.conns, c, d)
	w.mu.Unlock()
	for i, pair := range [][2]net.Conn{{c, d}, {d, c}} {
		go func() {
			buffer := make([]byte, 32<<10)
			for {
				n, err := pair[0].Read(buffer)
				for w.holds(i == 0) {
					time.Sleep(10 * time.Millisecond)
				}
				if n > 0 {
					if _, err := pair[1].Write(buffer[:n]); err != nil {
						return
					}
				}
				if err != nil {
					_ = pair[1].(*net.TCPConn).CloseWrite()
					return
				}
			}
		}()
	}
}

func (w *wire) holds(toServer bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.silent || w.deaf && toServer
}

func (w *wire) hush(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silent = on
}

func (w *wire) deafen(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deaf = on
}

func (w *wire) set(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
	if cut {
		for _, c := range w.conns {
			c.Close()
		}
		w.conns = nil
	}
}

func TestALostWatchIsSeen(t *testing.T) {
	w := newWorld(t)
	w.Install()
	w.Apply("registries", registry)
	t.Cleanup(func() { w.Remove("registries", "cluster") })
	w.label(map[string]string{api.LevelLabel: "low"})
	address, err := url.Parse(w.Config.Host)
	if err != nil {
		t.Fatal(err)
	}
	line := newWire(t, address.Host)
	config := rest.CopyConfig(w.Config)
	config.Host = "https://" + line.listener.Addr().String()
	f := w.feed(config)
	kubeSystem := func(s *State, user string) bool { return denied(s, user, "kube-system", "x") }
	controller := "system:serviceaccount:kube-system:daemon-set-controller"
	fresh := func(s *State) bool {
		return s.Snapshot != nil && !s.Stale && !denied(s, "alice", w.Namespace, "x") && kubeSystem(s, "alice") && !kubeSystem(s, controller)
	}
	eventually(t, f, "fresh", fresh)
	for name, how := range map[string]func(bool){"cut": line.set, "silent": line.hush, "deaf": line.deafen} {
		how(true)
		w.define(name) // whoever hears of it looks kinds up, which must not hide that nothing answers
		eventually(t, f, name+": stale", func(s *State) bool {
			return s.Stale && len(s.Problems) > 0 && kubeSystem(s, "alice") && !denied(s, "alice", w.Namespace, "x") && !kubeSystem(s, controller)
		})
		how(false)
		eventually(t, f, name+": fresh again", fresh)
	}
}
