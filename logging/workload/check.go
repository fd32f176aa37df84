package workload

import (
	"github.com/weft-dev/weft/logging/resource"
)

// Check is how a configuration is read by the engine itself before the agents get it.
type Check struct {
	// Name is that of the Job and of the Secret with the new configuration. It differs with the configuration's content.
	Name    string
	Objects []Object
}

// NewCheck makes the Job that a FluentBit, Collector or Fluentd asks for with configCheck; nil if it does not. data is the content of the configuration's
// Secret in base64, hash its content's hash in hexadecimal.
func NewCheck(d *resource.Document, secret, hash string, data map[string]any) *Check {
	b := &builder{d: d, spec: d.Spec()}
	wanted, ok := b.spec["configCheck"].(object)
	if !ok || len(hash) < 10 {
		return nil
	}
	name := secret + "-check-" + hash[:10]
	folder, command := "/fluent-bit/config", []any{"/fluent-bit/bin/fluent-bit", "--dry-run", "-c"}
	switch {
	case d.Kind == "Fluentd":
		folder, command = "/fluentd/etc", []any{"fluentd", "--dry-run", "-c", "/fluentd/etc/fluent.conf"}
	case data["fluent-bit.yaml"] != nil:
		command = append(command, folder+"/fluent-bit.yaml")
	default:
		command = append(command, folder+"/fluent-bit.conf")
	}
	if given, ok := wanted["command"].([]any); ok && len(given) > 0 {
		command = given
	}
	image := b.spec["image"]
	if given, ok := wanted["image"].(string); ok && given != "" {
		image = given
	}
	volumes, mounts := []any{secretVolume("config", name)}, []any{mount("config", folder)}
	volumes, mounts = b.secrets(volumes, mounts)
	container := object{
		"name": "check", "image": image, "command": command, "volumeMounts": mounts,
		"env":                      append([]any{fieldEnv("NODE_NAME", "spec.nodeName"), fieldEnv("HOST_IP", "status.hostIP")}, b.list("envVars")...),
		"terminationMessagePolicy": "FallbackToLogsOnError", // what the engine said is found in the pod's status
		"resources":                object{"requests": object{"cpu": "10m", "memory": "32Mi"}, "limits": object{"memory": "256Mi"}},
		"securityContext":          object{"allowPrivilegeEscalation": false, "capabilities": object{"drop": []any{"ALL"}}, "seccompProfile": object{"type": "RuntimeDefault"}},
	}
	b.copy(container, "imagePullPolicy")
	pod := object{"restartPolicy": "Never", "automountServiceAccountToken": false, "containers": []any{container}, "volumes": volumes}
	b.copy(pod, "imagePullSecrets", "nodeSelector", "tolerations", "affinity", "runtimeClassName", "priorityClassName", "schedulerName")
	labels := object{"app.kubernetes.io/name": "weft-config-check", "weft.dev/config": secret}
	return &Check{Name: name, Objects: []Object{
		{object{"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": b.metadata(name, labels, nil), "data": data}, "spec.configCheck"},
		{object{"apiVersion": "batch/v1", "kind": "Job", "metadata": b.metadata(name, labels, nil), "spec": object{
			"backoffLimit": int64(0), "activeDeadlineSeconds": number(wanted["timeoutSeconds"], 120),
			"template": object{"metadata": object{"labels": labels}, "spec": pod},
		}}, "spec.configCheck"},
	}}
}
