package network

import (
	"cmp"
	"slices"
)

// store holds the wanted sets and chains and remembers how they differ from the last state taken.
type store struct {
	sets   map[string]*setState
	chains map[string]*chainState
	// What may differ from the last state taken.
	dirtySets   map[*setState]struct{}
	dirtyChains map[*chainState]struct{}
}

func newStore() *store {
	return &store{sets: map[string]*setState{}, chains: map[string]*chainState{},
		dirtySets: map[*setState]struct{}{}, dirtyChains: map[*chainState]struct{}{}}
}

// setState is a set with, for each key touched since the last state taken, what was there (nil for nothing).
type setState struct {
	store    *store
	name     string
	kind     SetKind
	elements map[string]Element
	before   map[string]*Element
	taken    bool // part of the last state taken
	dead     bool
}

// set returns the set of that name, made empty if there is none.
func (s *store) set(name string, kind SetKind) *setState {
	st := s.sets[name]
	if st == nil {
		st = &setState{store: s, name: name, kind: kind, elements: map[string]Element{}, before: map[string]*Element{}}
		s.sets[name] = st
	}
	st.dead = false
	s.dirtySets[st] = struct{}{}
	return st
}

func (st *setState) touch(key string) {
	st.store.dirtySets[st] = struct{}{}
	if _, ok := st.before[key]; ok || !st.taken {
		return
	}
	if e, ok := st.elements[key]; ok {
		st.before[key] = &e
	} else {
		st.before[key] = nil
	}
}

func (st *setState) put(e Element) {
	if old, ok := st.elements[e.Key]; ok && old == e {
		return
	}
	st.touch(e.Key)
	st.elements[e.Key] = e
}

func (st *setState) remove(key string) {
	if _, ok := st.elements[key]; !ok {
		return
	}
	st.touch(key)
	delete(st.elements, key)
}

// deleteSet empties the set, so that a set of the same name made before the next state is taken starts from nothing.
func (s *store) deleteSet(st *setState) {
	for key := range st.elements {
		st.remove(key)
	}
	st.dead = true
	s.dirtySets[st] = struct{}{}
}

func (st *setState) export() Set {
	out := Set{Name: st.name, Kind: st.kind, Elements: make([]Element, 0, len(st.elements))}
	for _, e := range st.elements {
		out.Elements = append(out.Elements, e)
	}
	sortElements(out.Elements)
	return out
}

// chainState is a chain with its rules in the last state taken.
type chainState struct {
	name     string
	hook     Hook
	priority int32
	rules    []Rule
	before   []Rule
	taken    bool
	dead     bool
}

// chain gives the chain of that name these rules, making it if there is none.
func (s *store) chain(name string, rules []Rule) *chainState {
	ch := s.chains[name]
	if ch == nil {
		ch = &chainState{name: name}
		s.chains[name] = ch
	}
	ch.rules, ch.dead = rules, false
	s.dirtyChains[ch] = struct{}{}
	return ch
}

func (s *store) baseChain(name string, hook Hook, priority int32, rules []Rule) {
	ch := s.chain(name, rules)
	ch.hook, ch.priority = hook, priority
}

func (s *store) deleteChain(ch *chainState) {
	ch.dead = true
	s.dirtyChains[ch] = struct{}{}
}

func (ch *chainState) export() Chain {
	return Chain{Name: ch.name, Hook: ch.hook, Priority: ch.priority, Rules: ch.rules}
}

func (s *store) ruleset(table string) *Ruleset {
	out := &Ruleset{Table: table}
	for _, st := range s.sets {
		if !st.dead {
			out.Sets = append(out.Sets, st.export())
		}
	}
	for _, ch := range s.chains {
		if !ch.dead {
			out.Chains = append(out.Chains, ch.export())
		}
	}
	sortSets(out.Sets)
	sortChains(out.Chains)
	return out
}

func (s *store) changes(table string) *Changes {
	out := &Changes{Table: table}
	for st := range s.dirtySets {
		switch {
		case st.dead && st.taken:
			out.DeleteSets = append(out.DeleteSets, Set{Name: st.name, Kind: st.kind})
			delete(s.sets, st.name)
			continue
		case st.dead:
			delete(s.sets, st.name)
			continue
		case !st.taken:
			out.AddSets = append(out.AddSets, st.export())
		case len(st.before) > 0:
			st.difference(out)
		}
		st.taken = true
		clear(st.before)
	}
	for ch := range s.dirtyChains {
		switch {
		case ch.dead && ch.taken:
			out.DeleteChains = append(out.DeleteChains, ch.name)
			delete(s.chains, ch.name)
			continue
		case ch.dead:
			delete(s.chains, ch.name)
			continue
		case !ch.taken:
			out.AddChains = append(out.AddChains, ch.export())
		case !slices.EqualFunc(ch.before, ch.rules, Rule.equal):
			out.ReplaceChains = append(out.ReplaceChains, ch.export())
		}
		ch.taken, ch.before = true, ch.rules
	}
	clear(s.dirtySets)
	clear(s.dirtyChains)
	for _, sets := range [][]Set{out.AddSets, out.AddElements, out.DeleteElements, out.DeleteSets} {
		sortSets(sets)
	}
	sortChains(out.AddChains)
	sortChains(out.ReplaceChains)
	slices.Sort(out.DeleteChains)
	return out
}

// difference adds the set's changed elements.
func (st *setState) difference(out *Changes) {
	add, del := Set{Name: st.name, Kind: st.kind}, Set{Name: st.name, Kind: st.kind}
	for key, before := range st.before {
		now, ok := st.elements[key]
		if before != nil && ok && *before == now {
			continue
		}
		if before != nil {
			del.Elements = append(del.Elements, *before)
		}
		if ok {
			add.Elements = append(add.Elements, now)
		}
	}
	sortElements(add.Elements)
	sortElements(del.Elements)
	if len(add.Elements) > 0 {
		out.AddElements = append(out.AddElements, add)
	}
	if len(del.Elements) > 0 {
		out.DeleteElements = append(out.DeleteElements, del)
	}
}

func sortSets(sets []Set) {
	slices.SortFunc(sets, func(a, b Set) int { return cmp.Compare(a.Name, b.Name) })
}

func sortChains(chains []Chain) {
	slices.SortFunc(chains, func(a, b Chain) int { return cmp.Compare(a.Name, b.Name) })
}
