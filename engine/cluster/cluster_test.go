package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/engine/seal"
	kubetest "github.com/weft-dev/weft/test/kube"
)

func TestMain(m *testing.M) { kubetest.Main(m) }

type tree = map[string]any

// store is a driver whose resources live in memory.
type store struct {
	mu     sync.Mutex
	things map[engine.ID]tree
	made   []engine.ID
	block  chan struct{} // Create waits for it
	begun  chan struct{}
}

func newStore() *store { return &store{things: map[engine.ID]tree{}} }

func (*store) Version() string { return "1" }

func (s *store) Read(_ context.Context, r engine.Request) (*engine.Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t, ok := s.things[r.ID]; ok {
		return &engine.Object{Identity: string(r.ID), Mark: fmt.Sprint(t)}, nil
	}
	return nil, nil
}

func (s *store) Compare(_ context.Context, r engine.Request, o *engine.Object) (engine.Comparison, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o != nil && fmt.Sprint(s.things[r.ID]) != fmt.Sprint(engine.Reveal(r.Inputs)) {
		return engine.Comparison{Changes: []engine.Change{{Path: "x"}}}, nil
	}
	return engine.Comparison{}, nil
}

func (s *store) Create(ctx context.Context, r engine.Request) (*engine.Object, error) {
	s.mu.Lock()
	block := s.block
	s.mu.Unlock()
	if block != nil {
		close(s.begun)
		select {
		case <-block:
		case <-ctx.Done():
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	inputs, _ := engine.Reveal(r.Inputs).(map[string]any)
	s.things[r.ID], s.made = inputs, append(s.made, r.ID)
	return &engine.Object{Identity: string(r.ID), Mark: fmt.Sprint(inputs)}, nil
}

func (s *store) Update(ctx context.Context, r engine.Request, _ *engine.Object) (*engine.Object, error) {
	return s.Create(ctx, r)
}

func (s *store) Delete(_ context.Context, r engine.Request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.things, r.ID)
	return nil
}

func keys(t testing.TB) *seal.Keys {
	id, err := seal.UserIdentity(filepath.Join(t.TempDir(), "identity"))
	if err != nil {
		t.Fatal(err)
	}
	k, err := seal.New(nil, []string{id})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func open(t testing.TB, cfg *rest.Config, o Options) *State {
	t.Helper()
	s, err := Open(t.Context(), cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func apply(s *engine.State, d engine.Driver, set ...engine.Resource) error {
	e, err := engine.New(s, engine.Options{Drivers: map[string]engine.Driver{"thing": d}, Retries: -1})
	if err != nil {
		return err
	}
	p, err := e.Plan(context.Background(), set)
	if err != nil {
		return err
	}
	_, err = e.Apply(context.Background(), p)
	return err
}

func things(n int, value string) []engine.Resource {
	set := make([]engine.Resource, n)
	for i := range set {
		set[i] = engine.Resource{ID: engine.ID(fmt.Sprintf("t%03d", i)), Type: "thing", Inputs: tree{"value": value, "secret": engine.Sensitive{Value: "hunter2"}}}
	}
	return set
}

func TestStateSurvivesInChunks(t *testing.T) {
	place := kubetest.Namespace(t)
	k := keys(t)
	o := Options{Namespace: place.Namespace, Name: "shop", Holder: "me", Operation: "apply", Sealer: k}
	d := newStore()
	s := open(t, place.Config, o)
	noise := make([]byte, 100_000) // does not compress, so that records become chunks
	for i := range noise {
		noise[i] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[(i*i*7919+i*104729>>3)%62]
	}
	set := things(30, "one")
	for i := range set {
		set[i].Inputs["noise"] = string(noise[i*1000:]) + string(noise[:i*1000])
	}
	if err := apply(s.State, d, set...); err != nil {
		t.Fatal(err)
	}
	if s.Writes() > 70 {
		t.Errorf("%d writes for 30 resources: records that are ready together share one", s.Writes())
	}
	lineage, serial := s.State.Lineage(), s.State.Serial()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, place.Config, o)
	if s.State.Lineage() != lineage || s.State.Serial() != serial || len(s.State.Records()) != 30 {
		t.Errorf("lineage %s, serial %d, %d records; want %s, %d, 30", s.State.Lineage(), s.State.Serial(), len(s.State.Records()), lineage, serial)
	}
	if err := s.State.Compact(true); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, place.Config, o)
	if len(s.State.Records()) != 30 || s.State.Serial() != serial {
		t.Errorf("%d records after compaction", len(s.State.Records()))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	list, err := place.Clients.CoreV1().Secrets(place.Namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	named := len(s.head.Snapshot) + 1
	if len(list.Items) != named {
		t.Errorf("%d Secrets, %d of them are the state: chunks were left behind", len(list.Items), named)
	}
	for _, secret := range list.Items {
		for _, data := range secret.Data {
			if plain, err := unpack(data); err == nil && bytes.Contains(plain, []byte("hunter2")) || bytes.Contains(data, []byte("hunter2")) {
				t.Errorf("%s holds a secret in the clear", secret.Name)
			}
		}
	}
}

func TestTwoAtOnce(t *testing.T) {
	place := kubetest.Namespace(t)
	o := Options{Namespace: place.Namespace, Name: "shop", Holder: "ann", Operation: "apply", Duration: 3 * time.Second}
	first := open(t, place.Config, o)
	o.Holder = "bob"
	_, err := Open(t.Context(), place.Config, o)
	var locked *LockedError
	if !errors.As(err, &locked) || !strings.HasPrefix(locked.Holder, "ann ") || locked.Operation != "apply" || locked.Since.IsZero() {
		t.Fatalf("the second was not refused with the holder's name: %v", err)
	}
	time.AfterFunc(300*time.Millisecond, func() { _ = first.Close() })
	o.Wait = 20 * time.Second
	second := open(t, place.Config, o)
	if second.Fence() <= 1 {
		t.Errorf("token %d", second.Fence())
	}
	if holder, err := Unlock(t.Context(), place.Config, place.Namespace, "shop", false); err != nil || holder == nil || !strings.HasPrefix(holder.Holder, "bob ") {
		t.Errorf("unlock says %v, %v", holder, err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if holder, err := Unlock(t.Context(), place.Config, place.Namespace, "shop", true); err != nil || holder != nil {
		t.Errorf("unlock of a free state says %v, %v", holder, err)
	}
}

// TestALostLockStopsItsHolder cuts a holder off from the server while an operation runs. Another takes over and reads back what was in
// flight. The first begins nothing more, and cannot write even when it is connected again.
func TestALostLockStopsItsHolder(t *testing.T) {
	place := kubetest.Namespace(t)
	var cut sync.Map
	cfg := rest.CopyConfig(place.Config)
	cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if _, is := cut.Load("leases"); is && strings.Contains(r.URL.Path, "/leases/") {
				return nil, errors.New("the network is down")
			}
			return rt.RoundTrip(r)
		})
	})
	o := Options{Namespace: place.Namespace, Name: "shop", Holder: "ann", Operation: "apply", Duration: 2 * time.Second}
	first := open(t, cfg, o)
	d := newStore()
	d.block, d.begun = make(chan struct{}), make(chan struct{})
	a := engine.Resource{ID: "a", Type: "thing", Inputs: tree{"value": "1"}}
	b := engine.Resource{ID: "b", Type: "thing", Inputs: tree{"value": "1"}, DependsOn: []engine.ID{"a"}}
	ended := make(chan error, 1)
	go func() { ended <- apply(first.State, d, a, b) }()
	<-d.begun
	cut.Store("leases", true)
	select {
	case <-first.Lost():
	case <-time.After(10 * time.Second):
		t.Fatal("a lock that cannot be renewed is not taken for lost")
	}
	o.Holder = "bob"
	second := open(t, place.Config, o)
	defer second.Close()
	if p := second.State.Pending()["a"]; p == nil || p.Action != engine.Create {
		t.Fatalf("the next holder does not know what was in flight: %v", second.State.Pending())
	}
	cut.Delete("leases")
	d.mu.Lock()
	close(d.block)
	d.block = nil
	d.mu.Unlock()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "lost") {
		t.Errorf("the first holder's run ended with %v", err)
	}
	if len(d.made) != 1 {
		t.Errorf("made %v: the first holder began another operation", d.made)
	}
	// Even a holder that knows nothing of its loss cannot write.
	first.lease.lost = make(chan struct{})
	first.broken = nil
	if _, err := first.Append([]byte(`{"op":"end","id":"x","action":"forget"}`)); !errors.Is(err, errChanged) {
		t.Errorf("a former holder wrote: %v", err)
	}
	if err := apply(second.State, d, a, b); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(d.made) != "[a b]" {
		t.Errorf("made %v, want each once", d.made)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestKills stops the writer at each point of its writes; the next run has to go on from there.
func TestKills(t *testing.T) {
	place := kubetest.Namespace(t)
	d := newStore()
	for point := 1; ; point++ {
		o := Options{Namespace: place.Namespace, Name: fmt.Sprint("kill-", point), Holder: "me", Operation: "apply", Duration: time.Second}
		n := 0
		o.Crash = func(string) {
			if n++; n == point {
				panic("killed")
			}
		}
		d.things, d.made = map[engine.ID]tree{}, nil
		killed := func() (killed bool) {
			defer func() { killed = recover() != nil }()
			s := open(t, place.Config, o)
			for _, record := range []string{`{"op":"end","id":"x","action":"create","record":{"id":"x","type":"thing"}}`, `{"op":"end","id":"x","action":"delete"}`} {
				if _, err := s.Append([]byte(record)); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.State.Compact(true); err != nil {
				t.Fatal(err)
			}
			s.lease.stop()
			return false
		}()
		if _, err := Unlock(t.Context(), place.Config, place.Namespace, o.Name, true); err != nil {
			t.Fatal(err)
		}
		o.Crash = nil
		s := open(t, place.Config, o)
		set := things(3, "x")
		for i := range set {
			delete(set[i].Inputs, "secret")
		}
		if err := apply(s.State, d, set...); err != nil {
			t.Errorf("after a kill at point %d: %v", point, err)
		}
		if err := errors.Join(s.State.Compact(true), s.Close()); err != nil {
			t.Fatal(err)
		}
		if !killed {
			if point < 6 {
				t.Errorf("only %d points", point)
			}
			return
		}
	}
}

func TestServerThatFails(t *testing.T) {
	place := kubetest.Namespace(t)
	var n int
	var mu sync.Mutex
	cfg := rest.CopyConfig(place.Config)
	cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			n++
			turn := n
			mu.Unlock()
			switch turn % 5 {
			case 1:
				return answer(r, http.StatusTooManyRequests), nil
			case 3: // done, and the answer lost
				if resp, err := rt.RoundTrip(r); err == nil {
					resp.Body.Close()
				}
				return answer(r, http.StatusServiceUnavailable), nil
			}
			return rt.RoundTrip(r)
		})
	})
	o := Options{Namespace: place.Namespace, Name: "shop", Holder: "me", Operation: "apply", Duration: time.Minute}
	s := open(t, cfg, o)
	d := newStore()
	set := things(5, "x")
	for i := range set {
		delete(set[i].Inputs, "secret")
	}
	if err := apply(s.State, d, set...); err != nil {
		t.Fatal(err)
	}
	if err := s.State.Compact(true); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Logf("the lock ends by itself: %v", err)
		if _, err := Unlock(t.Context(), place.Config, place.Namespace, "shop", true); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, place.Config, o)
	defer s.Close()
	if len(s.State.Records()) != 5 {
		t.Errorf("%d records", len(s.State.Records()))
	}
}

func answer(r *http.Request, code int) *http.Response {
	body := fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","message":"try again","reason":%q,"code":%d}`, http.StatusText(code), code)
	return &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}}, Body: readCloser{strings.NewReader(body)}, Request: r}
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

func TestForeignAndNewerStates(t *testing.T) {
	place := kubetest.Namespace(t)
	secrets := place.Clients.CoreV1().Secrets(place.Namespace)
	o := Options{Namespace: place.Namespace, Name: "shop", Holder: "me", Operation: "apply"}
	s := open(t, place.Config, o)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for patch, want := range map[string]string{
		`{"stringData":{"head":"{\"version\":9}"}}`:                        "use a newer weft",
		`{"stringData":{"head":"nonsense"}}`:                               "it is damaged",
		`{"stringData":{"head":"{\"version\":1,\"last\":7,\"fence\":3}"}}`: "it is damaged",
	} {
		if _, err := secrets.Patch(t.Context(), "weft-state-shop", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), place.Config, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", patch, err)
		}
	}
}
