package policy

import (
	"maps"
	"slices"

	"github.com/weft-dev/weft/network"
)

// Status is what the controller has done and found.
type Status struct {
	Table string `json:"table"`
	// Synced is true once the table holds what the API said.
	Synced bool `json:"synced"`
	// Bridge is "filtered", or why packets between pods of one bridge cannot be judged.
	Bridge   string `json:"bridge"`
	Policies int    `json:"policies"`
	Pods     int    `json:"pods"`
	// Applies counts transactions, Replacements those that wrote the whole table, Repairs those that undid what someone else did to it.
	Applies         int64  `json:"applies"`
	Replacements    int64  `json:"replacements"`
	LastReplacement string `json:"lastReplacement,omitempty"`
	Repairs         int64  `json:"repairs"`
	// LastApplySeconds and MaxApplySeconds are durations of transactions; LastApplySize is the number of elements, rules and chains touched.
	LastApplySeconds float64 `json:"lastApplySeconds"`
	MaxApplySeconds  float64 `json:"maxApplySeconds"`
	LastApplySize    int     `json:"lastApplySize"`
	// Drops are the packets dropped since the last replacement, as of the last comparison.
	Drops network.Drops `json:"drops"`
	// Problems are the defects of policies.
	Problems []string `json:"problems,omitempty"`
	// Error is why the last write failed; empty when the table is as it should be.
	Error string `json:"error,omitempty"`

	names    map[string]bool
	problems map[string][]string
}

func (s *Status) policy(name string, there bool) {
	if s.names == nil {
		s.names = map[string]bool{}
	}
	if there {
		s.names[name] = true
	} else {
		delete(s.names, name)
	}
	s.Policies = len(s.names)
}

func (s *Status) setProblems(name string, problems []network.Problem) {
	if s.problems == nil {
		s.problems = map[string][]string{}
	}
	delete(s.problems, name)
	for _, p := range problems {
		s.problems[name] = append(s.problems[name], p.Error())
	}
	s.Problems = nil
	for _, name := range slices.Sorted(maps.Keys(s.problems)) {
		s.Problems = append(s.Problems, s.problems[name]...)
	}
}

// copy is safe to hand to others.
func (s *Status) copy() Status {
	out := *s
	out.Problems = slices.Clone(s.Problems)
	out.names, out.problems = nil, nil
	return out
}
