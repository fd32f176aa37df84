package kcltool

import (
	"context"

	"github.com/weft-dev/weft/kcl"
	"github.com/weft-dev/weft/kcl/mod"
)

// Packages say where a program's packages are besides vendor and cache.
type Packages struct {
	// Given maps what imports call a package to the folder that is taken for it.
	Given map[string]string
	// Missing is asked for the folder of a package that is on this machine nowhere else; it may be nil.
	Missing func(mod.Dependency) (dir string, ok bool)
}

// Program puts together what is needed to run the package in the tool's folder, as run does without files: arguments are name=value,
// kcl.yaml and the profile of kcl.mod count.
func (t *Tool) Program(ctx context.Context, arguments []string, p Packages) (kcl.Options, error) {
	o := &runOptions{arguments: arguments, format: "yaml", disableNone: true, missing: p.Missing}
	for name, dir := range p.Given {
		o.externals = append(o.externals, name+"="+dir)
	}
	prepared, err := t.prepare(ctx, o, nil, t.machine())
	if err != nil {
		return kcl.Options{}, err
	}
	return prepared.options, nil
}
