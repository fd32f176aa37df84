package ceiling

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/admission"
)

const (
	lookEvery = 500 * time.Millisecond // how often it is looked whether there are workspaces, and whether their status changed
	ownEvery  = 30 * time.Second       // how often a status is written again that nobody here changed: somebody else may have
)

var workspaces = schema.GroupVersionResource{Group: api.Group, Version: api.Version, Resource: "workspaces"}

// Keeper keeps the usage of a cluster's workspaces. Its account must be able to read pods and to write the status of workspaces.
type Keeper struct {
	Usage    *admission.Usage
	Snapshot func() *level.Snapshot // nil while there are no levels
	Log      *slog.Logger

	pods    kubernetes.Interface
	objects dynamic.Interface
	written map[string]written
}

type written struct {
	status string
	at     time.Time
}

// New prepares a keeper for a cluster.
func New(config *rest.Config, usage *admission.Usage, snapshot func() *level.Snapshot, log *slog.Logger) (*Keeper, error) {
	config = rest.CopyConfig(config)
	objects, err1 := dynamic.NewForConfig(config)
	config.ContentType = runtime.ContentTypeProtobuf // of all pods of the cluster
	config.AcceptContentTypes = runtime.ContentTypeProtobuf
	pods, err2 := kubernetes.NewForConfig(config)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("connecting to the cluster: %w", err)
	}
	return &Keeper{Usage: usage, Snapshot: snapshot, Log: log, pods: pods, objects: objects, written: map[string]written{}}, nil
}

// Run keeps the usage until the context ends. Pods are followed once there is a workspace.
func (k *Keeper) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	following := false
	for {
		if s := k.Snapshot(); s != nil && len(s.Workspaces()) > 0 {
			if !following {
				following = true
				running.Go(func() { k.follow(ctx) })
			}
			k.tell(ctx, s)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// follow has the usage see all pods.
func (k *Keeper) follow(ctx context.Context) {
	all := k.pods.CoreV1().Pods(metav1.NamespaceAll)
	told := func(err error) {
		k.Usage.Lost(err != nil)
		if err != nil && ctx.Err() == nil {
			k.Log.Warn("following the pods for the ceilings of workspaces", "error", err)
		}
	}
	list := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			l, err := all.List(ctx, o)
			told(err)
			return l, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			w, err := all.Watch(ctx, o)
			told(err)
			return w, err
		},
	}
	cache.NewReflectorWithOptions(list, &corev1.Pod{}, seen{k.Usage}, cache.ReflectorOptions{Name: "ceilings of workspaces"}).RunWithContext(ctx)
}

// seen hands what a watch tells to a usage.
type seen struct{ usage *admission.Usage }

func (s seen) Add(o any) error    { return s.pod(o, s.usage.See) }
func (s seen) Update(o any) error { return s.pod(o, s.usage.See) }
func (s seen) Delete(o any) error { return s.pod(o, s.usage.Forget) }
func (s seen) Resync() error      { return nil }

func (s seen) pod(o any, tell func(*corev1.Pod)) error {
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return fmt.Errorf("%T is no pod", o)
	}
	tell(pod)
	return nil
}

func (s seen) Replace(all []any, _ string) error {
	pods := make([]*corev1.Pod, 0, len(all))
	for _, o := range all {
		if err := s.pod(o, func(p *corev1.Pod) { pods = append(pods, p) }); err != nil {
			return err
		}
	}
	s.usage.Replace(pods)
	return nil
}

// tell writes the status of each workspace that changed.
func (k *Keeper) tell(ctx context.Context, s *level.Snapshot) {
	if !k.Usage.Known() {
		return
	}
	names := s.Workspaces()
	for _, name := range names {
		used, namespaces := k.Usage.Of(s, name)
		status, err := json.Marshal(api.WorkspaceStatus{Namespaces: int32(namespaces), Used: used})
		if err != nil {
			k.Log.Error("writing the status of a workspace", "workspace", name, "error", err)
			continue
		}
		if last := k.written[name]; last.status == string(status) && time.Since(last.at) < ownEvery {
			continue
		}
		err = k.write(ctx, name, status)
		if err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) { // it may be one of KubeSphere's, or gone
			k.Log.Warn("writing the status of a workspace", "workspace", name, "error", err)
			continue
		}
		k.written[name] = written{string(status), time.Now()}
	}
	for name := range k.written {
		if _, there := slices.BinarySearch(names, name); !there {
			delete(k.written, name)
		}
	}
}

// write applies a status, and changes nothing that is so already.
func (k *Keeper) write(ctx context.Context, name string, status []byte) error {
	if _, err := k.objects.Resource(workspaces).Get(ctx, name, metav1.GetOptions{}); err != nil {
		return err // applying would make one that is gone
	}
	var body map[string]any
	if err := json.Unmarshal(status, &body); err != nil {
		return err
	}
	u := &unstructured.Unstructured{Object: map[string]any{"status": body}}
	u.SetAPIVersion(api.Group + "/" + api.Version)
	u.SetKind("Workspace")
	u.SetName(name)
	_, err := k.objects.Resource(workspaces).ApplyStatus(ctx, name, u, metav1.ApplyOptions{FieldManager: "weft-ceilings", Force: true})
	return err
}
