package eval

import "github.com/weft-dev/weft/kcl/value"

// frame holds the local variables of a statement, schema level or function.
// A nil slot was never set.
type frame struct {
	vars []value.Value
	// up is the frame in which a function was made.
	up *frame
	// inst is the instance whose schema the code belongs to.
	inst *instance
}

type scopeKind uint8

const (
	packageScope scopeKind = iota
	schemaScope
	lambdaScope
	loopScope
	configScope
)

// frameSize counts the slots that a frame needs.
type frameSize struct{ n int }

// scope is a region of code at compile time. Loops and configurations share
// the frame of the statement, schema or function around them.
type scope struct {
	kind  scopeKind
	up    *scope
	size  *frameSize
	names map[string]int
	// used marks the names that something reads, by name.
	used map[string]*bool
	// captures maps outer slots to slots of a lambda's own frame.
	captures []capture
}

type capture struct {
	name     string
	from, to int
}

func newFrameScope(up *scope, kind scopeKind) *scope {
	return &scope{kind: kind, up: up, size: &frameSize{}, names: map[string]int{}}
}

func (s *scope) child(kind scopeKind) *scope {
	return &scope{kind: kind, up: s, size: s.size, names: map[string]int{}}
}

// slot is the slot of a name in this scope, new if need be.
func (s *scope) slot(name string) int {
	if i, ok := s.names[name]; ok {
		return i
	}
	i := s.size.n
	s.size.n++
	s.names[name] = i
	return i
}

// candidate is a place where a name may be found at run time.
type candidate struct {
	slot int
	// local is set for what always wins over attributes of a schema: loop
	// variables, parameters and variables of functions.
	local bool
	// upSlot is the slot in the frame in which the function was made, for
	// variables that were not yet set then, or -1.
	upSlot int
}

// find lists the slots that may hold name, innermost first, and tells whether
// the code is inside a schema.
func (s *scope) find(name string) (list []candidate, inSchema bool) {
	for sc := s; sc != nil; sc = sc.up {
		if i, ok := sc.names[name]; ok {
			*sc.use(name) = true
			list = append(list, candidate{slot: i, local: sc.kind == loopScope || sc.kind == lambdaScope, upSlot: -1})
		}
		switch sc.kind {
		case schemaScope:
			return list, true
		case lambdaScope:
			outer, in := sc.up.find(name)
			for _, o := range outer {
				list = append(list, candidate{slot: sc.capture(name, o.slot), local: o.local, upSlot: o.slot})
			}
			return list, in
		}
	}
	return list, false
}

// capture gives the outer slot a slot in this function's frame.
func (s *scope) capture(name string, from int) int {
	for _, c := range s.captures {
		if c.from == from {
			return c.to
		}
	}
	to := s.size.n
	s.size.n++
	s.captures = append(s.captures, capture{name, from, to})
	return to
}

// inLambda reports whether the code is in a function, up to the schema or
// package around it.
func (s *scope) inLambda() *scope {
	for sc := s; sc != nil; sc = sc.up {
		if sc.kind == lambdaScope {
			return sc
		}
		if sc.kind == schemaScope {
			return nil
		}
	}
	return nil
}

func (s *scope) inSchema() bool {
	for sc := s; sc != nil; sc = sc.up {
		if sc.kind == schemaScope {
			return true
		}
	}
	return false
}

func (s *scope) isLoopVar(name string) bool {
	for sc := s; sc != nil; sc = sc.up {
		if sc.kind == loopScope {
			if _, ok := sc.names[name]; ok {
				return true
			}
		}
	}
	return false
}

// use is the mark whether anything reads a name of this scope.
func (s *scope) use(name string) *bool {
	if s.used == nil {
		s.used = map[string]*bool{}
	}
	if s.used[name] == nil {
		s.used[name] = new(bool)
	}
	return s.used[name]
}
