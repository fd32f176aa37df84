package attack

import (
	"cmp"
	"fmt"
	"strings"
)

// Table writes what was seen, a row for each attempt and a column for each mode, as Markdown. A mode that was not run says so. Where modes differ in
// the cause or the record, each is told.
func Table(seen map[Mode][]Result) string {
	var b strings.Builder
	b.WriteString("| # | item | attempt |")
	for _, m := range Modes {
		fmt.Fprintf(&b, " %s |", m)
	}
	b.WriteString(" cause | record |\n|---|---|---|---|---|---|---|---|\n")
	row := func(number int, title, attempt string, expected func(Mode) Outcome) {
		fmt.Fprintf(&b, "| %s | %s | %s |", orDash(number), title, attempt)
		var causes, records []string
		for _, m := range Modes {
			r, ok := find(seen[m], title, attempt)
			switch {
			case !ok:
				fmt.Fprintf(&b, " not run (expected: %s) |", expected(m))
				causes, records = append(causes, ""), append(records, "")
				continue
			case r.OK():
				fmt.Fprintf(&b, " %s |", r.Seen)
			default:
				fmt.Fprintf(&b, " **%s**, expected %s |", r.Seen, r.Expected)
			}
			causes, records = append(causes, r.Cause), append(records, cmp.Or(r.Record, "none"))
		}
		fmt.Fprintf(&b, " %s | %s |\n", perMode(causes), perMode(records))
	}
	for _, r := range Catalogue() {
		if r.Later != "" {
			row(r.Number, r.Title, r.Title, func(Mode) Outcome { return Later })
		}
		for i := range r.Scenes {
			s := &r.Scenes[i]
			for n, name := range s.Names {
				row(r.Number, r.Title, name, func(m Mode) Outcome { return s.Expect(m, n) })
			}
		}
		for i := range r.Attempts {
			row(r.Number, r.Title, r.Attempts[i].Name, r.Attempts[i].Expected)
		}
	}
	return b.String()
}

func find(results []Result, title, attempt string) (Result, bool) {
	for _, r := range results {
		if r.Title == title && r.Attempt == attempt {
			return r, true
		}
	}
	return Result{}, false
}

func orDash(number int) string {
	if number == 0 {
		return "-"
	}
	return fmt.Sprint(number)
}

// perMode is one text for all modes, or each with the modes that it is of.
func perMode(texts []string) string {
	var order []string
	of := map[string][]string{}
	for i, text := range texts {
		if text == "" {
			continue
		}
		if of[text] == nil {
			order = append(order, text)
		}
		of[text] = append(of[text], string(Modes[i]))
	}
	clean := strings.NewReplacer("|", "\\|", "\n", " ")
	switch len(order) {
	case 0:
		return "-"
	case 1:
		return clean.Replace(order[0])
	}
	for i, text := range order {
		order[i] = strings.Join(of[text], ", ") + ": " + clean.Replace(text)
	}
	return strings.Join(order, "; ")
}
