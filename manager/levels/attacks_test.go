package levels

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/attack"
	"github.com/weft-dev/weft/level/feed"
)

// bound is how long the API server of this test lets a watch be open, at least.
const bound = 6 * time.Second

const enforcing = `{apiVersion: level.weft.dev/v1alpha1, kind: Registry, metadata: {name: cluster}, spec: {levels: [{name: base}, {name: low}, {name: high}, {name: top}], exempt: [weft-admin], doors: {webhook: Enforce, admission: Enforce}}}`

// TestAttacks tries the catalogue of attacks against an API server that asks the webhook about requests and about what is written; its own door is open.
func TestAttacks(t *testing.T) {
	p := newPlace(t)
	p.flags = []string{fmt.Sprintf("--apiserver-arg=--min-request-timeout=%d", bound/time.Second)}
	p.startCluster()
	stop := p.startWebhook()
	p.Install()
	stage, err := attack.NewStage(p.Config, "low", "high")
	if err != nil {
		t.Fatal(err)
	}
	p.Eventually("the webhook answers", func() string { return p.reads("alice", "default") }, "forbidden")
	if err := stage.Prepare(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	p.register()
	p.Apply("registries", enforcing)
	objects, err := feed.Objects(t.Context(), p.Config)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := level.Load(objects)
	if err != nil {
		t.Fatal(err)
	}
	runner := &attack.Runner{Mode: attack.Webhook, Stage: stage, Bound: bound, Model: loaded.Model, Records: attack.ChainRecords(filepath.Join(p.dir, "audit.jsonl")),
		Fail: func(context.Context) (func(context.Context) error, error) {
			stop()
			return func(context.Context) error { p.startWebhook(); return nil }, nil
		}}
	if err := runner.Await(t.Context()); err != nil {
		t.Fatal(err)
	}
	all, err := runner.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		if !r.OK() {
			t.Errorf("%d %s: %s: expected %s, seen %s: %s", r.Number, r.Title, r.Attempt, r.Expected, r.Seen, r.Cause)
		}
		if r.Number != 45 && r.Seen == attack.Denied && r.Record == "" {
			t.Errorf("%d %s: %s: nothing was written down", r.Number, r.Title, r.Attempt)
		}
	}
	if os.Getenv("UPDATE") != "" {
		data, err := json.MarshalIndent(all, "", " ")
		if err == nil {
			err = os.WriteFile(filepath.Join("..", "..", "level", "attack", "testdata", "seen", string(attack.Webhook)+".json"), append(data, '\n'), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
