package parser

import (
	"errors"
	"time"

	"github.com/weft-dev/weft/logging/config"
)

// Set is the parsers of a configuration by name.
type Set map[string]*Parser

// NewSet makes all parsers of a configuration's sections.
func NewSet(sections []*config.Section, env func(string) (string, bool), now func() time.Time) (Set, error) {
	set := Set{}
	var faults []error
	for _, s := range sections {
		if s.Kind != config.Parser {
			continue
		}
		p, err := New(s, env, now)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		if set[p.Name] == nil { // the engine keeps the first
			set[p.Name] = p
		}
	}
	if err := set.addShipped(now); err != nil {
		faults = append(faults, err)
	}
	return set, errors.Join(faults...)
}
