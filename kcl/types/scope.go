package types

type objectKind uint8

const (
	variableObject objectKind = iota
	attributeObject
	definitionObject
	parameterObject
	aliasObject
	moduleObject
)

// object is what a name stands for.
type object struct {
	typ  *Type
	at   place
	kind objectKind
}

// scope is a region of names.
type scope struct {
	up    *scope
	order []string
	elems map[string]*object
	// missing finds what was not put here yet, if that can be; it may be nil.
	missing func(name string) *object
}

func newScope(up *scope) *scope { return &scope{up: up} }

func (s *scope) put(name string, o *object) {
	if s.elems == nil {
		s.elems = map[string]*object{}
	}
	if _, ok := s.elems[name]; !ok {
		s.order = append(s.order, name)
	}
	s.elems[name] = o
}

// own is the object of a name of this scope itself, or nil.
func (s *scope) own(name string) *object {
	if o := s.elems[name]; o != nil || s.missing == nil {
		return o
	}
	return s.missing(name)
}

func (s *scope) find(name string) *object {
	for ; s != nil; s = s.up {
		if o := s.own(name); o != nil {
			return o
		}
	}
	return nil
}

// names are all names that can be used here, outermost first.
func (s *scope) names() []string {
	var chain []*scope
	for at := s; at != nil; at = at.up {
		chain = append(chain, at)
	}
	seen := map[string]bool{}
	var out []string
	for i := len(chain) - 1; i >= 0; i-- {
		for _, n := range chain[i].order {
			if !seen[n] {
				seen[n] = true
				out = append(out, n)
			}
		}
	}
	return out
}
