package manager

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weft-dev/weft/kube/manifest"
	"github.com/weft-dev/weft/logging"
	"github.com/weft-dev/weft/logging/resource"
	"github.com/weft-dev/weft/logging/workload"
)

var (
	jobs = schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}
	pods = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
)

// verdict is what the engine's own check says of a configuration.
type verdict struct {
	pass    bool              // roll it out
	check   []workload.Object // what the check needs as long as it runs, or as long as its answer is needed
	problem *resource.Problem // why it is not rolled out
}

// gate asks for the engine's check of a configuration that is not rolled out yet, where the agents' resource wants one. Secret is the configuration's.
func gate(ctx context.Context, c *logging.Configuration, secret map[string]any, read Reader) (verdict, error) {
	data, _ := secret["data"].(map[string]any)
	check := workload.NewCheck(c.Owner, c.Secret, c.Hash, data)
	if check == nil {
		return verdict{pass: true}, nil
	}
	live, err := read.Read(ctx, secrets, c.Namespace, c.Secret)
	if err != nil {
		return verdict{}, err
	}
	if live != nil && live.GetAnnotations()[logging.HashAnnotation] == c.Hash {
		return verdict{pass: true}, nil
	}
	job, err := read.Read(ctx, jobs, c.Owner.Namespace, check.Name)
	if err != nil {
		return verdict{}, err
	}
	told := c.Config
	if told == nil {
		told = c.Owner
	}
	tell := func(severity resource.Severity, reason, format string, args ...any) *resource.Problem {
		p := told.Problem(severity, reason, "", format, args...)
		return &p
	}
	switch state, reason := jobState(job); state {
	case "Complete":
		return verdict{pass: true}, nil
	case "Failed":
		if reason == "DeadlineExceeded" {
			return verdict{check: check.Objects, problem: tell(resource.Error, "CheckTimedOut",
				"the check of the new configuration (Job %s/%s) did not end in time; the last good one stays. Delete the Job to check again", c.Owner.Namespace, check.Name)}, nil
		}
		said, err := lastWords(ctx, c.Owner.Namespace, check.Name, read)
		if err != nil {
			return verdict{}, err
		}
		return verdict{check: check.Objects, problem: tell(resource.Error, "RefusedByEngine", "the engine refuses the new configuration; the last good one stays: %s", said)}, nil
	}
	return verdict{check: check.Objects, problem: tell(resource.Warning, "Checking", "the engine checks the new configuration (Job %s/%s); the last good one stays until then", c.Owner.Namespace, check.Name)}, nil
}

// jobState is Complete, Failed or "", with the reason.
func jobState(job *unstructured.Unstructured) (state, reason string) {
	if job == nil {
		return "", ""
	}
	conditions, _, _ := unstructured.NestedSlice(job.Object, "status", "conditions")
	for _, item := range conditions {
		c, _ := item.(map[string]any)
		kind, _ := c["type"].(string)
		if (kind == "Complete" || kind == "Failed") && c["status"] == "True" {
			reason, _ = c["reason"].(string)
			return kind, reason
		}
	}
	return "", ""
}

// lastWords are the last lines that the check's program wrote, shortened.
func lastWords(ctx context.Context, namespace, job string, read Reader) (string, error) {
	list, err := read.List(ctx, pods, namespace, "batch.kubernetes.io/job-name="+job)
	if err != nil {
		return "", err
	}
	for _, pod := range list {
		statuses, _, _ := unstructured.NestedSlice(pod.Object, "status", "containerStatuses")
		for _, item := range statuses {
			status, _ := item.(map[string]any)
			message, _, _ := unstructured.NestedString(status, "state", "terminated", "message")
			if message = strings.TrimSpace(message); message == "" {
				continue
			}
			lines := strings.Split(message, "\n")
			lines = lines[max(0, len(lines)-8):]
			return strings.Join(lines, " | "), nil
		}
	}
	return fmt.Sprintf("it says nothing; see the pods of Job %s/%s", namespace, job), nil
}

// checked sorts a plan's objects by their owner, each configuration held back until the engine has checked it.
func (l *Logging) checked(ctx context.Context, result *logging.Result, read Reader, add func(*resource.Document, manifest.Object)) error {
	for _, o := range result.Objects {
		if o.Owner == nil { // a configuration that no agent reads
			continue
		}
		if c := o.Configuration; c != nil {
			v, err := gate(ctx, c, o.Object, read)
			if err != nil {
				return err
			}
			if v.problem != nil {
				result.Problems = append(result.Problems, *v.problem)
			}
			for _, x := range v.check {
				add(o.Owner, made(x.Object, o.Owner, x.Field))
			}
			if !v.pass {
				if err := l.keepLastGood(ctx, c, read, add); err != nil {
					return err
				}
				continue
			}
		}
		add(o.Owner, made(o.Object, o.Document, o.Field))
	}
	for _, c := range result.Configurations {
		if c.Owner != nil && c.Files == nil {
			if err := l.keepLastGood(ctx, c, read, add); err != nil {
				return err
			}
		}
	}
	return nil
}

func made(object map[string]any, d *resource.Document, field string) manifest.Object {
	return manifest.New(&unstructured.Unstructured{Object: object}, fmt.Sprintf("%s: %s", d, field))
}

// keepLastGood keeps the Secret as it is, for a configuration that may not be rolled out.
func (l *Logging) keepLastGood(ctx context.Context, c *logging.Configuration, read Reader, add func(*resource.Document, manifest.Object)) error {
	live, err := read.Read(ctx, secrets, c.Namespace, c.Secret)
	if err != nil || live == nil {
		return err
	}
	kept := map[string]any{"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": live.Object["data"],
		"metadata": map[string]any{"name": c.Secret, "namespace": c.Namespace, "annotations": map[string]any{logging.HashAnnotation: live.GetAnnotations()[logging.HashAnnotation]}}}
	add(c.Owner, manifest.New(&unstructured.Unstructured{Object: kept}, "the last good configuration"))
	return nil
}
