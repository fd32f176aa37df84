package apiserver

import (
	"context"
	"net/url"
	"path"
	"strings"
	"time"
)

// Container is one of a pod.
type Container struct {
	ID             string // as the runtime names it
	Name           string
	Namespace, Pod string
	uid            string
	init           bool
}

// Containers lists those of a node's pods that were started.
func (c *Client) Containers(ctx context.Context, node string) ([]Container, error) {
	type status struct {
		Name        string `json:"name"`
		ContainerID string `json:"containerID"`
	}
	var all []Container
	for next := ""; ; {
		var l struct {
			Metadata struct{ Continue string } `json:"metadata"`
			Items    []struct {
				Metadata struct{ Namespace, Name, UID string } `json:"metadata"`
				Status   struct {
					Containers []status `json:"containerStatuses"`
					Init       []status `json:"initContainerStatuses"`
					Ephemeral  []status `json:"ephemeralContainerStatuses"`
				} `json:"status"`
			} `json:"items"`
		}
		if err := c.get(ctx, "/api/v1/pods", url.Values{"fieldSelector": {"spec.nodeName=" + node}, "limit": {page}, "continue": {next}}, &l); err != nil {
			return nil, err
		}
		for _, p := range l.Items {
			for i, list := range [][]status{p.Status.Containers, p.Status.Init, p.Status.Ephemeral} {
				for _, s := range list {
					if _, id, ok := strings.Cut(s.ContainerID, "://"); ok { // RUNTIME://ID
						all = append(all, Container{id, s.Name, p.Metadata.Namespace, p.Metadata.Name, p.Metadata.UID, i == 1})
					}
				}
			}
		}
		if next = l.Metadata.Continue; next == "" {
			return all, nil
		}
	}
}

// component is who tells.
const component = "weft-snapshotter"

// Warn makes an event of a container's pod, as `kubectl describe pod` shows it. The reason is one word.
func (c *Client) Warn(ctx context.Context, node string, of Container, reason, message string) error {
	field := "spec.containers{" + of.Name + "}"
	if of.init {
		field = "spec.initContainers{" + of.Name + "}"
	}
	now := time.Now().UTC().Format(time.RFC3339)
	return c.post(ctx, path.Join("/api/v1/namespaces", of.Namespace, "events"), map[string]any{
		"apiVersion": "v1", "kind": "Event",
		"metadata":       map[string]any{"namespace": of.Namespace, "generateName": of.Pod + "."},
		"involvedObject": map[string]any{"apiVersion": "v1", "kind": "Pod", "namespace": of.Namespace, "name": of.Pod, "uid": of.uid, "fieldPath": field},
		"type":           "Warning", "reason": reason, "message": message, "count": 1, "firstTimestamp": now, "lastTimestamp": now,
		"source": map[string]any{"component": component, "host": node}, "reportingComponent": component, "reportingInstance": node,
	})
}
