package network

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weft-dev/weft/level"
)

// Annotations of namespaces, and of Workspaces for the isolation.
const (
	// DenyAnnotation is the black list: namespaces whose packets are refused, separated by commas; workspace:NAME stands for all of a workspace,
	// * for all others.
	DenyAnnotation = "level.weft.dev/network-deny"
	// AllowAnnotation is the white list, in the same form; level stands for all namespaces that are not below. With a white list all that is not on it
	// is refused.
	AllowAnnotation = "level.weft.dev/network-allow"
	// IsolateAnnotation set to enabled refuses packets of other namespaces, or of other workspaces if a workspace carries it (KubeSphere's name).
	IsolateAnnotation = "kubesphere.io/network-isolate"
)

// Rule says what decided about two namespaces. A rule stands before those that follow it.
type Rule string

// The rules, in the order in which they are asked.
const (
	Level     Rule = "Level"     // the sender's level may not reach the receiver's
	BlackList Rule = "BlackList" // the receiver refuses the sender
	WhiteList Rule = "WhiteList" // the receiver lets the sender in, by name or workspace
	LevelList Rule = "LevelList" // the receiver lets in whoever is not below
	Isolation Rule = "Isolation" // the receiver lets in nobody else
	Open      Rule = "Open"      // nothing refuses
)

// Order is the order of the rules.
var Order = []Rule{Level, BlackList, WhiteList, LevelList, Isolation, Open}

// Space is what a namespace says about its network.
type Space struct {
	Name, Workspace string
	Deny, Allow     []string
	Isolated        bool
}

// Rules are the rules of a cluster.
type Rules struct {
	snapshot *level.Snapshot
	spaces   map[string]Space
	isolated map[string]bool // workspaces
}

// Lists reads a list of an annotation.
func Lists(text string) []string {
	var all []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			all = append(all, part)
		}
	}
	return all
}

// NewRules takes what namespaces say, and the names of isolated workspaces.
func NewRules(s *level.Snapshot, spaces []Space, isolated []string) *Rules {
	r := &Rules{snapshot: s, spaces: map[string]Space{}, isolated: map[string]bool{}}
	for _, one := range spaces {
		if w := s.WorkspaceOf(one.Name); w != nil && one.Workspace == "" {
			one.Workspace = w.Name
		}
		r.spaces[one.Name] = one
	}
	for _, name := range isolated {
		r.isolated[name] = true
	}
	return r
}

// Names are the namespaces, in order.
func (r *Rules) Names() []string { return slices.Sorted(maps.Keys(r.spaces)) }

// Verdict says whether packets of one namespace may reach another, and why.
type Verdict struct {
	Allowed bool   `json:"allowed"`
	Rule    Rule   `json:"rule"`
	Reason  string `json:"reason"`
}

// Judge judges packets from one namespace to another.
func (r *Rules) Judge(from, to string) Verdict {
	a, b := r.space(from), r.space(to)
	if from == to {
		return Verdict{true, Open, "one namespace"}
	}
	if d := r.reach(from, to); d.Denied {
		f := r.snapshot.Registry().Format
		source, _ := r.snapshot.Namespace(from)
		target, _ := r.snapshot.Namespace(to)
		return Verdict{false, Level, fmt.Sprintf("%s is on %s, %s on %s (%s)", from, f(source), to, f(target), d.Cause)}
	}
	if on, entry := listed(b.Deny, a); on {
		return Verdict{false, BlackList, fmt.Sprintf("%s refuses %s", to, entry)}
	}
	if on, entry := listed(b.Allow, a); on {
		return Verdict{true, WhiteList, fmt.Sprintf("%s lets %s in", to, entry)}
	}
	if slices.Contains(b.Allow, "level") {
		return Verdict{true, LevelList, to + " lets in whoever is not below"}
	}
	switch {
	case len(b.Allow) > 0:
		return Verdict{false, Isolation, from + " is not on the white list of " + to}
	case b.Isolated:
		return Verdict{false, Isolation, to + " is isolated"}
	case b.Workspace != "" && r.isolated[b.Workspace] && a.Workspace != b.Workspace:
		return Verdict{false, Isolation, "the workspace " + b.Workspace + " is isolated"}
	}
	return Verdict{true, Open, "nothing refuses"}
}

func (r *Rules) space(name string) Space {
	if s, ok := r.spaces[name]; ok {
		return s
	}
	return Space{Name: name}
}

// reach asks the levels: whoever sends reaches for what is there. The system's namespaces send everywhere.
func (r *Rules) reach(from, to string) level.Decision {
	if _, system := r.snapshot.Registry().Unlabelled(from); system {
		return level.Decision{}
	}
	target, _ := r.snapshot.Namespace(to)
	return r.snapshot.Reach(r.snapshot.Holder(from, nil), level.Read, level.Exactly(target), level.NamespaceLabel)
}

func listed(list []string, s Space) (bool, string) {
	for _, entry := range list {
		if entry == s.Name || entry == "*" || s.Workspace != "" && entry == "workspace:"+s.Workspace {
			return true, entry
		}
	}
	return false, ""
}

// Finding is a rule that says nothing, or the opposite of another.
type Finding struct {
	Namespace  string `json:"namespace"`
	Annotation string `json:"annotation"`
	Entry      string `json:"entry"`
	Message    string `json:"message"`
}

// Findings are the contradictory, shadowed and empty rules.
func (r *Rules) Findings() []Finding {
	var all []Finding
	known := map[string]bool{"*": true, "level": true}
	for name, s := range r.spaces {
		known[name] = true
		if s.Workspace != "" {
			known["workspace:"+s.Workspace] = true
		}
	}
	for _, name := range r.Names() {
		s := r.spaces[name]
		find := func(annotation, entry, format string, args ...any) {
			all = append(all, Finding{name, annotation, entry, fmt.Sprintf(format, args...)})
		}
		for _, entry := range slices.Concat(s.Deny, s.Allow) {
			annotation := DenyAnnotation
			if !slices.Contains(s.Deny, entry) {
				annotation = AllowAnnotation
			}
			if !known[entry] {
				find(annotation, entry, "names nothing that is there: a namespace, workspace:NAME or *")
			}
		}
		for _, entry := range s.Allow {
			if slices.Contains(s.Deny, entry) {
				find(AllowAnnotation, entry, "contradicts %s, which holds", DenyAnnotation)
			}
		}
		for _, entry := range s.Deny {
			if entry == "level" {
				find(DenyAnnotation, entry, "levels are refused by themselves: remove it")
			}
			r.shadowed(s, entry, Level, func(others []string) {
				find(DenyAnnotation, entry, "refuses what levels refuse already: %s", strings.Join(others, ", "))
			})
		}
		for _, entry := range s.Allow {
			r.shadowed(s, entry, Level, func(others []string) {
				find(AllowAnnotation, entry, "lets nothing in: levels refuse %s", strings.Join(others, ", "))
			})
			if !slices.Contains(s.Deny, entry) {
				r.shadowed(s, entry, BlackList, func(others []string) {
					find(AllowAnnotation, entry, "lets nothing in: the black list refuses %s", strings.Join(others, ", "))
				})
			}
		}
	}
	return all
}

// shadowed tells the namespaces of an entry if the same rule decides about all of them, whatever the entry says.
func (r *Rules) shadowed(s Space, entry string, by Rule, tell func([]string)) {
	var others []string
	for _, other := range r.Names() {
		if on, _ := listed([]string{entry}, r.spaces[other]); !on || other == s.Name {
			continue
		}
		if v := r.Judge(other, s.Name); v.Rule != by {
			return
		}
		others = append(others, other)
	}
	if len(others) > 0 && entry != "level" {
		tell(others)
	}
}

// Pair is two namespaces about which two sets of rules differ.
type Pair struct {
	From   string  `json:"from"`
	To     string  `json:"to"`
	Before Verdict `json:"before"`
	After  Verdict `json:"after"`
}

// Compare tells the pairs whose packets are let through by one of two sets of rules only.
func Compare(before, after *Rules) []Pair {
	names := before.Names()
	for _, n := range after.Names() {
		if !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	all := []Pair{}
	for _, from := range names {
		for _, to := range names {
			if a, b := before.Judge(from, to), after.Judge(from, to); a.Allowed != b.Allowed {
				all = append(all, Pair{from, to, a, b})
			}
		}
	}
	return all
}
