// Package filter holds the filters of a pipeline: what changes, drops or sends records anew. Filters work on batches of MessagePack and know
// neither inputs nor outputs.
package filter

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/multiline"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/parser"
)

// Filter changes batches. It may be called by several goroutines at once.
type Filter interface {
	// Apply gives what becomes of the batch: b.Data itself if nothing changed, else events appended to dst. The result is only
	// valid until dst or b.Data is changed.
	Apply(ctx context.Context, dst []byte, b flow.Batch) ([]byte, error)
}

// OneToOne is a filter that makes one event of each: nobody needs to count what comes out of it.
type OneToOne interface{ oneToOne() }

func (*modify) oneToOne()         {}
func (*nest) oneToOne()           {}
func (*parse) oneToOne()          {}
func (*recordModifier) oneToOne() {}

// Runner is a filter that has work to do at times, such as to send what it holds back. Run ends with ctx, having sent all.
type Runner interface {
	Run(ctx context.Context) error
}

// Host is what an engine offers filters.
type Host struct {
	flow.Host
	Name      string // grep.0
	Parsers   parser.Set
	Multiline multiline.Set
	// MaxMessage bounds what lines are joined to, in bytes; 0 does not.
	MaxMessage int
}

type maker func(o *options.Set, h Host) Filter

func makers() map[string]maker {
	return map[string]maker{
		"grep":            newGrep,
		"kubernetes":      newKubernetes,
		"lua":             newLua,
		"modify":          newModify,
		"multiline":       newMultiline,
		"nest":            newNest,
		"parser":          newParse,
		"record_modifier": newRecordModifier,
		"rewrite_tag":     newRewriteTag,
		"throttle":        newThrottle,
	}
}

// Names are the filters that are built in.
func Names() []string { return slices.Sorted(maps.Keys(makers())) }

// New makes the filter of a section. Faults are in the options.
func New(name string, o *options.Set, h Host) (Filter, error) {
	make := makers()[name]
	if make == nil {
		return nil, fmt.Errorf("the filter %q is not built into logagent", name)
	}
	return make(o, h), nil
}
