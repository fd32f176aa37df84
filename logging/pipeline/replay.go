package pipeline

import (
	"context"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/input"
)

// replay brings given batches, one after the other, and then ends the pipeline.
type replay []flow.Batch

func (r replay) Run(ctx context.Context, sink flow.Sink) error {
	for _, b := range r {
		if err := sink.Append(ctx, b); err != nil {
			return err
		}
	}
	return input.ErrEnd
}

// replay puts given batches in the place of the configuration's inputs.
func (b *builder) replay() {
	in := b.engine.newInput("lib", "lib.0")
	in.input = replay(b.options.Records)
	b.engine.inputs = append(b.engine.inputs, in)
}
