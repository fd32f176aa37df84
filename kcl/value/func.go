package value

import (
	"context"
	"io"
	"io/fs"
	"time"
)

// Func is something that can be called: a builtin, a member of a system
// module, a plugin function, a lambda, a schema or a rule.
type Func struct {
	// Name is how messages call it, such as "math.ceil".
	Name string
	// Call runs a builtin, module or plugin function. It is nil for what the
	// program itself defines; Host.Invoke calls any Func.
	Call func(*Call) (Value, error)
	// Type is the runtime type of a schema, such as "__main__.Person".
	Type string
	// Code is the evaluator's handle on what the program defined.
	Code any
}

// Call is one call of a builtin function. An error that Call.Func returns
// becomes an evaluation error at the place of the call; its text is the whole
// message.
type Call struct {
	Host *Host
	Args []Value
	// Kwargs is nil when there are none.
	Kwargs *Dict
	// File and Line are the place of the call (1-based line).
	File string
	Line int
}

// Arg is positional argument i or the keyword argument name, or nil.
func (c *Call) Arg(i int, name string) Value {
	if i >= 0 && i < len(c.Args) {
		return c.Args[i]
	}
	if c.Kwargs != nil && name != "" {
		if v, ok := c.Kwargs.Get(name); ok {
			return v
		}
	}
	return nil
}

// FileSystem is the machine's files as programs may see them. Names are
// host paths as the program wrote them, relative to Host.WorkDir.
type FileSystem interface {
	fs.StatFS
	fs.ReadFileFS
	fs.ReadDirFS
}

// WriteFileSystem is a FileSystem that can also be changed; module file needs
// it for its writing functions.
type WriteFileSystem interface {
	FileSystem
	WriteFile(name string, data []byte, append bool) error
	MkdirAll(name string) error
	Remove(name string) error
	Rename(from, to string) error
}

// Host is what a run lends to builtin functions. Every hook may be nil; a
// function that needs a missing hook returns an error saying so.
type Host struct {
	Context context.Context
	// WorkDir is the folder of the program, Root the folder with kcl.mod.
	WorkDir, Root string
	Files         FileSystem
	Getenv        func(string) (string, bool)
	Now           func() time.Time
	Random        io.Reader
	// FQDN is the full name of a host, or of this one for "".
	FQDN func(ctx context.Context, name string) (string, error)
	// Print writes what print() prints.
	Print io.Writer
	// Options are the -D arguments, decoded.
	Options map[string]Value
	// Invoke calls any function value.
	Invoke func(fn Value, args []Value, kwargs *Dict) (Value, error)
	// Instances lists the instances of a schema made so far.
	Instances func(runtimeType string, all bool) []Value
	// Merge unions b over a as the operator | does.
	Merge func(a, b Value) (Value, error)
	// Grow accounts for n more bytes and fails when the run may use no more.
	Grow func(n int) error
	// Manifests receives what manifests.yaml_stream writes: the whole output.
	Manifests *string
	// OptionHelp collects option() calls for --list-options.
	OptionHelp *[]OptionHelp
	// Strict64 and Strict32 are the -d and -r range checks.
	Strict32, Strict64 bool
	// Output settings for str(), json and yaml of values.
	DisableNone, ShowHidden, SortKeys bool
}

// OptionHelp describes one option() call.
type OptionHelp struct {
	Name, Type, Help string
	Required         bool
	Default          Value
}
