package logtool

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline"
	"github.com/weft-dev/weft/logging/pipeline/flow"
	events "github.com/weft-dev/weft/logging/pipeline/record"
)

// flowTests is a file of tests: records that go into a pipeline, and those that its outputs must get.
type flowTests struct {
	Configuration string     `json:"configuration,omitempty"` // of Fluent Bit or Fluentd, beside the file of tests
	Resources     []string   `json:"resources,omitempty"`     // or files and folders with resources
	Engine        string     `json:"engine,omitempty"`        // of resources for both: fluentbit or fluentd
	Without       []string   `json:"without,omitempty"`       // names of filters to leave out, such as kubernetes, which asks a cluster
	Tests         []flowTest `json:"tests"`
}

type flowTest struct {
	Name    string                  `json:"name"`
	Records []flowRecord            `json:"records"`
	Outputs map[string][]flowRecord `json:"outputs"` // by alias (Fluentd: @id), or plugin and number (es.0)
}

type flowRecord struct {
	Tag    string         `json:"tag,omitempty"`
	Record map[string]any `json:"record"`
}

// testResult is what became of one test.
type testResult struct {
	File    string   `json:"file"`
	Name    string   `json:"name"`
	OK      bool     `json:"ok"`
	Reasons []string `json:"reasons,omitempty"`
}

func (t Tool) test() *cobra.Command {
	c := &cobra.Command{
		Use:   "test FILE...",
		Short: "Run records through a pipeline and compare what its outputs get",
		Long: `Test runs the filters of a pipeline on the records of a file of tests and compares what each output gets with what is expected, in order and
complete: an output that is not named must get nothing. Inputs are not opened and nothing is sent. It ends with 1 if a test fails.

  configuration: fluent-bit.conf        # or fluent.conf, or resources: [logging/]
  engine: fluentbit                     # of resources for both engines: fluentbit or fluentd
  without: [kubernetes]                 # filters to leave out
  tests:
  - name: errors go to es
    records:
    - {tag: kube.web, record: {log: "an error"}}
    - {tag: kube.web, record: {log: "fine"}}
    outputs:
      es.0:                             # alias or @id of the output, or plugin and number
      - {record: {log: "an error"}}     # tag: may be given as well`,
		Example: `  weft log test logging/tests.yaml
  weft log test tests.yaml -o json`,
		Args: cobra.MinimumNArgs(1),
	}
	l := t.loader(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		results := []testResult{}
		for _, name := range args {
			of, err := t.testFile(cmd.Context(), l, name)
			if err != nil {
				return err
			}
			results = append(results, of...)
		}
		if err := t.Print().Result(results, func(p *output.Page) { resultsPage(p, results) }); err != nil {
			return err
		}
		if slices.ContainsFunc(results, func(r testResult) bool { return !r.OK }) {
			return output.Exit{Code: output.Failed}
		}
		return nil
	}
	return c
}

// maxTests bounds a file of tests, in bytes.
const maxTests = 16 << 20

// testFile runs the tests of one file.
func (t Tool) testFile(ctx context.Context, l *loader, name string) ([]testResult, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if len(data) > maxTests {
		return nil, fmt.Errorf("%s: the file has %d bytes, more than the limit of %d", name, len(data), maxTests)
	}
	var tests flowTests
	if err := yaml.UnmarshalStrict(data, &tests); err != nil {
		return nil, output.Advise(fmt.Errorf("%s: %s", name, strings.TrimPrefix(err.Error(), "error unmarshaling JSON: while decoding JSON: json: ")), "`weft log test --help` shows the form.")
	}
	paths := tests.Resources
	if tests.Configuration != "" {
		paths = append(paths, tests.Configuration)
	}
	if len(paths) == 0 || len(tests.Tests) == 0 {
		return nil, output.Advise(fmt.Errorf("%s: configuration or resources, and tests, are needed", name), "`weft log test --help` shows the form.")
	}
	if tests.Engine != "" && engineName(tests.Engine) == "" {
		return nil, fmt.Errorf("%s: there is no engine %q; there are fluentbit and fluentd", name, tests.Engine)
	}
	for i, p := range paths {
		if !filepath.IsAbs(p) {
			paths[i] = filepath.Join(filepath.Dir(name), p)
		}
	}
	s, err := l.load(ctx, paths)
	if err != nil {
		return nil, err
	}
	file, err := t.runnable(l, s, tests.Engine)
	if err != nil {
		return nil, err
	}
	var results []testResult
	for _, x := range tests.Tests {
		reasons, err := x.run(ctx, file, tests.Without)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", name, x.Name, err)
		}
		results = append(results, testResult{name, x.Name, len(reasons) == 0, reasons})
	}
	return results, nil
}

// longestTest is how long the pipeline may take for the records of a test.
const longestTest = time.Minute

// run gives the reasons why a test fails.
func (x flowTest) run(ctx context.Context, file *config.File, without []string) ([]string, error) {
	if file.Format == config.Fluentd {
		return x.runFluentd(ctx, file, without)
	}
	folder, err := os.MkdirTemp("", "weft-log-test-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	caught, names := catching(file, without, folder)
	for output := range x.Outputs {
		if !slices.Contains(names, output) {
			return nil, fmt.Errorf("there is no output %q; there are %s", output, strings.Join(names, ", "))
		}
	}
	batches, err := x.batches()
	if err != nil {
		return nil, err
	}
	var said bytes.Buffer
	level := new(slog.LevelVar)
	level.Set(slog.LevelError)
	ctx, stop := context.WithTimeout(ctx, longestTest)
	defer stop()
	if err := play(ctx, caught, pipeline.Options{Log: pipeline.NewLogger(&said, level), Records: batches}); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return []string{fmt.Sprintf("the pipeline took longer than %s", longestTest)}, nil
	}
	var reasons []string
	for line := range strings.Lines(said.String()) {
		reasons = append(reasons, strings.TrimSpace(line))
	}
	for _, name := range names {
		got, err := readCaught(filepath.Join(folder, name))
		if err != nil {
			return nil, err
		}
		reasons = append(reasons, differences(name, x.Outputs[name], got)...)
	}
	return reasons, nil
}

// catching is a configuration whose outputs write into a folder, each a file of its name, and which opens nothing else.
func catching(file *config.File, without []string, folder string) (*config.File, []string) {
	out := *file
	out.Sections = nil
	var names []string
	count := map[string]int{}
	for _, s := range file.Sections {
		switch s.Kind {
		case config.Input:
			continue
		case config.Service:
			quiet := &config.Section{Kind: s.Kind, Pos: s.Pos}
			for _, p := range s.Properties {
				if key := strings.ToLower(p.Key); key == "parsers_file" {
					quiet.Properties = append(quiet.Properties, p)
				}
			}
			quiet.Add("flush", "0.05")
			s = quiet
		case config.Filter:
			if slices.ContainsFunc(without, func(w string) bool { return strings.EqualFold(w, s.Plugin()) }) {
				continue
			}
		case config.Output:
			plugin := strings.ToLower(s.Plugin())
			name := fmt.Sprintf("%s.%d", plugin, count[plugin])
			count[plugin]++
			if alias := s.Value("alias"); alias != "" {
				name = alias
			}
			name = strings.ReplaceAll(name, "/", "_")
			names = append(names, name)
			catch := &config.Section{Kind: config.Output, Pos: s.Pos, Sections: s.Sections}
			for _, p := range s.Properties {
				if key := strings.ToLower(p.Key); key == "match" || key == "match_regex" {
					catch.Properties = append(catch.Properties, p)
				}
			}
			catch.Add("name", "file")
			catch.Add("path", folder)
			catch.Add("file", name)
			s = catch
		}
		out.Sections = append(out.Sections, s)
	}
	return &out, names
}

// batches are the records of a test, each a batch of its own, so that their order is that of the file.
func (x flowTest) batches() ([]flow.Batch, error) {
	all := []flow.Batch{}
	for i, r := range x.Records {
		if r.Tag == "" || r.Record == nil {
			return nil, fmt.Errorf("records[%d] needs tag and record", i)
		}
		text, err := json.Marshal(r.Record)
		if err != nil {
			return nil, fmt.Errorf("records[%d]: %w", i, err)
		}
		body, _, err := events.FromJSON(nil, text)
		if err != nil {
			return nil, fmt.Errorf("records[%d]: %w", i, err)
		}
		all = append(all, flow.Batch{Tag: r.Tag, Count: 1, Data: events.AppendEvent(nil, events.TimeOf(time.Now()), events.EmptyMap, body)})
	}
	return all, nil
}

// readCaught reads what the output `file` wrote: TAG: [TIME, RECORD] on each line.
func readCaught(path string) ([]flowRecord, error) {
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []flowRecord
	for line := range bytes.Lines(data) {
		tag, rest, ok := strings.Cut(string(line), ": [")
		var values []any
		d := json.NewDecoder(strings.NewReader("[" + rest))
		if err := d.Decode(&values); !ok || err != nil && err != io.EOF || len(values) < 2 {
			return nil, fmt.Errorf("what came out cannot be read: %q, %w", line, err)
		}
		body, _ := values[len(values)-1].(map[string]any)
		all = append(all, flowRecord{tag, body})
	}
	return all, nil
}

// differences tells in which way an output's records are not those that are expected.
func differences(name string, want, got []flowRecord) []string {
	var reasons []string
	for i := range max(len(want), len(got)) {
		switch {
		case i >= len(got):
			reasons = append(reasons, fmt.Sprintf("%s: record %d is missing: %s", name, i, shown(want[i].Record)))
		case i >= len(want):
			reasons = append(reasons, fmt.Sprintf("%s: record %d is not expected: %s (tag %s)", name, i, shown(got[i].Record), got[i].Tag))
		case !reflect.DeepEqual(want[i].Record, got[i].Record):
			reasons = append(reasons, fmt.Sprintf("%s: record %d is %s, expected %s", name, i, shown(got[i].Record), shown(want[i].Record)))
		case want[i].Tag != "" && want[i].Tag != got[i].Tag:
			reasons = append(reasons, fmt.Sprintf("%s: record %d has tag %s, expected %s", name, i, got[i].Tag, want[i].Tag))
		}
	}
	return reasons
}

func shown(r map[string]any) string {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Sprint(r)
	}
	return string(text)
}

func resultsPage(p *output.Page, results []testResult) {
	failed := 0
	for _, r := range results {
		if r.OK {
			p.Line("%s %s", p.Paint(output.Green, "ok"), r.Name)
			continue
		}
		failed++
		p.Line("%s %s (%s)", p.Paint(output.Red, "FAILED"), r.Name, r.File)
		for _, reason := range r.Reasons {
			p.Line("    %s", reason)
		}
	}
	p.Line("%d tests, %d failed", len(results), failed)
}
