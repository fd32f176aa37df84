package kcltool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/kcl"
	"github.com/weft-dev/weft/kcl/diag"
	"github.com/weft-dev/weft/kcl/vet"
)

type vetOptions struct {
	runOptions
	schema, attribute, dataFormat, outputForm string
}

func (t *Tool) vetCommand() *cobra.Command {
	o := &vetOptions{}
	cmd := &cobra.Command{
		Use:   "vet <data file> <kcl file>",
		Short: "KCL validation tool",
		Long: `This command validates the data file using the kcl code: the data, JSON or YAML, must be
an instance of the schema. With - the data is read from standard input.`,
		Example: `  # Validate the JSON data using the kcl code
  kcl vet data.json code.k

  # Validate the YAML data using the kcl code
  kcl vet data.yaml code.k --format yaml

  # Validate the JSON data using the kcl code with the schema name
  kcl vet data.json code.k -s Schema

  # Validate and output results as JSON for CI/CD integration
  kcl vet data.json code.k --output json

  # Validate against a schema that imports an external KCL package
  kcl vet data.yaml schema.k -E my_pkg=./vendor/my_pkg`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.outputForm != "text" && o.outputForm != "json" {
				return fmt.Errorf("invalid output format %q, expected text or json", o.outputForm)
			}
			return t.vetResult(o, t.vet(cmd.Context(), o, args[0], args[1]))
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.schema, "schema", "s", "", "Specify the validate schema.")
	f.StringVarP(&o.attribute, "attribute_name", "a", "", "Specify the validate config attribute name.")
	f.StringVar(&o.dataFormat, "format", "", "Specify the validate data format. e.g., yaml, json. Default is by the name of the file, else json")
	f.StringSliceVarP(&o.externals, "external", "E", nil, "Specify the mapping of package name and path where the package is located, e.g. my_pkg=./vendor/my_pkg")
	f.StringVar(&o.outputForm, "output", "text", "Specify the output format. e.g., text, json. Default is text")
	f.StringVar(&o.errorFormat, "error_format", "", "Specify the form of errors ("+errorFormats+")")
	return cmd
}

func (t *Tool) vet(ctx context.Context, o *vetOptions, dataFile, code string) error {
	files := t.machine()
	d := vet.Data{Name: files.path(dataFile), Format: o.dataFormat}
	var text []byte
	var err error
	if dataFile == stdin {
		d.Name = "stdin"
		text, err = io.ReadAll(io.LimitReader(t.In, 256<<20))
	} else {
		text, err = os.ReadFile(d.Name)
	}
	if err != nil {
		return fmt.Errorf("Failed to load the validated file '%s': %w", dataFile, err)
	}
	d.Text = string(text)
	if _, err := os.Stat(files.path(code)); err != nil {
		return fmt.Errorf("Cannot find the kcl file, please check the file path %s", code)
	}
	p, err := t.prepare(ctx, &o.runOptions, []string{code}, files)
	if err != nil {
		return err
	}
	if p.options.Root != "" { // a schema of a package sees the whole package
		if info, err := os.Stat(files.path(code)); err == nil && !info.IsDir() {
			p.options.Files = []string{filepath.Dir(files.path(code))}
		}
	}
	return vet.Check(ctx, p.options, o.schema, o.attribute, d)
}

// vetResult prints the result as text or as JSON.
func (t *Tool) vetResult(o *vetOptions, err error) error {
	if o.outputForm == "json" {
		return t.vetJSON(err)
	}
	if err == nil {
		_, err = fmt.Fprintln(t.Out, "Validate success!")
		return err
	}
	var program *kcl.Error
	if errors.As(err, &program) {
		return t.report(err, o.errorFormat, !o.noStyle)
	}
	return err
}

type vetFinding struct {
	ErrorType   string `json:"errorType,omitempty"`
	File        string `json:"file,omitempty"`
	Line        int    `json:"line,omitempty"`
	Column      int    `json:"column,omitempty"`
	Message     string `json:"message,omitempty"`
	CodeSnippet string `json:"codeSnippet,omitempty"`
	// Schema is the place in the schema that says so.
	Schema *vetSchema `json:"schema,omitempty"`
}

type vetSchema struct {
	Filepath string `json:"filepath,omitempty"`
	Line     int    `json:"line,omitempty"`
	Column   int    `json:"column,omitempty"`
	Details  string `json:"details,omitempty"`
}

func (t *Tool) vetJSON(err error) error {
	result := struct {
		Success  bool         `json:"success"`
		ErrCount int          `json:"errCount,omitempty"`
		Errors   []vetFinding `json:"errors,omitempty"`
		Message  string       `json:"message,omitempty"`
	}{Success: err == nil}
	var program *kcl.Error
	switch {
	case err == nil:
		result.Message = "Validate success!"
	case errors.As(err, &program):
		for _, d := range program.Diagnostics {
			if len(d.Messages) == 0 || d.Level == diag.Suggestion {
				continue
			}
			m := d.Messages[0]
			f := vetFinding{ErrorType: string(d.Kind), File: m.File, Line: m.Line, Message: m.Text}
			if f.ErrorType == "" {
				f.ErrorType = string(diag.EvaluationError)
			}
			if m.Col >= 0 {
				f.Column = m.Col + 1
			}
			if m.Source != nil {
				f.CodeSnippet = m.Source.Text(m.Line)
			}
			if len(d.Messages) > 1 {
				r := d.Messages[1]
				f.Schema = &vetSchema{Filepath: r.File, Line: r.Line, Column: max(r.Col, 0) + 1, Details: r.Text}
			}
			result.Errors = append(result.Errors, f)
		}
	default:
		result.Errors = []vetFinding{{ErrorType: "Error", Message: err.Error()}}
	}
	result.ErrCount = len(result.Errors)
	data, e := json.MarshalIndent(result, "", "  ")
	if e != nil {
		return e
	}
	if _, e := fmt.Fprintln(t.Out, string(data)); e != nil {
		return e
	}
	if err != nil {
		return &Failure{1}
	}
	return nil
}
