package level

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func user(n string) SubjectName  { return SubjectName{Kind: User, Name: n} }
func group(n string) SubjectName { return SubjectName{Kind: UserGroup, Name: n} }

func testSnapshot(t testing.TB, change func(*Model, func(string) Label)) *Snapshot {
	t.Helper()
	r := testRegistry(t)
	parse := func(s string) Label {
		l, err := r.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	label := func(s string) *Label { l := parse(s); return &l }
	m := &Model{Registry: r,
		Namespaces: []Namespace{{"site", label("public"), ""}, {"shop", label("internal"), "team"}, {"vault", label("secret"), ""}, {"people", label("internal.hr"), ""}, {"plain", nil, ""}, {"kube-system", nil, ""}},
		Grants: []Grant{
			{Subject: user("low"), Label: parse("public")}, {Subject: user("mid"), Label: parse("internal")}, {Subject: user("high"), Label: parse("secret")},
			{Subject: user("top"), Label: parse("secret.finance.hr")},
			{Subject: group("hr"), Label: parse("internal.hr")}, {Subject: group("ops"), Label: parse("secret")},
			{Subject: SubjectName{ServiceAccount, "site", "deployer"}, Label: parse("internal")},
			{Subject: user("was"), Label: parse("secret"), Expires: noon.Add(-time.Second)}, {Subject: user("soon"), Label: parse("secret"), Expires: noon.Add(time.Hour)},
		},
		Objects: []Object{{Kind{"", "secrets"}, "site", "key", parse("secret")}, {Kind{"", "nodes"}, "", "vault-1", parse("secret")}, {Kind{"", "pods"}, "gone", "p", parse("internal")}},
		Nodes:   []string{"vault-1", "worker-1"},
		Exempt:  []string{"system:serviceaccount:site:free"},
		Workspaces: []Workspace{{Name: "team", Label: label("internal"), Members: map[SubjectName]Role{
			user("mid"): Viewer, user("high"): Operator, user("top"): Admin, group("ops"): Operator}}},
	}
	if change != nil {
		change(m, parse)
	}
	return NewSnapshot(m, noon)
}

func TestDecide(t *testing.T) {
	s := testSnapshot(t, nil)
	for _, c := range []struct {
		who    string
		groups []string
		r      Request
		want   Cause
	}{
		{"low", nil, Request{Verb: "get", Resource: "pods", Namespace: "site", Name: "p"}, Cleared},
		{"low", nil, Request{Verb: "get", Resource: "pods", Namespace: "shop", Name: "p"}, LevelTooLow},
		{"low", nil, Request{Verb: "get", Resource: "pods", Subresource: "log", Namespace: "shop", Name: "p"}, LevelTooLow},
		{"low", nil, Request{Verb: "watch", Resource: "pods", Namespace: "shop"}, LevelTooLow},
		{"low", nil, Request{Verb: "deletecollection", Group: "example.com", Resource: "things", Namespace: "vault"}, LevelTooLow},
		{"high", nil, Request{Verb: "update", Resource: "pods", Namespace: "site", Name: "p"}, Cleared},
		{"high", nil, Request{Verb: "get", Resource: "pods", Namespace: "people", Name: "p"}, CategoryMissing},
		{"nobody", nil, Request{Verb: "get", Resource: "pods", Namespace: "plain", Name: "p"}, Cleared},
		{"nobody", nil, Request{Verb: "get", Resource: "pods", Namespace: "unknown", Name: "p"}, Cleared},
		{"nobody", nil, Request{Verb: "get", Resource: "pods", Namespace: "shop", Name: "p"}, LevelTooLow},
		{"mid", nil, Request{Verb: "get", Resource: "pods", Namespace: "kube-system", Name: "p"}, LevelTooLow},
		// objects with a label of their own, and collections they are in
		{"mid", nil, Request{Verb: "get", Resource: "secrets", Namespace: "site", Name: "key"}, LevelTooLow},
		{"mid", nil, Request{Verb: "get", Resource: "secrets", Namespace: "site", Name: "other"}, Cleared},
		{"mid", nil, Request{Verb: "list", Resource: "secrets", Namespace: "site"}, LevelTooLow},
		{"mid", nil, Request{Verb: "list", Resource: "configmaps", Namespace: "site"}, Cleared},
		{"mid", nil, Request{Verb: "*", Resource: "*", Namespace: "site"}, LevelTooLow},
		{"mid", nil, Request{Verb: "create", Resource: "secrets", Namespace: "site"}, Cleared},
		{"low", nil, Request{Verb: "get", Resource: "pods", Namespace: "gone", Name: "p"}, LevelTooLow},
		// over all namespaces
		{"high", nil, Request{Verb: "list", Resource: "pods"}, CategoryMissing},
		{"top", nil, Request{Verb: "list", Resource: "pods"}, Cleared},
		{"high", nil, Request{Verb: "list", Group: "example.com", Resource: "things"}, CategoryMissing},
		{"high", nil, Request{Verb: "list", Resource: "namespaces"}, CategoryMissing},
		// namespaces themselves
		{"mid", nil, Request{Verb: "get", Resource: "namespaces", Namespace: "vault", Name: "vault"}, LevelTooLow},
		{"mid", nil, Request{Verb: "update", Resource: "namespaces", Subresource: "finalize", Name: "vault"}, LevelTooLow},
		{"mid", nil, Request{Verb: "get", Resource: "namespaces", Name: "site"}, Cleared},
		{"mid", nil, Request{Verb: "delete", Resource: "namespaces", Name: "site"}, LevelTooLow}, // with what is in it
		{"nobody", nil, Request{Verb: "create", Resource: "namespaces"}, Cleared},
		// kinds without namespace
		{"mid", nil, Request{Verb: "get", Resource: "nodes", Name: "worker-1"}, Cleared},
		{"mid", nil, Request{Verb: "get", Resource: "nodes", Name: "vault-1"}, LevelTooLow},
		{"mid", nil, Request{Verb: "list", Resource: "nodes"}, LevelTooLow},
		{"mid", nil, Request{Verb: "get", Resource: "nodes", Subresource: "status", Name: "worker-1"}, Cleared},
		{"high", nil, Request{Verb: "get", Resource: "nodes", Subresource: "log", Name: "worker-1"}, CategoryMissing}, // of every pod there
		{"high", nil, Request{Verb: "get", Resource: "nodes", Subresource: "proxy", Name: "worker-1"}, CategoryMissing},
		{"high", nil, Request{Verb: "update", Resource: "nodes", Name: "worker-1"}, CategoryMissing},
		{"mid", nil, Request{Verb: "list", Group: "storage.k8s.io", Resource: "storageclasses"}, Cleared},
		{"high", nil, Request{Verb: "create", Group: "rbac.authorization.k8s.io", Resource: "clusterrolebindings"}, CategoryMissing},
		{"top", nil, Request{Verb: "create", Group: "rbac.authorization.k8s.io", Resource: "clusterrolebindings"}, Cleared},
		{"high", nil, Request{Verb: "patch", Group: "level.weft.dev", Resource: "registries", Name: "cluster"}, CategoryMissing},
		{"high", nil, Request{Verb: "update", Group: "certificates.k8s.io", Resource: "certificatesigningrequests", Subresource: "approval", Name: "c"}, CategoryMissing},
		{"low", nil, Request{Verb: "create", Group: "certificates.k8s.io", Resource: "certificatesigningrequests"}, Cleared},
		{"nobody", nil, Request{Verb: "create", Group: "authorization.k8s.io", Resource: "selfsubjectaccessreviews"}, Cleared},
		{"nobody", nil, Request{Verb: "get", Path: "/healthz"}, NonResource},
		// groups
		{"eve", []string{"hr"}, Request{Verb: "get", Resource: "pods", Namespace: "people", Name: "p"}, Cleared},
		{"eve", []string{"hr", "ops"}, Request{Verb: "get", Resource: "pods", Namespace: "vault", Name: "p"}, Cleared},
		{"low", []string{"hr", "ops"}, Request{Verb: "get", Resource: "pods", Namespace: "vault", Name: "p"}, LevelTooLow}, // the name decides
		{"was", nil, Request{Verb: "get", Resource: "pods", Namespace: "vault", Name: "p"}, LevelTooLow},
		{"soon", nil, Request{Verb: "get", Resource: "pods", Namespace: "vault", Name: "p"}, Cleared},
		// service accounts
		{"system:serviceaccount:vault:default", nil, Request{Verb: "get", Resource: "pods", Namespace: "vault", Name: "p"}, Cleared},
		{"system:serviceaccount:site:default", []string{"ops"}, Request{Verb: "get", Resource: "pods", Namespace: "vault", Name: "p"}, LevelTooLow},
		{"system:serviceaccount:site:deployer", nil, Request{Verb: "get", Resource: "pods", Namespace: "vault", Name: "p"}, LevelTooLow},
		{"system:serviceaccount:plain:deployer", nil, Request{Verb: "get", Resource: "pods", Namespace: "shop", Name: "p"}, LevelTooLow}, // another namespace's
		{"low", nil, Request{Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: "site", Name: "deployer"}, LevelTooLow},
		{"low", nil, Request{Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: "site", Name: "default"}, Cleared},
		{"low", nil, Request{Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: "site"}, LevelTooLow}, // of any account there
		{"mid", nil, Request{Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: "site"}, LevelTooLow}, // one of them is exempt
		{"top", nil, Request{Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: "site"}, Cleared},
		{"low", nil, Request{Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: "plain"}, Cleared},
		{"mid", nil, Request{Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: "site", Name: "free"}, LevelTooLow}, // levels do not bind it
		{"top", nil, Request{Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: "site", Name: "free"}, Cleared},
		// the control plane
		{"system:kube-controller-manager", nil, Request{Verb: "delete", Resource: "pods", Namespace: "vault", Name: "p"}, Exempt},
		{"system:node:worker-1", []string{"system:nodes"}, Request{Verb: "get", Resource: "secrets", Namespace: "vault", Name: "p"}, Exempt},
		{"system:node:worker-1", nil, Request{Verb: "get", Resource: "secrets", Namespace: "vault", Name: "p"}, LevelTooLow},
		{"system:node:invented", []string{"system:nodes"}, Request{Verb: "get", Resource: "secrets", Namespace: "vault", Name: "p"}, LevelTooLow},
		{"root", []string{"system:masters"}, Request{Verb: "get", Resource: "secrets", Namespace: "vault", Name: "p"}, Exempt},
		// impersonation
		{"high", nil, Request{Verb: "impersonate", Resource: "users", Name: "mid"}, Cleared},
		{"mid", nil, Request{Verb: "impersonate", Resource: "users", Name: "high"}, LevelTooLow},
		{"mid", nil, Request{Verb: "impersonate", Resource: "users", Name: "nobody"}, LevelTooLow},
		{"mid", nil, Request{Verb: "impersonate:user-info", Group: "authentication.k8s.io", Resource: "users", Name: "high"}, LevelTooLow},
		{"mid", nil, Request{Verb: "impersonate", Resource: "groups", Name: "ops"}, LevelTooLow},
		{"high", nil, Request{Verb: "impersonate", Resource: "groups", Name: "system:masters"}, CategoryMissing},
		{"low", nil, Request{Verb: "impersonate", Resource: "groups", Name: "system:authenticated"}, Cleared},
		{"mid", nil, Request{Verb: "impersonate", Resource: "serviceaccounts", Namespace: "vault", Name: "x"}, LevelTooLow},
		{"low", nil, Request{Verb: "impersonate", Resource: "serviceaccounts", Namespace: "plain"}, Cleared}, // any account there
		{"mid", nil, Request{Verb: "impersonate", Resource: "serviceaccounts", Namespace: "site"}, LevelTooLow},
		{"mid", nil, Request{Verb: "impersonate", Resource: "serviceaccounts", Namespace: "vault"}, LevelTooLow},
		{"mid", nil, Request{Verb: "impersonate", Resource: "serviceaccounts"}, LevelTooLow},
		{"mid", nil, Request{Verb: "impersonate", Group: "authentication.k8s.io", Resource: "uids", Name: "1"}, LevelTooLow},
		{"mid", nil, Request{Verb: "impersonate", Group: "authentication.k8s.io", Resource: "userextras", Subresource: "scopes", Name: "x"}, LevelTooLow},
		{"mid", nil, Request{Verb: "impersonate:arbitrary-node", Group: "authentication.k8s.io", Resource: "nodes", Name: "worker-1"}, LevelTooLow},
		{"mid", nil, Request{Verb: "impersonate-on:user-info:get", Resource: "pods", Namespace: "vault", Name: "p"}, LevelTooLow},
		// a GET that opens a connection is a change, like any verb that is not known
		{"mid", nil, Request{Verb: "get", Resource: "pods", Subresource: "exec", Namespace: "shop", Name: "p"}, RoleTooLow},
		{"mid", nil, Request{Verb: "frobnicate", Resource: "pods", Namespace: "shop", Name: "p"}, RoleTooLow},
		// roles in a workspace
		{"mid", nil, Request{Verb: "get", Resource: "pods", Namespace: "shop", Name: "p"}, Cleared},
		{"mid", nil, Request{Verb: "create", Resource: "pods", Namespace: "shop"}, RoleTooLow},
		{"high", nil, Request{Verb: "create", Resource: "pods", Namespace: "shop"}, Cleared},
		{"high", nil, Request{Verb: "create", Group: "rbac.authorization.k8s.io", Resource: "rolebindings", Namespace: "shop"}, RoleTooLow},
		{"high", nil, Request{Verb: "delete", Resource: "namespaces", Name: "shop"}, RoleTooLow},
		{"top", nil, Request{Verb: "create", Group: "rbac.authorization.k8s.io", Resource: "rolebindings", Namespace: "shop"}, Cleared},
		{"eve", []string{"ops"}, Request{Verb: "delete", Group: "networking.k8s.io", Resource: "networkpolicies", Namespace: "shop", Name: "n"}, RoleTooLow},
	} {
		for _, round := range []string{"first", "remembered"} {
			d := s.Decide(s.Resolve(c.who, c.groups), &c.r)
			if d.Cause != c.want || d.Denied != !slices.Contains([]Cause{Cleared, Exempt, NonResource}, c.want) {
				t.Errorf("%s %v %+v: %s (denied %v, %s), not %s (%s)", c.who, c.groups, c.r, d.Cause, d.Denied, d.Origin, c.want, round)
			}
		}
	}
}

func TestStrictAndStale(t *testing.T) {
	strict := testSnapshot(t, func(m *Model, _ func(string) Label) {
		spec := m.Registry.Spec()
		spec.Defaults.Strict = true
		m.Registry, _ = NewRegistry(spec)
	})
	read := func(ns string) *Request { return &Request{Verb: "get", Resource: "pods", Namespace: ns, Name: "p"} }
	for ns, denied := range map[string]bool{"plain": true, "unknown": true, "site": false} {
		if d := strict.Decide(strict.Resolve("high", nil), read(ns)); d.Denied != denied {
			t.Errorf("strict, %s: %+v", ns, d)
		}
	}
	stale := testSnapshot(t, nil).Stale()
	for ns, denied := range map[string]bool{"vault": true, "site": false} {
		if d := stale.Decide(stale.Resolve("top", nil), read(ns)); d.Denied != denied {
			t.Errorf("stale, %s: %+v", ns, d)
		}
	}
	if d := stale.Decide(stale.Resolve("system:kube-scheduler", nil), read("vault")); d.Denied {
		t.Error("a stale snapshot stops the control plane")
	}
}

// Clearances of several groups count alone unless the registry says that they are put together.
func TestGroupsJoin(t *testing.T) {
	vault := &Request{Verb: "get", Resource: "pods", Namespace: "vault", Name: "p"}
	for _, groups := range []string{"Any", "Join"} {
		s := testSnapshot(t, func(m *Model, parse func(string) Label) {
			spec := m.Registry.Spec()
			spec.Groups = groups
			m.Registry, _ = NewRegistry(spec)
			both := parse("secret.hr")
			m.Namespaces[2].Label = &both
		})
		if d := s.Decide(s.Resolve("eve", []string{"hr", "ops"}), vault); d.Denied != (groups == "Any") {
			t.Errorf("%s: %+v", groups, d)
		}
	}
}

// A change of one namespace gives the same answers as a snapshot made anew, and leaves the old one as it was.
func TestSingleChange(t *testing.T) {
	s := testSnapshot(t, nil)
	secret, public := s.Registry().top, Label{}
	list := &Request{Verb: "list", Resource: "pods"}
	raised := s.WithNamespace(Namespace{"site", &secret, ""})
	account := "system:serviceaccount:site:default"
	vault := &Request{Verb: "get", Resource: "pods", Namespace: "vault", Name: "p"}
	if s.Decide(s.Resolve(account, nil), vault).Cause != LevelTooLow || raised.Decide(raised.Resolve(account, nil), vault).Denied {
		t.Error("a service account does not follow its namespace")
	}
	lowered := raised
	for _, n := range []string{"vault", "people", "shop", "kube-system"} {
		lowered = lowered.WithNamespace(Namespace{n, &public, ""})
	}
	lowered = lowered.WithNamespace(Namespace{"site", &public, ""}).WithoutNamespace("site").WithoutNamespace("gone")
	if d := lowered.Decide(lowered.Resolve("high", nil), list); d.Denied {
		t.Errorf("nothing is high any more but nodes: %+v", d)
	}
	if d := s.Decide(s.Resolve("high", nil), list); !d.Denied {
		t.Error("the old snapshot has changed")
	}
	granted := s.WithGrants([]Grant{{Subject: user("low"), Label: secret}}, noon)
	if granted.Decide(granted.Resolve("low", nil), vault).Denied || !granted.Decide(granted.Resolve("high", nil), vault).Denied {
		t.Error("other clearances do not hold")
	}
}

// However a snapshot came about by single changes, it answers like one that was made of the whole.
func TestChangesInAnyOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	model, s := (*Model)(nil), testSnapshot(t, func(*Model, func(string) Label) {})
	testSnapshot(t, func(m *Model, _ func(string) Label) { model = m })
	names := []string{"site", "shop", "vault", "people", "plain", "new", "kube-system"}
	top := s.Registry().top
	for round := range 300 {
		name := names[random.IntN(len(names))]
		model.Namespaces = slices.DeleteFunc(model.Namespaces, func(n Namespace) bool { return n.Name == name })
		if random.IntN(4) == 0 {
			model.Objects = slices.DeleteFunc(model.Objects, func(o Object) bool { return o.Namespace == name })
			s = s.WithoutNamespace(name)
		} else {
			l := Label{Rank: uint16(random.IntN(3)), Categories: Categories{uint64(random.IntN(4))}}
			n := Namespace{name, &l, []string{"", "team", "none"}[random.IntN(3)]}
			if random.IntN(3) == 0 {
				n.Label = nil
			}
			model.Namespaces = append(model.Namespaces, n)
			s = s.WithNamespace(n)
		}
		whole := NewSnapshot(model, noon)
		if got := Compare(whole, s, true); len(got) > 0 {
			t.Fatalf("round %d, %s: %+v", round, name, got[0])
		}
		if whole.all != s.all || !top.Dominates(s.all.High) {
			t.Fatalf("round %d: bounds %v and %v", round, whole.all, s.all)
		}
	}
}

// One name with other groups is another subject, also when a slice is used again for other groups.
func TestMemoLooksAtGroups(t *testing.T) {
	s := testSnapshot(t, nil)
	groups := []string{"ops"}
	if s.Resolve("eve", groups).Source() != ByGroup {
		t.Fatal("not cleared by group")
	}
	groups[0] = "nothing"
	if s.Resolve("eve", groups).Source() != ByDefault {
		t.Error("the memo looked at the slice and not at the groups")
	}
	m := newMemo() // two users whose hashes are equal
	k := m.key("eve", []string{"ops"})
	m.shards[k%64].known = map[uint64]memoEntry{k: {"eve", []string{"hr"}, &Subject{}}}
	if m.get("eve", []string{"ops"}) != nil {
		t.Error("a hash alone decides")
	}
	m.shards[k%64].known[k] = memoEntry{"adam", []string{"ops"}, &Subject{}}
	if m.get("eve", []string{"ops"}) != nil {
		t.Error("a hash alone decides who it is")
	}
	for i := range 5000 { // all with the same groups
		s.Resolve(fmt.Sprint("member", i), []string{"ops"})
	}
	if s.memo.get("member0", []string{"ops"}) == nil || s.memo.get("member4999", []string{"ops"}) == nil {
		t.Error("5,000 users push each other out")
	}
	for i := range 200_000 { // a flood of names
		s.Resolve(fmt.Sprint("user", i), nil)
	}
	held := 0
	for i := range s.memo.shards {
		held += len(s.memo.shards[i].known)
	}
	if held > 64*memoPerShard {
		t.Errorf("the memo holds %d users", held)
	}
}

func TestMessageTellsNothing(t *testing.T) {
	s := testSnapshot(t, nil)
	low := s.Resolve("low", nil)
	there := s.Decide(low, &Request{Verb: "get", Resource: "namespaces", Name: "vault"})
	hidden := s.Decide(low, &Request{Verb: "get", Resource: "secrets", Namespace: "site", Name: "key"})
	if there.Message() != hidden.Message() || there.Message() == "" {
		t.Errorf("%q and %q", there.Message(), hidden.Message())
	}
}

func benchmarkSnapshot(b *testing.B, n int) (*Model, *Snapshot) {
	r, err := NewRegistry(api.RegistrySpec{Levels: []api.Level{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}}, Categories: []api.Category{{Name: "x"}, {Name: "y"}}})
	if err != nil {
		b.Fatal(err)
	}
	m := &Model{Registry: r}
	for i := range n {
		l := Label{Rank: uint16(i % 4)}
		l.Categories[0] = uint64(i % 3)
		m.Namespaces = append(m.Namespaces, Namespace{fmt.Sprintf("namespace-%d", i), &l, ""})
		m.Grants = append(m.Grants, Grant{Subject: user(fmt.Sprintf("user-%d", i)), Label: l})
	}
	return m, NewSnapshot(m, noon)
}

// BenchmarkDecide is a decision with a clearance that was resolved, over all of 5,000 users and namespaces.
func BenchmarkDecide(b *testing.B) {
	_, s := benchmarkSnapshot(b, 5000)
	subjects, requests := make([]*Subject, 5000), make([]Request, 5000)
	for i := range subjects {
		subjects[i] = s.Resolve(fmt.Sprintf("user-%d", i), nil)
		requests[i] = Request{Verb: "get", Resource: "pods", Namespace: fmt.Sprintf("namespace-%d", (i*37)%5000), Name: "p"}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.Decide(subjects[i%5000], &requests[(i*7)%5000])
	}
}

// BenchmarkResolve is finding what a user with groups is cleared for.
func BenchmarkResolve(b *testing.B) {
	_, s := benchmarkSnapshot(b, 5000)
	for _, n := range []int{20, 300} {
		groups := make([]string, n)
		for i := range groups {
			groups[i] = fmt.Sprintf("oidc:department-%d:readers", i)
		}
		b.Run(fmt.Sprintf("groups=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Resolve("someone@example.com", groups)
			}
		})
	}
}

func BenchmarkSnapshot(b *testing.B) {
	m, s := benchmarkSnapshot(b, 10_000)
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			NewSnapshot(m, noon)
		}
	})
	b.Run("one", func(b *testing.B) {
		l := Label{Rank: 3}
		for b.Loop() {
			s.WithNamespace(Namespace{"namespace-77", &l, ""})
		}
	})
}
