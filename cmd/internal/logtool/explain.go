package logtool

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dlclark/regexp2"
	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/logging"
	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pattern"
	"github.com/weft-dev/weft/logging/render"
	"github.com/weft-dev/weft/logging/route"
)

// step is one station of a record.
type step struct {
	Configuration string `json:"configuration,omitempty"`
	Kind          string `json:"kind"` // input, filter, output, router, nothing
	Plugin        string `json:"plugin,omitempty"`
	From          string `json:"from,omitempty"` // resource, or place in a file
	Tag           string `json:"tag"`
	Why           string `json:"why"`
}

// record is what is known of the record that is followed.
type record struct {
	tag       string
	namespace string
	labels    map[string]string
}

// station is a section with where it comes from.
type station struct {
	section *config.Section
	from    string
}

func (t Tool) explain() *cobra.Command {
	var r record
	c := &cobra.Command{
		Use:   "explain PATH...",
		Short: "Tell which way a record takes, and why",
		Long: "Explain follows a record with this tag through filters and outputs, of resources or of a configuration file, and says for each station why the record\n" +
			"passes it. What filters do to the record's content is not evaluated; of rewriting filters only those that look at the namespace are followed.",
		Example: `  weft log explain logging/ --tag kube.var.log.containers.web-1_shop_web-0.log --record-namespace shop
  weft log explain fluent-bit.conf --tag app.web -o json`,
		Args: cobra.MinimumNArgs(1),
	}
	l := t.loader(c)
	c.Flags().StringVar(&r.tag, "tag", "", "`tag` of the record (required)")
	c.Flags().StringVar(&r.namespace, "record-namespace", "", "`namespace` of the pod that the record comes from")
	c.Flags().StringToStringVar(&r.labels, "record-labels", nil, "`labels` of that pod")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if r.tag == "" {
			return output.Advise(output.Usagef("--tag is missing"), "Give the tag of a record, for example --tag kube.var.log.containers.web-1_shop_web-0.log.")
		}
		s, err := l.load(cmd.Context(), args)
		if err != nil {
			return err
		}
		steps := []step{}
		for _, f := range s.files {
			if f.Format == config.Fluentd {
				steps = append(steps, followFluentd(f.Sections, r)...)
				continue
			}
			var stations []station
			for _, section := range f.Sections {
				stations = append(stations, station{section, section.Pos.String()})
			}
			steps = append(steps, followFluentBit(stations, r)...)
		}
		if s.documents != nil {
			for _, configuration := range l.plan(s).Configurations {
				steps = append(steps, explainConfiguration(configuration, r)...)
			}
		}
		return t.Print().Result(steps, func(p *output.Page) { stepsPage(p, steps) })
	}
	return c
}

func explainConfiguration(c *logging.Configuration, r record) []step {
	var steps []step
	if c.Pipeline != nil {
		r.tag = tenantTag(c.Pipeline, r)
		var stations []station
		for _, role := range []render.Role{render.RoleInput, render.RoleTenantInput, render.RoleFilter, render.RoleRoute, render.RoleTenantFilter, render.RoleTenantOutput, render.RoleOutput} {
			for _, e := range c.Pipeline.Entries {
				if e.Role == role {
					for _, section := range e.Sections {
						stations = append(stations, station{section, e.Document.String()})
					}
				}
			}
		}
		steps = followFluentBit(stations, r)
	}
	if c.Router != nil {
		steps = followRouter(c.Router, r)
	}
	for i := range steps {
		steps[i].Configuration = c.Namespace + "/" + c.Secret
	}
	return steps
}

// tenantTag is the tag that a record gets from the input of its namespace, if that has one.
func tenantTag(p *render.Pipeline, r record) string {
	tag := route.Prefix(r.namespace) + "." + r.tag
	for _, e := range p.Entries {
		if e.Role == render.RoleTenantInput && e.Tenant == r.namespace && slices.ContainsFunc(e.Sections, func(s *config.Section) bool { return gives(s, tag) != "" }) {
			return tag
		}
	}
	return r.tag
}

// followFluentBit goes through the filters in order and then to every output that matches.
func followFluentBit(stations []station, r record) []step {
	var steps []step
	for _, s := range stations {
		if s.section.Kind == config.Input {
			if why := gives(s.section, r.tag); why != "" {
				steps = append(steps, step{Kind: "input", Plugin: s.section.Plugin(), From: s.from, Tag: r.tag, Why: why})
			}
		}
	}
	return append(steps, fromFilter(stations, 0, r, 0)...)
}

func fromFilter(stations []station, start int, r record, depth int) []step {
	var steps []step
	for i := start; i < len(stations) && depth < 8; i++ {
		s := stations[i]
		if s.section.Kind != config.Filter {
			continue
		}
		ok, why := matches(s.section, r.tag)
		if !ok {
			continue
		}
		steps = append(steps, step{Kind: "filter", Plugin: s.section.Plugin(), From: s.from, Tag: r.tag, Why: why})
		if !strings.EqualFold(s.section.Plugin(), "rewrite_tag") {
			continue
		}
		for _, rule := range s.section.Values("rule") {
			tag, keep, why := rewritten(rule, r)
			if tag == "" {
				continue
			}
			steps = append(steps, step{Kind: "input", Plugin: "rewrite_tag", From: s.from, Tag: tag, Why: why})
			again := r
			again.tag = tag
			// the record begins anew with its new tag; the engine runs all filters again
			steps = append(steps, fromFilter(stations, 0, again, depth+1)...)
			if !keep {
				return steps
			}
			break
		}
	}
	found := false
	for _, s := range stations {
		if s.section.Kind != config.Output {
			continue
		}
		if ok, why := matches(s.section, r.tag); ok {
			found = true
			steps = append(steps, step{Kind: "output", Plugin: s.section.Plugin(), From: s.from, Tag: r.tag, Why: why})
		}
	}
	if !found {
		steps = append(steps, step{Kind: "nothing", Tag: r.tag, Why: "no output matches this tag; the record is dropped"})
	}
	return steps
}

// gives tells why an input may be where a tag comes from.
func gives(s *config.Section, tag string) string {
	own := s.Value("tag")
	switch {
	case own == "":
		return ""
	case wildcard(own, tag):
		return fmt.Sprintf("its tag is %s", own)
	}
	return ""
}

func matches(s *config.Section, tag string) (bool, string) {
	if expression := s.Value("match_regex"); expression != "" {
		re, err := regexp2.Compile(expression, regexp2.None)
		if err != nil {
			return false, ""
		}
		re.MatchTimeout = 1e9
		ok, err := re.MatchString(tag)
		return ok && err == nil, "match_regex " + expression
	}
	pattern := s.Value("match")
	return pattern != "" && wildcard(pattern, tag), "match " + pattern
}

// wildcard matches * with anything, as the engine does.
func wildcard(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	if !strings.HasPrefix(text, parts[0]) {
		return false
	}
	text = text[len(parts[0]):]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text = text[i+len(part):]
	}
	return strings.HasSuffix(text, parts[len(parts)-1])
}

// rewritten applies a rule that looks at the namespace; of others the record's content would have to be known.
func rewritten(rule string, r record) (tag string, keep bool, why string) {
	parts := strings.Fields(rule)
	if len(parts) != 4 || parts[0] != "$kubernetes['namespace_name']" || r.namespace == "" {
		return "", true, ""
	}
	re, err := regexp2.Compile(parts[1], regexp2.None)
	if err != nil {
		return "", true, ""
	}
	re.MatchTimeout = 1e9
	if ok, err := re.MatchString(r.namespace); !ok || err != nil {
		return "", true, ""
	}
	keep, _ = config.ParseBool(parts[3])
	return strings.ReplaceAll(parts[2], "$TAG", r.tag), keep, fmt.Sprintf("the namespace %s matches %s", r.namespace, parts[1])
}

func followRouter(router *render.Router, r record) []step {
	var steps []step
	for _, e := range router.Sources {
		steps = append(steps, step{Kind: "input", Plugin: e.Section.Plugin(), From: e.Document.String(), Tag: r.tag, Why: "a source"})
	}
	for _, label := range router.Labels {
		why := watched(label, r)
		if why == "" || len(label.Elements) == 0 {
			continue
		}
		steps = append(steps, step{Kind: "router", From: label.Config.String(), Tag: r.tag, Why: why})
		var stations []station
		for _, kind := range []string{"filter", "match"} {
			for _, e := range label.Elements {
				if e.Section.Kind == kind {
					stations = append(stations, station{e.Section, e.Document.String()})
				}
			}
		}
		steps = append(steps, elements(stations, r, !router.KeepShadowed)...)
	}
	if len(steps) == len(router.Sources) {
		steps = append(steps, step{Kind: "nothing", Tag: r.tag, Why: "no configuration watches this namespace and these labels; the record is dropped"})
	}
	return steps
}

// watched tells why the router gives a record to a label, or "".
func watched(label *render.Label, r record) string {
	w := label.Watch
	if label.Name == "@default" {
		return "the default route takes what no other configuration watches"
	}
	if len(w.Namespaces) > 0 {
		found := false
		for _, n := range w.Namespaces {
			found = found || n == r.namespace
		}
		if !found {
			return ""
		}
	}
	for key, value := range w.Labels {
		if r.labels[key] != value {
			return ""
		}
	}
	if len(w.Namespaces) == 0 && len(w.Labels) == 0 {
		return "it watches everything"
	}
	return fmt.Sprintf("it watches namespaces %s, labels %v", strings.Join(w.Namespaces, ", "), w.Labels)
}

// elements goes through filters and ends at the first match, or at all with the same pattern if they are copied.
func elements(stations []station, r record, copied bool) []step {
	var steps []step
	pattern := ""
	for _, s := range stations {
		if s.section.Kind != "filter" && s.section.Kind != "match" || !tagMatches(s.section.Arg, r.tag) {
			continue
		}
		if s.section.Kind == "match" && pattern != "" && (!copied || s.section.Arg != pattern) {
			continue
		}
		kind := "filter"
		if s.section.Kind == "match" {
			kind, pattern = "output", s.section.Arg
		} else if pattern != "" {
			continue
		}
		steps = append(steps, step{Kind: kind, Plugin: s.section.Plugin(), From: s.from, Tag: r.tag, Why: "<" + s.section.Kind + " " + s.section.Arg + ">"})
	}
	if pattern == "" {
		steps = append(steps, step{Kind: "nothing", Tag: r.tag, Why: "no <match> has a pattern for this tag; the record is dropped"})
	}
	return steps
}

// tagMatches tells whether one of a section's patterns takes the tag. A pattern that cannot be read takes none; lint tells of it.
func tagMatches(patterns, tag string) bool {
	p, err := pattern.Parse(patterns)
	return err == nil && p.Match(tag)
}

func stepsPage(p *output.Page, steps []step) {
	last, tag := "", ""
	for _, s := range steps {
		if s.Configuration != last {
			p.Line("%s", p.Paint(output.Bold, s.Configuration))
			last = s.Configuration
		}
		if s.Tag != tag {
			p.Line("  tag %s", s.Tag)
			tag = s.Tag
		}
		colour := map[string]output.Colour{"nothing": output.Red, "output": output.Green}[s.Kind]
		what := strings.TrimSpace(s.Kind + " " + s.Plugin)
		if s.From != "" {
			what += " (" + s.From + ")"
		}
		p.Line("    %s: %s", p.Paint(colour, what), s.Why)
	}
}
