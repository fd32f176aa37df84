// Package authorizer compares deciders of requests side by side.
package authorizer

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	rbaclisters "k8s.io/client-go/listers/rbac/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/door"
	"github.com/weft-dev/weft/level/feed"
)

const subjects = 5000

// BenchmarkBesideRBAC judges the same requests by levels, with 5,000 clearances and namespaces, and by Kubernetes' roles, with 5,000
// bindings, in turn. It tells the processor time of a decision with a resolved clearance, of one with its resolution, and how many times longer roles take.
func BenchmarkBesideRBAC(b *testing.B) {
	snapshot, roles := levels(b), bindings(b)
	users := make([]*user.DefaultInfo, subjects)
	attributes := make([]authorizer.AttributesRecord, subjects)
	requests := make([]level.Request, subjects)
	for i := range subjects {
		users[i] = &user.DefaultInfo{Name: fmt.Sprintf("user-%d", i), Groups: []string{"system:authenticated", "department"}}
		namespace := fmt.Sprintf("namespace-%d", (i*37)%subjects)
		attributes[i] = authorizer.AttributesRecord{User: users[i], Verb: "get", Resource: "pods", Namespace: namespace, Name: "p", ResourceRequest: true}
		requests[i] = level.Request{Verb: "get", Resource: "pods", Namespace: namespace, Name: "p"}
		snapshot.Resolve(users[i].Name, users[i].Groups)
	}
	resolved := make([]*level.Subject, subjects)
	for i := range resolved {
		resolved[i] = snapshot.Resolve(users[i].Name, users[i].Groups)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var deciding, resolving, roling time.Duration
	rounds := 0
	for b.Loop() {
		start := cpuTime(b)
		for i := range subjects {
			snapshot.Decide(resolved[i], &requests[i])
		}
		decided := cpuTime(b)
		for i := range subjects {
			snapshot.Decide(snapshot.Resolve(users[i].Name, users[i].Groups), &requests[i])
		}
		both := cpuTime(b)
		for i := range subjects {
			if d, _, err := roles.Authorize(b.Context(), attributes[i]); err != nil || d != authorizer.DecisionAllow {
				b.Fatal(d, err)
			}
		}
		deciding, resolving, roling = deciding+decided-start, resolving+both-decided, roling+cpuTime(b)-both
		rounds++
	}
	per := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / float64(rounds*subjects) }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(per(deciding), "decide-ns")
	b.ReportMetric(per(resolving), "resolve+decide-ns")
	b.ReportMetric(per(roling), "roles-ns")
	b.ReportMetric(float64(roling)/float64(deciding), "times")
	b.ReportMetric(float64(roling)/float64(resolving), "times-with-resolve")
}

// cpuTime is what this thread has used of a processor, so that a busy machine does not count.
func cpuTime(b *testing.B) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return time.Duration(t.Nano())
}

func levels(b *testing.B) *level.Snapshot {
	registry, err := level.NewRegistry(api.RegistrySpec{Levels: []api.Level{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}}})
	if err != nil {
		b.Fatal(err)
	}
	m := &level.Model{Registry: registry}
	for i := range subjects {
		l := level.Label{Rank: uint16(i % 4)}
		m.Namespaces = append(m.Namespaces, level.Namespace{Name: fmt.Sprintf("namespace-%d", i), Label: &l})
		m.Grants = append(m.Grants, level.Grant{Subject: level.SubjectName{Kind: level.User, Name: fmt.Sprintf("user-%d", i)}, Label: l})
	}
	return level.NewSnapshot(m, time.Now())
}

// bindings is the authorizer as an API server has it, over an informer's cache.
func bindings(b *testing.B) *rbac.RBACAuthorizer {
	cached := func() cache.Indexer {
		return cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	}
	put := func(to cache.Indexer, object any) {
		if err := to.Add(object); err != nil {
			b.Fatal(err)
		}
	}
	roles, all := cached(), cached()
	put(roles, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "reader"}, Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}}})
	for i := range subjects {
		put(all, &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("binding-%d", i)},
			RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "reader"},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: fmt.Sprintf("user-%d", i)}}})
	}
	return rbac.New(&rbac.RoleGetter{Lister: rbaclisters.NewRoleLister(cached())}, &rbac.RoleBindingLister{Lister: rbaclisters.NewRoleBindingLister(cached())},
		&rbac.ClusterRoleGetter{Lister: rbaclisters.NewClusterRoleLister(roles)}, &rbac.ClusterRoleBindingLister{Lister: rbaclisters.NewClusterRoleBindingLister(all)})
}

// BenchmarkAdded is what the whole authorizer adds to a request, on top of one that answers at once: of a user with 20 groups, and with 300. It tells
// processor time.
func BenchmarkAdded(b *testing.B) {
	snapshot := levels(b)
	state := &feed.State{Known: true, Snapshot: snapshot, Doors: api.Doors{Authorizer: api.Enforce}}
	known := make(chan struct{})
	close(known)
	next := authorizer.AuthorizerFunc(func(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
		return authorizer.DecisionAllow, "", nil
	})
	a := New(&door.Door{Kind: door.Authorizer, State: func() *feed.State { return state }}, known, next)
	for _, groups := range []int{20, 300} {
		attributes := make([]authorizer.AttributesRecord, 64)
		for i := range attributes {
			u := &user.DefaultInfo{Name: fmt.Sprintf("user-%d", i*4+3)} // cleared for everything
			for g := range groups {
				u.Groups = append(u.Groups, fmt.Sprintf("group-%d-%d", i, g))
			}
			attributes[i] = authorizer.AttributesRecord{User: u, Verb: "get", Resource: "pods", Namespace: fmt.Sprintf("namespace-%d", i), Name: "p", ResourceRequest: true}
		}
		ask := func(of authorizer.Authorizer) time.Duration {
			start := cpuTime(b)
			for range 100 {
				for i := range attributes {
					if d, _, err := of.Authorize(b.Context(), &attributes[i]); err != nil || d != authorizer.DecisionAllow {
						b.Fatal(d, err)
					}
				}
			}
			return cpuTime(b) - start
		}
		b.Run(fmt.Sprintf("%dgroups", groups), func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			var with, without time.Duration
			for b.Loop() {
				with, without = with+ask(a), without+ask(next)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64((with-without).Nanoseconds())/float64(b.N*100*len(attributes)), "added-ns")
		})
	}
}
