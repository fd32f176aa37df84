package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weft-dev/weft/cmd/internal/output"
)

// nydusOption is an option of a verb of nydus-image (dragonflyoss/nydus, src/bin/nydus-image/main.rs) or nydusify (contrib/nydusify/cmd/nydusify.go),
// and what it does here. Each has a value, or says why nothing depends on it, or why it is refused.
type nydusOption struct {
	name, short string
	aliases     []string
	env         string   // the variable by which nydusify takes it
	to          any      // *string, *bool, *int or pflag.Value, with the default in it; nil: it has no value here
	oneOf       []string // the values that there are; empty: any
	usage       string
	bare        bool   // it is given without a value (where to is nil)
	accepted    string // why it changes nothing
	refused     string // why it is not answered, and what to do instead
	initial     string // the default of one that is refused
}

type nydusOptions []nydusOption

// add defines the flags of a verb.
func (list nydusOptions) add(flags *pflag.FlagSet) {
	for _, o := range list {
		usage := o.usage
		switch {
		case o.accepted != "":
			usage = "accepted: " + o.accepted
		case o.refused != "":
			usage = "refused: " + o.refused
		}
		switch to := o.to.(type) {
		case *string:
			flags.StringVarP(to, o.name, o.short, *to, usage)
		case *bool:
			flags.BoolVarP(to, o.name, o.short, *to, usage)
		case *int:
			flags.IntVarP(to, o.name, o.short, *to, usage)
		case pflag.Value:
			flags.VarP(to, o.name, o.short, usage)
		default:
			if o.bare {
				flags.BoolP(o.name, o.short, false, usage)
			} else {
				flags.StringP(o.name, o.short, o.initial, usage)
			}
		}
		f := flags.Lookup(o.name)
		for _, alias := range o.aliases {
			flags.AddFlag(&pflag.Flag{Name: alias, Usage: "the same as --" + o.name, Value: f.Value, DefValue: f.DefValue, NoOptDefVal: f.NoOptDefVal, Hidden: true})
		}
	}
}

// check takes what the environment says of options that were not given, and looks at the values.
func (list nydusOptions) check(a *app, flags *pflag.FlagSet) error {
	for _, o := range list {
		given := slices.ContainsFunc(append([]string{o.name}, o.aliases...), flags.Changed)
		f := flags.Lookup(o.name)
		if v := a.getenv(o.env); o.env != "" && v != "" && !given {
			if err := flags.Set(o.name, v); err != nil {
				return output.Usagef("the environment variable %s, which stands for --%s: %w", o.env, o.name, err)
			}
		}
		v := f.Value.String()
		if o.refused != "" && v != f.DefValue {
			return output.Usagef("--%s is not answered here: %s", o.name, o.refused)
		}
		if len(o.oneOf) > 0 && v != "" && !slices.Contains(o.oneOf, v) {
			return output.Usagef("--%s %s: expected %s", o.name, v, orList(o.oneOf))
		}
	}
	return nil
}

func orList(words []string) string {
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// nydusVerb makes a command of a verb whose options are in a table.
func (a *app) nydusVerb(c *cobra.Command, options nydusOptions, run func(cmd *cobra.Command, args []string) error) *cobra.Command {
	options.add(c.Flags())
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if err := options.check(a, cmd.Flags()); err != nil {
			return err
		}
		return run(cmd, args)
	}
	return c
}

// notAnswered is a verb that is known and refused, whatever its arguments.
func (a *app) notAnswered(name, why, instead string, aliases ...string) *cobra.Command {
	return &cobra.Command{
		Use: name, Aliases: aliases, Short: "Not answered here: " + why, Example: "  " + instead, DisableFlagParsing: true, Hidden: true,
		RunE: func(*cobra.Command, []string) error {
			return output.Advise(output.Usagef("%s is not answered here: %s", name, why), "Use `"+instead+"`.")
		},
	}
}

// nydusLog are the options about logs that all verbs of a name have.
type nydusLog struct {
	level, file string
	debug       bool
}

// options are those of nydus-image; nydusify has more levels, variables, and one more option.
func (l *nydusLog) options(nydusify bool) nydusOptions {
	l.level = "info"
	list := nydusOptions{
		{name: "log-level", short: "l", to: &l.level, oneOf: []string{"trace", "debug", "info", "warn", "error"}, usage: "from warn on nothing but warnings and errors is told"},
		{name: "log-file", short: "L", to: &l.file, usage: "`file` to which messages go; an error is told on standard error, too"},
	}
	if nydusify {
		list[0].oneOf, list[0].env = append(list[0].oneOf, "warning", "fatal", "panic"), "LOG_LEVEL"
		list[1].short, list[1].env = "", "LOG_FILE"
		list = append(list, nydusOption{name: "debug", short: "D", to: &l.debug, env: "DEBUG_LOG_LEVEL", usage: "the same as --log-level debug"})
	}
	return list
}

// begin is what runs before every verb.
func (l *nydusLog) begin(a *app, options nydusOptions) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		a.begin(cmd, args)
		if err := options.check(a, cmd.Root().PersistentFlags()); err != nil {
			return err
		}
		if !l.debug && slices.Contains([]string{"warn", "warning", "error", "fatal", "panic"}, l.level) {
			a.options.Quiet = true
		}
		if l.file != "" {
			f, err := os.OpenFile(l.file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
			if err != nil {
				return fmt.Errorf("the log: %w", err)
			}
			if err := f.Close(); err != nil {
				return fmt.Errorf("the log: %w", err)
			}
			a.printer, a.logged = output.New(a.out, logFile(l.file), a.options, a.getenv), true
		}
		return nil
	}
}

// logFile is a file that is opened for each line, so that nobody has to close it.
type logFile string

// Write appends.
func (name logFile) Write(p []byte) (int, error) {
	f, err := os.OpenFile(string(name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return 0, err
	}
	n, err := f.Write(p)
	if e := f.Close(); err == nil {
		err = e
	}
	return n, err
}

// Options that several verbs have.

func bootstrapOption(to *string, usage string) nydusOption {
	return nydusOption{name: "bootstrap", short: "B", to: to, usage: usage}
}

func blobDirOption(to *string, usage string) nydusOption {
	return nydusOption{name: "blob-dir", short: "D", to: to, usage: usage}
}

func outputJSONOption(to *string) nydusOption {
	return nydusOption{name: "output-json", short: "J", to: to, usage: "`file` for the result as JSON"}
}

func parentOption(to *string) nydusOption {
	return nydusOption{name: "parent-bootstrap", to: to, usage: "bootstrap `file` of the layers below"}
}

func prefetchPolicyOption(to *string) nydusOption {
	*to = "none"
	return nydusOption{
		name: "prefetch-policy", to: to, oneOf: []string{"fs", "blob", "none"},
		usage: "fs or blob: paths on standard input, one in each line, are written to the table of what to fetch first, and lie first in the blob",
	}
}

func compressorOption(to *string) nydusOption {
	*to = "zstd"
	return nydusOption{name: "compressor", to: to, oneOf: []string{"none", "lz4_block", "zstd"}, usage: "none, lz4_block or zstd"}
}

func digesterOption(to *string, usage string) nydusOption {
	*to = "blake3"
	return nydusOption{name: "digester", to: to, oneOf: []string{"blake3", "sha256"}, usage: usage}
}

func versionOption(short string, to *string) nydusOption {
	*to = "6"
	return nydusOption{name: "fs-version", short: short, to: to, oneOf: []string{"5", "6"}, usage: "6; RAFS v5 is not written, and refused"}
}

func chunkSizeOption(name string, to *size) nydusOption {
	return nydusOption{name: name, to: to, usage: "`size` of chunks, a power of two from 0x1000 to 0x1000000 (default 0x100000)"}
}

func batchSizeOption(to *size) nydusOption {
	return nydusOption{name: "batch-size", to: to, usage: "`size` up to which small chunks are compressed together; 0 for never; without a compressor it changes nothing"}
}

// backendOptions are those of a storage of blobs that is neither a registry nor a folder.
func backendOptions(prefix, why string) nydusOptions {
	return nydusOptions{
		{name: prefix + "backend-type", refused: why}, {name: prefix + "backend-config", refused: why}, {name: prefix + "backend-config-file", refused: why},
	}
}

// from gives an option the variable by which nydusify takes it.
func (o nydusOption) from(variable string) nydusOption {
	o.env = variable
	return o
}
