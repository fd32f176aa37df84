package level

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
)

// Registry is the compiled order of levels. It is immutable.
type Registry struct {
	spec             api.RegistrySpec
	ranks            map[string]uint16 // of names and aliases
	categories       map[string]int
	normal, trusted  [3]demand
	namespace        Label // of namespaces without a label
	clearance        Label // of subjects without one
	top              Label
	defaultClearance Subject
}

const (
	maxLevels = 1024
	maxLabel  = 1024 // bytes
)

var (
	namePattern   = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	levelPattern  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`)
	numberPattern = regexp.MustCompile(`^[0-9]{1,9}([.][0-9]{1,9})?$`)
	aliasPattern  = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)
)

// FieldError is something wrong with a field of a resource.
type FieldError struct{ Field, Message, Hint string }

func (e *FieldError) Error() string { return e.Field + ": " + e.Message }

func wrong(field, hint, format string, args ...any) error {
	return &FieldError{field, fmt.Sprintf(format, args...), hint}
}

// NewRegistry compiles a registry. The error is a *FieldError.
func NewRegistry(spec api.RegistrySpec) (*Registry, error) {
	r := &Registry{spec: spec, ranks: map[string]uint16{}, categories: map[string]int{}}
	r.spec.Mode = cmp.Or(spec.Mode, api.Authority)
	r.spec.Groups = cmp.Or(spec.Groups, "Any")
	for _, door := range []*api.DoorSetting{&r.spec.Doors.Authorizer, &r.spec.Doors.Webhook, &r.spec.Doors.Admission} {
		*door = cmp.Or(*door, api.Audit)
	}
	r.spec.Placement = cmp.Or(spec.Placement, api.AtMost)
	if err := r.check(); err != nil {
		return nil, err
	}
	for i, l := range spec.Levels {
		for j, name := range append([]string{l.Name}, l.Aliases...) {
			field, pattern := fmt.Sprintf("spec.levels[%d].name", i), levelPattern
			if j > 0 {
				field, pattern = fmt.Sprintf("spec.levels[%d].aliases[%d]", i, j-1), aliasPattern
			}
			if !pattern.MatchString(name) || j == 0 && len(name) > 40 || len(name) > 63 {
				return nil, wrong(field, "use small letters, digits, dashes and dots, at most 40", "%q cannot name a level", name)
			}
			if _, twice := r.ranks[name]; twice {
				return nil, wrong(field, "each name and alias stands for one level", "%q is there twice", name)
			}
			r.ranks[name] = uint16(i)
		}
	}
	modes := make([]api.Mode, len(spec.Categories))
	for i, c := range spec.Categories {
		field := fmt.Sprintf("spec.categories[%d]", i)
		if !namePattern.MatchString(c.Name) || len(c.Name) > 40 {
			return nil, wrong(field+".name", "use small letters, digits and dashes, at most 40", "%q cannot name a category", c.Name)
		}
		if _, twice := r.categories[c.Name]; twice {
			return nil, wrong(field+".name", "", "%q is there twice", c.Name)
		}
		if modes[i] = cmp.Or(c.Mode, r.spec.Mode); !isMode(modes[i]) {
			return nil, wrong(field+".mode", "use Authority, Confidentiality or Integrity", "there is no mode %q", c.Mode)
		}
		r.categories[c.Name] = i
		r.top.Categories[i/64] |= 1 << (i % 64)
	}
	r.top.Rank = uint16(len(spec.Levels) - 1)
	r.normal, r.trusted = demands(r.spec.Mode, modes)
	for i, l := range spec.Levels {
		for _, name := range append([]string{l.Name}, l.Aliases...) {
			if r.isSpelledOut(name) {
				return nil, wrong(fmt.Sprintf("spec.levels[%d]", i), "rename the level or the category", "%q would also mean a lower part of it with categories", name)
			}
		}
	}
	return r, r.defaults()
}

// isSpelledOut says whether the name of a level could be read as another level with categories.
func (r *Registry) isSpelledOut(name string) bool {
	for i, c := range name {
		if _, level := r.ranks[name[:i]]; c != '.' || !level {
			continue
		}
		unknown := func(category string) bool { _, ok := r.categories[category]; return !ok }
		if !slices.ContainsFunc(strings.Split(name[i+1:], "."), unknown) {
			return true
		}
	}
	return false
}

func isMode(m api.Mode) bool {
	return m == api.Authority || m == api.Confidentiality || m == api.Integrity
}

const settingHint = "use Audit, Warn or Enforce"

func isSetting(s api.DoorSetting) bool { return s == api.Audit || s == api.Warn || s == api.Enforce }

func (r *Registry) check() error {
	s := r.spec
	switch {
	case len(s.Levels) == 0:
		return wrong("spec.levels", "name the levels, the lowest first", "there is no level")
	case len(s.Levels) > maxLevels:
		return wrong("spec.levels", "", "%d levels; at most %d are possible", len(s.Levels), maxLevels)
	case len(s.Categories) > MaxCategories:
		return wrong("spec.categories", "", "%d categories; at most %d are possible", len(s.Categories), MaxCategories)
	case !isMode(s.Mode):
		return wrong("spec.mode", "use Authority, Confidentiality or Integrity", "there is no mode %q", s.Mode)
	case s.Groups != "Any" && s.Groups != "Join":
		return wrong("spec.groups", "use Any or Join", "%q is not known", s.Groups)
	case !isSetting(s.Doors.Authorizer):
		return wrong("spec.doors.authorizer", settingHint, "%q is not known", s.Doors.Authorizer)
	case !isSetting(s.Doors.Webhook):
		return wrong("spec.doors.webhook", settingHint, "%q is not known", s.Doors.Webhook)
	case !isSetting(s.Doors.Admission):
		return wrong("spec.doors.admission", settingHint, "%q is not known", s.Doors.Admission)
	case s.Placement != api.AtMost && s.Placement != api.AtLeast && s.Placement != api.Equal:
		return wrong("spec.placement", "use AtMost, AtLeast or Equal", "%q is not known", s.Placement)
	case s.Defaults.Strict && s.Defaults.Namespace != "":
		return wrong("spec.defaults.namespace", "remove one of the two", "strict puts unlabelled namespaces on the top level")
	}
	for i, f := range s.References {
		if field := fmt.Sprintf("spec.references[%d]", i); f.Resource == "" || f.Path == "" || f.To.Resource == "" {
			return wrong(field, "name resource, path and to.resource", "is not complete")
		}
	}
	return nil
}

func (r *Registry) defaults() error {
	for _, d := range []struct {
		field, text string
		to          *Label
	}{
		{"spec.defaults.namespace", r.spec.Defaults.Namespace, &r.namespace},
		{"spec.defaults.clearance", r.spec.Defaults.Clearance, &r.clearance},
	} {
		if d.text == "" {
			continue
		}
		l, err := r.Parse(d.text)
		if err != nil {
			return wrong(d.field, "", "%v", err)
		}
		*d.to = l
	}
	if r.spec.Defaults.Strict {
		r.namespace = r.top
	}
	r.defaultClearance = Subject{held: []held{{label: r.clearance}}, source: ByDefault}
	return nil
}

// Parse reads a label: LEVEL or LEVEL.CATEGORY.CATEGORY, where the level may be an alias and so hold dots itself.
func (r *Registry) Parse(text string) (Label, error) {
	if len(text) > maxLabel {
		return Label{}, fmt.Errorf("a label of %d bytes; at most %d are possible", len(text), maxLabel)
	}
	name, rest := text, ""
	rank, ok := r.ranks[name]
	for ; !ok; rank, ok = r.ranks[name] { // the longest name that is a level
		at := strings.LastIndexByte(name, '.')
		if at < 0 {
			return Label{}, fmt.Errorf("%q names no level; there are %s", text, r.names())
		}
		name, rest = text[:at], text[at+1:]
	}
	l := Label{Rank: rank}
	if len(name) == len(text) {
		return l, nil
	}
	for category := range strings.SplitSeq(rest, ".") {
		i, ok := r.categories[category]
		if !ok {
			return Label{}, fmt.Errorf("%q: there is no category %q", text, category)
		}
		l.Categories[i/64] |= 1 << (i % 64)
	}
	return l, nil
}

func (r *Registry) names() string {
	var all []string
	for _, l := range r.spec.Levels[:min(len(r.spec.Levels), 12)] {
		all = append(all, l.Name)
	}
	if len(r.spec.Levels) > 12 {
		all = append(all, "...")
	}
	return strings.Join(all, ", ")
}

// Format writes a label as Parse reads it, the categories in the registry's order.
func (r *Registry) Format(l Label) string {
	var b strings.Builder
	if int(l.Rank) < len(r.spec.Levels) {
		b.WriteString(r.spec.Levels[l.Rank].Name)
	} else {
		fmt.Fprintf(&b, "rank %d", l.Rank)
	}
	for i, c := range r.spec.Categories {
		if l.Categories[i/64]&(1<<(i%64)) != 0 {
			b.WriteString("." + c.Name)
		}
	}
	return b.String()
}

// Door is the setting of the authorizer.
func (r *Registry) Door() api.DoorSetting { return r.spec.Doors.Authorizer }

// Spec is what the registry was made of, with its defaults filled in.
func (r *Registry) Spec() api.RegistrySpec { return r.spec }

// numbered makes the registry that number labels (kubernetes.io/level: "2") stand for: a level for each number, in the order of numbers.
func numbered(values map[string]bool) (api.RegistrySpec, bool) {
	numbers := map[string]float64{}
	for v := range values {
		n, err := strconv.ParseFloat(v, 64)
		if err != nil || !numberPattern.MatchString(v) {
			return api.RegistrySpec{}, false
		}
		numbers[v] = n
	}
	var spec api.RegistrySpec
	last := 0.0
	for _, v := range slices.SortedFunc(maps.Keys(numbers), func(a, b string) int { return cmp.Or(cmp.Compare(numbers[a], numbers[b]), cmp.Compare(a, b)) }) {
		if n := len(spec.Levels); n > 0 && numbers[v] == last { // "2" and "2.0"
			spec.Levels[n-1].Aliases = append(spec.Levels[n-1].Aliases, v)
			continue
		}
		last = numbers[v]
		spec.Levels = append(spec.Levels, api.Level{Name: v})
	}
	return spec, len(spec.Levels) > 0
}

// TopName is the name of the highest level.
func (r *Registry) TopName() string { return r.spec.Levels[len(r.spec.Levels)-1].Name }
