package levels

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/door"
	"github.com/weft-dev/weft/level/feed"
	"github.com/weft-dev/weft/manager/webhook"
)

// testDoor is a door over a snapshot.
func testDoor(t testing.TB, setting api.DoorSetting) *door.Door {
	t.Helper()
	r, err := level.NewRegistry(api.RegistrySpec{Levels: []api.Level{{Name: "low"}, {Name: "high"}}})
	if err != nil {
		t.Fatal(err)
	}
	high := level.Label{Rank: 1}
	s := &feed.State{Known: true, Doors: api.Doors{Webhook: setting}, Snapshot: level.NewSnapshot(&level.Model{Registry: r, Namespaces: []level.Namespace{{Name: "upper", Label: &high}}}, time.Now())}
	return &door.Door{Kind: door.Webhook, State: func() *feed.State { return s }}
}

func review(user, namespace string) []byte {
	return fmt.Appendf(nil, `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":%q,"groups":["system:authenticated"],"resourceAttributes":{"verb":"get","version":"v1","resource":"secrets","namespace":%q,"name":"x"}}}`, user, namespace)
}

func TestReviews(t *testing.T) {
	for _, c := range []struct {
		setting api.DoorSetting
		body    string
		want    string
	}{
		{api.Enforce, string(review("alice", "upper")), `"denied":true`},
		{api.Enforce, string(review("alice", "other")), `"status":{"allowed":false}`},
		{api.Audit, string(review("alice", "upper")), `"status":{"allowed":false}`},
		{api.Enforce, `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":"alice","nonResourceAttributes":{"verb":"get","path":"/healthz"}}}`, `"status":{"allowed":false}`},
		{api.Enforce, `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":"alice","resourceAttributes":{"verb":"get","namespace":"upper"}}}`, `"denied":true`},
		{api.Enforce, `x`, `no JSON`},
		{api.Enforce, `{} {}`, `more than one`},
		{api.Enforce, `{"apiVersion":"authorization.k8s.io/v1beta1","kind":"SubjectAccessReview"}`, `apiVersion: is "authorization.k8s.io/v1beta1", expected authorization.k8s.io/v1`},
		{api.Enforce, `{"apiVersion":"authorization.k8s.io/v1","kind":"TokenReview"}`, `kind: is "TokenReview"`},
		{api.Enforce, `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":7}}`, `spec.user: is number, expected string`},
		{api.Enforce, `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{}}`, `neither resourceAttributes nor`},
		{api.Enforce, `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"resourceAttributes":{},"nonResourceAttributes":{}}}`, `both`},
		{api.Enforce, `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"resourceAttributes":{},"groups":["g"` + strings.Repeat(`,"g"`, maxGroups) + `]}}`, `at most 10000`},
	} {
		got := ""
		if answer, err := (Authorize{testDoor(t, c.setting)}).Review(t.Context(), []byte(c.body)); err != nil {
			got = err.Error()
		} else if text, err := json.Marshal(answer); err != nil {
			t.Fatal(err)
		} else {
			got = string(text)
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%.200s: got %s, want %s", c.body, got, c.want)
		}
	}
}

func FuzzReview(f *testing.F) {
	f.Add(review("alice", "upper"))
	f.Add([]byte(`{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":"u","groups":null,"extra":{"a":["b"]},"resourceAttributes":{"verb":"*","resource":"*","group":"*"}}}`))
	d := testDoor(f, api.Enforce)
	f.Fuzz(func(t *testing.T, body []byte) {
		answer, err := Authorize{d}.Review(t.Context(), body)
		if err != nil {
			return
		}
		text, err := json.Marshal(answer)
		if err != nil || strings.Contains(string(text), `"allowed":true`) {
			t.Errorf("%s %v", text, err)
		}
	})
}

func BenchmarkReview(b *testing.B) {
	a, body := Authorize{testDoor(b, api.Enforce)}, review("alice", "other")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Review(b.Context(), body); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkServed is a whole question of an API server over TLS on loopback; p99 is in milliseconds.
func BenchmarkServed(b *testing.B) {
	authority := &webhook.Authority{Keeper: webhook.FileKeeper(filepath.Join(b.TempDir(), "authority.json"))}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error, 1)
	server := webhook.Server{Authority: authority, Hosts: []string{"127.0.0.1"}, Paths: map[string]webhook.Path{Path: {Handler: Authorize{testDoor(b, api.Enforce)}, Client: true}}}
	go func() { done <- server.Serve(ctx, l) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}()
	bundle, err := authority.Bundle(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	certificate, key, err := authority.Client(b.Context(), "apiserver")
	if err != nil {
		b.Fatal(err)
	}
	client, err := rest.HTTPClientFor(&rest.Config{TLSClientConfig: rest.TLSClientConfig{CAData: bundle, CertData: certificate, KeyData: key}})
	if err != nil {
		b.Fatal(err)
	}
	body, url := review("alice", "other"), "https://"+l.Addr().String()+Path
	var times []time.Duration
	for b.Loop() {
		start := time.Now()
		response, err := client.Post(url, "application/json", bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK {
			b.Fatal(response.Status, err)
		}
		_ = response.Body.Close()
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)*99/100])/1e6, "p99-ms")
}
