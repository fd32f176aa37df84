package admission

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/reference"
)

// MaxReview is how many bytes an AdmissionReview may have: two objects of the size that API servers take, and what is around them.
const MaxReview = 8 << 20

// ParseReview reads an AdmissionReview of admission.k8s.io/v1.
func ParseReview(body []byte) (*admissionv1.AdmissionRequest, error) {
	if len(body) > MaxReview {
		return nil, fmt.Errorf("an AdmissionReview of %d bytes, expected at most %d", len(body), MaxReview)
	}
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(body, &review); err != nil {
		return nil, fmt.Errorf("not an AdmissionReview: %w", err)
	}
	switch {
	case review.Kind != "AdmissionReview" || review.APIVersion != admissionv1.SchemeGroupVersion.String():
		return nil, fmt.Errorf("apiVersion %q, kind %q: expected AdmissionReview of %s", review.APIVersion, review.Kind, admissionv1.SchemeGroupVersion)
	case review.Request == nil:
		return nil, errors.New("request: is missing")
	case review.Request.UID == "":
		return nil, errors.New("request.uid: is missing")
	case review.Request.Resource.Resource == "":
		return nil, errors.New("request.resource: is missing")
	}
	switch review.Request.Operation {
	case admissionv1.Create, admissionv1.Update, admissionv1.Delete, admissionv1.Connect:
		return review.Request, nil
	}
	return nil, fmt.Errorf("request.operation: %q is not known: expected CREATE, UPDATE, DELETE or CONNECT", review.Request.Operation)
}

// objectOf is what a request writes. With an error it is there without its content.
func objectOf(r *admissionv1.AdmissionRequest) (*reference.Object, error) {
	o := &reference.Object{Operation: reference.Operation(r.Operation), Resource: level.Kind{Group: r.Resource.Group, Resource: r.Resource.Resource},
		Subresource: r.SubResource, Namespace: r.Namespace, Name: r.Name}
	if r.Operation == admissionv1.Delete || r.Operation == admissionv1.Connect {
		return o, nil // nothing in them is a reference
	}
	for _, one := range []struct {
		raw  []byte
		to   *map[string]any
		name string
	}{{r.Object.Raw, &o.New, "object"}, {r.OldObject.Raw, &o.Old, "oldObject"}} {
		if len(one.raw) == 0 {
			continue
		}
		if err := json.Unmarshal(one.raw, one.to); err != nil {
			return o, fmt.Errorf("request.%s: %w", one.name, err)
		}
	}
	if o.New == nil {
		return o, errors.New("request.object: is missing")
	}
	return o, nil
}

// Review answers a request. It never fails: what cannot be read is denied, if the door enforces.
func (j *Judge) Review(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	u := User{Name: r.UserInfo.Username, Groups: r.UserInfo.Groups}
	o, err := objectOf(r)
	var v Verdict
	if err != nil {
		v = j.unreadable(err)
		j.remember(u, o, &v)
	} else {
		v = j.Write(u, o, r.DryRun != nil && *r.DryRun)
	}
	return respond(r, v)
}

func (j *Judge) unreadable(err error) Verdict {
	v := Verdict{Setting: api.Enforce, Findings: []reference.Finding{{Use: TooLarge, Cause: level.LevelTooLow, Message: "levels: " + err.Error(), Reason: err.Error()}}}
	if s := j.Snapshot(); s != nil {
		v.Setting = s.Registry().Spec().Doors.Admission
	}
	if j.Setting != nil {
		v.Setting = j.Setting()
	}
	return v
}

// maxWarning is how many bytes of a warning clients show (k8s.io/apiserver pkg/warning).
const maxWarning = 256

func respond(r *admissionv1.AdmissionRequest, v Verdict) *admissionv1.AdmissionResponse {
	response := &admissionv1.AdmissionResponse{UID: r.UID, Allowed: !v.Denied()}
	if len(v.Findings) == 0 {
		return response
	}
	var reasons []string
	for _, f := range v.Findings[:min(len(v.Findings), 16)] {
		reasons = append(reasons, strings.TrimSpace(f.Field+" "+f.Reason+" ("+string(f.Cause)+")"))
	}
	word := map[api.DoorSetting]string{api.Enforce: "denied", api.Warn: "would be denied, warned", api.Audit: "would be denied"}[v.Setting]
	response.AuditAnnotations = map[string]string{"decision": word, "reason": strings.Join(reasons, "; "), "clearance": strings.Join(v.Subject, " or ")}
	switch v.Setting {
	case api.Enforce:
		response.Result = &metav1.Status{Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Message: v.Message()}
	case api.Warn:
		for _, f := range v.Findings[:min(len(v.Findings), 8)] {
			response.Warnings = append(response.Warnings, f.Message[:min(len(f.Message), maxWarning)])
		}
	}
	return response
}

// Answer answers an AdmissionReview in its JSON form. An error tells what is wrong with the review. Log, which may be nil, hears of every write
// that levels are against.
func (j *Judge) Answer(body []byte, log *slog.Logger) (*admissionv1.AdmissionReview, error) {
	r, err := ParseReview(body)
	if err != nil {
		return nil, err
	}
	response := j.Review(r)
	if log != nil && response.AuditAnnotations != nil {
		log.Info("levels", "decision", response.AuditAnnotations["decision"], "reason", response.AuditAnnotations["reason"], "user", r.UserInfo.Username,
			"operation", r.Operation, "resource", r.Resource.Resource, "subresource", r.SubResource, "namespace", r.Namespace, "name", r.Name)
	}
	answer := &admissionv1.AdmissionReview{Response: response}
	answer.SetGroupVersionKind(admissionv1.SchemeGroupVersion.WithKind("AdmissionReview"))
	return answer, nil
}
