// Package stdlib holds what every KCL program can call without importing
// anything of its own: the builtin functions, the members of strings and the
// system modules (base32 to yaml).
//
// The functions are pure but for what value.Host lends them: without its
// hooks no function reads a file, the clock, the environment, the network or
// a source of randomness. Names, results and error texts are those of KCL 0.12
// (kcl-lang/kcl crates/runtime and crates/sema/src/builtin).
//
// The package knows values and their text forms, nothing of syntax or
// evaluation.
package stdlib

import (
	"maps"
	"slices"

	"github.com/weft-dev/weft/kcl/value"
)

type function = func(*value.Call) (value.Value, error)

// Builtin is the builtin function called name, or nil.
func Builtin(name string) *value.Func { return library.builtins[name] }

// Builtins are the names of all builtin functions, sorted.
func Builtins() []string { return slices.Sorted(maps.Keys(library.builtins)) }

// Member is the member function of strings called name, or nil. Its first
// argument is the string.
func Member(name string) *value.Func { return library.members[name] }

// Members are the names of all member functions of strings, sorted.
func Members() []string { return slices.Sorted(maps.Keys(library.members)) }

// Modules are the names of all system modules, sorted.
func Modules() []string { return slices.Sorted(maps.Keys(library.modules)) }

// IsModule reports whether path names a system module.
func IsModule(path string) bool { return library.modules[path] != nil }

// Module is what name means in the system module path: a function or, in
// units, a constant.
func Module(path, name string) (value.Value, bool) {
	v, ok := library.modules[path][name]
	return v, ok
}

// Names are the names that the system module path defines, sorted.
func Names(path string) []string { return slices.Sorted(maps.Keys(library.modules[path])) }

// library is made once and never changed.
var library = newTable()

type table struct {
	builtins, members map[string]*value.Func
	modules           map[string]map[string]value.Value
}

func newTable() table {
	t := table{
		builtins: map[string]*value.Func{},
		members:  map[string]*value.Func{},
		modules:  map[string]map[string]value.Value{},
	}
	for name, call := range builtins {
		t.builtins[name] = &value.Func{Name: name, Call: call}
	}
	for name, call := range members {
		t.members[name] = &value.Func{Name: name, Call: call}
	}
	for path, functions := range map[string]map[string]function{
		"base32": base32Functions, "base64": base64Functions, "collection": collectionFunctions,
		"crypto": cryptoFunctions, "datetime": datetimeFunctions, "file": fileFunctions,
		"json": jsonFunctions, "manifests": manifestsFunctions, "math": mathFunctions,
		"net": netFunctions, "regex": regexFunctions, "runtime": runtimeFunctions,
		"template": templateFunctions, "units": unitsFunctions, "yaml": yamlFunctions,
	} {
		members := map[string]value.Value{}
		for name, call := range functions {
			members[name] = &value.Func{Name: path + "." + name, Call: call}
		}
		t.modules[path] = members
	}
	for _, unit := range units {
		t.modules["units"][unit.name] = constant(unit.factor)
	}
	return t
}
