package levels

import (
	"bytes"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"
)

// AuthorizerName is the name of the webhook in an AuthorizationConfiguration.
const AuthorizerName = "levels.weft.dev"

// Account is the service account of the webhook's own pods; API servers do not ask about it.
type Account struct{ Namespace, Name string }

type object = map[string]any

// hasResource is true of requests about objects.
const hasResource = "has(request.resourceAttributes)"

// MatchConditions are what a request must be for the webhook to be asked. All others go on to the next authorizer: those of the components of the
// cluster, so that it starts and lives while every webhook is down. exempt are the users of the installation's own programs.
func MatchConditions(account Account, exempt []string) []string {
	own := []string{fmt.Sprintf("'system:serviceaccount:%s:%s'", account.Namespace, account.Name)}
	for _, user := range exempt {
		own = append(own, "'"+strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(user)+"'")
	}
	return []string{
		hasResource,
		"!('system:masters' in request.groups)",
		"!(request.user in ['system:apiserver', 'system:kube-controller-manager', 'system:kube-scheduler', 'system:kube-proxy', 'kube-apiserver-kubelet-client'])",
		"!('system:nodes' in request.groups && request.user.startsWith('system:node:'))",
		"!('system:serviceaccounts:kube-system' in request.groups && request.user.startsWith('system:serviceaccount:kube-system:'))",
		"!(request.user in [" + strings.Join(own, ", ") + "])",
	}
}

// webhookAuthorizer is the webhook's entry in an AuthorizationConfiguration. Answers are kept for a second, so that a revocation is felt at once; a
// webhook that does not answer means that what it is asked about is denied.
func webhookAuthorizer(kubeconfig string, account Account, exempt []string) object {
	conditions := []any{}
	for _, c := range MatchConditions(account, exempt) {
		conditions = append(conditions, object{"expression": c})
	}
	return object{"type": "Webhook", "name": AuthorizerName, "webhook": object{
		"authorizedTTL": "1s", "unauthorizedTTL": "1s", "timeout": "3s", "failurePolicy": "Deny",
		"subjectAccessReviewVersion": "v1", "matchConditionSubjectAccessReviewVersion": "v1",
		"connectionInfo":  object{"type": "KubeConfigFile", "kubeConfigFile": kubeconfig},
		"matchConditions": conditions,
	}}
}

// AuthorizationConfiguration is the file for kube-apiserver's --authorization-config: levels first, then the nodes' authorizer and roles.
func AuthorizationConfiguration(kubeconfig string, account Account, exempt []string) ([]byte, error) {
	return yaml.Marshal(object{"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration", "authorizers": []any{
		webhookAuthorizer(kubeconfig, account, exempt),
		object{"type": "Node", "name": "node"},
		object{"type": "RBAC", "name": "rbac"},
	}})
}

// WithoutLevels takes the webhook out of an AuthorizationConfiguration, and says whether it was there. API servers read the file again by themselves.
func WithoutLevels(data []byte) (changed []byte, found bool, err error) {
	var c object
	if err := yaml.UnmarshalStrict(data, &c); err != nil {
		return nil, false, fmt.Errorf("no YAML: %w", err)
	}
	if c["kind"] != "AuthorizationConfiguration" {
		return nil, false, fmt.Errorf("kind: is %v, expected AuthorizationConfiguration", c["kind"])
	}
	authorizers, ok := c["authorizers"].([]any)
	if !ok {
		return nil, false, fmt.Errorf("authorizers: expected a list")
	}
	kept := []any{}
	for _, a := range authorizers {
		if one, ok := a.(object); ok && one["name"] == AuthorizerName {
			found = true
			continue
		}
		kept = append(kept, a)
	}
	if !found {
		return data, false, nil
	}
	c["authorizers"] = kept
	changed, err = yaml.Marshal(c)
	return changed, true, err
}

// Kubeconfig is how an API server reaches the webhook: with the authority that signs the webhook's certificates, and a certificate that says that it is
// the API server.
func Kubeconfig(url string, authority, certificate, key []byte) ([]byte, error) {
	return yaml.Marshal(object{"apiVersion": "v1", "kind": "Config", "current-context": "levels",
		"clusters": []any{object{"name": "levels", "cluster": object{"server": url, "certificate-authority-data": bytes.TrimSpace(authority)}}},
		"users":    []any{object{"name": "apiserver", "user": object{"client-certificate-data": bytes.TrimSpace(certificate), "client-key-data": bytes.TrimSpace(key)}}},
		"contexts": []any{object{"name": "levels", "context": object{"cluster": "levels", "user": "apiserver"}}},
	})
}
