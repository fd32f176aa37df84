package kcltool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weft-dev/weft/kcl"
	"github.com/weft-dev/weft/kcl/diag"
	"github.com/weft-dev/weft/kcl/mod"
	"github.com/weft-dev/weft/kcl/plan"
	"github.com/weft-dev/weft/kcl/value"
)

// runOptions are the flags of run and of the verbs that also compile.
type runOptions struct {
	arguments, settings, overrides, selectors, externals []string

	output, format, errorFormat, why          string
	git, oci, tag, commit, branch             string
	disableNone, debug, sortKeys, showHidden  bool
	strict, vendor, noStyle, quiet            bool
	listOptions, watch, schemaTypes, insecure bool

	missing func(mod.Dependency) (string, bool) // see Packages
}

// languageFlags are the flags of output; runnerFlags come with them.
func (o *runOptions) languageFlags(f *pflag.FlagSet) {
	f.StringArrayVarP(&o.selectors, "path_selector", "S", nil, "Specify the path selectors")
	f.StringVarP(&o.output, "output", "o", "", "Specify the YAML/JSON output `file` path")
	f.StringVarP(&o.git, "git", "", "", "Specify the KCL module git url")
	f.StringVarP(&o.oci, "oci", "", "", "Specify the KCL module oci url")
	f.StringVarP(&o.tag, "tag", "t", "", "Specify the tag for the OCI or Git artifact")
	f.StringVarP(&o.commit, "commit", "c", "", "Specify the commit for the Git artifact")
	f.StringVarP(&o.branch, "branch", "b", "", "Specify the branch for the Git artifact")
	f.StringVarP(&o.format, "format", "f", "yaml", "Specify the output format (yaml, json, toml, xml)")
	f.BoolVarP(&o.disableNone, "disable_none", "n", false, "Disable dumping None values")
	f.BoolVarP(&o.debug, "debug", "d", false, "Run in debug mode: 64-bit range checks; with -O, write the changed files back")
	f.BoolVarP(&o.sortKeys, "sort_keys", "k", false, "Sort output result keys")
	f.BoolVarP(&o.showHidden, "show_hidden", "H", false, "Display hidden attributes")
	f.BoolVar(&o.schemaTypes, "include_schema_type_path", false, "Add _type with the schema to each instance")
	f.StringVar(&o.errorFormat, "error_format", "", "Specify the form of errors ("+errorFormats+"); default $KCL_ERROR_FORMAT, else pretty")
	o.runnerFlags(f)
}

func (o *runOptions) runnerFlags(f *pflag.FlagSet) {
	f.StringArrayVarP(&o.arguments, "argument", "D", nil, "Specify the top-level argument, as `name=value`")
	f.StringSliceVarP(&o.settings, "setting", "Y", nil, "Specify the command line setting files")
	f.StringArrayVarP(&o.overrides, "overrides", "O", nil, "Specify the configuration override path and value, as `a.b=1`, a.b:{c=1}, a.b+=[1] or a.b-")
	f.StringSliceVarP(&o.externals, "external", "E", nil, "Specify the mapping of package name and path where the package is located")
	f.BoolVarP(&o.vendor, "vendor", "V", false, "Run in vendor mode")
	f.BoolVar(&o.noStyle, "no_style", false, "Set to prohibit output of command line waiting styles, including colors, etc.")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Set the quiet mode (no output)")
	f.BoolVarP(&o.strict, "strict_range_check", "r", false, "Do perform strict numeric range checks")
	f.BoolVar(&o.insecure, "insecure-skip-tls-verify", false, "Speak to registries on other machines without TLS")
	for _, old := range []string{"verbose", "fast_eval", "recursive"} { // of older versions; without effect
		f.BoolP(old, map[string]string{"verbose": "v", "fast_eval": "K", "recursive": "R"}[old], false, "")
		f.Lookup(old).Hidden = true
	}
	f.String("target", "", "")
	f.Lookup("target").Hidden = true
}

func (t *Tool) runCommand() *cobra.Command {
	o := &runOptions{}
	cmd := &cobra.Command{
		Use:     "run [file or folder]...",
		Short:   "Run KCL codes.",
		Aliases: []string{"r"},
		Long: `This command runs the kcl code and displays the output. 'kcl run' takes multiple input for arguments.

For example, 'kcl run path/to/kcl.k' will run the file named path/to/kcl.k`,
		Example: `  # Run the current package
  kcl run

  # Run a single file and output JSON
  kcl run path/to/kcl.k --format json

  # Run with an argument, and select a part of the output
  kcl run main.k -D env=prod -S app.replicas

  # Run a module of a registry, fetched once and kept
  kcl run oci://ghcr.io/kcl-lang/helloworld --tag 0.1.0

  # Which lines set, merged and overrode a field?
  kcl run main.k --why app.containers[0].image

  # Run again whenever a file changes
  kcl run main.k --watch`,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.watch {
				return t.watch(cmd.Context(), o, args)
			}
			return t.report(t.run(cmd.Context(), o, args, t.machine()), o.errorFormat, !o.noStyle)
		},
	}
	o.languageFlags(cmd.Flags())
	cmd.Flags().StringVar(&o.why, "why", "", "Print where the field at this `path` came from instead of the output")
	cmd.Flags().BoolVar(&o.watch, "watch", false, "Run again whenever a file of the program changes")
	cmd.Flags().BoolVarP(&o.listOptions, "list-options", "l", false, "List the arguments that the program takes instead of its output")
	return cmd
}

// run is one run with its output.
func (t *Tool) run(ctx context.Context, o *runOptions, args []string, files *machine) error {
	p, err := t.prepare(ctx, o, args, files)
	if err != nil {
		return err
	}
	p.options.Trace = o.why != ""
	var help []value.OptionHelp
	if o.listOptions {
		p.options.OptionHelp = &help
	}
	if o.debug && len(p.options.Overrides) > 0 {
		if err := writeOverridden(p.options, files); err != nil {
			return err
		}
	}
	result, err := kcl.Run(ctx, p.options)
	if o.listOptions && (err == nil || len(help) > 0) {
		return t.printOptions(help)
	}
	if err != nil {
		return err
	}
	t.warn(result.Warnings, o)
	if o.why != "" {
		return t.why(result, o.why)
	}
	text, err := render(result, p.format)
	if err != nil {
		return err
	}
	if p.output == "" {
		if o.quiet {
			return nil
		}
		_, err = io.WriteString(t.Out, text)
		return err
	}
	return files.WriteFile(p.output, []byte(text), false)
}

func (t *Tool) warn(list []*diag.Diagnostic, o *runOptions) {
	if len(list) == 0 || o.quiet {
		return
	}
	if text, err := t.diagnostics(list, o.errorFormat, !o.noStyle); err == nil {
		fmt.Fprint(t.Err, text)
	}
}

// render is the text of a result in one of the formats.
func render(r *kcl.Result, format string) (string, error) {
	docs := r.Documents
	if r.Stream != "" && format != "yaml" {
		var err error
		if docs, err = plan.ReadYAMLStream(r.Stream); err != nil {
			return "", fmt.Errorf("the text of yaml_stream() is no YAML: %w", err)
		}
	}
	switch format {
	case "yaml":
		if text := r.YAML(); text != "" {
			return text + "\n", nil
		}
		return "", nil
	case "json":
		var b bytes.Buffer
		for i, doc := range docs {
			if i > 0 {
				b.WriteString(",\n")
			}
			b.WriteString(plan.JSON(doc, r.PlanOptions(), 4))
		}
		b.WriteByte('\n')
		return b.String(), nil
	case "toml":
		return plan.TOML(docs, r.PlanOptions())
	}
	return plan.XML(docs, r.PlanOptions()), nil
}

func (t *Tool) printOptions(help []value.OptionHelp) error {
	seen := map[string]bool{}
	for _, h := range help {
		if seen[h.Name] {
			continue
		}
		seen[h.Name] = true
		line := "option: -D " + h.Name + "="
		if h.Default.Kind() != value.UndefinedKind {
			line += value.Text(h.Default)
		} else {
			line += "?"
		}
		if h.Type != "" {
			line += " type: " + h.Type
		}
		if h.Required {
			line += " (required)"
		}
		if h.Help != "" {
			line += " " + h.Help
		}
		if _, err := fmt.Fprintln(t.Out, line); err != nil {
			return err
		}
	}
	return nil
}

// writeOverridden writes the files that -O changes back, as -d asks for.
func writeOverridden(o kcl.Options, files *machine) error {
	changed, err := o.Overridden()
	if err != nil {
		return err
	}
	for name, text := range changed {
		if old, err := files.ReadFile(name); err == nil && string(old) == text {
			continue
		}
		if err := files.WriteFile(name, []byte(text), false); err != nil {
			return err
		}
	}
	return nil
}

// stdin is the name of the program that comes from standard input.
const stdin = "-"

// entries sorts the arguments: settings files go to o.settings, the rest are
// files and folders; standard input is read into code.
func (t *Tool) entries(o *runOptions, args []string) (files []string, code map[string]string, err error) {
	for _, arg := range args {
		switch ext := filepath.Ext(arg); {
		case arg == stdin:
			text, err := io.ReadAll(io.LimitReader(t.In, 256<<20))
			if err != nil {
				return nil, nil, fmt.Errorf("reading standard input: %w", err)
			}
			name := filepath.Join(t.Dir, "stdin.k")
			files = append(files, name)
			code = map[string]string{name: string(text)}
		case (ext == ".yaml" || ext == ".yml") && len(o.settings) > 0:
			o.settings = append(o.settings, arg)
		default:
			files = append(files, arg)
		}
	}
	return files, code, nil
}

var errArgument = errors.New("Invalid value for top level arguments")

// argument reads name=value. Only a value that is JSON may hold a further
// equals sign.
func argument(text string) (kcl.Argument, error) {
	name, val, ok := strings.Cut(text, "=")
	if !ok || strings.TrimSpace(name) == "" || strings.TrimSpace(val) == "" {
		return kcl.Argument{}, errArgument
	}
	if _, err := plan.ReadJSON(val); err != nil && strings.Contains(val, "=") {
		return kcl.Argument{}, errArgument
	}
	return kcl.Argument{Name: name, Value: val}, nil
}

var formats = []string{"json", "yaml", "toml", "xml"}

func checkFormat(format string) (string, error) {
	lower := strings.ToLower(format)
	if lower == "" {
		lower = "yaml"
	}
	if !slices.Contains(formats, lower) {
		return "", fmt.Errorf("invalid output format, expected %v, got %v", formats, format)
	}
	return lower, nil
}

// exists reports whether a name is a file or folder.
func (t *Tool) exists(name string) bool {
	_, err := os.Stat(t.machine().path(name))
	return err == nil
}
