package logtool

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline"
	"github.com/weft-dev/weft/logging/pipeline/flow"
	events "github.com/weft-dev/weft/logging/pipeline/record"
)

// runFluentd runs a test of a configuration of Fluentd: what reaches its outputs is caught instead of delivered.
func (x flowTest) runFluentd(ctx context.Context, file *config.File, without []string) ([]string, error) {
	caught, names := fluentdOutputs(file, without)
	for output := range x.Outputs {
		if !slices.Contains(names, output) {
			return nil, fmt.Errorf("there is no output %q; there are %s", output, strings.Join(names, ", "))
		}
	}
	batches, err := x.batches()
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	got := map[string][]flowRecord{}
	var failed error
	catch := func(output string, b flow.Batch) {
		mu.Lock()
		defer mu.Unlock()
		for r := events.NewReader(b.Data); r.Next(); {
			record := map[string]any{}
			if err := json.Unmarshal(events.AppendJSON(nil, r.Body), &record); err != nil {
				failed = err
			}
			got[output] = append(got[output], flowRecord{Tag: b.Tag, Record: record})
		}
	}
	var said bytes.Buffer
	level := new(slog.LevelVar)
	level.Set(slog.LevelError)
	ctx, stop := context.WithTimeout(ctx, longestTest)
	defer stop()
	if err := play(ctx, caught, pipeline.Options{Log: pipeline.NewLogger(&said, level), Records: batches, Catch: catch}); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, failed
	}
	var reasons []string
	for line := range strings.Lines(said.String()) {
		reasons = append(reasons, strings.TrimSpace(line))
	}
	for _, name := range names {
		reasons = append(reasons, differences(name, x.Outputs[name], got[name])...)
	}
	return reasons, nil
}

// fluentdOutputs are the names of the outputs that records end at, as the engine gives them, and the configuration without the filters that are to be
// left out.
func fluentdOutputs(file *config.File, without []string) (*config.File, []string) {
	count := map[string]int{}
	var names []string
	var walk func(sections []*config.Section) []*config.Section
	walk = func(sections []*config.Section) []*config.Section {
		var all []*config.Section
		for _, s := range sections {
			plugin := s.Plugin()
			if s.Kind == "filter" && slices.Contains(without, plugin) {
				continue
			}
			copied := *s
			if s.Kind == "match" || s.Kind == "store" {
				name := fmt.Sprintf("%s.%d", plugin, count[plugin])
				count[plugin]++
				if id := s.Value("@id"); id != "" {
					name = id
				}
				if plugin != "copy" && plugin != "relabel" && plugin != "label_router" {
					names = append(names, name)
				}
			}
			copied.Sections = walk(s.Sections)
			all = append(all, &copied)
		}
		return all
	}
	out := *file
	out.Sections = walk(file.Sections)
	return &out, names
}

// followFluentd goes the way of a record through sources, labels, filters and outputs.
func followFluentd(sections []*config.Section, r record) []step {
	f := follower{labels: map[string][]*config.Section{}}
	var top []*config.Section
	for _, s := range sections {
		inner := []*config.Section{s}
		if s.Kind == "worker" {
			inner = s.Sections
		}
		for _, s := range inner {
			if s.Kind == "label" {
				f.labels[s.Arg] = append(f.labels[s.Arg], s.Sections...)
			} else {
				top = append(top, s)
			}
		}
	}
	f.labels["@ROOT"] = top
	label := "@ROOT"
	for _, s := range top {
		if s.Kind != "source" {
			continue
		}
		if why := gives(s, r.tag); why != "" {
			f.steps = append(f.steps, step{Kind: "input", Plugin: s.Plugin(), From: s.Pos.String(), Tag: r.tag, Why: why})
			if l := s.Value("@label"); l != "" {
				label = l
			}
		}
	}
	f.follow(label, r.tag, 0)
	return f.steps
}

type follower struct {
	labels map[string][]*config.Section
	steps  []step
}

// mostLabels bounds how often labels may lead to each other.
const mostLabels = 32

func (f *follower) follow(label, tag string, depth int) {
	sections, ok := f.labels[label]
	if !ok || depth > mostLabels {
		f.steps = append(f.steps, step{Kind: "nothing", Tag: tag, Why: "there is no label " + label})
		return
	}
	in := ""
	if label != "@ROOT" {
		in = " in " + label
	}
	for _, s := range sections {
		if s.Kind != "filter" && s.Kind != "match" || !tagMatches(s.Arg, tag) {
			continue
		}
		why := "<" + strings.TrimSpace(s.Kind+" "+s.Arg) + ">" + in
		if s.Kind == "filter" {
			f.steps = append(f.steps, step{Kind: "filter", Plugin: s.Plugin(), From: s.Pos.String(), Tag: tag, Why: why})
			continue
		}
		f.output(s, tag, why, depth)
		return
	}
	f.steps = append(f.steps, step{Kind: "nothing", Tag: tag, Why: "no <match> has a pattern for this tag" + in + "; the record is dropped"})
}

func (f *follower) output(s *config.Section, tag, why string, depth int) {
	switch s.Plugin() {
	case "copy":
		f.steps = append(f.steps, step{Kind: "router", Plugin: "copy", From: s.Pos.String(), Tag: tag, Why: why})
		for _, store := range s.Sections {
			if store.Kind == "store" {
				f.output(store, tag, "<store> of the copy at "+s.Pos.String(), depth)
			}
		}
	case "relabel":
		f.steps = append(f.steps, step{Kind: "router", Plugin: "relabel", From: s.Pos.String(), Tag: tag, Why: why + " leads to " + s.Value("@label")})
		f.follow(s.Value("@label"), tag, depth+1)
	default:
		f.steps = append(f.steps, step{Kind: "output", Plugin: s.Plugin(), From: s.Pos.String(), Tag: tag, Why: why})
	}
}
