// Package output is how all verbs speak: results go to standard output as text, JSON or YAML; progress, remarks and errors go to
// standard error, live on a terminal and as plain lines elsewhere.
//
// It must not know any verb, nor where the results come from.
package output

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/spf13/pflag"
	"golang.org/x/term"
	"sigs.k8s.io/yaml"
)

// Format is the form of a result.
type Format string

// The formats.
const (
	Text Format = "text"
	JSON Format = "json"
	YAML Format = "yaml"
)

// Set makes Format a flag.
func (f *Format) Set(s string) error {
	switch v := Format(strings.ToLower(s)); v {
	case Text, JSON, YAML:
		*f = v
		return nil
	}
	return fmt.Errorf("must be text, json or yaml")
}

func (f *Format) String() string { return string(*f) }

// Type names the values for --help.
func (f *Format) Type() string { return "text|json|yaml" }

// Options are the choices of a user. The zero value prints text.
type Options struct {
	Format  Format
	Quiet   bool // no progress and no remarks
	NoColor bool
}

// AddFlags defines -o, --quiet and --no-color.
func (o *Options) AddFlags(flags *pflag.FlagSet) {
	o.Format = Text
	flags.VarP(&o.Format, "output", "o", "form of the result on standard output")
	flags.BoolVarP(&o.Quiet, "quiet", "q", false, "print results and errors only, no progress")
	flags.BoolVar(&o.NoColor, "no-color", false, "no colours (also set by the variable NO_COLOR)")
}

// Printer writes for one run of a program.
type Printer struct {
	options  Options
	out, err io.Writer
	outStyle style
	errStyle style
	live     *terminal // nil: standard error is no terminal

	mu   sync.Mutex // one writer of err at a time
	open *Progress  // the live one, if any
}

// New returns a printer. A stream is taken for a terminal when it is an *os.File that is one. getenv reads NO_COLOR and TERM.
func New(out, err io.Writer, options Options, getenv func(string) string) *Printer {
	if options.Format == "" {
		options.Format = Text
	}
	dumb := getenv("TERM") == "dumb"
	plain := options.NoColor || getenv("NO_COLOR") != "" || dumb
	p := &Printer{options: options, out: out, err: err}
	p.outStyle = style(!plain && isTerminal(out))
	p.errStyle = style(!plain && isTerminal(err))
	if isTerminal(err) && !dumb {
		p.live = &terminal{fd: int(err.(*os.File).Fd())}
	}
	return p
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Format returns the chosen format.
func (p *Printer) Format() Format { return p.options.Format }

// Result prints the result of a verb: v as JSON or YAML, or what text writes.
func (p *Printer) Result(v any, text func(*Page)) error {
	var b []byte
	var err error
	switch p.options.Format {
	case JSON:
		if b, err = json.MarshalIndent(v, "", "  "); err == nil {
			b = append(b, '\n')
		}
	case YAML:
		b, err = yaml.Marshal(v)
	default:
		page := &Page{style: p.outStyle}
		text(page)
		b = page.b.Bytes()
	}
	if err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	if _, err := p.out.Write(b); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return nil
}

// Remark prints a line for the person who waits, unless --quiet was given.
func (p *Printer) Remark(format string, args ...any) {
	if !p.options.Quiet {
		p.say(fmt.Sprintf(format, args...))
	}
}

// Warn prints a warning, also with --quiet.
func (p *Printer) Warn(format string, args ...any) {
	p.say(p.errStyle.paint(Yellow, "warning:") + " " + fmt.Sprintf(format, args...))
}

// Say prints a line that explains an error, also with --quiet.
func (p *Printer) Say(line string) { p.say(line) }

// say writes a line to standard error, above the live lines of an open progress.
func (p *Printer) say(line string) {
	p.mu.Lock()
	open := p.open
	if open == nil {
		fmt.Fprintln(p.err, line)
	}
	p.mu.Unlock()
	if open != nil {
		open.above(line)
	}
}
