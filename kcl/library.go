package kcl

import (
	"fmt"
	"strings"

	"github.com/weft-dev/weft/kcl/plan"
	"github.com/weft-dev/weft/kcl/stdlib"
	"github.com/weft-dev/weft/kcl/value"
)

// library is the standard library with the plugins of one run.
type library struct{ plugins map[string]*value.Func }

func (library) Builtin(name string) *value.Func { return stdlib.Builtin(name) }

func (library) Member(name string) *value.Func { return stdlib.Member(name) }

func (library) Module(path, name string) (value.Value, bool) { return stdlib.Module(path, name) }

func (l library) Plugin(path, name string) (value.Value, bool) {
	f, ok := l.plugins[strings.TrimPrefix(path, "kcl_plugin.")+"."+name]
	if !ok {
		return nil, false
	}
	return f, true
}

// HasPlugin reports whether a module of plugins is registered.
func (l library) HasPlugin(path string) bool {
	prefix := strings.TrimPrefix(path, "kcl_plugin.") + "."
	for name := range l.plugins {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

func (library) Format(v value.Value, spec string) (string, error) {
	switch strings.ToLower(strings.ReplaceAll(spec, " ", "")) {
	case "#json":
		return plan.JSON(v, plan.Options{}, 0), nil
	case "#yaml":
		return plan.YAML(v, plan.Options{}), nil
	}
	return "", fmt.Errorf("invalid string interpolation format specification")
}
