package pipeline

import "github.com/weft-dev/weft/logging/pipeline/tap"

func (in *inputPart) point() tap.Point {
	return tap.Point{Kind: "input", Name: in.name, Alias: in.alias}
}

func (f *filterPart) point() tap.Point {
	return tap.Point{Kind: "filter", Name: f.name, Alias: f.alias}
}

func (o *outputPart) point() tap.Point {
	return tap.Point{Kind: "output", Name: o.name, Alias: o.alias}
}

// points are where records can be watched: what an input brings, what a filter lets out, and what an output gets at its first try.
func (e *Engine) points() []tap.Point {
	var all []tap.Point
	for _, in := range e.parts() {
		all = append(all, in.point())
		for _, f := range in.processors {
			all = append(all, f.point())
		}
	}
	for _, f := range e.filters {
		all = append(all, f.point())
	}
	for _, o := range e.outputs {
		all = append(all, o.point())
	}
	return all
}
