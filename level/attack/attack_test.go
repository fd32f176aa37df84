package attack

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
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
	"github.com/weft-dev/weft/level/reference"
	"github.com/weft-dev/weft/supervise/control"
	"github.com/weft-dev/weft/test/kube"
)

func TestMain(m *testing.M) {
	rules, err := filepath.Abs(filepath.Join("testdata", "audit-policy.yaml"))
	if err != nil {
		panic(err)
	}
	// Generated policies write down nothing themselves: the server's own audit events do. It runs in the folder run of its state.
	kube.Main(m, "--apiserver-arg=--audit-policy-file="+rules, "--apiserver-arg=--audit-log-path=audit.log", fmt.Sprintf("--apiserver-arg=--min-request-timeout=%d", bound/time.Second))
}

// bound is how long the API server of these tests lets a watch be open, at least.
const bound = 6 * time.Second

// auditEvents are records of what policies denied.
func auditEvents(file string) func(user string) string {
	var of string
	lines := Lines(file, func(line []byte) string {
		var e struct {
			User        struct{ Username string }
			As          struct{ Username string } `json:"impersonatedUser"`
			Annotations map[string]string
		}
		const key = "validation.policy.admission.k8s.io/validation_failure"
		if json.Unmarshal(line, &e) != nil || cmp.Or(e.As.Username, e.User.Username) != of || e.Annotations[key] == "" {
			return ""
		}
		var failures []struct{ Policy string }
		if json.Unmarshal([]byte(e.Annotations[key]), &failures) != nil || len(failures) == 0 {
			return ""
		}
		return "audit event, policy " + failures[0].Policy
	})
	return func(user string) string {
		of = user
		return lines()
	}
}

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
		tried := len(row.Attempts)
		for _, s := range row.Scenes {
			tried += len(s.Names)
		}
		if row.Later == "" && tried < 3 {
			t.Errorf("%d %s has %d attempts, not three", row.Number, row.Title, tried)
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

// attacked is a run of the catalogue against the server of these tests.
type attacked struct {
	t      *testing.T
	server kube.Server
	runner Runner
}

func (a *attacked) run(mode Mode) []Result {
	a.t.Helper()
	a.runner.Mode = mode
	all, err := a.runner.Run(a.t.Context())
	if err != nil {
		a.t.Fatal(err)
	}
	return all
}

// expect runs the catalogue, and wants every outcome and a record of every denial.
func (a *attacked) expect(mode Mode) {
	a.t.Helper()
	all := a.run(mode)
	for _, r := range all {
		if !r.OK() {
			a.t.Errorf("%s: %d %s: %s: expected %s, seen %s: %s", mode, r.Number, r.Title, r.Attempt, r.Expected, r.Seen, r.Cause)
		}
		if r.Number != 45 && (r.Seen == Denied || r.Seen == Cut) && r.Record == "" {
			a.t.Errorf("%s: %d %s: %s: nothing was written down", mode, r.Number, r.Title, r.Attempt)
		}
	}
	if os.Getenv("UPDATE") != "" {
		save(a.t, mode, all)
	}
}

func save(t *testing.T, mode Mode, all []Result) {
	t.Helper()
	data, err := json.MarshalIndent(all, "", " ")
	if err == nil {
		err = os.WriteFile(filepath.Join("testdata", "seen", string(mode)+".json"), append(data, '\n'), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// kill kills the API server, which its supervisor starts again.
func (a *attacked) kill(context.Context) (func(context.Context) error, error) {
	return func(context.Context) error { return nil }, a.server.Kill()
}

// Without levels the attempts succeed: a catalogue of requests that fail anyway would prove nothing. With generated policies they end as expected, and with the
// doors in the process of the API server. The column of the webhook is seen by the tests of manager/levels.
func TestAttacks(t *testing.T) {
	a := &attacked{t: t, server: kube.Start(t)}
	state := filepath.Dir(a.server.Kubeconfig)
	s, err := NewStage(a.server.Config, "low", "high")
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
	a.runner = Runner{Stage: s, Bound: bound}
	for _, r := range a.run(Managed) {
		if r.Seen == Denied || r.Seen == Failed {
			t.Errorf("without levels: %s: %s: %s, %s", r.Title, r.Attempt, r.Seen, r.Cause)
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
	a.runner.Model, a.runner.Fail = loaded.Model, a.kill
	surplus(t, loaded.Model, objects)
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
	a.runner.Records = auditEvents(filepath.Join(state, "run", "audit.log"))
	a.expect(Managed)
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
	a.runner.Bound = 0 // they are cut before that
	a.runner.Records = ChainRecords(filepath.Join(state, control.LevelsAudit))
	a.expect(InProcess)
}

// surplus wants the attacker's rights to be among those beyond levels, which weft level audit lists: what generated policies do not see is reported there.
func surplus(t *testing.T, m *level.Model, objects []*unstructured.Unstructured) {
	t.Helper()
	s := level.NewSnapshot(m, time.Now())
	for _, u := range objects {
		if u.GetKind() != "ClusterRoleBinding" {
			continue
		}
		o := &reference.Object{Operation: reference.Create, Resource: level.Kind{Group: "rbac.authorization.k8s.io", Resource: "clusterrolebindings"}, Name: u.GetName(), New: u.Object}
		found, err := reference.Judge(s, reference.Requester{Subject: s.Subject(level.SubjectName{Kind: level.User, Name: "system:kube-controller-manager"})}, o, reference.Lookup{})
		if err != nil || len(found) == 0 || !strings.HasPrefix(found[0].Field, "subjects[0]") {
			t.Errorf("the attacker's binding is not among the rights beyond levels: %v %v", found, err)
		}
	}
}

// The page is what runs of the three modes saw.
func TestPage(t *testing.T) {
	seen := map[Mode][]Result{}
	for _, m := range Modes {
		data, err := os.ReadFile(filepath.Join("testdata", "seen", string(m)+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var all []Result
		if err := json.Unmarshal(data, &all); err != nil {
			t.Fatal(err)
		}
		seen[m] = all
	}
	page := introduction + Table(seen)
	for line := range strings.Lines(page) {
		if strings.Contains(line, "|  |") || strings.Contains(line, "not run") || strings.Contains(line, "**") {
			t.Errorf("a cell is empty, or not as expected: %s", line)
		}
	}
	file := filepath.Join("..", "..", "docs", "levels-attacks.md")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if now, err := os.ReadFile(file); err != nil || string(now) != page {
		t.Errorf("%s is not what was seen: run the commands in it (%v)", file, err)
	}
}

const introduction = `# Attacks on levels

    UPDATE=1 go test -run Attacks ./level/attack ./manager/levels && UPDATE=1 go test -run Page ./level/attack

A run of the catalogue of ` + "`weft level attack`" + ` against the API server of the tests in three modes: with the doors in its process, with the webhook, and
with generated admission policies alone (managed). The attacker is a service account of a low level that is cluster-admin. Without levels each of these
requests succeeds, which the test sees first. A cell is the outcome that was expected and seen. *reported*: policies do not see it, and the right to do so is
among those that ` + "`weft level audit`" + ` lists, or the closure of who reaches whom tells of it; *bounded*: a stream that is open goes on, for a time that the
API server bounds; *later stage* needs the filtering proxy or approvals. The record is what the door wrote into its chain, or the API server's audit event.

`
