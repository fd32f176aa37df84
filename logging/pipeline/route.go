package pipeline

import (
	"strings"
	"sync"
	"sync/atomic"

	"github.com/weft-dev/weft/logging/pipeline/output"
	"github.com/weft-dev/weft/logging/pipeline/regex"
)

// Match tells whether a tag fits a pattern of Fluent Bit: * stands for any text, also within a word (src/flb_router.c).
func Match(pattern, tag string) bool {
	for {
		i := strings.IndexByte(pattern, '*')
		if i < 0 {
			return pattern == tag
		}
		if !strings.HasPrefix(tag, pattern[:i]) {
			return false
		}
		tag, pattern = tag[i:], strings.TrimLeft(pattern[i:], "*")
		if pattern == "" {
			return true
		}
		next := strings.IndexByte(pattern, '*')
		if next < 0 {
			return strings.HasSuffix(tag, pattern)
		}
		at := strings.Index(tag, pattern[:next])
		if at < 0 {
			return false
		}
		tag = tag[at:]
	}
}

// selector says which tags a filter or output takes.
type selector struct {
	pattern string
	regex   *regex.Regexp
}

func (s selector) takes(tag string) bool {
	if s.regex != nil && s.regex.Match([]byte(tag)) {
		return true
	}
	return s.pattern != "" && Match(s.pattern, tag)
}

// route is where records with one tag go.
type route struct {
	filters []*filterPart
	outputs []*outputPart
	metrics *route // of metrics with the same tag
}

// maxRoutes bounds the memory for tags that come once and never again.
const maxRoutes = 8192

// router computes the route of each tag once.
type router struct {
	filters []*filterPart
	outputs []*outputPart
	mu      sync.Mutex
	routes  atomic.Pointer[map[string]*route] // replaced as a whole
	fresh   map[string]*route                 // not yet in routes
}

// find is the route of a tag.
func (r *router) find(tag string) *route {
	if known := r.routes.Load(); known != nil {
		if found := (*known)[tag]; found != nil {
			return found
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if found := r.fresh[tag]; found != nil {
		return found
	}
	made := &route{metrics: &route{}}
	for _, f := range r.filters {
		if f.takes(tag) {
			made.filters = append(made.filters, f)
		}
	}
	for _, o := range r.outputs {
		if o.takes(tag) {
			made.outputs = append(made.outputs, o)
			if _, ok := o.output.(output.Metrics); ok {
				made.metrics.outputs = append(made.metrics.outputs, o)
			}
		}
	}
	r.remember(tag, made)
	return made
}

// remember copies the known routes now and then instead of each time: a burst of new tags costs no square.
func (r *router) remember(tag string, made *route) {
	if r.fresh == nil || len(r.fresh) >= maxRoutes {
		r.fresh = map[string]*route{}
	}
	r.fresh[strings.Clone(tag)] = made
	known := r.routes.Load()
	if known != nil && len(r.fresh) < len(*known)+len(*known)/8+1 && len(r.fresh) > len(*known) {
		return
	}
	next := make(map[string]*route, len(r.fresh))
	for t, found := range r.fresh {
		next[t] = found
	}
	r.routes.Store(&next)
}
