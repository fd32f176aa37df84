// Command bench-level measures what levels cost, and puts it beside the aims in one table. `make bench-level` calls it, on an idle machine best.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// suite is the benchmarks of a package.
type suite struct{ module, pattern, packet string }

var suites = []suite{
	{".", "Decide|Resolve|Snapshot", "./level"},
	{".", "Webhook", "./level/admission"},
	{".", "Served", "./manager/levels"},
	{".", "MatrixLoad", "./network"},
	{"embedded", "BesideRBAC|Added", "./authorizer"},
}

// aim is a figure that is wanted: at most, or at least, so much.
type aim struct {
	what, benchmark, unit string
	limit                 float64
	least                 bool
}

var aims = []aim{
	{"decision, clearance resolved; 5,000 users and namespaces", "BenchmarkDecide", "ns/op", 200, false},
	{"  allocations", "BenchmarkDecide", "allocs/op", 0, false},
	{"clearance of a user with 20 groups", "BenchmarkResolve/groups=20", "ns/op", 8000, false},
	{"clearance of a user with 300 groups", "BenchmarkResolve/groups=300", "ns/op", 8000, false},
	{"  allocations", "BenchmarkResolve/groups=300", "allocs/op", 0, false},
	{"snapshot of 10,000 users and namespaces", "BenchmarkSnapshot/all", "ns/op", 50e6, false},
	{"one of them changed", "BenchmarkSnapshot/one", "ns/op", 1e6, false},
	{"added by the whole authorizer, 20 groups", "BenchmarkAdded/20groups", "added-ns", 2000, false},
	{"added by the whole authorizer, 300 groups", "BenchmarkAdded/300groups", "added-ns", 10000, false},
	{"SubjectAccessReview over TLS on loopback, 99th percentile", "BenchmarkServed", "p99-ms", 1, false},
	{"AdmissionReview over TLS on loopback, 99th percentile", "BenchmarkWebhook", "p99-ms", 1, false},
	{"Kubernetes' roles with 5,000 bindings to a decision", "BenchmarkBesideRBAC", "times", 100, true},
	{"matrix of 20,000 addresses into the kernel", "BenchmarkMatrixLoad", "ns/op", 500e6, false},
}

func main() {
	count := flag.Int("count", 5, "how often everything is measured; the median counts")
	flag.Parse()
	if err := measure(*count); err != nil {
		fmt.Fprintln(os.Stderr, "bench-level:", err)
		os.Exit(1)
	}
}

func measure(count int) error {
	found := map[string][]float64{}
	for _, s := range suites {
		fmt.Fprintln(os.Stderr, "measuring", filepath.Join(s.module, s.packet))
		cmd := exec.Command("go", "test", "-run", "XXX", "-bench", s.pattern, "-benchmem", "-count", strconv.Itoa(count), s.packet)
		cmd.Dir, cmd.Stderr = s.module, os.Stderr
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w\n%s", s.packet, err, out.String())
		}
		for line := range strings.Lines(out.String()) {
			take(line, found)
		}
	}
	return table(found)
}

// take reads a line of a benchmark: its name, how often, and pairs of value and unit.
func take(line string, found map[string][]float64) {
	words := strings.Fields(line)
	if len(words) < 4 || !strings.HasPrefix(words[0], "Benchmark") {
		return
	}
	name := words[0]
	if i := strings.LastIndexByte(name, '-'); i > 0 {
		name = name[:i] // the number of processors
	}
	for i := 2; i+1 < len(words); i += 2 {
		if v, err := strconv.ParseFloat(words[i], 64); err == nil {
			key := name + " " + words[i+1]
			found[key] = append(found[key], v)
		}
	}
}

func table(found map[string][]float64) error {
	w := tabwriter.NewWriter(os.Stdout, 2, 0, 2, ' ', 0)
	fmt.Fprintln(w, "what\tmeasured\taim\t")
	missed := 0
	for _, a := range aims {
		values := found[a.benchmark+" "+a.unit]
		if len(values) == 0 {
			fmt.Fprintf(w, "%s\tnot measured\t%s\t✗\n", a.what, a.text(a.limit))
			missed++
			continue
		}
		slices.Sort(values)
		v, good := values[len(values)/2], "✓"
		if a.least && v < a.limit || !a.least && v > a.limit {
			good = "✗"
			missed++
		}
		word := "at most "
		if a.least {
			word = "at least "
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", a.what, a.text(v), word+a.text(a.limit), good)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if missed > 0 {
		return errors.New(strconv.Itoa(missed) + " aims were missed")
	}
	return nil
}

// text is a figure with its unit.
func (a *aim) text(v float64) string {
	switch a.unit {
	case "ns/op", "added-ns":
		switch {
		case v >= 1e6:
			return fmt.Sprintf("%.3g ms", v/1e6)
		case v >= 1e3:
			return fmt.Sprintf("%.3g µs", v/1e3)
		}
		return fmt.Sprintf("%.3g ns", v)
	case "p99-ms":
		return fmt.Sprintf("%.3g ms", v)
	case "times":
		return fmt.Sprintf("%.0f times", v)
	}
	return fmt.Sprintf("%.0f", v)
}
