package filter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/apiserver"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// podMeta is what is known of a pod's container, ready to be put into records.
type podMeta struct {
	name, container string
	annotations     map[string]string
	pairs           []pair // kubernetes, kubernetes_namespace
	until           time.Time
}

// podSource asks the API server, or the kubelet, or files, for pods, and remembers the answers.
type podSource struct {
	host                          Host
	api                           *apiserver.Client
	kubelet                       string // "" unless it is asked
	preload                       string
	labels, annotations, owners   bool
	spaceLabels, spaceAnnotations bool
	spaceOnly                     bool
	tagOnly                       bool // nobody is asked: the tag says it all
	dummy                         bool
	ttl, spaceTTL                 time.Duration

	mu     sync.Mutex
	cache  map[place]*podMeta
	spaces map[string]spaceEntry
}

type spaceEntry struct {
	meta  *objectMeta
	until time.Time
}

const (
	maxCached  = 10_000
	retryAfter = 10 * time.Second // after an answer that says nothing
)

func newPodSource(o *options.Set, h Host) *podSource {
	s := &podSource{host: h, api: apiserver.New(o, h.Now), preload: o.String("kube_meta_preload_cache_dir"), labels: o.Bool("labels"), annotations: o.Bool("annotations"),
		owners: o.Bool("owner_references"), spaceLabels: o.Bool("namespace_labels"), spaceAnnotations: o.Bool("namespace_annotations"), spaceOnly: o.Bool("namespace_metadata_only"),
		dummy: o.Bool("dummy_meta"), tagOnly: o.Bool("use_tag_for_meta"), ttl: o.Duration("kube_meta_cache_ttl"), spaceTTL: o.Duration("kube_meta_namespace_cache_ttl"), cache: map[place]*podMeta{}, spaces: map[string]spaceEntry{}}
	host, port := o.String("kubelet_host"), o.Int("kubelet_port")
	if o.Bool("use_kubelet") {
		s.kubelet = "https://" + net.JoinHostPort(host, strconv.Itoa(port))
	}
	return s
}

type objectMeta struct {
	UID             string            `json:"uid"`
	Name            string            `json:"name"`
	Namespace       string            `json:"namespace"`
	Labels          map[string]string `json:"labels"`
	Annotations     map[string]string `json:"annotations"`
	OwnerReferences []struct {
		APIVersion         string `json:"apiVersion"`
		Kind               string `json:"kind"`
		Name               string `json:"name"`
		UID                string `json:"uid"`
		Controller         bool   `json:"controller"`
		BlockOwnerDeletion bool   `json:"blockOwnerDeletion"`
	} `json:"ownerReferences"`
}

type containerStatus struct {
	Name    string `json:"name"`
	Image   string `json:"image"`
	ImageID string `json:"imageID"`
}

type pod struct {
	Metadata objectMeta `json:"metadata"`
	Spec     struct {
		NodeName string `json:"nodeName"`
	} `json:"spec"`
	Status struct {
		PodIP                 string            `json:"podIP"`
		ContainerStatuses     []containerStatus `json:"containerStatuses"`
		InitContainerStatuses []containerStatus `json:"initContainerStatuses"`
	} `json:"status"`
}

// find is what is known of the container at a place; never nil.
func (s *podSource) find(ctx context.Context, p place) *podMeta {
	now := s.host.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.cache[p]; m != nil && (m.until.IsZero() || now.Before(m.until)) {
		return m
	}
	m := &podMeta{name: p.pod, container: p.container}
	if s.ttl > 0 {
		m.until = now.Add(s.ttl)
	}
	if s.dummy {
		m.pairs = []pair{{[]byte("kubernetes"), text("kubernetes"), record.AppendString(record.AppendString([]byte{0x81}, "dummy"), now.UTC().Format(time.ANSIC))}}
		return m
	}
	var found *pod
	if s.tagOnly {
		m.pairs = append(m.pairs, pair{[]byte("kubernetes"), text("kubernetes"), s.describe(p, nil)})
	} else if !s.spaceOnly {
		var err error
		if found, err = s.pod(ctx, p); err != nil {
			s.host.Log.Warn("nothing is known of a pod; records have what their tag says", "pod", p.namespace+"/"+p.pod, "error", err)
			m.until = now.Add(retryAfter)
		}
		if found != nil {
			m.annotations = found.Metadata.Annotations
		}
		m.pairs = append(m.pairs, pair{[]byte("kubernetes"), text("kubernetes"), s.describe(p, found)})
	}
	if !s.tagOnly && (s.spaceLabels || s.spaceAnnotations || s.spaceOnly) {
		space, err := s.space(ctx, p.namespace, now)
		if err != nil {
			s.host.Log.Warn("nothing is known of a namespace", "namespace", p.namespace, "error", err)
			m.until = now.Add(retryAfter)
		}
		m.pairs = append(m.pairs, pair{[]byte("kubernetes_namespace"), text("kubernetes_namespace"), s.describeSpace(p.namespace, space)})
	}
	if len(s.cache) >= maxCached {
		clear(s.cache)
	}
	s.cache[p] = m
	return m
}

func (s *podSource) describe(p place, found *pod) []byte {
	b := []byte{0x80}
	n := 0
	add := func(key, value string) {
		if value != "" {
			b = record.AppendString(record.AppendString(b, key), value)
			n++
		}
	}
	addMap := func(key string, m map[string]string) {
		if len(m) > 0 {
			b = appendStrings(record.AppendString(b, key), m)
			n++
		}
	}
	addOwners := func() {
		if len(found.Metadata.OwnerReferences) == 0 {
			return
		}
		b = record.AppendArrayHead(record.AppendString(b, "ownerReferences"), len(found.Metadata.OwnerReferences))
		for _, o := range found.Metadata.OwnerReferences {
			b = record.AppendMapHead(b, 6)
			b = record.AppendString(record.AppendString(b, "apiVersion"), o.APIVersion)
			b = record.AppendString(record.AppendString(b, "kind"), o.Kind)
			b = record.AppendString(record.AppendString(b, "name"), o.Name)
			b = record.AppendString(record.AppendString(b, "uid"), o.UID)
			b = record.AppendBool(record.AppendString(b, "controller"), o.Controller)
			b = record.AppendBool(record.AppendString(b, "blockOwnerDeletion"), o.BlockOwnerDeletion)
		}
		n++
	}
	add("pod_name", p.pod)
	add("namespace_name", p.namespace)
	var status containerStatus
	if found != nil {
		add("pod_id", found.Metadata.UID)
		if s.labels {
			addMap("labels", found.Metadata.Labels)
		}
		if s.annotations {
			addMap("annotations", found.Metadata.Annotations)
		}
		if s.owners {
			addOwners()
		}
		add("host", found.Spec.NodeName)
		add("pod_ip", found.Status.PodIP)
		for _, c := range append(found.Status.ContainerStatuses, found.Status.InitContainerStatuses...) {
			if c.Name == p.container {
				status = c
			}
		}
	}
	add("container_name", p.container)
	add("docker_id", p.id)
	add("container_hash", strings.TrimPrefix(status.ImageID, "docker-pullable://"))
	add("container_image", status.Image)
	return record.CloseMap(b, 0, n)
}

func appendStrings(b []byte, m map[string]string) []byte {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	b = record.AppendMapHead(b, len(m))
	for _, k := range keys {
		b = record.AppendString(record.AppendString(b, k), m[k])
	}
	return b
}

func (s *podSource) describeSpace(name string, m *objectMeta) []byte {
	b := record.AppendString(record.AppendString([]byte{0x80}, "name"), name)
	n := 1
	if m != nil && s.spaceLabels && len(m.Labels) > 0 {
		b = appendStrings(record.AppendString(b, "labels"), m.Labels)
		n++
	}
	if m != nil && s.spaceAnnotations && len(m.Annotations) > 0 {
		b = appendStrings(record.AppendString(b, "annotations"), m.Annotations)
		n++
	}
	return record.CloseMap(b, 0, n)
}

// pod asks for a pod: in the folder of files, then the kubelet or the API server.
func (s *podSource) pod(ctx context.Context, p place) (*pod, error) {
	if strings.ContainsAny(p.namespace+p.pod, "/%?#") {
		return nil, fmt.Errorf("%q is no name of a pod", p.namespace+"/"+p.pod)
	}
	if s.preload != "" {
		data, err := os.ReadFile(filepath.Join(s.preload, p.namespace+"_"+p.pod+".meta"))
		if err == nil {
			found := new(pod)
			if err := json.Unmarshal(data, found); err != nil {
				return nil, fmt.Errorf("the file of a pod in Kube_meta_preload_cache_dir: %w", err)
			}
			return found, nil
		}
	}
	if s.kubelet == "" {
		found := new(pod)
		err := s.api.Get(ctx, s.api.URL+"/api/v1/namespaces/"+p.namespace+"/pods/"+p.pod, found)
		if err != nil {
			return nil, err
		}
		return found, nil
	}
	var list struct {
		Items []pod `json:"items"`
	}
	if err := s.api.Get(ctx, s.kubelet+"/pods", &list); err != nil {
		return nil, err
	}
	for i := range list.Items {
		if m := list.Items[i].Metadata; m.Name == p.pod && m.Namespace == p.namespace {
			return &list.Items[i], nil
		}
	}
	return nil, errors.New("the kubelet does not know it")
}

func (s *podSource) space(ctx context.Context, name string, now time.Time) (*objectMeta, error) {
	if e, ok := s.spaces[name]; ok && now.Before(e.until) {
		return e.meta, nil
	}
	if strings.ContainsAny(name, "/%?#") {
		return nil, fmt.Errorf("%q is no name of a namespace", name)
	}
	var object struct {
		Metadata objectMeta `json:"metadata"`
	}
	if s.preload != "" {
		if data, err := os.ReadFile(filepath.Join(s.preload, name+".namespace_meta")); err == nil {
			if err := json.Unmarshal(data, &object); err != nil {
				return nil, err
			}
			return &object.Metadata, nil
		}
	}
	if err := s.api.Get(ctx, s.api.URL+"/api/v1/namespaces/"+name, &object); err != nil {
		return nil, err
	}
	if len(s.spaces) >= maxCached {
		clear(s.spaces)
	}
	s.spaces[name] = spaceEntry{&object.Metadata, now.Add(max(s.spaceTTL, time.Second))}
	return &object.Metadata, nil
}
