package door

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/chain"
	"github.com/weft-dev/weft/level/feed"
	"github.com/weft-dev/weft/level/reference"
)

// What is found about a write is in the door's report and in its chain, field by field; a flood of fields is cut off.
func TestWritesAreRemembered(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.jsonl")
	records, err := chain.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := level.NewRegistry(api.RegistrySpec{Levels: []api.Level{{Name: "low"}, {Name: "high"}}})
	if err != nil {
		t.Fatal(err)
	}
	state := &feed.State{Known: true, Doors: api.Doors{Admission: api.Enforce}, Snapshot: level.NewSnapshot(&level.Model{Registry: r}, time.Now())}
	d := &Door{Kind: Admission, State: func() *feed.State { return state }, Chain: records}
	write := level.Request{Verb: "create", Resource: "pods", Namespace: "low", Name: "p"}
	secret := reference.Finding{Field: "spec.volumes[0].secret.secretName", Cause: level.LevelTooLow, Message: "levels: no"}
	d.RememberWrite("lois", nil, write, []reference.Finding{secret, {Field: "spec.nodeName", Cause: level.LevelTooLow}}, true)
	d.RememberWrite("lois", nil, write, []reference.Finding{secret}, true)
	many := make([]reference.Finding, 100)
	for i := range many {
		many[i] = reference.Finding{Field: "spec.x", Cause: level.Cause(string(rune('A' + i)))}
	}
	d.RememberWrite("max", nil, write, many, false)
	counts := map[string]int64{}
	for _, x := range d.Report().Denied {
		counts[x.User+" "+x.Field] += x.Count
	}
	if d.Report().Setting != api.Enforce || counts["lois spec.volumes[0].secret.secretName"] != 2 || counts["lois spec.nodeName"] != 1 || counts["max spec.x"] != mostFindings {
		t.Errorf("the report says %v, setting %s", counts, d.Report().Setting)
	}
	if err := records.Close(); err != nil {
		t.Fatal(err)
	}
	events := map[string]int{}
	if _, err := chain.Verify(file, func(r chain.Record) { events[r.Event+" "+r.Door+" "+r.Detail]++ }); err != nil {
		t.Fatal(err)
	}
	if events["Denied Admission spec.volumes[0].secret.secretName"] != 2 || events["WouldDeny Admission spec.x"] != mostFindings {
		t.Errorf("the chain says %v", events)
	}
}

// A door that lost its watch says so, and what is lost; one that was opened says that.
func TestADoorTellsHowItIs(t *testing.T) {
	state := &feed.State{Known: true, Stale: true, Problems: []string{"the watch of namespaces is lost"}}
	d := &Door{Kind: Webhook, State: func() *feed.State { return state }}
	if r := d.Report(); r.State != api.DoorStale || len(r.Problems) != 1 {
		t.Errorf("with a lost watch: %+v", r)
	}
	if v := d.Judge("lois", nil, &level.Request{Verb: "get", Resource: "secrets", Namespace: "low", Name: "s"}); !v.Against {
		t.Error("a Registry that cannot be read is no reason to let anybody in")
	}
	d.SetOff(true)
	if r := d.Report(); r.State != api.DoorOff {
		t.Errorf("opened: %s", r.State)
	}
}

// While nothing is known of levels a door lets nobody in but the components of the cluster, whatever it is set to; where there are none it stands open.
func TestADoorThatKnowsNothingIsClosed(t *testing.T) {
	state := &feed.State{}
	d := &Door{Kind: Authorizer, State: func() *feed.State { return state }}
	get := &level.Request{Verb: "get", Resource: "secrets", Namespace: "low", Name: "s"}
	for user, groups := range map[string][]string{"lois": nil, "system:node:n": nil, "system:serviceaccount:low:default": {"system:serviceaccounts"}} {
		if v := d.Judge(user, groups, get); !v.Denied || v.Cause != NotKnown || v.Message == "" {
			t.Errorf("%s: %+v", user, v)
		}
	}
	for user, groups := range map[string][]string{"system:kube-scheduler": nil, "system:node:n": {"system:nodes"}, "system:serviceaccount:kube-system:x": nil, "root": {"system:masters"}} {
		if v := d.Judge(user, groups, get); v.Against {
			t.Errorf("%s: %+v", user, v)
		}
	}
	if v := d.Judge("lois", nil, &level.Request{Verb: "get", Path: "/healthz"}); v.Against {
		t.Errorf("a request about no object: %+v", v)
	}
	state = &feed.State{Known: true}
	if v := d.Judge("lois", nil, get); v.Against {
		t.Errorf("where there are no levels: %+v", v)
	}
}

// What a door tells of is what levels are against now: who was cleared since, or what was lowered, is told of no more.
func TestWhatIsMendedIsForgotten(t *testing.T) {
	r, err := level.NewRegistry(api.RegistrySpec{Levels: []api.Level{{Name: "low"}, {Name: "high"}}})
	if err != nil {
		t.Fatal(err)
	}
	high := level.Label{Rank: 1}
	m := &level.Model{Registry: r, Namespaces: []level.Namespace{{Name: "vault", Label: &high}}}
	state := &feed.State{Known: true, Snapshot: level.NewSnapshot(m, time.Now())}
	d := &Door{Kind: Authorizer, State: func() *feed.State { return state }}
	write := level.Request{Verb: "create", Resource: "pods", Namespace: "vault", Name: "p"}
	for _, user := range []string{"lois", "max"} {
		d.Remember(user, []string{"ops"}, &write, d.Judge(user, []string{"ops"}, &write))
	}
	d.RememberWrite("lois", nil, write, []reference.Finding{{Field: "spec.nodeName", Cause: level.LevelTooLow}}, false)
	told := func() (all []string) {
		for _, x := range d.Report().Denied {
			all = append(all, x.User+x.Field)
		}
		slices.Sort(all)
		return all
	}
	if got := told(); !slices.Equal(got, []string{"lois", "loisspec.nodeName", "max"}) {
		t.Errorf("before: %v", got)
	}
	m.Grants = []level.Grant{{Subject: level.SubjectName{Kind: level.User, Name: "lois"}, Label: high}}
	state = &feed.State{Known: true, Snapshot: level.NewSnapshot(m, time.Now())}
	if got := told(); !slices.Equal(got, []string{"loisspec.nodeName", "max"}) {
		t.Errorf("after lois was cleared: %v", got)
	}
	m.Grants = []level.Grant{{Subject: level.SubjectName{Kind: level.UserGroup, Name: "ops"}, Label: high}}
	state = &feed.State{Known: true, Snapshot: level.NewSnapshot(m, time.Now())}
	if got := told(); !slices.Equal(got, []string{"loisspec.nodeName"}) {
		t.Errorf("after their group was cleared: %v", got)
	}
}
