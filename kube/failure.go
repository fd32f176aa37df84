package kube

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-dev/weft/kube/manifest"
)

// Conflict is one field that another manager has set to another value.
type Conflict struct {
	Manager string            `json:"manager"`
	Field   string            `json:"field"`
	Pos     manifest.Position `json:"position"`
}

// ConflictError says that applying would overwrite fields of other managers. Nothing was changed.
type ConflictError struct {
	Object    manifest.Identity
	Pos       manifest.Position
	Conflicts []Conflict
}

// Error has one line for each field.
func (e *ConflictError) Error() string {
	var lines []string
	for _, c := range e.Conflicts {
		lines = append(lines, fmt.Sprintf("%s: %s: %s: is set by %q to another value; leave the field out, or force to take it over",
			c.Pos, e.Object, strings.TrimPrefix(c.Field, "."), c.Manager))
	}
	return strings.Join(lines, "\n")
}

func isFieldConflict(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil || !apierrors.IsConflict(err) {
		return false
	}
	for _, c := range status.Status().Details.Causes {
		if c.Type == metav1.CauseTypeFieldManagerConflict {
			return true
		}
	}
	return false
}

// explain turns a server's answer to an apply into errors that name the place in the manifest.
func explain(o manifest.Object, err error) error {
	var status apierrors.APIStatus
	if err == nil || !errors.As(err, &status) {
		if err != nil && !isPlaced(err) {
			return o.ErrorAt("", err.Error(), "")
		}
		return err
	}
	s := status.Status()
	switch {
	case isFieldConflict(err):
		return conflictError(o, s)
	case isTypeError(err):
		return typedErrors(o, s.Message)
	case strings.Contains(s.Message, "strict decoding error:"):
		return strictErrors(o, s.Message)
	case s.Reason == metav1.StatusReasonInvalid && s.Details != nil && len(s.Details.Causes) > 0:
		return invalidErrors(o, s)
	case s.Reason == metav1.StatusReasonForbidden:
		return o.ErrorAt("", s.Message, "ask for the permission, or apply as another user")
	case s.Reason == metav1.StatusReasonNotFound && s.Details != nil && s.Details.Kind == "namespaces":
		return o.ErrorAt("metadata.namespace", fmt.Sprintf("the namespace %q does not exist", s.Details.Name), "add it to the manifests or create it first")
	}
	return o.ErrorAt("", s.Message, "")
}

// isTypeError tells that fields do not fit the kind's schema.
func isTypeError(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && strings.HasPrefix(status.Status().Message, "failed to create typed patch object")
}

// allTypeErrors completes a type error, which names only the first unknown field, by all that the server's schema tells.
func (c *Client) allTypeErrors(ctx context.Context, o manifest.Object, err error) error {
	schema, schemaErr := c.schemas.find(ctx, o.GroupVersionKind())
	if schemaErr == nil {
		if errs := checkSchema(o, schema); len(errs) > 0 {
			return errors.Join(errs...)
		}
	}
	return explain(o, err)
}

func isPlaced(err error) bool {
	var placed *manifest.Error
	return errors.As(err, &placed)
}

func conflictError(o manifest.Object, s metav1.Status) error {
	e := &ConflictError{Object: o.Identity(), Pos: o.Start()}
	for _, cause := range s.Details.Causes {
		if cause.Type != metav1.CauseTypeFieldManagerConflict {
			continue
		}
		pos, _ := o.Position(cause.Field)
		e.Conflicts = append(e.Conflicts, Conflict{Manager: managerIn(cause.Message), Field: cause.Field, Pos: pos})
	}
	return e
}

var conflictMessage = regexp.MustCompile(`^conflict with "((?:[^"\\]|\\.)*)"`)

func managerIn(message string) string {
	if m := conflictMessage.FindStringSubmatch(message); m != nil {
		return m[1]
	}
	return strings.TrimPrefix(message, "conflict with ")
}

var (
	typedPrefix = regexp.MustCompile(`^failed to create typed patch object \(.*?\): (?:errors:\n)?`)
	goValue     = regexp.MustCompile(`&?value\.valueUnstructured\{Value:(.*)\}$`)
)

// typedErrors reads the messages of structured-merge-diff's schema check: one line for each field, ".path: what".
func typedErrors(o manifest.Object, message string) error {
	var errs []error
	for line := range strings.SplitSeq(typedPrefix.ReplaceAllString(message, ""), "\n") {
		path, what := cutPath(strings.TrimSpace(line))
		what = goValue.ReplaceAllString(what, "$1")
		hint := ""
		if what == "field not declared in schema" {
			what, hint = "unknown field", "check its spelling and indentation: kubectl explain "+explainPath(o, path)
		}
		errs = append(errs, o.ErrorAt(path, what, hint))
	}
	return errors.Join(errs...)
}

// explainPath is what to ask kubectl explain for: the parent of the field, without list keys.
func explainPath(o manifest.Object, path string) string {
	path = regexp.MustCompile(`\[[^\]]*\]`).ReplaceAllString(path, "")
	parent := path[:max(strings.LastIndexByte(path, '.'), 0)]
	return strings.ToLower(o.GetKind()) + parent
}

// cutPath splits ".a.b[name=\"x: y\"].c: text" behind the path, minding quotes.
func cutPath(line string) (path, text string) {
	quoted := false
	for i := 0; i+1 < len(line); i++ {
		switch {
		case line[i] == '\\' && quoted:
			i++
		case line[i] == '"':
			quoted = !quoted
		case !quoted && line[i] == ':' && line[i+1] == ' ':
			return line[:i], line[i+2:]
		}
	}
	return "", line
}

var strictField = regexp.MustCompile(`(unknown|duplicate) field "((?:[^"\\]|\\.)*)"`)

func strictErrors(o manifest.Object, message string) error {
	var errs []error
	for _, m := range strictField.FindAllStringSubmatch(message, -1) {
		errs = append(errs, o.ErrorAt(m[2], m[1]+" field", ""))
	}
	if len(errs) == 0 {
		return o.ErrorAt("", message, "")
	}
	return errors.Join(errs...)
}

func invalidErrors(o manifest.Object, s metav1.Status) error {
	var errs []error
	for _, cause := range s.Details.Causes {
		hint := ""
		if strings.Contains(cause.Message, "field is immutable") || strings.Contains(cause.Message, "may not change once set") {
			hint = "delete the object to have it made anew"
		}
		errs = append(errs, o.ErrorAt(cause.Field, cause.Message, hint))
	}
	return errors.Join(errs...)
}
