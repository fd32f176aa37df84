package lifecycle

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weft-dev/weft/buildpack/spec"
)

// resolve waits for the detections of a group and looks for alternatives of their plans that fit together.
func (d *Detector) resolve(ctx context.Context, group []spec.Element) ([]spec.Element, spec.Plan, error) {
	var candidates []candidate
	passed, failed := true, false
	for _, e := range group {
		r := d.wait(e)
		if err := ctx.Err(); err != nil {
			return nil, spec.Plan{}, err
		}
		d.say(e, r)
		switch {
		case r.Code == codePass:
			d.Logger.Debugf("pass: %s", e)
			candidates = append(candidates, candidate{e, append([]spec.PlanSections{r.Plan.PlanSections}, r.Plan.Or...)})
			continue
		case r.Code == codeFail && e.Optional:
			d.Logger.Debugf("skip: %s", e)
		case r.Code == codeFail:
			d.Logger.Debugf("fail: %s", e)
		case r.Code == -1:
			d.Logger.Infof("err:  %s", e)
			failed = true
		default:
			d.Logger.Infof("err:  %s (%d)", e, r.Code)
			failed = true
		}
		passed = passed && e.Optional
	}
	if !passed && failed {
		return nil, spec.Plan{}, errDetectFailed
	}
	if !passed {
		return nil, spec.Plan{}, errNotDetected
	}
	if len(candidates) == 0 {
		d.Logger.Debugf("fail: no viable buildpacks in group")
		return nil, spec.Plan{}, errNotDetected
	}
	s := solver{logger: d.Logger}
	choice, plan, ok := s.solve(candidates, nil)
	if !ok {
		return nil, spec.Plan{}, errNotDetected
	}
	if len(choice) != len(group) {
		d.Logger.Infof("%d of %d buildpacks participating", len(choice), len(group))
	}
	width := 0
	for _, o := range choice {
		width = max(width, len(o.element.ID))
	}
	var elements []spec.Element
	for _, o := range choice {
		d.Logger.Infof("%-*s %s", width, o.element.ID, o.element.Version)
		o.element.Optional = false
		elements = append(elements, o.element)
	}
	return elements, plan, nil
}

// say shows the output of a bin/detect: where it went wrong to everybody, else only to those who want details.
func (d *Detector) say(e spec.Element, r Detection) {
	logf := d.Logger.Infof
	if r.Code == codePass || r.Code == codeFail {
		logf = d.Logger.Debugf
	}
	if len(r.Output) > 0 {
		logf("======== Output: %s ========", e)
		logf("%s", r.Output)
	}
	if r.Err != nil {
		logf("======== Error: %s ========", e)
		logf("%s", r.Err)
	}
}

// candidate is a buildpack that passed, with the alternatives of its plan.
type candidate struct {
	element spec.Element
	plans   []spec.PlanSections
}

// option is a buildpack with one alternative chosen.
type option struct {
	element spec.Element
	spec.PlanSections
}

// maxTrials bounds the search through alternatives.
const maxTrials = 100000

type solver struct {
	logger Logger
	trials int
}

// solve tries the alternatives from left to right, depth first. Only the last alternative of an optional buildpack may be dropped:
// before that another one is tried.
func (s *solver) solve(rest []candidate, chosen []option) ([]option, spec.Plan, bool) {
	if len(rest) == 0 {
		return s.try(slices.Clone(chosen))
	}
	c := rest[0]
	for i, sections := range c.plans {
		e := c.element
		e.Optional = e.Optional && i == len(c.plans)-1
		if options, plan, ok := s.solve(rest[1:], append(chosen, option{e, sections})); ok {
			return options, plan, true
		}
		if s.trials >= maxTrials {
			break
		}
	}
	return nil, spec.Plan{}, false
}

// dependency is one name of the plan while it is put together.
type dependency struct {
	spec.PlanEntry
	unused []spec.Element // provide it and nobody after them has required it
	early  []spec.Element // required it before anybody provided it
}

// try drops optional buildpacks whose needs or offers are not met until all fits or a necessary one does not.
func (s *solver) try(trial []option) ([]option, spec.Plan, bool) {
	s.trials++
	s.logger.Debugf("Resolving plan... (try #%d)", s.trials)
	for {
		deps := gather(trial)
		dropped := map[string]bool{}
		for _, name := range slices.Sorted(maps.Keys(deps)) {
			for _, e := range deps[name].early {
				if !s.drop(dropped, e, "requires "+name) {
					return nil, spec.Plan{}, false
				}
			}
		}
		for _, name := range slices.Sorted(maps.Keys(deps)) {
			for _, e := range deps[name].unused {
				if !s.drop(dropped, e, "provides unused "+name) {
					return nil, spec.Plan{}, false
				}
			}
		}
		if len(dropped) == 0 {
			return finish(s, trial, deps)
		}
		trial = slices.DeleteFunc(trial, func(o option) bool { return dropped[o.element.String()] })
	}
}

func (s *solver) drop(dropped map[string]bool, e spec.Element, why string) bool {
	if !e.Optional {
		s.logger.Debugf("fail: %s %s", e, why)
		return false
	}
	s.logger.Debugf("skip: %s %s", e, why)
	dropped[e.String()] = true
	return true
}

func finish(s *solver, trial []option, deps map[string]*dependency) ([]option, spec.Plan, bool) {
	if len(trial) == 0 {
		s.logger.Debugf("fail: no viable buildpacks in group")
		return nil, spec.Plan{}, false
	}
	var plan spec.Plan
	for _, name := range slices.Sorted(maps.Keys(deps)) {
		entry := deps[name].PlanEntry
		for i, p := range entry.Providers {
			entry.Providers[i] = spec.Element{ID: p.ID, Version: p.Version}
		}
		plan.Entries = append(plan.Entries, entry)
	}
	return trial, plan, true
}

// gather goes through the buildpacks in their order: what a later one provides does not serve an earlier one.
func gather(trial []option) map[string]*dependency {
	deps := map[string]*dependency{}
	of := func(name string) *dependency {
		if deps[name] == nil {
			deps[name] = &dependency{}
		}
		return deps[name]
	}
	for _, o := range trial {
		for _, p := range o.Provides {
			d := of(p.Name)
			d.unused = append(d.unused, o.element)
		}
		for _, r := range o.Requires {
			d := of(r.Name)
			d.Providers = append(d.Providers, d.unused...)
			d.unused = nil
			if len(d.Providers) == 0 {
				d.early = append(d.early, o.element)
			} else {
				d.Requires = append(d.Requires, r)
			}
		}
	}
	return deps
}

func asJSON(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSpace(string(data))
}
