package attack

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/kube/manifest"
	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/policy"
	"github.com/weft-dev/weft/test/kube"
)

func TestMain(m *testing.M) { kube.Main(m) }

const registry = `{apiVersion: level.weft.dev/v1alpha1, kind: Registry, metadata: {name: cluster}, spec: {levels: [{name: base}, {name: low}, {name: high}, {name: top}], exempt: [weft-admin]}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: kube-system}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: default}}
`

// define installs the definitions of levels.
func define(t *testing.T, s *Stage) {
	t.Helper()
	definitions, err := api.CRDs.ReadDir("crds")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range definitions {
		data, err := api.CRDs.ReadFile("crds/" + d.Name())
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		if err := yaml.Unmarshal(data, &m); err != nil {
			t.Fatal(err)
		}
		u := &unstructured.Unstructured{Object: m}
		if _, err := s.of(u).Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// Every item has three attempts or a reason why it is not tried, and every number is there.
func TestCatalogueIsComplete(t *testing.T) {
	seen := map[int]bool{}
	for _, row := range Catalogue() {
		seen[row.Number] = true
		if row.Later == "" && len(row.Attempts) < 3 && row.Number != 12 {
			t.Errorf("%d %s has %d attempts, not three", row.Number, row.Title, len(row.Attempts))
		}
		for _, a := range row.Attempts {
			if a.Name == "" || a.As == "" || a.Method == "" || a.Path == "" || a.Expect == "" {
				t.Errorf("%d %s: an attempt is not complete: %+v", row.Number, row.Title, a)
			}
		}
	}
	for n := range 46 {
		if !seen[n] {
			t.Errorf("item %d is missing", n)
		}
	}
}

func TestOutcome(t *testing.T) {
	for _, c := range []struct {
		code     int
		body     string
		connects bool
		want     Outcome
	}{
		{200, `{}`, false, Allowed},
		{403, `{"message":"pods is forbidden: levels: no"}`, false, Denied},
		{403, `{"message":"forbidden by roles"}`, false, Failed},
		{400, `{"message":"Upgrade request required"}`, true, Allowed},
		{400, `{"message":"bad"}`, false, Failed},
		{500, `no json`, false, Failed},
	} {
		if got, _ := outcome(c.code, []byte(c.body), &Attempt{Connects: c.connects}); got != c.want {
			t.Errorf("%d %s: %s", c.code, c.body, got)
		}
	}
}

// Without levels the attempts succeed: a catalogue of requests that fail anyway would prove nothing. With generated policies they end as expected, and with the
// doors in the process of the API server.
func TestAttacks(t *testing.T) {
	server := kube.Start(t)
	s, err := NewStage(server.Config, "low", "high")
	if err != nil {
		t.Fatal(err)
	}
	define(t, s)
	if err := s.Prepare(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = s.Remove(ctx) // the server ends with the tests
	})
	var last []Result
	run := func(mode Mode) map[string]Result {
		all, err := (&Runner{Mode: mode, Stage: s}).Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		last = all
		by := map[string]Result{}
		for _, r := range all {
			by[r.Title+": "+r.Attempt] = r
		}
		return by
	}
	for name, r := range run(Managed) {
		if r.Seen == Denied || r.Seen == Failed {
			t.Errorf("without levels: %s: %s, %s", name, r.Seen, r.Cause)
		}
	}
	objects, err := s.Objects(true)
	if err != nil {
		t.Fatal(err)
	}
	read, err := manifest.Reader{Stdin: strings.NewReader(registry)}.Read(t.Context(), "-")
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range objects {
		read = append(read, manifest.New(u, "stage"))
	}
	loaded, err := level.Load(read)
	if err != nil {
		t.Fatal(err)
	}
	made, err := policy.Compile(loaded.Model, policy.Options{Now: time.Now(), Setting: api.Enforce})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range made.Objects {
		if _, err := s.of(u).Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
			t.Fatalf("%s %s: %v", u.GetKind(), u.GetName(), err)
		}
	}
	if err := (&Runner{Mode: Managed, Stage: s}).Await(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen := map[Mode][]Result{}
	expected := func(mode Mode) {
		for name, r := range run(mode) {
			if !r.OK() {
				t.Errorf("%s: %s: expected %s, seen %s: %s", mode, name, r.Expected, r.Seen, r.Cause)
			}
		}
		seen[mode] = last
	}
	expected(Managed)
	for _, u := range made.Objects {
		if err := s.of(u).Delete(t.Context(), u.GetName(), metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	enforcing := read[0].DeepCopy()
	if err := unstructured.SetNestedStringMap(enforcing.Object, map[string]string{"authorizer": "Enforce", "admission": "Enforce"}, "spec", "doors"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.of(enforcing).Create(t.Context(), enforcing, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := (&Runner{Mode: InProcess, Stage: s}).Await(t.Context()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(11 * time.Second) // an API server remembers for 10 s that somebody was let act as another (k8s.io/apiserver, endpoints/filters/impersonation/cache.go)
	expected(InProcess)
	if path := os.Getenv("UPDATE"); path != "" {
		page := "# Attacks on levels\n\n    UPDATE=$PWD/docs/levels-attacks.md go test -run Attacks ./level/attack\n\n" + introduction + Table(seen)
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

const introduction = `A run of the catalogue of ` + "`weft level attack`" + ` against the API server of the tests, in the modes in-process and managed (generated admission policies alone). The attacker is a service
account of a low level that is cluster-admin. Without levels each of these requests succeeds, which the test sees first. *reported* means that policies do not
see it and that the right to do so stands above the account's clearance; *later stage* needs the filtering proxy, approvals or another test.

`
