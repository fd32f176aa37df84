package network

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Matrix says between which classes of addresses no packet goes. It costs one lookup of the source and one per class that it must not reach,
// however many addresses there are.
type Matrix struct {
	Table     string                // name of the nftables table
	Priority  int32                 // of its chain at the forward hook
	Addresses map[netip.Addr]string // the class of each address; others are not judged
	Denied    map[string][]string   // by class of the source: classes that it must not reach
}

// maxClasses is how many classes may have rules: each has chains and sets of its own.
const maxClasses = 1024

// Ruleset is the complete content of the table. Replies of connections that are there pass.
func (m *Matrix) Ruleset() (*Ruleset, error) {
	c := Config{Table: m.Table}
	if err := c.validate(); err != nil {
		return nil, err
	}
	numbers := map[string]int{}
	number := func(class string) int {
		n, ok := numbers[class]
		if !ok {
			n = len(numbers)
			numbers[class] = n
		}
		return n
	}
	sources := slices.Sorted(maps.Keys(m.Denied))
	targets := map[string]bool{}
	for _, source := range sources {
		number(source)
		for _, target := range m.Denied[source] {
			number(target)
			targets[target] = true
		}
	}
	if len(numbers) > maxClasses {
		return nil, fmt.Errorf("a matrix of %d classes; at most %d are possible", len(numbers), maxClasses)
	}
	from := [2]Set{{Name: "from4", Kind: Classes4}, {Name: "from6", Kind: Classes6}}
	classes := map[string]*[2]Set{}
	for target := range targets {
		n := numbers[target]
		classes[target] = &[2]Set{{Name: fmt.Sprintf("class%d-4", n), Kind: Addresses4}, {Name: fmt.Sprintf("class%d-6", n), Kind: Addresses6}}
	}
	for address, class := range m.Addresses {
		address = address.Unmap()
		key, family := addressKey(address), 0
		if address.Is6() {
			family = 1
		}
		if sets := classes[class]; sets != nil {
			sets[family].Elements = append(sets[family].Elements, Element{Key: key})
		}
		if len(m.Denied[class]) > 0 {
			from[family].Elements = append(from[family].Elements, Element{Key: key, Chain: fmt.Sprintf("from-%d", numbers[class])})
		}
	}
	r := &Ruleset{Table: m.Table, Sets: from[:]}
	for _, sets := range classes {
		r.Sets = append(r.Sets, sets[:]...)
	}
	for i := range r.Sets {
		slices.SortFunc(r.Sets[i].Elements, func(a, b Element) int { return strings.Compare(a.Key, b.Key) })
	}
	slices.SortFunc(r.Sets, func(a, b Set) int { return strings.Compare(a.Name, b.Name) })
	for _, source := range sources {
		chain := Chain{Name: fmt.Sprintf("from-%d", numbers[source])}
		for _, target := range slices.Sorted(slices.Values(m.Denied[source])) {
			for i, family := range families {
				chain.Rules = append(chain.Rules, Rule{Family: family, Conditions: []Condition{{TargetIn, classes[target][i].Name}}, Action: Drop, Comment: short(source + " must not reach " + target)})
			}
		}
		if len(chain.Rules) > 0 {
			r.Chains = append(r.Chains, chain)
		}
	}
	base := Chain{Name: "levels", Hook: Forward, Priority: m.Priority, Rules: []Rule{{Conditions: []Condition{{Test: Established}}}}}
	for i, family := range families {
		base.Rules = append(base.Rules, Rule{Family: family, Action: ClassifySource, Target: from[i].Name})
	}
	r.Chains = append(r.Chains, base)
	slices.SortFunc(r.Chains, func(a, b Chain) int { return strings.Compare(a.Name, b.Name) })
	return r, nil
}
