package attack

import (
	"fmt"
	"strings"
)

// Table writes what was seen, a row for each attempt and a column for each mode, as Markdown. A mode that was not run says so.
func Table(seen map[Mode][]Result) string {
	var b strings.Builder
	b.WriteString("| # | item | attempt |")
	for _, m := range Modes {
		fmt.Fprintf(&b, " %s |", m)
	}
	b.WriteString(" cause |\n|---|---|---|---|---|---|---|\n")
	find := func(m Mode, title, attempt string) (Result, bool) {
		for _, r := range seen[m] {
			if r.Title == title && r.Attempt == attempt {
				return r, true
			}
		}
		return Result{}, false
	}
	row := func(number int, title, attempt string, expected func(Mode) Outcome) {
		n := ""
		if number > 0 {
			n = fmt.Sprint(number)
		}
		fmt.Fprintf(&b, "| %s | %s | %s |", n, title, attempt)
		cause := ""
		for _, m := range Modes {
			r, ok := find(m, title, attempt)
			switch {
			case !ok:
				fmt.Fprintf(&b, " not run (expected: %s) |", expected(m))
			case r.OK():
				fmt.Fprintf(&b, " %s |", r.Seen)
			default:
				fmt.Fprintf(&b, " **%s**, expected %s |", r.Seen, r.Expected)
			}
			if ok && cause == "" {
				cause = strings.NewReplacer("|", "\\|", "\n", " ").Replace(r.Cause)
			}
		}
		fmt.Fprintf(&b, " %s |\n", cause)
	}
	for _, r := range Catalogue() {
		if r.Later != "" {
			row(r.Number, r.Title, r.Title, func(Mode) Outcome { return Later })
		}
		for i := range r.Attempts {
			row(r.Number, r.Title, r.Attempts[i].Name, r.Attempts[i].Expected)
		}
	}
	return b.String()
}
