package kube

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
)

// TestInterruptedApply ends an apply after some of its writes and looks that the next run knows what was made.
func TestInterruptedApply(t *testing.T) {
	b := newBench(t)
	var text strings.Builder
	for i := range 20 {
		fmt.Fprintf(&text, "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c%02d}\ndata: {a: b}\n", i)
	}
	set := b.set(text.String())
	set.Workers = 2
	ctx, cancel := context.WithCancel(b.Context())
	done := 0
	set.Progress = func(Event) {
		if done++; done == 7 {
			cancel()
		}
	}
	if _, err := b.Apply(ctx, set); err == nil {
		t.Fatal("a cancelled apply gave no error")
	}
	// Even an inventory that was never completed has to find them: take the UIDs out, as after a crash.
	inv, err := b.Inventory(b.Context(), set.Owner)
	if err != nil {
		t.Fatal(err)
	}
	if len(inv.Entries) != 20 {
		t.Fatalf("%d entries were announced", len(inv.Entries))
	}
	recorded := 0
	for _, e := range inv.Entries {
		if e.UID != "" {
			recorded++
		}
	}
	if recorded == 0 || recorded == 20 { // those that were under way may be unknown
		t.Errorf("%d of 20 objects are recorded as made by a run that was cancelled after a few", recorded)
	}
	for i, e := range inv.Entries {
		inv.Entries[i] = Entry{Identity: e.Identity}
	}
	if err := b.saveInventory(b.Context(), set.Owner, inv); err != nil {
		t.Fatal(err)
	}
	set.Objects, set.Progress = nil, nil
	b.apply(set)
	left, err := b.place.Clients.CoreV1().ConfigMaps(b.place.Namespace).List(b.Context(), metav1.ListOptions{LabelSelector: OwnerLabel})
	if err != nil || len(left.Items) != 0 {
		t.Errorf("%d objects were forgotten, %v", len(left.Items), err)
	}
}

func TestTwoRunsAtOnce(t *testing.T) {
	b := newBench(t)
	set := b.set(web)
	b.apply(set)
	set.Objects = b.parse(strings.ReplaceAll(web, "name: key", "name: key2"))
	p := b.plan(set)
	inv, err := b.Inventory(b.Context(), set.Owner)
	if err != nil {
		t.Fatal(err)
	}
	inv.Entries = inv.Entries[1:]
	if err := b.saveInventory(b.Context(), set.Owner, inv); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ApplyPlan(b.Context(), p); err == nil || !strings.Contains(err.Error(), "another run changes the same objects") {
		t.Errorf("error %v", err)
	}
	if b.live("v1 Secret", "key2") != nil {
		t.Error("the second run wrote although it was late")
	}
}

func TestInventoryInTheWay(t *testing.T) {
	b := newBench(t)
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "weft-app"}}}
	if _, err := b.on(secretResource, b.place.Namespace).Create(b.Context(), u, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	b.wantError(b.refused(b.set(web)), "Secret "+b.place.Namespace+"/weft-app is in the way")
}

// TestFlakyServer answers many requests with 429 or 503, and cuts off the answers of others that were carried out.
func TestFlakyServer(t *testing.T) {
	b := newBench(t)
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(1, 2))
	faults := 0
	cfg := rest.CopyConfig(b.place.Config)
	cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			n := random.IntN(10)
			if n < 3 && strings.Contains(r.URL.Path, b.place.Namespace) {
				faults++
			} else {
				n = 9
			}
			mu.Unlock()
			answer := func(code int) (*http.Response, error) {
				return &http.Response{StatusCode: code, Status: http.StatusText(code), Header: http.Header{}, Body: http.NoBody, Request: r}, nil
			}
			switch n {
			case 0:
				return answer(http.StatusTooManyRequests)
			case 1:
				return answer(http.StatusServiceUnavailable)
			case 2:
				if response, err := rt.RoundTrip(r); err == nil {
					response.Body.Close()
				}
				return nil, syscall.ECONNRESET
			}
			return rt.RoundTrip(r)
		})
	})
	flaky, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	set := b.set(objects(40, "x"))
	if _, err := flaky.Apply(b.Context(), set); err != nil {
		t.Fatal(err)
	}
	if faults == 0 {
		t.Fatal("no fault was injected")
	}
	if r := b.apply(set); r.Changed() || r.Counts[Unchanged] != 40 {
		t.Errorf("counts %v\n%s", r.Counts, describePlan(r.Plan))
	}
	set.Objects = nil
	if _, err := flaky.Apply(b.Context(), set); err != nil {
		t.Fatal(err)
	}
	left, err := b.place.Clients.CoreV1().ConfigMaps(b.place.Namespace).List(b.Context(), metav1.ListOptions{LabelSelector: OwnerLabel})
	if err != nil || len(left.Items) != 0 {
		t.Errorf("%d objects left, %v", len(left.Items), err)
	}
}

// TestLostAnswersOfTheInventory cuts off the answer to each write of the inventory once: what was carried out counts as done.
func TestLostAnswersOfTheInventory(t *testing.T) {
	b := newBench(t)
	var mu sync.Mutex
	lost := map[string]bool{}
	cfg := rest.CopyConfig(b.place.Config)
	cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			response, err := rt.RoundTrip(r)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || r.Method == http.MethodGet || !strings.Contains(r.URL.Path, "/secrets") || lost[r.Method] {
				return response, err
			}
			lost[r.Method] = true
			response.Body.Close()
			return nil, syscall.ECONNRESET
		})
	})
	client, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	set := b.set(objects(2, "x"))
	if _, err := client.Apply(b.Context(), set); err != nil {
		t.Errorf("the answers to %v were lost: %v", lost, err)
	}
	if !lost[http.MethodPost] || !lost[http.MethodPut] {
		t.Errorf("only the answers to %v were lost: the test says too little", lost)
	}
	if r := b.apply(set); r.Changed() {
		t.Errorf("afterwards: %s", describePlan(r.Plan))
	}
}
