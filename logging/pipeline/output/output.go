// Package output holds the outputs of a pipeline: where records go. An output writes one chunk at a time and says whether another try makes
// sense; when that comes is the engine's business.
package output

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// Chunk is records with one tag, to be delivered as a whole.
type Chunk struct {
	Tag   string
	Data  []byte // events of package record; must not be changed
	Count int
	// Metrics says that the events hold figures and no records (flow.Batch).
	Metrics bool
}

// Output delivers chunks.
type Output interface {
	// Write delivers a chunk. An error means that it shall be tried again, unless it is wrapped by Hopeless.
	Write(ctx context.Context, c Chunk) error
	Close() error
}

// Metrics is an Output that takes metrics as well.
type Metrics interface {
	Output
	TakesMetrics()
}

// metricsText is the text form of metrics, in which Fluent Bit prints them.
func metricsText(b []byte, c Chunk) []byte {
	for r := record.NewReader(c.Data); r.Next(); {
		v, _ := record.Get(r.Body, flow.MetricsKey)
		b = record.AppendText(b, v)
	}
	return b
}

// Host is what an engine offers outputs.
type Host struct {
	flow.Host
	Name string // http.0
}

type hopeless struct{ error }

func (h hopeless) Unwrap() error { return h.error }

// Hopeless marks an error after which the same chunk must not be tried again.
func Hopeless(err error) error { return hopeless{err} }

// IsHopeless tells whether an error is marked so.
func IsHopeless(err error) bool {
	var h hopeless
	return errors.As(err, &h)
}

type maker func(o *options.Set, h Host) Output

func makers() map[string]maker {
	return map[string]maker{
		"null":       newNull,
		"stdout":     newStdout,
		"http":       newHTTP,
		"es":         newElasticsearch,
		"opensearch": newElasticsearch,
		"kafka":      newKafka,
		"loki":       newLoki,
		"forward":    newForward,
		"file":       newFile,
	}
}

// Names are the outputs that are built in.
func Names() []string { return slices.Sorted(maps.Keys(makers())) }

// New makes the output of a section. Faults are in the options.
func New(name string, o *options.Set, h Host) (Output, error) {
	make := makers()[name]
	if make == nil {
		return nil, fmt.Errorf("the output %q is not built into logagent", name)
	}
	return make(o, h), nil
}
