package diag

import "encoding/json"

// SARIF writes diagnostics as a SARIF 2.1.0 log.
func SARIF(list []*Diagnostic) string {
	type object = map[string]any
	location := func(m Message) object {
		region := object{"startLine": max(m.Line, 1), "startColumn": max(m.Col, 0) + 1}
		if m.EndLine >= m.Line && m.EndLine > 0 && m.EndCol >= 0 {
			region["endLine"], region["endColumn"] = m.EndLine, m.EndCol+1
		}
		return object{"physicalLocation": object{"artifactLocation": object{"uri": m.File}, "region": region}}
	}
	results := []object{}
	rules, known := []object{}, map[string]bool{}
	for _, d := range list {
		if len(d.Messages) == 0 || d.Level == Suggestion {
			continue
		}
		kind, level := d.Kind, "error"
		if kind == "" {
			kind = EvaluationError
		}
		if d.Level == Warning {
			level = "warning"
		}
		id := kind.Code()
		if !known[id] {
			known[id] = true
			rules = append(rules, object{"id": id, "name": string(kind)})
		}
		r := object{"ruleId": id, "level": level, "message": object{"text": d.Messages[0].Text}, "locations": []object{location(d.Messages[0])}}
		var related []object
		for _, m := range d.Messages[1:] {
			l := location(m)
			l["message"] = object{"text": m.Text}
			related = append(related, l)
		}
		if related != nil {
			r["relatedLocations"] = related
		}
		results = append(results, r)
	}
	log := object{
		"version": "2.1.0", "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
		"runs": []object{{"tool": object{"driver": object{"name": "kcl", "rules": rules}}, "results": results}},
	}
	text, err := json.MarshalIndent(log, "", "  ")
	if err != nil {
		return "{}"
	}
	return string(text) + "\n"
}
