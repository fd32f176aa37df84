package render

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/weft-dev/weft/logging/config"
)

// Files are the files of the configuration, as Fluentd's Secret holds them.
func (r *Router) Files() (map[string][]byte, error) {
	level, workers := "", int64(1)
	if r.Owner != nil {
		level, _ = r.Owner.Spec()["logLevel"].(string)
		if n, ok := integer(r.Owner.Spec()["workers"]); ok {
			workers = n
		}
	}
	app, err := r.App()
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{
		"fluent.conf": []byte("# includes all files\n@include /fluentd/etc/system.conf\n@include /fluentd/etc/app.conf\n@include /fluentd/etc/log.conf\n"),
		"app.conf":    app,
		"system.conf": fmt.Appendf(nil, "# Enable RPC endpoint\n<system>\n\trpc_endpoint 127.0.0.1:24444\n\tlog_level %s\n\tworkers %d\n</system>\n", cmp.Or(level, "info"), workers),
		"log.conf": []byte("# Do not collect fluentd's own logs to avoid infinite loops.\n<match **>\n\t@type null\n\t@id main-no-output\n</match>\n" +
			"<label @FLUENT_LOG>\n\t<match fluent.*>\n\t\t@type null\n\t\t@id main-fluentd-log\n\t</match>\n</label>\n"),
	}
	if len(app) == 0 {
		files["system.conf"] = nil
	}
	return files, nil
}

// App is the file with sources, router and labels; empty if there is nothing to do.
func (r *Router) App() ([]byte, error) {
	var out []byte
	var err error
	labels := slices.Clone(r.Labels)
	slices.SortStableFunc(labels, func(a, b *Label) int { return cmp.Compare(a.Name, b.Name) })
	if len(r.Sources) == 0 && !slices.ContainsFunc(labels, func(l *Label) bool { return len(l.Elements) > 0 }) {
		return nil, nil
	}
	for _, e := range r.Sources {
		if out, err = appendElement(out, sortSection(e.Section, false)); err != nil {
			return nil, fmt.Errorf("%s: %w", e.Document, err)
		}
	}
	if out, err = config.Append(out, config.Fluentd, r.route(labels)); err != nil {
		return nil, err
	}
	for _, l := range labels {
		if l.empty() {
			continue
		}
		if out, err = config.Append(out, config.Fluentd, l.section(r.KeepShadowed)); err != nil {
			return nil, fmt.Errorf("%s: %w", l.Config, err)
		}
	}
	return []byte(strings.TrimRight(string(out), "\n")), nil
}

func appendElement(out []byte, s *config.Section) ([]byte, error) {
	if s.Text == "" {
		return config.Append(out, config.Fluentd, s)
	}
	for line := range strings.SplitSeq(s.Text, "\n") {
		if line != "" {
			out = append(out, "  "+line+"\n"...)
		}
	}
	return out, nil
}

// route sends each record to the label of the configuration that watches it.
func (r *Router) route(labels []*Label) *config.Section {
	match := &config.Section{Kind: "match", Arg: "**"}
	match.Add("@id", "main")
	match.Add("@type", "label_router")
	for _, l := range labels {
		if l.Name == "@default" {
			match.Add("default_route", "@default")
			continue
		}
		if l.Invalid || l.empty() { // Fluentd refuses a route to a label that is not there
			continue
		}
		route := &config.Section{Kind: "route"}
		route.Add("@label", l.Name)
		watch := &config.Section{Kind: "match"}
		add := func(key string, texts []string) {
			if len(texts) > 0 {
				watch.Add(key, strings.Join(texts, ","))
			}
		}
		add("container_names", l.Watch.Containers)
		add("hosts", l.Watch.Hosts)
		var pairs []string
		for _, key := range slices.Sorted(maps.Keys(l.Watch.Labels)) {
			pairs = append(pairs, key+":"+l.Watch.Labels[key])
		}
		add("labels", pairs)
		add("namespaces", l.Watch.Namespaces)
		route.Sections = []*config.Section{watch}
		match.Sections = append(match.Sections, route)
	}
	return match
}

// empty labels are not written.
func (l *Label) empty() bool { return len(l.Elements) == 0 && !l.sources }

// section is the label with its plugins. Several outputs of one tag become copies, since Fluentd gives a record to the first only.
func (l *Label) section(keepShadowed bool) *config.Section {
	label := &config.Section{Kind: "label", Arg: l.Name}
	byTag := map[string][]*Element{}
	for _, e := range l.Elements {
		if e.Section.Kind == "match" {
			byTag[e.Section.Arg] = append(byTag[e.Section.Arg], e)
		}
	}
	done := map[string]bool{}
	for _, e := range l.Elements {
		s := e.Section
		if same := byTag[s.Arg]; s.Kind == "match" && (len(same) > 1 || s.Value("@type") == "copy") {
			if done[s.Arg] {
				continue
			}
			if merged := merge(same, keepShadowed, l.Numeric); merged != nil {
				done[s.Arg] = true
				s = merged
			}
		}
		label.Sections = append(label.Sections, sortSection(s, l.Numeric))
	}
	sortSections(label.Sections, l.Numeric)
	return label
}

// merge makes a copy output of several; nil if they stay side by side.
func merge(same []*Element, keepShadowed, numeric bool) *config.Section {
	var copied *config.Section
	for _, e := range same {
		if e.Section.Value("@type") == "copy" {
			copied = e.Section
		}
	}
	if copied == nil {
		if keepShadowed || len(same) < 2 {
			return nil
		}
		copied = &config.Section{Kind: "match", Arg: same[0].Section.Arg}
		copied.Add("@type", "copy")
	}
	out := *copied
	out.Sections = slices.Clone(copied.Sections)
	for _, e := range same {
		if e.Section.Value("@type") == "copy" {
			continue
		}
		store := *e.Section
		if store.Text != "" {
			parsed, err := config.Parse("", []byte(store.Text), config.Options{Format: config.Fluentd})
			if err != nil || len(parsed.Sections) != 1 {
				return nil
			}
			store = *parsed.Sections[0]
		}
		store.Kind, store.Arg = "store", ""
		out.Sections = append(out.Sections, &store)
	}
	sortSections(out.Sections, numeric)
	return &out
}

// sortSection puts properties and inner sections into the operator's order.
func sortSection(s *config.Section, numeric bool) *config.Section {
	if s.Text != "" {
		return s
	}
	sorted := *s
	sorted.Properties = slices.Clone(s.Properties)
	slices.SortStableFunc(sorted.Properties, func(a, b config.Property) int { return cmp.Compare(a.Key, b.Key) })
	sorted.Sections = nil
	for _, child := range s.Sections {
		sorted.Sections = append(sorted.Sections, sortSection(child, numeric))
	}
	sortSections(sorted.Sections, numeric)
	return &sorted
}

// sortSections: by kind; the pattern ** last, since it takes what the others would; by id.
func sortSections(sections []*config.Section, numeric bool) {
	last := func(s *config.Section) int {
		if s.Arg == "**" {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(sections, func(a, b *config.Section) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(last(a), last(b)), compareIDs(sectionID(a), sectionID(b), numeric))
	})
}

func sectionID(s *config.Section) string {
	if id := s.Value("@id"); id != "" {
		return id
	}
	for _, child := range s.Sections { // a copy made here stands where its first output would
		if child.Kind == "store" {
			return child.Value("@id")
		}
	}
	return ""
}

func compareIDs(a, b string, numeric bool) int {
	if numeric {
		i, j := strings.LastIndexByte(a, '-'), strings.LastIndexByte(b, '-')
		if i >= 0 && j >= 0 && a[:i] == b[:j] {
			m, err1 := strconv.Atoi(a[i+1:])
			n, err2 := strconv.Atoi(b[j+1:])
			if err1 == nil && err2 == nil {
				return cmp.Compare(m, n)
			}
		}
	}
	return cmp.Compare(a, b)
}
