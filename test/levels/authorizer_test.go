package levels

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/chain"
	"github.com/weft-dev/weft/level/feed"
	"github.com/weft-dev/weft/supervise/control"
	"github.com/weft-dev/weft/test/graded"
	"github.com/weft-dev/weft/test/kube"
)

func TestTheDoorOfTheEmbeddedCluster(t *testing.T) {
	h := shared(t)
	h.levels(api.Audit, "alice", "bob")
	h.Clear("bob", "high")
	h.Eventually("audit lets everything through", func() string { return h.lists("alice", "high") + " " + h.lists("alice", "") }, "ok ok")
	h.Eventually("and tells whom it would deny what", func() string {
		for _, d := range h.door().Denied {
			if d.User == "alice" && d.Verb == "list" && d.Resource == "secrets" && d.Namespace == "high" && d.Cause == string(level.LevelTooLow) && !d.Component {
				return "told"
			}
		}
		return fmt.Sprint(h.door().Denied)
	}, "told")
	for _, d := range h.door().Denied {
		if d.Component {
			t.Errorf("a component of the cluster would be denied something: %+v", d)
		}
	}

	h.set(api.Warn)
	warned := &warnings{}
	config := rest.CopyConfig(h.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: "alice"}
	config.WarningHandler = warned
	alice, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := alice.CoreV1().Secrets("high").List(t.Context(), metav1.ListOptions{}); err != nil || !strings.Contains(warned.text(), "levels: your clearance does not reach for this (read)") {
		t.Errorf("warn: %v, %q", err, warned.text())
	}

	h.set(api.Enforce)
	for what, c := range map[string]struct{ got, want string }{
		"a list":                          {h.lists("alice", "high"), "levels"},
		"one over all namespaces":         {h.lists("alice", ""), "levels"},
		"on the own level":                {h.lists("alice", "low"), "ok"},
		"by one who is cleared":           {h.lists("bob", "high"), "ok"},
		"of the top":                      {h.lists("bob", "kube-system"), "ok"},
		"of what is not there":            {outcome(second(alice.CoreV1().Secrets("high").Get(t.Context(), "no-such", metav1.GetOptions{}))), "levels"},
		"deletion of a collection":        {outcome(alice.CoreV1().ConfigMaps("high").DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{})), "levels"},
		"relabelling":                     {outcome(h.relabel("alice", "high", "")), "levels"},
		"relabelling by a subresource":    {outcome(h.relabel("alice", "high", "finalize")), "levels"},
		"acting as one who is higher":     {outcome(h.actAs("alice", "bob")), "levels"},
		"a token of a higher account":     {outcome(second(alice.CoreV1().ServiceAccounts("high").CreateToken(t.Context(), "default", tokenRequest, metav1.CreateOptions{}))), "levels"},
		"a role of the cluster":           {outcome(second(alice.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "own"}}, metav1.CreateOptions{}))), "levels"},
		"the registry":                    {outcome(h.dynamicAs("alice").Resource(graded.Resource("registries")).Delete(t.Context(), "cluster", metav1.DeleteOptions{})), "levels"},
		"a door's report":                 {outcome(second(h.dynamicAs("alice").Resource(graded.Resource("doors")).Get(t.Context(), "authorizer", metav1.GetOptions{}))), "levels"},
		"the reports of doors":            {outcome(second(h.dynamicAs("alice").Resource(graded.Resource("doors")).List(t.Context(), metav1.ListOptions{}))), "levels"},
		"what is not there, on her own":   {outcome(second(alice.CoreV1().Secrets("low").Get(t.Context(), "no-such", metav1.GetOptions{}))), "not found"},
		"a namespace that does not exist": {outcome(second(alice.CoreV1().Secrets("no-such").Get(t.Context(), "x", metav1.GetOptions{}))), "not found"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %q, want %q", what, c.got, c.want)
		}
	}
	review, err := h.As("alice").AuthorizationV1().SelfSubjectAccessReviews().Create(t.Context(), &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get", Resource: "secrets", Namespace: "high"}}}, metav1.CreateOptions{})
	if err != nil || !review.Status.Denied {
		t.Errorf("kubectl auth can-i: %+v %v", review, err)
	}
}

var tokenRequest = &authenticationv1.TokenRequest{}

func second[T any](_ T, err error) error { return err }

func (h *house) relabel(user, namespace, subresource string) error {
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: map[string]string{api.LevelLabel: "low"}}}
	if subresource != "" {
		return second(h.As(user).CoreV1().Namespaces().Finalize(h.t.Context(), n, metav1.UpdateOptions{}))
	}
	return second(h.As(user).CoreV1().Namespaces().Update(h.t.Context(), n, metav1.UpdateOptions{}))
}

func (h *house) dynamicAs(user string) dynamic.Interface {
	config := rest.CopyConfig(h.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user}
	c, err := dynamic.NewForConfig(config)
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

// warnings are what a server told beside its answer.
type warnings struct {
	mu  sync.Mutex
	all []string
}

func (w *warnings) HandleWarningHeader(_ int, _ string, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, text)
}

func (w *warnings) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.all, "\n")
}

// actAs uses a token of one user to act as another.
func (h *house) actAs(user, other string) error {
	c, err := h.acting(user, other)
	if err != nil {
		return err
	}
	_, err = c.CoreV1().Secrets("low").List(h.t.Context(), metav1.ListOptions{})
	return err
}

// acting is a client with a token of one user that acts as another.
func (h *house) acting(user, other string) (kubernetes.Interface, error) {
	// A service account stands for the user: only somebody real can try to act as another.
	name := "actor-" + user
	accounts := h.As("").CoreV1().ServiceAccounts("low")
	if _, err := accounts.Create(h.t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, err
	}
	_, err := h.As("").RbacV1().ClusterRoleBindings().Create(h.t.Context(), &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"}, Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "low", Name: name}}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, err
	}
	token, err := accounts.CreateToken(h.t.Context(), name, tokenRequest, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	config := rest.AnonymousClientConfig(h.Config)
	config.BearerToken = token.Status.Token
	config.Impersonate = rest.ImpersonationConfig{UserName: other}
	return kubernetes.NewForConfig(config)
}

// TestOpenWatchesAreCut has clearances end while watches are open: the watch ends within two seconds, others go on.
func TestOpenWatchesAreCut(t *testing.T) {
	h := shared(t)
	h.levels(api.Enforce, "alice", "bob")
	h.Clear("alice", "high")
	h.Clear("bob", "high")
	h.Eventually("the clearance", func() string { return h.lists("alice", "high") }, "ok")
	open := func(user string) <-chan time.Time {
		w, err := h.As(user).CoreV1().Secrets("high").Watch(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan time.Time, 1)
		go func() {
			for range w.ResultChan() {
			}
			ended <- time.Now()
		}()
		t.Cleanup(w.Stop)
		return ended
	}
	alice, bob := open("alice"), open("bob")
	select {
	case <-alice:
		t.Fatal("a watch ended by itself")
	case <-bob:
		t.Fatal("a watch ended by itself")
	case <-time.After(300 * time.Millisecond):
	}
	revoked := time.Now()
	h.Clear("alice", "low")
	select {
	case at := <-alice:
		t.Logf("cut after %s", at.Sub(revoked))
	case <-time.After(2 * time.Second):
		t.Error("the watch lives two seconds after the clearance ended")
	}
	select {
	case <-bob:
		t.Error("the watch of another was cut")
	case <-time.After(500 * time.Millisecond):
	}
	if got := h.lists("alice", "high"); got != "levels" {
		t.Errorf("afterwards: %s", got)
	}
}

// TestTheRightToActAsAnotherEndsAtOnce ends a clearance by which an account acts as somebody higher. An API server remembers for 10 s that it may.
func TestTheRightToActAsAnotherEndsAtOnce(t *testing.T) {
	h := shared(t)
	h.levels(api.Enforce, "bob")
	h.Clear("bob", "high")
	clear := func(label string) {
		h.Apply("clearances", fmt.Sprintf(`{apiVersion: level.weft.dev/v1alpha1, kind: Clearance, metadata: {name: actor}, spec: {subjects: [{kind: ServiceAccount, namespace: low, name: actor-alice}], label: %s}}`, label))
	}
	clear("high")
	h.Eventually("a high account acts as a high user", func() string { return outcome(h.actAs("alice", "bob")) }, "ok")
	c, err := h.acting("alice", "bob")
	if err != nil {
		t.Fatal(err)
	}
	open := func() <-chan struct{} {
		w, err := c.CoreV1().Secrets("low").Watch(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Stop)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for range w.ResultChan() {
			}
		}()
		return ended
	}
	// Nobody is asked about the second one, since the first was let through a moment ago.
	first, second := open(), open()
	clear("low")
	patient, done := context.WithTimeout(t.Context(), 30*time.Second) // they would never end: what counts is that they do
	defer done()
	for _, ended := range []<-chan struct{}{first, second} {
		select {
		case <-ended:
		case <-patient.Done():
			t.Error("a watch lives on that was opened in the name of another, without a right to that name")
		}
	}
	if got := outcome(h.actAs("alice", "bob")); got != "levels" {
		t.Errorf("afterwards she still acts as another: %s", got)
	}
}

// TestOffEndsALockOut locks the administrator out, and lets him in again by the file that `weft level off` writes.
func TestOffEndsALockOut(t *testing.T) {
	h := shared(t)
	h.levels(api.Enforce, "alice")
	h.Eventually("locked out", func() string { return h.lists("alice", "high") }, "levels")
	off := filepath.Join(h.dir, "cluster", control.LevelsOff)
	if err := os.WriteFile(off, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h.Eventually("the door is open", func() string { return h.lists("alice", "high") }, "ok")
	h.Eventually("and says so", func() string { return string(h.door().State) }, string(api.DoorOff))
	if err := os.Remove(off); err != nil {
		t.Fatal(err)
	}
	h.Eventually("the door is closed", func() string { return h.lists("alice", "high") }, "levels")
}

// TestKillOpensNothing kills the API server while a user knocks at the door again and again: there is no moment at which it is open.
func TestKillOpensNothing(t *testing.T) {
	h := shared(t)
	h.levels(api.Enforce, "alice")
	h.Eventually("closed", func() string { return h.lists("alice", "high") }, "levels")
	knocking, stop := context.WithCancel(t.Context())
	opened, denied := make(chan string, 1), 0
	done := make(chan struct{})
	alice := h.As("alice")
	go func() {
		defer close(done)
		for knocking.Err() == nil {
			_, err := alice.CoreV1().Secrets("high").List(knocking, metav1.ListOptions{})
			switch {
			case err == nil:
				select {
				case opened <- time.Now().String():
				default:
				}
			case outcome(err) == "levels":
				denied++
			}
		}
	}()
	for range 2 {
		if err := kube.KillServer(filepath.Join(h.dir, "cluster")); err != nil {
			t.Fatal(err)
		}
		h.Eventually("closed again", func() string { return h.lists("alice", "high") + " " + h.lists("alice", "low") }, "levels ok")
	}
	stop()
	<-done
	select {
	case at := <-opened:
		t.Error("the door was open at", at)
	default:
	}
	if denied == 0 {
		t.Error("nobody knocked")
	}
	// The server may be in the middle of its last record.
	h.Eventually("the chain of records is whole", func() string {
		if _, err := chain.Verify(filepath.Join(h.dir, "cluster", control.LevelsAudit), nil); err != nil {
			return err.Error()
		}
		return ""
	}, "")
}

// TestCanAgreesWithTheAPIServer compares random requests as `weft level can` judges them, from what the cluster holds, with what the API
// server answers.
func TestCanAgreesWithTheAPIServer(t *testing.T) {
	h := shared(t)
	h.levels(api.Enforce)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 1))
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	users := []string{"u0", "u1", "u2", "u3", "u4", "system:serviceaccount:high:default", "system:serviceaccount:low:default", "system:serviceaccount:kube-system:x", "system:kube-proxy", "system:node:none"}
	for _, user := range users[:4] {
		h.Clear(user, pick("low", "middle", "high"))
	}
	h.Apply("clearances", `{apiVersion: level.weft.dev/v1alpha1, kind: Clearance, metadata: {name: g}, spec: {subjects: [{kind: Group, name: g}], label: middle}}`)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "x", Labels: map[string]string{api.LevelLabel: "high"}}}
	if _, err := h.As("").CoreV1().Secrets("middle").Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	objects, err := feed.Objects(t.Context(), h.Config)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := level.Load(objects)
	if err != nil {
		t.Fatal(err)
	}
	snapshot := level.NewSnapshot(loaded.Model, time.Now())
	h.Eventually("the door knows the label", func() string {
		return fmt.Sprint(h.denies("u4", nil, &level.Request{Verb: "get", Resource: "secrets", Namespace: "middle", Name: "x"}))
	}, "true")
	denied := 0
	for range 600 {
		r := &level.Request{Verb: pick("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "impersonate", "bind", "use"), Namespace: pick("", "low", "middle", "high", "kube-system", "none"), Name: pick("", "x", "y", "high")}
		kind := [][2]string{{"", "secrets"}, {"", "pods"}, {"apps", "deployments"}, {"", "namespaces"}, {"", "nodes"}, {"rbac.authorization.k8s.io", "clusterroles"}, {"level.weft.dev", "registries"}, {"", "users"}, {"", "serviceaccounts"}, {"example.com", "things"}}[random.IntN(10)]
		r.Group, r.Resource, r.Subresource = kind[0], kind[1], pick("", "", "", "status", "exec", "token", "proxy")
		user, groups := pick(users...), []string{"system:authenticated"}
		if random.IntN(3) == 0 {
			groups = append(groups, "g")
		}
		want := snapshot.Decide(snapshot.Resolve(user, groups), r).Denied
		if got := h.denies(user, groups, r); got != want {
			t.Errorf("seed %d: %s %v %+v: the API server says denied=%t, can says %t", seed, user, groups, *r, got, want)
		}
		if want {
			denied++
		}
	}
	if denied < 100 || denied > 550 {
		t.Errorf("%d of 600 are denied: the requests say little", denied)
	}
}

// denies asks the API server what it would answer.
func (h *house) denies(user string, groups []string, r *level.Request) bool {
	h.t.Helper()
	review, err := h.As("").AuthorizationV1().SubjectAccessReviews().Create(h.t.Context(), &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: user, Groups: groups,
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: r.Verb, Group: r.Group, Resource: r.Resource, Subresource: r.Subresource, Namespace: r.Namespace, Name: r.Name}}}, metav1.CreateOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	return review.Status.Denied
}
