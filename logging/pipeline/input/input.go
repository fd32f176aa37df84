// Package input holds the inputs of a pipeline: where records come from. An input hands batches to a flow.Sink and knows nothing of what
// happens to them, except when they are safe.
package input

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/multiline"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/parser"
)

// Input brings records until ctx ends. What it has taken and not handed over when it returns must come again after a restart, where its source
// allows that.
type Input interface {
	Run(ctx context.Context, sink flow.Sink) error
}

// Host is what an engine offers inputs.
type Host struct {
	flow.Host
	Name      string // tail.0
	Tag       string // of the section, "" if none is set
	Parsers   parser.Set
	Multiline multiline.Set
	// Positions keeps where inputs stopped, by names that they choose, from one configuration to the next.
	Positions *Positions
	// Metrics gives the pipeline's own figures as Fluent Bit prints them.
	Metrics func(now time.Time) string
	// MaxMessage bounds what lines are joined to, in bytes; 0 does not.
	MaxMessage int
}

type maker func(o *options.Set, h Host) Input

func makers() map[string]maker {
	return map[string]maker{
		"dummy":             newDummy,
		"fluentbit_metrics": newMetrics,
		"forward":           newForward,
		"http":              newHTTP,
		"kubernetes_events": newKubernetesEvents,
		"syslog":            newSyslog,
		"systemd":           newSystemd,
		"tail":              newTail,
		"tcp":               newTCP,
	}
}

// Names are the inputs that are built in.
func Names() []string { return slices.Sorted(maps.Keys(makers())) }

// New makes the input of a section. Faults are in the options.
func New(name string, o *options.Set, h Host) (Input, error) {
	make := makers()[name]
	if make == nil {
		return nil, fmt.Errorf("the input %q is not built into logagent", name)
	}
	return make(o, h), nil
}
