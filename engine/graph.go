package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// graph holds the wanted resources with their direct edges.
type graph struct {
	resources map[ID]Resource
	needs     map[ID][]ID // what a resource depends on
	order     []ID        // every resource behind what it needs; otherwise as given
}

// Problem is something wrong with the wanted resources.
type Problem struct {
	Origin   string
	Resource ID
	Msg      string
	Cause    error // what Msg was made of, may be nil
}

// Unwrap returns the cause.
func (p *Problem) Unwrap() error { return p.Cause }

// Error names the place, the resource and what is wrong.
func (p *Problem) Error() string {
	s := string(p.Resource) + ": " + p.Msg
	if p.Origin != "" {
		s = p.Origin + ": " + s
	}
	return s
}

// newGraph checks identities, edges and cycles. All problems are told at once.
func newGraph(resources []Resource, known func(typ string) bool) (*graph, error) {
	g := &graph{resources: make(map[ID]Resource, len(resources)), needs: make(map[ID][]ID, len(resources))}
	var errs []error
	problem := func(r Resource, format string, args ...any) {
		errs = append(errs, &Problem{Origin: r.Origin, Resource: r.ID, Msg: fmt.Sprintf(format, args...)})
	}
	for _, r := range resources {
		if r.ID == "" {
			problem(r, "a resource needs an id")
			continue
		}
		if first, twice := g.resources[r.ID]; twice {
			problem(r, "the same id is used at %s", first.Origin)
			continue
		}
		if !known(r.Type) {
			problem(r, "there is no driver for the type %q", r.Type)
		}
		g.resources[r.ID] = r
	}
	for _, r := range resources {
		needs := References(r.Inputs)
		for _, id := range r.DependsOn {
			if !slices.Contains(needs, id) {
				needs = append(needs, id)
			}
		}
		for _, id := range needs {
			if _, ok := g.resources[id]; !ok {
				problem(r, "it depends on %q, which does not exist", id)
			}
		}
		g.needs[r.ID] = needs
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return g, g.sort(resources)
}

// sort fills order, or names the resources of a cycle.
func (g *graph) sort(resources []Resource) error {
	const (
		unseen = iota
		open
		done
	)
	state := make(map[ID]int, len(resources))
	// A frame is a resource whose needs are being visited; an own stack, since chains may be long.
	type frame struct {
		id   ID
		next int
	}
	for _, r := range resources {
		if state[r.ID] != unseen {
			continue
		}
		stack := []frame{{id: r.ID}}
		state[r.ID] = open
		for len(stack) > 0 {
			top := &stack[len(stack)-1]
			if top.next == len(g.needs[top.id]) {
				state[top.id] = done
				g.order = append(g.order, top.id)
				stack = stack[:len(stack)-1]
				continue
			}
			need := g.needs[top.id][top.next]
			top.next++
			switch state[need] {
			case unseen:
				state[need] = open
				stack = append(stack, frame{id: need})
			case open:
				var names []string
				for _, f := range stack[slices.IndexFunc(stack, func(f frame) bool { return f.id == need }):] {
					names = append(names, string(f.id))
				}
				first := g.resources[need]
				return &Problem{Origin: first.Origin, Resource: first.ID, Msg: "it depends on itself: " + strings.Join(append(names, string(need)), " -> ")}
			}
		}
	}
	return nil
}

// Order returns the ids of resources, each behind what it needs, and their direct edges. The error joins what is wrong with them.
func Order(resources []Resource) (order []ID, needs map[ID][]ID, err error) {
	g, err := newGraph(resources, func(string) bool { return true })
	if err != nil {
		return nil, nil, err
	}
	return g.order, g.needs, nil
}
