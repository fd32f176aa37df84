package levels

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"

	"sigs.k8s.io/yaml"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/admission"
	"github.com/weft-dev/weft/level/door"
	"github.com/weft-dev/weft/level/rights"
	"github.com/weft-dev/weft/manager/webhook"
)

// AdmissionPath is where AdmissionReviews are taken: what objects name is judged there.
const AdmissionPath = "/admit"

// admit answers AdmissionReviews (admission.k8s.io/v1) by the levels that a door knows. Where the cluster has no levels everything passes; while
// nobody knows whether it has, nothing but what the components of the cluster write.
func admit(d *door.Door, r *rights.Rights, usage *admission.Usage, ledger admission.Ledger, log *slog.Logger) webhook.Handler {
	state := d.State
	judge := &admission.Judge{
		Snapshot: func() *level.Snapshot { return state().Snapshot },
		Off:      func() bool { s := state(); return s.Known && s.Snapshot == nil && !s.Stale },
		Setting:  func() api.DoorSetting { return state().Doors.Admission },
		Usage:    usage,
		Ledger:   ledger,
		Remember: d.RememberWrite,
		Rules:    r.Rules,
		Bound:    r.Bound,
	}
	return webhook.HandlerFunc(func(_ context.Context, body []byte) (any, error) {
		answer, err := judge.Answer(body, log)
		if err != nil {
			return nil, &webhook.BadRequest{Message: err.Error()}
		}
		return answer, nil
	})
}

// relabelsNode is true of what gives a node another level. Nothing else that the agents of nodes write is asked about, so that they live while every
// webhook is down.
func relabelsNode() string {
	label := func(of, key string) string {
		return fmt.Sprintf("(%[1]s == null ? optional.none() : %[1]s.metadata.?labels[?'%[2]s'])", of, key)
	}
	var differ []string
	for _, key := range []string{api.LevelLabel, api.TalkLabel} {
		differ = append(differ, label("object", key)+" != "+label("oldObject", key))
	}
	return "request.resource.group == '' && request.resource.resource == 'nodes' && object != null && (" + strings.Join(differ, " || ") + ")"
}

// ValidatingWebhook is the ValidatingWebhookConfiguration by which API servers ask about all that is written, through a url of the webhook whose
// certificates authority signs. As with authorization, what the components of the cluster write is not asked about, so that a cluster starts and lives
// while every webhook is down; nor is what is in kube-system. Pods in namespaces of workspaces are asked about whoever makes them.
func ValidatingWebhook(url string, authority []byte, account Account, exempt []string) ([]byte, error) {
	conditions := []any{}
	for i, c := range MatchConditions(account, exempt) {
		if c == hasResource {
			continue // admission has no other requests
		}
		c = strings.NewReplacer("request.user.", "request.userInfo.username.", "request.user ", "request.userInfo.username ", "request.groups", "request.userInfo.groups").Replace(c)
		if strings.Contains(c, "system:nodes") {
			c += " || " + relabelsNode()
		}
		conditions = append(conditions, object{"name": fmt.Sprintf("not-of-the-cluster-%d", i), "expression": c})
	}
	return yaml.Marshal(object{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": object{"name": AuthorizerName},
		"webhooks": append([]any{object{
			"name": AuthorizerName, "admissionReviewVersions": []any{"v1"}, "sideEffects": "NoneOnDryRun", "failurePolicy": "Fail", "matchPolicy": "Equivalent", "timeoutSeconds": 3,
			"clientConfig": object{"url": url, "caBundle": base64.StdEncoding.EncodeToString(authority)},
			"rules": []any{object{"apiGroups": []any{"*"}, "apiVersions": []any{"*"}, "resources": []any{"*/*"}, "scope": "*",
				"operations": []any{"CREATE", "UPDATE", "DELETE", "CONNECT"}}},
			"namespaceSelector": object{"matchExpressions": []any{object{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": []any{"kube-system"}}}},
			"matchConditions":   conditions,
		}}, ceilings(url, authority)...)})
}

// ceilings ask about what adds to the pods of workspaces, whoever makes it: pods of workloads are made by the cluster's controllers. While every webhook
// is down, namespaces of workspaces get no new pods; no other namespace is held up.
func ceilings(url string, authority []byte) []any {
	in := func(label string) object { return object{"key": label, "operator": "Exists"} }
	webhook := func(name string, selector ...any) object {
		return object{
			"name": name + "." + AuthorizerName, "admissionReviewVersions": []any{"v1"}, "sideEffects": "NoneOnDryRun", "failurePolicy": "Fail", "matchPolicy": "Equivalent", "timeoutSeconds": 3,
			"clientConfig": object{"url": url, "caBundle": base64.StdEncoding.EncodeToString(authority)},
			"rules": []any{
				object{"apiGroups": []any{""}, "apiVersions": []any{"v1"}, "resources": []any{"pods"}, "scope": "Namespaced", "operations": []any{"CREATE"}},
				object{"apiGroups": []any{""}, "apiVersions": []any{"v1"}, "resources": []any{"pods/resize"}, "scope": "Namespaced", "operations": []any{"UPDATE"}},
			},
			"namespaceSelector": object{"matchExpressions": selector},
		}
	}
	return []any{
		webhook("workspaces", in(api.WorkspaceLabel)),
		webhook("kubesphere", in(api.KubeSphereWS), object{"key": api.WorkspaceLabel, "operator": "DoesNotExist"}),
	}
}
