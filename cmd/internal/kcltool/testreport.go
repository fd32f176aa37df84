package kcltool

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/weft-dev/weft/kcl/cover"
)

// testReport is what `kcl test --output json` prints.
type testReport struct {
	Tests    []testResult  `json:"tests"`
	Passed   int           `json:"passed"`
	Failed   int           `json:"failed"`
	Coverage *testCoverage `json:"coverage,omitempty"`
}

type testResult struct {
	Package string  `json:"package"`
	Name    string  `json:"name"`
	Result  string  `json:"result"` // pass or fail
	Seconds float64 `json:"seconds"`
	Error   string  `json:"error,omitempty"`
}

type testCoverage struct {
	Percent float64      `json:"percent"`
	Files   []cover.File `json:"files"`
}

func (r *testReport) add(result testResult) {
	r.Tests = append(r.Tests, result)
	if result.Result == "pass" {
		r.Passed++
	} else {
		r.Failed++
	}
}

// cover fills in the coverage, with files as seen from the working folder.
func (r *testReport) cover(p *cover.Profile, t *Tool) {
	files := p.Files()
	for i := range files {
		files[i].Name = t.relative(files[i].Name)
	}
	r.Coverage = &testCoverage{cover.Percent(files...), files}
}

// testLine tells of one test, unless all is told at the end.
func (t *Tool) testLine(r testResult, o *testOptions) {
	if o.outputForm == "json" {
		return
	}
	took := time.Duration(r.Seconds * float64(time.Second)).Round(time.Microsecond)
	if r.Result == "pass" {
		fmt.Fprintf(t.Out, "%s: PASS (%s)\n", r.Name, took)
		return
	}
	fmt.Fprintf(t.Out, "%s: FAIL (%s)\n%s\n", r.Name, took, r.Error)
}

// testSummary ends the output; failed tests make it a Failure.
func (t *Tool) testSummary(r *testReport, o *testOptions) error {
	if o.outputForm == "json" {
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(t.Out, "%s\n", text); err != nil {
			return err
		}
		if r.Failed > 0 {
			return &Failure{1}
		}
		return nil
	}
	if len(r.Tests) == 0 {
		_, err := fmt.Fprintln(t.Out, "no test files")
		return err
	}
	rule := strings.Repeat("-", 80)
	if r.Coverage != nil {
		fmt.Fprintln(t.Out, rule)
		for _, f := range r.Coverage.Files {
			fmt.Fprintf(t.Out, "%6.1f%%  %s", cover.Percent(f), f.Name)
			if len(f.Missing) > 0 {
				fmt.Fprintf(t.Out, "  not run: %s", strings.Join(f.Missing, ", "))
			}
			fmt.Fprintln(t.Out)
		}
		fmt.Fprintf(t.Out, "%6.1f%%  of all statements\n", r.Coverage.Percent)
	}
	fmt.Fprintln(t.Out, rule)
	if r.Passed > 0 {
		fmt.Fprintf(t.Out, "PASS: %d/%d\n", r.Passed, len(r.Tests))
	}
	if r.Failed > 0 {
		fmt.Fprintf(t.Out, "FAIL: %d/%d\n", r.Failed, len(r.Tests))
		return &Failure{1}
	}
	return nil
}
