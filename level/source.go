package level

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/kube/manifest"
)

// Groups of KubeSphere's kinds that carry levels in the talk on graded management.
const (
	kubesphereIAM    = "iam.kubesphere.io"
	kubesphereTenant = "tenant.kubesphere.io"
)

// Loaded is a model with what there is to say about its objects.
type Loaded struct {
	Model    *Model
	Inferred bool    // there is no Registry: its levels are the numbers that objects carry
	Findings []error // objects that break a rule between objects; all are *manifest.Error
}

// Load makes a model of objects. The error joins everything that is wrong with them, each a *manifest.Error; then there is no model.
func Load(objects []manifest.Object) (*Loaded, error) {
	l, err := load(objects, false)
	if err != nil {
		return nil, err
	}
	if len(l.errs) > 0 {
		return nil, errors.Join(l.errs...)
	}
	l.compare()
	return &l.Loaded, nil
}

// LoadRest is Load for a cluster that lives: what is wrong with an object must neither end the judging nor open anything. An object whose
// label cannot be read is on the top level, a clearance that cannot be read clears whom it names for the lowest level alone. Problems are
// *manifest.Error. There is an error, and no model, if the Registry is wrong or missing.
func LoadRest(objects []manifest.Object) (loaded *Loaded, problems []error, err error) {
	l, err := load(objects, true)
	if err != nil {
		return nil, nil, err
	}
	return &l.Loaded, l.errs, nil
}

func load(objects []manifest.Object, rest bool) (*loader, error) {
	registry, inferred, err := findRegistry(objects)
	if err != nil {
		return nil, err
	}
	l := &loader{Loaded: Loaded{Model: &Model{Registry: registry}, Inferred: inferred}, places: map[string]manifest.Object{}, rest: rest}
	for _, o := range objects {
		l.add(o)
	}
	return l, nil
}

type loader struct {
	Loaded
	rest   bool // take what cannot be read as the strictest thing that it could mean
	errs   []error
	places map[string]manifest.Object // where namespaces, workspaces and labelled objects were written
}

func findRegistry(objects []manifest.Object) (*Registry, bool, error) {
	var found *manifest.Object
	numbers := map[string]bool{}
	for i, o := range objects {
		if k := o.GroupVersionKind(); k.Group == api.Group && k.Kind == "Registry" {
			if found != nil {
				return nil, false, o.ErrorAt("kind", "a cluster has one Registry; another is at "+found.Start().String(), "remove one of them")
			}
			found = &objects[i]
		}
		if v, _, err := labelOf(o); err == nil && v != "" {
			numbers[v] = true
		}
	}
	if found == nil {
		spec, ok := numbered(numbers)
		if !ok {
			msg := "there is no Registry among the objects, and labels that are no numbers"
			if len(numbers) == 0 {
				msg = "there is no Registry among the objects, and nothing that carries a level"
			}
			return nil, false, &manifest.Error{Msg: msg, Hint: "say which levels there are: kind: Registry, apiVersion: level.weft.dev/v1alpha1, spec.levels with the lowest first"}
		}
		r, err := NewRegistry(spec)
		return r, true, err
	}
	var typed api.Registry
	if err := decode(*found, &typed); err != nil {
		return nil, false, err
	}
	if typed.Name != api.RegistryName {
		return nil, false, found.ErrorAt("metadata.name", "the Registry of a cluster is named "+api.RegistryName, "")
	}
	r, err := NewRegistry(typed.Spec)
	var field *FieldError
	if errors.As(err, &field) {
		return nil, false, found.ErrorAt(field.Field, field.Message, field.Hint)
	}
	return r, false, err
}

// decode refuses fields that are not known.
func decode(o manifest.Object, to any) error {
	if v := o.GroupVersionKind().Version; v != api.Version {
		return o.ErrorAt("apiVersion", fmt.Sprintf("version %q is not known", v), "use "+api.Group+"/"+api.Version)
	}
	err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, to, true)
	if strict, ok := runtime.AsStrictDecodingError(err); ok && len(strict.Errors()) > 0 {
		var all []error
		for _, e := range strict.Errors() {
			field := strings.TrimSuffix(strings.TrimPrefix(e.Error(), `unknown field "`), `"`)
			all = append(all, o.ErrorAt(field, "no such field", ""))
		}
		return errors.Join(all...)
	}
	if err != nil {
		return o.ErrorAt("spec", err.Error(), "")
	}
	return nil
}

// labelOf is the text of an object's label and the field it stands in, empty if there is none.
func labelOf(o manifest.Object) (text, field string, err error) {
	text, key, message, hint := labelIn(o.GetLabels())
	if key != "" {
		field = "metadata.labels[" + key + "]"
	}
	if message != "" {
		return "", "", o.ErrorAt(field, message, hint)
	}
	return text, field, nil
}

// LabelOf reads the label among an object's labels: nil if there is none, the top with an error if it cannot be read.
func (r *Registry) LabelOf(labels map[string]string) (*Label, error) {
	text, key, message, _ := labelIn(labels)
	if key == "" {
		return nil, nil
	}
	if message != "" {
		return &r.top, fmt.Errorf("metadata.labels[%s]: %s", key, message)
	}
	l, err := r.Parse(text)
	if err != nil {
		return &r.top, fmt.Errorf("metadata.labels[%s]: %w", key, err)
	}
	return &l, nil
}

func labelIn(labels map[string]string) (text, key, message, hint string) {
	text, ours := labels[api.LevelLabel]
	talk, theirs := labels[api.TalkLabel]
	key = api.LevelLabel
	switch {
	case ours && theirs && talk != text:
		return "", key, fmt.Sprintf("%q, but %s is %q", text, api.TalkLabel, talk), "remove one of them"
	case !ours && theirs:
		text, key = talk, api.TalkLabel
	case !ours:
		return "", "", "", ""
	}
	if text == "" {
		return "", key, "is empty", "name a level or remove the label"
	}
	return text, key, "", ""
}

func (l *loader) label(o manifest.Object) *Label {
	text, field, err := labelOf(o)
	if err != nil {
		l.errs = append(l.errs, err)
		return l.strictest()
	}
	if text == "" {
		return nil
	}
	if label := l.parse(o, field, text); label != nil {
		return label
	}
	return l.strictest()
}

// strictest is what a label that cannot be read stands for.
func (l *loader) strictest() *Label {
	if !l.rest {
		return nil
	}
	top := l.Model.Registry.top
	return &top
}

func (l *loader) parse(o manifest.Object, field, text string) *Label {
	label, err := l.Model.Registry.Parse(text)
	if err != nil {
		l.errs = append(l.errs, o.ErrorAt(field, err.Error(), "use one of them, or add it to the Registry"))
		return nil
	}
	return &label
}

func (l *loader) add(o manifest.Object) {
	k := o.GroupVersionKind()
	label := l.label(o)
	m := l.Model
	switch {
	case k.Group == api.Group && k.Kind == "Registry":
	case k.Group == api.Group && k.Kind == "Clearance":
		l.clearance(o)
	case k.Group == api.Group && k.Kind == "Workspace":
		l.workspace(o, label)
	case k.Group == kubesphereTenant && (k.Kind == "Workspace" || k.Kind == "WorkspaceTemplate"):
		m.Workspaces = append(m.Workspaces, Workspace{Name: o.GetName(), Label: label})
		l.places["Workspace "+o.GetName()] = o
	case k.Group == kubesphereIAM && k.Kind == "User":
		if label != nil {
			m.Grants = append(m.Grants, Grant{Subject: SubjectName{Kind: User, Name: o.GetName()}, Label: *label})
		}
	case k.Group == "" && k.Kind == "Namespace":
		m.Namespaces = append(m.Namespaces, Namespace{o.GetName(), label, WorkspaceOf(o.GetLabels())})
		l.places["Namespace "+o.GetName()] = o
	default:
		if k.Group == "" && k.Kind == "Node" {
			m.Nodes = append(m.Nodes, o.GetName())
		}
		if label != nil {
			l.object(o, k, *label)
		}
	}
}

// WorkspaceOf is the workspace that a namespace's labels name.
func WorkspaceOf(labels map[string]string) string {
	return cmp.Or(labels[api.WorkspaceLabel], labels[api.KubeSphereWS])
}

func (l *loader) object(o manifest.Object, k schema.GroupVersionKind, label Label) {
	plural, _ := meta.UnsafeGuessKindToResource(k)
	kind := Kind{k.Group, plural.Resource}
	namespace := o.GetNamespace()
	builtin := !strings.Contains(k.Group, ".") || strings.HasSuffix(k.Group, ".k8s.io")
	if namespace == "" && builtin && !withoutNamespace[kind] {
		namespace = "default"
	}
	l.Model.Objects = append(l.Model.Objects, Object{kind, namespace, o.GetName(), label})
	l.places[objectPlace(l.Model.Objects[len(l.Model.Objects)-1])] = o
}

func objectPlace(o Object) string {
	return strings.Join([]string{o.Group, o.Resource, o.Namespace, o.Name}, "/")
}

func (l *loader) subject(o manifest.Object, field string, s api.Subject) (SubjectName, bool) {
	fail := func(sub, message, hint string) (SubjectName, bool) {
		l.errs = append(l.errs, o.ErrorAt(field+sub, message, hint))
		return SubjectName{}, false
	}
	kind := SubjectKind(s.Kind)
	switch {
	case kind != User && kind != UserGroup && kind != ServiceAccount:
		return fail(".kind", fmt.Sprintf("there is no kind %q of subjects", s.Kind), "use User, Group or ServiceAccount")
	case s.Name == "":
		return fail(".name", "is missing", "name the subject")
	case kind == ServiceAccount && s.Namespace == "":
		return fail(".namespace", "is missing", "a service account is named by namespace and name")
	case kind != ServiceAccount && s.Namespace != "":
		return fail(".namespace", "users and groups have no namespace", "remove it")
	}
	return SubjectName{kind, s.Namespace, s.Name}, true
}

func (l *loader) clearance(o manifest.Object) {
	var c api.Clearance
	if err := decode(o, &c); err != nil {
		l.errs = append(l.errs, err)
		return
	}
	label := l.parse(o, "spec.label", c.Spec.Label)
	if len(c.Spec.Subjects) == 0 {
		l.errs = append(l.errs, o.ErrorAt("spec.subjects", "names nobody", "name users, groups or service accounts"))
	}
	for i, s := range c.Spec.Subjects {
		name, ok := l.subject(o, fmt.Sprintf("spec.subjects[%d]", i), s)
		if ok && label == nil && l.rest && name.Kind != UserGroup { // it may have been meant to clear for less than the groups do
			l.Model.Grants = append(l.Model.Grants, Grant{Subject: name})
		}
		if !ok || label == nil {
			continue
		}
		g := Grant{Subject: name, Label: *label, Trusted: c.Spec.Trusted}
		if c.Spec.Expires != nil {
			g.Expires = c.Spec.Expires.Time
		}
		l.Model.Grants = append(l.Model.Grants, g)
	}
}

func (l *loader) workspace(o manifest.Object, label *Label) {
	var w api.Workspace
	if err := decode(o, &w); err != nil {
		l.errs = append(l.errs, err)
		return
	}
	made := Workspace{Name: w.Name, Label: label, Members: map[SubjectName]Role{}, Ceiling: w.Spec.Ceiling}
	for i, member := range w.Spec.Members {
		field := fmt.Sprintf("spec.members[%d]", i)
		name, ok := l.subject(o, field, member.Subject)
		role := map[string]Role{"Viewer": Viewer, "Operator": Operator, "Admin": Admin}[member.Role]
		switch {
		case role == 0:
			l.errs = append(l.errs, o.ErrorAt(field+".role", fmt.Sprintf("there is no role %q", member.Role), "use Admin, Operator or Viewer"))
		case ok && made.Members[name] != 0:
			l.errs = append(l.errs, o.ErrorAt(field, name.String()+" is there twice", "keep one"))
		case ok:
			made.Members[name] = role
		}
	}
	l.Model.Workspaces = append(l.Model.Workspaces, made)
	l.places["Workspace "+w.Name] = o
}

// compare looks for objects that break a rule between objects: a project is not above its workspace, a member is cleared for the
// workspace, an object is not above its namespace.
func (l *loader) compare() {
	r, m := l.Model.Registry, l.Model
	find := func(o manifest.Object, field, hint, format string, args ...any) {
		l.Findings = append(l.Findings, o.ErrorAt(field, fmt.Sprintf(format, args...), hint))
	}
	workspaces, namespaces := map[string]Workspace{}, map[string]Label{}
	cleared := map[SubjectName][]Label{}
	for _, g := range m.Grants {
		cleared[g.Subject] = append(cleared[g.Subject], g.Label)
	}
	for _, w := range m.Workspaces {
		workspaces[w.Name] = w
		if w.Label == nil {
			continue
		}
		o := l.places["Workspace "+w.Name]
		for name := range w.Members {
			if !slices.ContainsFunc(cleared[name], func(c Label) bool { return c.Dominates(*w.Label) }) && !r.clearance.Dominates(*w.Label) {
				find(o, "spec.members", "clear the member, or leave it out", "%s is not cleared for %s, the level of the workspace", name, r.Format(*w.Label))
			}
		}
	}
	for _, n := range m.Namespaces {
		o := l.places["Namespace "+n.Name]
		if n.Label != nil {
			namespaces[n.Name] = *n.Label
		}
		w, known := workspaces[n.Workspace]
		switch {
		case n.Workspace == "":
		case !known:
			find(o, "metadata.labels", "", "the workspace %s is not among the objects", n.Workspace)
		case w.Label != nil && n.Label != nil && !w.Label.Dominates(*n.Label):
			find(o, "metadata.labels", "raise the workspace first, or lower the namespace", "%s is above %s, the level of its workspace %s", r.Format(*n.Label), r.Format(*w.Label), n.Workspace)
		}
	}
	for _, object := range m.Objects {
		if n, ok := namespaces[object.Namespace]; ok && r.spec.Mode == api.Authority && !n.Dominates(object.Label) {
			find(l.places[objectPlace(object)], "metadata.labels", "raise the namespace first, or lower the object", "%s is above %s, the level of its namespace %s", r.Format(object.Label), r.Format(n), object.Namespace)
		}
	}
	slices.SortStableFunc(l.Findings, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
}
