package lifecycle

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/weft-dev/weft/buildpack/spec"
)

func TestPlanResolution(t *testing.T) {
	// Each buildpack is NAME[?] followed by alternatives separated by |; +x provides x, -x requires x.
	tests := []struct {
		name  string
		group []string
		want  string // the buildpacks that stay, "" if the group fails
	}{
		{"nothing asked", []string{"a", "b"}, "a b"},
		{"provided before required", []string{"a +x", "b -x"}, "a b"},
		{"required before provided", []string{"a -x", "b +x"}, ""},
		{"by itself", []string{"a +x -x"}, "a"},
		{"unused", []string{"a +x", "b"}, ""},
		{"unused but optional", []string{"a? +x", "b"}, "b"},
		{"unmet but optional", []string{"a? -x", "b"}, "b"},
		{"dropping one leads to another", []string{"a? +x", "b? -x -y", "c"}, "c"},
		{"second alternative", []string{"a +x|+y", "b -y"}, "a b"},
		{"alternatives of both", []string{"a +x|+y", "b -z|-y"}, "a b"},
		{"only the last alternative may be dropped", []string{"a? +x|+y", "b"}, "b"},
		{"all dropped", []string{"a? +x"}, ""},
		{"two providers", []string{"a +x", "b +x", "c -x"}, "a b c"},
		{"provided after the last requirer", []string{"a +x", "b -x", "c +x"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := solver{logger: Silent{}}
			options, _, ok := s.solve(candidates(tt.group), nil)
			if got := ids(options); ok != (tt.want != "") || got != tt.want {
				t.Errorf("got %q (%v), want %q", got, ok, tt.want)
			}
		})
	}
}

func candidates(group []string) []candidate {
	var out []candidate
	for _, text := range group {
		id, plans, _ := strings.Cut(text, " ")
		id, optional := strings.CutSuffix(id, "?")
		c := candidate{element: spec.Element{ID: id, Version: "1", Optional: optional}}
		for alternative := range strings.SplitSeq(plans, "|") {
			var s spec.PlanSections
			for _, item := range strings.Fields(alternative) {
				if name, ok := strings.CutPrefix(item, "+"); ok {
					s.Provides = append(s.Provides, spec.Provide{Name: name})
				} else {
					s.Requires = append(s.Requires, spec.Require{Name: item[1:]})
				}
			}
			c.plans = append(c.plans, s)
		}
		out = append(out, c)
	}
	return out
}

func ids(options []option) string {
	var out []string
	for _, o := range options {
		out = append(out, o.element.ID)
	}
	return strings.Join(out, " ")
}

// TestResolvedPlansHold checks on random groups what every plan promises: necessary buildpacks stay, all that is required is provided by
// somebody at or before the one who requires it, and nothing is provided in vain.
func TestResolvedPlansHold(t *testing.T) {
	solved := 0
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		var group []string
		for i := range 1 + r.IntN(5) {
			text := fmt.Sprintf("b%d", i)
			if r.IntN(2) == 0 {
				text += "?"
			}
			for a := range 1 + r.IntN(2) {
				if a > 0 {
					text += "|"
				} else {
					text += " "
				}
				for range r.IntN(3) {
					text += string("+-"[r.IntN(2)]) + string("xyz"[r.IntN(3)]) + " "
				}
			}
			group = append(group, text)
		}
		s := solver{logger: Silent{}}
		options, plan, ok := s.solve(candidates(group), nil)
		if !ok {
			continue
		}
		solved++
		for _, c := range candidates(group) {
			if !c.element.Optional && !slices.ContainsFunc(options, func(o option) bool { return o.element.ID == c.element.ID }) {
				t.Errorf("%q: %s is gone", group, c.element.ID)
			}
		}
		provided, used := map[string]bool{}, map[string]bool{}
		for _, o := range options {
			for _, p := range o.Provides {
				provided[p.Name] = true
			}
			for _, q := range o.Requires {
				used[q.Name] = true
				if !provided[q.Name] {
					t.Errorf("%q: %s requires %s, which nobody before provides", group, o.element.ID, q.Name)
				}
			}
		}
		for name := range provided {
			if !used[name] {
				t.Errorf("%q: %s is provided in vain", group, name)
			}
		}
		if len(plan.Entries) != len(provided) {
			t.Errorf("%q: the plan has %d entries for %d names", group, len(plan.Entries), len(provided))
		}
	}
	if solved < 300 {
		t.Errorf("only %d groups were solvable: the test tests little", solved)
	}
}
