package level

import (
	"math/rand/v2"
	"strings"
	"testing"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
)

func randomLabel(r *rand.Rand) Label {
	l := Label{Rank: uint16(r.IntN(4))}
	for i := range l.Categories { // few bits, at the ends, so that labels often compare
		l.Categories[i] = uint64(r.IntN(4)) << (62 * (i % 2))
	}
	return l
}

// Labels are a lattice: an order with least upper and greatest lower bounds.
func TestLabelsAreALattice(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		a, b, c := randomLabel(r), randomLabel(r), randomLabel(r)
		if r.IntN(3) == 0 {
			b = a.Join(b)
		}
		if r.IntN(3) == 0 {
			c = b.Join(c)
		}
		join, meet := a.Join(b), a.Meet(b)
		for name, ok := range map[string]bool{
			"reflexive":            a.Dominates(a),
			"antisymmetric":        !(a.Dominates(b) && b.Dominates(a)) || a == b,
			"transitive":           !(a.Dominates(b) && b.Dominates(c)) || a.Dominates(c),
			"join is above":        join.Dominates(a) && join.Dominates(b),
			"meet is below":        a.Dominates(meet) && b.Dominates(meet),
			"join is least":        !(c.Dominates(a) && c.Dominates(b)) || c.Dominates(join),
			"meet is greatest":     !(a.Dominates(c) && b.Dominates(c)) || meet.Dominates(c),
			"commutative":          join == b.Join(a) && meet == b.Meet(a),
			"associative":          a.Join(b.Join(c)) == join.Join(c) && a.Meet(b.Meet(c)) == meet.Meet(c),
			"absorption":           a.Join(meet) == a && a.Meet(join) == a,
			"dominance is by join": a.Dominates(b) == (join == a),
		} {
			if !ok {
				t.Fatalf("%s: %v %v %v", name, a, b, c)
			}
		}
	}
}

// What a low clearance may do in mode Authority, a higher one may too; what it may read in mode Confidentiality as well; and in the modes
// with two directions nothing flows from high to low by a read and a create of one subject.
func TestModes(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, mode := range []api.Mode{api.Authority, api.Confidentiality, api.Integrity} {
		categories := make([]api.Mode, MaxCategories)
		for i := range categories {
			categories[i] = mode
		}
		normal, trusted := demands(mode, categories)
		for range 20_000 {
			s, from, to := randomLabel(r), randomLabel(r), randomLabel(r)
			source, target := exactly(from), exactly(to)
			may := func(a Access, l Label, b Bounds) bool { return normal[a].check(&l, &b) == none }
			if may(Change, s, source) != (may(Read, s, source) && may(Create, s, source)) {
				t.Fatalf("%s: a change is a read and a create: %v %v", mode, s, from)
			}
			for a := Read; a <= Change; a++ {
				if may(a, s, source) && trusted[a].check(&s, &source) != none {
					t.Fatalf("%s: trust took away: %v %v", mode, s, from)
				}
				wide := exactly(from).with(to)
				if may(a, s, wide) && !(may(a, s, source) && may(a, s, target)) {
					t.Fatalf("%s: several objects are easier than one of them: %v %v %v", mode, s, from, to)
				}
			}
			switch mode {
			case api.Authority:
				if may(Change, s, source) != s.Dominates(from) {
					t.Fatalf("authority: %v %v", s, from)
				}
				if higher := s.Join(to); may(Change, s, source) && !may(Change, higher, source) {
					t.Fatalf("a higher clearance may less: %v %v %v", s, higher, from)
				}
			case api.Confidentiality:
				if may(Read, s, source) && may(Create, s, target) && !to.Dominates(from) {
					t.Fatalf("flows down: %v read %v wrote %v", s, from, to)
				}
			case api.Integrity:
				if may(Read, s, source) && may(Create, s, target) && !from.Dominates(to) {
					t.Fatalf("flows up: %v read %v wrote %v", s, from, to)
				}
			}
		}
	}
}

func testRegistry(t testing.TB) *Registry {
	t.Helper()
	r, err := NewRegistry(api.RegistrySpec{
		Levels:     []api.Level{{Name: "public"}, {Name: "internal", Aliases: []string{"1.5", "2"}}, {Name: "secret", Aliases: []string{"3"}}},
		Categories: []api.Category{{Name: "finance"}, {Name: "hr"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestParse(t *testing.T) {
	r := testRegistry(t)
	for text, want := range map[string]string{"secret": "secret", "secret.hr.finance": "secret.finance.hr", "1.5": "internal", "1.5.hr": "internal.hr", "3.finance": "secret.finance"} {
		l, err := r.Parse(text)
		if err != nil || r.Format(l) != want {
			t.Errorf("%q is %q, not %q: %v", text, r.Format(l), want, err)
		}
	}
	for text, want := range map[string]string{
		"": "names no level", "top": "there are public, internal, secret", "secret.": `no category ""`, "secret..hr": `no category ""`, "secret.law": `no category "law"`,
		".hr": "names no level", "1": "names no level", "Secret": "names no level", strings.Repeat("a", 2000): "2000 bytes",
	} {
		if _, err := r.Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, not %q", text, err, want)
		}
	}
}

// A level put between two others changes no label of an object and turns round no answer between the others.
func TestInsertedLevel(t *testing.T) {
	spec := testRegistry(t).Spec()
	old, _ := NewRegistry(spec)
	spec.Levels = append(append([]api.Level{spec.Levels[0]}, api.Level{Name: "partner"}), spec.Levels[1:]...)
	grown, err := NewRegistry(spec)
	if err != nil {
		t.Fatal(err)
	}
	labels := []string{"public", "internal.hr", "secret", "secret.finance", "1.5"}
	for _, a := range labels {
		for _, b := range labels {
			one, _ := old.Parse(a)
			two, _ := old.Parse(b)
			three, _ := grown.Parse(a)
			four, _ := grown.Parse(b)
			if one.Dominates(two) != three.Dominates(four) {
				t.Errorf("%s and %s compare otherwise now", a, b)
			}
		}
	}
}

func TestRegistryFaults(t *testing.T) {
	for want, spec := range map[string]api.RegistrySpec{
		"spec.levels: there is no level":                  {},
		`spec.levels[1].name: "a" is there twice`:         {Levels: []api.Level{{Name: "a"}, {Name: "a"}}},
		`spec.levels[1].aliases[0]: "a" is there`:         {Levels: []api.Level{{Name: "a"}, {Name: "b", Aliases: []string{"a"}}}},
		`spec.levels[1]: "a.c" would also mean`:           {Levels: []api.Level{{Name: "a"}, {Name: "a.c"}}, Categories: []api.Category{{Name: "c"}}},
		`spec.levels[1]: "a.c.d" would also me`:           {Levels: []api.Level{{Name: "a"}, {Name: "b", Aliases: []string{"a.c.d"}}}, Categories: []api.Category{{Name: "c"}, {Name: "d"}}},
		`spec.levels[0].name: "A" cannot`:                 {Levels: []api.Level{{Name: "A"}}},
		`spec.categories[0].name: "x.y" cannot`:           {Levels: []api.Level{{Name: "a"}}, Categories: []api.Category{{Name: "x.y"}}},
		"spec.categories: 257 categories":                 {Levels: []api.Level{{Name: "a"}}, Categories: make([]api.Category, 257)},
		"spec.levels: 1025 levels":                        {Levels: make([]api.Level, 1025)},
		`spec.mode: there is no mode "Biba"`:              {Levels: []api.Level{{Name: "a"}}, Mode: "Biba"},
		`spec.defaults.namespace: "b" names no level`:     {Levels: []api.Level{{Name: "a"}}, Defaults: api.Defaults{Namespace: "b"}},
		"spec.defaults.namespace: strict puts":            {Levels: []api.Level{{Name: "a"}}, Defaults: api.Defaults{Namespace: "a", Strict: true}},
		`spec.doors.authorizer: "Block" is not known`:     {Levels: []api.Level{{Name: "a"}}, Doors: api.Doors{Authorizer: "Block"}},
		`spec.groups: "Max" is not known`:                 {Levels: []api.Level{{Name: "a"}}, Groups: "Max"},
		`spec.categories[0].mode: there is no mode "Mad"`: {Levels: []api.Level{{Name: "a"}}, Categories: []api.Category{{Name: "c", Mode: "Mad"}}},
	} {
		if _, err := NewRegistry(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, not %q", err, want)
		}
	}
}

// Whatever is parsed is written in a form that is parsed as the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"secret.hr.finance", "1.5.hr", "public", "3", "", ".", "secret..", "internal.hr.hr"} {
		f.Add(s)
	}
	r := testRegistry(f)
	f.Fuzz(func(t *testing.T, text string) {
		l, err := r.Parse(text)
		if err != nil {
			return
		}
		again, err := r.Parse(r.Format(l))
		if err != nil || again != l {
			t.Fatalf("%q is %v, written %q, read %v: %v", text, l, r.Format(l), again, err)
		}
		if !r.top.Dominates(l) {
			t.Fatalf("%q is above the top", text)
		}
	})
}
