package regrade

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
)

func registry(t testing.TB, mode api.Mode) *level.Registry {
	t.Helper()
	r, err := level.NewRegistry(api.RegistrySpec{Levels: []api.Level{{Name: "low"}, {Name: "middle"}, {Name: "high"}}, Categories: []api.Category{{Name: "a"}, {Name: "b"}}, Mode: mode})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func labelled(text string) map[string]string {
	if text == "" {
		return map[string]string{}
	}
	return map[string]string{api.LevelLabel: text}
}

func workspace(name, label string) Thing {
	return Thing{Group: api.Group, Version: api.Version, Kind: "Workspace", Resource: "workspaces", Name: name, Labels: labelled(label)}
}

func namespace(name, in, label string) Thing {
	t := Thing{Version: "v1", Kind: "Namespace", Resource: "namespaces", Name: name, Labels: labelled(label)}
	if in != "" {
		t.Labels[api.WorkspaceLabel] = in
	}
	return t
}

func secret(in, name, label string) Thing {
	return Thing{Version: "v1", Kind: "Secret", Resource: "secrets", Namespace: in, Name: name, Labels: labelled(label)}
}

func TestPlans(t *testing.T) {
	house := []Thing{workspace("w", "middle"), namespace("n", "w", "middle"), namespace("m", "w", "middle.a"), secret("n", "s", "middle"), secret("n", "t", ""), namespace("free", "", ""), workspace("bare", ""), namespace("o", "bare", "low")}
	house[2].Labels[api.LevelLabel] = "middle"
	for name, c := range map[string]struct {
		mode               api.Mode
		kind, in, name, to string
		want, wrong        string
	}{
		"up, with the workspace":                   {kind: "ns", name: "n", to: "high", want: "workspace w middle>high, namespace n middle>high"},
		"down, with what is in it":                 {kind: "Namespace", name: "n", to: "low", want: "secret n/s middle>low, namespace n middle>low"},
		"an object without a label":                {kind: "secrets", in: "n", name: "t", to: "high", want: "workspace w middle>high, namespace n middle>high, secret n/t middle>high"},
		"a workspace down, the lowest first":       {kind: "workspace", name: "w", to: "low", want: "secret n/s middle>low, namespace n middle>low, namespace m middle>low, workspace w middle>low"},
		"a workspace up alone":                     {kind: "workspace.level.weft.dev", name: "w", to: "high.a", want: "workspace w middle>high.a"},
		"sideways raises and lowers":               {kind: "namespace", name: "n", to: "low.a", want: "workspace w middle>middle.a, secret n/s middle>low, namespace n middle>low.a"},
		"without a label, from the default":        {kind: "namespace", name: "free", to: "middle", want: "namespace free low>middle"},
		"a workspace without a label binds nobody": {kind: "namespace", name: "o", to: "high", want: "namespace o low>high"},
		"objects may be above in other modes":      {mode: api.Confidentiality, kind: "namespace", name: "n", to: "low", want: "namespace n middle>low"},
		"as it is":                                 {kind: "namespace", name: "n", to: "middle", want: ""},
		"no such level":                            {kind: "namespace", name: "n", to: "lofty", wrong: "lofty"},
		"no such thing":                            {kind: "namespace", name: "x", to: "low", wrong: "there is no namespace x"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.mode == "" {
				c.mode = api.Authority
			}
			i, err := Find(house, c.kind, c.in, c.name)
			var p *Plan
			if err == nil {
				p, err = Make(registry(t, c.mode), house, i, c.to)
			}
			if err != nil || c.wrong != "" {
				if err == nil || c.wrong == "" || !strings.Contains(err.Error(), c.wrong) {
					t.Fatalf("%v, want %q", err, c.wrong)
				}
				return
			}
			var got []string
			for _, x := range p.Changes {
				got = append(got, x.Object+" "+x.From+">"+x.To)
				if x.Reason == "" {
					t.Errorf("%s has no reason", x.Object)
				}
			}
			if strings.Join(got, ", ") != c.want {
				t.Errorf("got  %s\nwant %s", strings.Join(got, ", "), c.want)
			}
		})
	}
}

func TestALabelThatCannotBeReadIsNamed(t *testing.T) {
	house := []Thing{workspace("w", "nonsense"), namespace("n", "w", "low")}
	if _, err := Make(registry(t, api.Authority), house, 1, "high"); err == nil || !strings.Contains(err.Error(), "workspace w") {
		t.Errorf("got %v", err)
	}
}

func TestBothNamesOfTheLabelAreChanged(t *testing.T) {
	n := namespace("n", "", "low")
	n.Labels[api.TalkLabel] = "low"
	p, err := Make(registry(t, api.Authority), []Thing{n}, 0, "high")
	if err != nil {
		t.Fatal(err)
	}
	if s := p.Steps(); len(s) != 2 || s[0].Key != api.LevelLabel || s[1].Key != api.TalkLabel || s[1].From != "low" || s[1].To != "high" {
		t.Errorf("steps %+v", s)
	}
}

// TestPlansAreSmallest tries random houses whose rules hold: after each single change of a plan they still do, and no change can be left out.
func TestPlansAreSmallest(t *testing.T) {
	r := registry(t, api.Authority)
	random := rand.New(rand.NewPCG(1, 2))
	labels := []string{"low", "middle", "high", "low.a", "middle.a", "high.a", "low.b", "high.a.b", "middle.a.b"}
	holds := func(all []Thing) bool {
		p := planner{registry: r, things: all, unlabelled: level.NewSnapshot(&level.Model{Registry: r}, time.Time{})}
		for i := range all {
			parent := p.parent(&all[i])
			if parent == nil {
				continue
			}
			up, _, errUp := p.level(parent)
			down, _, errDown := p.level(&all[i])
			if errUp != nil || errDown != nil || !up.Dominates(down) {
				return false
			}
		}
		return true
	}
	tried, changed := 0, 0
	for tried < 500 {
		all := []Thing{}
		pick := func() string { return labels[random.IntN(len(labels))] }
		all = append(all, workspace("w", pick()))
		for n := range 3 {
			all = append(all, namespace(fmt.Sprint("n", n), "w", pick()))
			all = append(all, secret(fmt.Sprint("n", n), "s", pick()))
		}
		all[0].Labels[api.LevelLabel] = "high.a.b"
		for i := 1; i < len(all); i += 2 {
			if !holds([]Thing{all[0], all[i], all[i+1]}) {
				all[i+1].Labels = labelled("")
			}
		}
		if !holds(all) {
			t.Fatal("the house is wrong to begin with")
		}
		tried++
		target, to := random.IntN(len(all)), pick()
		p, err := Make(r, all, target, to)
		if err != nil {
			t.Fatal(err)
		}
		set := func(into []Thing, c Change) {
			i, err := Find(into, c.Thing.Kind, c.Thing.Namespace, c.Thing.Name)
			if err != nil {
				t.Fatal(err)
			}
			relabelled := map[string]string{api.LevelLabel: c.To}
			if w := level.WorkspaceOf(into[i].Labels); w != "" {
				relabelled[api.WorkspaceLabel] = w
			}
			into[i].Labels = relabelled
		}
		step := append([]Thing{}, all...)
		for i, c := range p.Changes {
			set(step, c)
			if !holds(step) {
				t.Fatalf("after %d of %+v the rules do not hold", i+1, p.Changes)
			}
			if i == len(p.Changes)-1 {
				break // what was asked for
			}
			changed++
			without := append([]Thing{}, all...)
			for j, other := range p.Changes {
				if i != j {
					set(without, other)
				}
			}
			if holds(without) {
				t.Fatalf("%+v is not needed in %+v", c, p.Changes)
			}
		}
	}
	if changed < 100 {
		t.Errorf("only %d further changes were tried", changed)
	}
}
