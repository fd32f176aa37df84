package diag

import (
	"encoding/json"
	"strings"
)

// Arcanist writes diagnostics as the JSON list that Phabricator's Arcanist
// reads (kcl-lang/kcl crates/error/src/format/arcanist.rs).
func Arcanist(list []*Diagnostic) string {
	type entry struct {
		Char         int
		Code         string
		Description  string
		Line         int
		Name         string
		OriginalText string
		Path         string
	}
	entries := []entry{}
	for _, d := range list {
		if len(d.Messages) == 0 || d.Level == Suggestion {
			continue
		}
		m := d.Messages[0]
		kind, level := d.Kind, "error"
		if d.Level == Warning {
			level = "warning"
		}
		if kind == "" {
			kind = EvaluationError
		}
		text := m.Text
		if m.Note != "" {
			text += " | note: " + m.Note
		}
		for _, r := range d.Messages[1:] {
			text += " | related: " + r.Text
		}
		line, _ := m.source()
		entries = append(entries, entry{
			Char: max(m.Col, 0) + 1, Code: level + "[" + kind.Code() + "]", Description: strings.TrimPrefix(text, " | "),
			Line: max(m.Line, 1), Name: string(kind), OriginalText: line, Path: m.File,
		})
	}
	data, err := json.MarshalIndent(entries, "", "  ")
	if err != nil {
		return "[]\n" // plain strings and numbers always encode
	}
	return string(data) + "\n"
}
