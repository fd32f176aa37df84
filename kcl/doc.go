// Package kcl runs programs of the configuration language KCL (0.12) without
// cgo and without touching the machine unless asked.
//
// The parts below it, lowest first; each knows only what stands before it:
//
//	value    what programs compute: numbers, strings, lists, configurations
//	         with merge operators, schema instances, functions
//	syntax   lexer, parser with recovery, syntax tree with byte offsets and
//	         comments
//	diag     diagnostics: codes, texts, pretty, short and SARIF forms
//	plan     what is written: YAML, JSON, TOML, XML of values, and back
//	stdlib   builtins, string members, system modules:
//	         Builtin(name) *value.Func, Member(name) *value.Func (its first
//	         argument is the string), Module(path, name) (value.Value, bool)
//	types    the type lattice and the checker
//	eval     compiles checked trees to closures and runs them
//	mod      kcl.mod, its lock file and where packages come from
//	format, lint, vet  the tools
//
// Run loads, checks and evaluates.
package kcl
