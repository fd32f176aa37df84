package main

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weft-dev/weft/engine/journal"
)

// nothingMade fails if an object of an owner is in the namespace.
func (b *bench) nothingMade() {
	b.t.Helper()
	list, err := b.place.Clients.CoreV1().ConfigMaps(b.place.Namespace).List(b.t.Context(), metav1.ListOptions{LabelSelector: "weft.dev/owner"})
	if err != nil || len(list.Items) > 0 {
		b.t.Errorf("something was applied: %v, %v", list.Items, err)
	}
}

// TestFaultsInTheState refuses states of other lineages and newer formats, and changes nothing.
func TestFaultsInTheState(t *testing.T) {
	b := newBench(t)
	b.write("a.yaml", shop)
	one, other, plan := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "other"), filepath.Join(t.TempDir(), "plan")
	b.expect(0, "Plan: 2 to create.", "", "plan", b.dir, "--backend", one, "--out", plan)
	b.expect(1, "", "the plan does not hold any more; plan again\n  it was made for another state: the lineage is not the same", "apply", plan, "--backend", other)
	b.nothingMade()

	j, _, err := journal.Open(one, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append([]byte(`{"op":"format","version":99}`)); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(one, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range [][]string{{"plan", b.dir}, {"apply", b.dir}, {"apply", plan}, {"history", b.dir}, {"destroy", b.dir, "--yes"}} {
		b.expect(1, "", one+": the state has version 99, this program knows up to 3: use a newer weft", append(verb, "--backend", one)...)
	}
	b.nothingMade()
	if after, err := os.ReadFile(filepath.Join(one, "journal")); err != nil || string(after) != string(before) {
		t.Errorf("the state was written to: %v", err)
	}
}

// TestTwoAppliesAtOnce refuses the second while the first works, or has it wait, whatever keeps the state.
func TestTwoAppliesAtOnce(t *testing.T) {
	for _, backend := range []string{"kubernetes", "folder"} {
		t.Run(backend, func(t *testing.T) {
			b := newBench(t)
			b.write("a.yaml", shop)
			if backend == "folder" {
				backend = filepath.Join(t.TempDir(), "state")
			}
			arrived, release := make(chan struct{}, 9), make(chan struct{})
			b.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPatch && strings.HasSuffix(r.URL.Path, "/configmaps/a") && r.URL.Query().Get("dryRun") == "" {
					arrived <- struct{}{}
					<-release
				}
				return false
			})
			first, third := make(chan int, 1), make(chan int, 1)
			apply := func(done chan int, args ...string) {
				code, _, errs := b.weft(append([]string{"apply", b.dir, "--backend", backend}, args...)...)
				if code != 0 {
					t.Errorf("apply %v: %s", args, errs)
				}
				done <- code
			}
			go apply(first)
			<-arrived
			b.expect(1, "", "(apply since ", "apply", b.dir, "--backend", backend)
			b.expect(1, "", "Wait with --lock-wait 1m", "plan", b.dir, "--backend", backend)
			go apply(third, "--lock-wait", "2m")
			close(release)
			<-first
			<-third
			b.intercept(nil)
			b.expect(0, "Nothing to do: 2 unchanged.", "", "plan", b.dir, "--backend", backend)
		})
	}
}

// TestSlowAdmission has webhooks that take their time and time out: what the server gave up on is asked for again.
func TestSlowAdmission(t *testing.T) {
	b := newBench(t)
	b.write("a.yaml", shop)
	asked := map[string]int{}
	b.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPatch || r.URL.Query().Get("dryRun") != "" {
			return false
		}
		b.mu.Lock()
		asked[r.URL.Path]++
		n := asked[r.URL.Path]
		b.mu.Unlock()
		if n > 2 {
			time.Sleep(300 * time.Millisecond)
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"InternalError","code":500,"message":"Internal error occurred: failed calling webhook \"slow.example.com\": failed to call webhook: Post \"https://slow.default.svc/\": context deadline exceeded"}`))
		return true
	})
	b.expect(0, "2 created", "", "apply", b.dir)
	for path, n := range asked {
		if n != 3 {
			t.Errorf("%s was asked for %d times", path, n)
		}
	}
	b.intercept(nil)
	b.expect(0, "Nothing to do: 2 unchanged.", "", "plan", b.dir)
}

// TestDriftIsWatched prints what changed outside once, when it came and when it went, and outlives a server that does not answer.
func TestDriftIsWatched(t *testing.T) {
	b := newBench(t)
	b.write("a.yaml", shop)
	b.expect(0, "2 created", "", "apply", b.dir)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out, errs lockedBuffer
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"weft", "--kubeconfig", b.kubeconfig, "drift", "--watch", "--interval", "1s", b.dir}, strings.NewReader(""), &out, &errs, os.Getenv)
	}()
	see := func(in *lockedBuffer, text string, times int) {
		t.Helper()
		for strings.Count(in.String(), text) < times {
			select {
			case <-time.After(20 * time.Millisecond):
			case code := <-ended:
				t.Fatalf("it ended with %d\n%s%s", code, out.String(), errs.String())
			}
		}
	}
	write := func(value string) {
		t.Helper()
		if _, err := b.place.Clients.CoreV1().ConfigMaps(b.place.Namespace).Patch(t.Context(), "a", types.MergePatchType, []byte(`{"data":{"x":"`+value+`"}}`), metav1.PatchOptions{FieldManager: "someone"}); err != nil {
			t.Fatal(err)
		}
	}
	see(&out, "is as it was applied", 1)
	write("theirs")
	see(&out, `data.x: "theirs" -> "1"`, 1)
	b.intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "gone fishing", http.StatusForbidden)
		return true
	})
	see(&errs, "gone fishing", 1)
	b.intercept(nil)
	write("other")
	see(&out, `data.x: "other" -> "1"`, 1)
	write("1")
	see(&out, "is as it was applied", 2)
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d\n%s", code, errs.String())
	}
	if n := strings.Count(out.String(), `"theirs"`); n != 1 {
		t.Errorf("the same was said %d times:\n%s", n, out.String())
	}
}
