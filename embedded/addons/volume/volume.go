// Package volume gives claims of the StorageClass "local-path" a folder on the node: it makes PersistentVolumes when
// claims want one and removes the folders of released ones. It must not know where the cluster's state lies nor how its
// processes run.
package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apistorage "k8s.io/client-go/applyconfigurations/storage/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcore "k8s.io/client-go/kubernetes/typed/core/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
)

// Names that users meet.
const (
	ClassName   = "local-path"
	Provisioner = "weft.dev/local-path"
)

// Annotations of Kubernetes' own that have no constant in its API packages.
const (
	annSelectedNode  = "volume.kubernetes.io/selected-node" // set by the scheduler on a claim
	annProvisionedBy = "pv.kubernetes.io/provisioned-by"    // on a volume: who deletes it
	annDefaultClass  = "storageclass.kubernetes.io/is-default-class"
)

// Controller provides volumes on one node.
type Controller struct {
	Client kubernetes.Interface
	Node   string // the node's name
	Folder string // where volumes lie, as the node sees it; absolute

	claims  corelisters.PersistentVolumeClaimLister
	volumes corelisters.PersistentVolumeLister
	classes storagelisters.StorageClassLister
	queue   workqueue.TypedRateLimitingInterface[item]
	events  record.EventRecorder
	root    *os.Root
}

// item is a claim, or with an empty namespace a volume.
type item struct{ namespace, name string }

// Run announces the StorageClass and serves it until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	if err := os.MkdirAll(c.Folder, 0o711); err != nil {
		return err
	}
	root, err := os.OpenRoot(c.Folder)
	if err != nil {
		return err
	}
	defer root.Close()
	c.root = root
	if err := c.announce(ctx); err != nil {
		return fmt.Errorf("announcing the StorageClass %s: %w", ClassName, err)
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typedcore.EventSinkImpl{Interface: c.Client.CoreV1().Events("")})
	c.events = broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "local-path-provisioner"})

	c.queue = workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[item](200*time.Millisecond, 30*time.Second))
	defer c.queue.ShutDown()
	factory := informers.NewSharedInformerFactory(c.Client, 10*time.Minute)
	defer factory.Shutdown()
	claims, volumes := factory.Core().V1().PersistentVolumeClaims(), factory.Core().V1().PersistentVolumes()
	classes := factory.Storage().V1().StorageClasses()
	c.claims, c.volumes, c.classes = claims.Lister(), volumes.Lister(), classes.Lister()
	for _, informer := range []cache.SharedIndexInformer{claims.Informer(), volumes.Informer()} {
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(obj any) { c.enqueue(obj) },
			UpdateFunc: func(_, obj any) { c.enqueue(obj) },
		}); err != nil {
			return err
		}
	}
	classes.Informer()
	ctx, cancel := context.WithCancel(ctx) // before the factory's shutdown, which waits for it
	defer cancel()
	factory.Start(ctx.Done())
	for kind, ok := range factory.WaitForCacheSync(ctx.Done()) {
		if !ok {
			return fmt.Errorf("reading the list of %s: %w", kind, context.Cause(ctx))
		}
	}
	go func() {
		<-ctx.Done()
		c.queue.ShutDown()
	}()
	for c.next(ctx) {
	}
	return nil
}

func (c *Controller) enqueue(obj any) {
	if o, ok := obj.(metav1.Object); ok {
		c.queue.Add(item{o.GetNamespace(), o.GetName()})
	}
}

// next works on one item; it says whether there will be more.
func (c *Controller) next(ctx context.Context) bool {
	i, shutdown := c.queue.Get()
	if shutdown {
		return false
	}
	defer c.queue.Done(i)
	var err error
	if i.namespace == "" {
		err = c.syncVolume(ctx, i.name)
	} else {
		err = c.syncClaim(ctx, i.namespace, i.name)
	}
	if err != nil {
		c.queue.AddRateLimited(i)
	} else {
		c.queue.Forget(i)
	}
	return true
}

// announce makes the default StorageClass. Its fields cannot be changed later, so an existing one is left alone, with
// the choice of the default, which belongs to the user.
func (c *Controller) announce(ctx context.Context) error {
	if _, err := c.Client.StorageV1().StorageClasses().Get(ctx, ClassName, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		return err
	}
	class := apistorage.StorageClass(ClassName).
		WithAnnotations(map[string]string{annDefaultClass: "true"}).
		WithProvisioner(Provisioner).
		WithReclaimPolicy(corev1.PersistentVolumeReclaimDelete).
		WithVolumeBindingMode(storagev1.VolumeBindingWaitForFirstConsumer).
		WithAllowVolumeExpansion(false)
	_, err := c.Client.StorageV1().StorageClasses().Apply(ctx, class, metav1.ApplyOptions{FieldManager: "weft-cluster", Force: true})
	return err
}

// syncClaim makes a volume for a claim that wants one now.
func (c *Controller) syncClaim(ctx context.Context, namespace, name string) error {
	claim, err := c.claims.PersistentVolumeClaims(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	class, err := c.classOf(claim)
	if err != nil || class == nil {
		return err
	}
	name, err = volumeName(claim)
	if err != nil {
		return err
	}
	if _, err := c.volumes.Get(name); !apierrors.IsNotFound(err) {
		return err // the volume is there: binding is Kubernetes' matter
	}
	if why := refusal(claim); why != "" {
		c.events.Event(claim, corev1.EventTypeWarning, "ProvisioningFailed", why)
		return nil // another attempt comes when the claim changes
	}
	if err := c.provision(ctx, claim, class, name); err != nil {
		c.events.Event(claim, corev1.EventTypeWarning, "ProvisioningFailed", err.Error())
		return err
	}
	c.events.Eventf(claim, corev1.EventTypeNormal, "ProvisioningSucceeded", "Successfully provisioned volume %s", name)
	return nil
}

// classOf returns the claim's class if we have to act on the claim, now and on this node.
func (c *Controller) classOf(claim *corev1.PersistentVolumeClaim) (*storagev1.StorageClass, error) {
	if claim.Spec.VolumeName != "" || claim.DeletionTimestamp != nil || claim.Spec.StorageClassName == nil || *claim.Spec.StorageClassName == "" {
		return nil, nil
	}
	class, err := c.classes.Get(*claim.Spec.StorageClassName)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil || class.Provisioner != Provisioner {
		return nil, err
	}
	node := claim.Annotations[annSelectedNode]
	immediate := class.VolumeBindingMode == nil || *class.VolumeBindingMode == storagev1.VolumeBindingImmediate
	if node != c.Node && (node != "" || !immediate) {
		return nil, nil
	}
	return class, nil
}

// refusal says why a claim cannot be served, "" if it can.
func refusal(claim *corev1.PersistentVolumeClaim) string {
	switch {
	case claim.Spec.VolumeMode != nil && *claim.Spec.VolumeMode == corev1.PersistentVolumeBlock:
		return ClassName + " volumes are folders: volumeMode must be Filesystem, not Block"
	case claim.Spec.Selector != nil:
		return ClassName + " volumes are made for their claim: spec.selector is not supported, leave it out"
	case claim.Spec.DataSource != nil || claim.Spec.DataSourceRef != nil:
		return ClassName + " volumes begin empty: spec.dataSource (clones and snapshots) is not supported"
	}
	return ""
}

var uidPattern = regexp.MustCompile(`^[0-9a-zA-Z-]{1,63}$`)

// volumeName is the volume's name and its folder's: it follows from the claim's identity, so that an attempt after a
// crash finds what the one before has made.
func volumeName(claim *corev1.PersistentVolumeClaim) (string, error) {
	if !uidPattern.MatchString(string(claim.UID)) {
		return "", fmt.Errorf("claim %s/%s: its uid %q cannot be the name of a folder", claim.Namespace, claim.Name, claim.UID)
	}
	return "pvc-" + string(claim.UID), nil
}

func (c *Controller) provision(ctx context.Context, claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, name string) error {
	// Whoever the pod runs as may write; other users of the machine are kept out by the state folder's own mode.
	if err := c.root.Mkdir(name, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making the volume's folder: %w", err)
	}
	if err := c.root.Chmod(name, 0o777); err != nil { // whatever the umask is
		return fmt.Errorf("opening the volume's folder to pods: %w", err)
	}
	policy := corev1.PersistentVolumeReclaimDelete
	if class.ReclaimPolicy != nil {
		policy = *class.ReclaimPolicy
	}
	// The folder must be there: made anew it would silently be empty.
	kind := corev1.HostPathDirectory
	pv := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{annProvisionedBy: Provisioner}},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			AccessModes:                   slices.Clone(claim.Spec.AccessModes),
			PersistentVolumeReclaimPolicy: policy,
			StorageClassName:              class.Name,
			MountOptions:                  class.MountOptions,
			VolumeMode:                    claim.Spec.VolumeMode,
			ClaimRef:                      &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID, ResourceVersion: claim.ResourceVersion},
			PersistentVolumeSource:        corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: filepath.Join(c.Folder, name), Type: &kind}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{c.Node}}},
			}}}},
		},
	}
	_, err := c.Client.CoreV1().PersistentVolumes().Create(ctx, pv, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// syncVolume removes a released volume of ours with its folder.
func (c *Controller) syncVolume(ctx context.Context, name string) error {
	pv, err := c.volumes.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if pv.Annotations[annProvisionedBy] != Provisioner || pv.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete ||
		pv.Status.Phase != corev1.VolumeReleased || pv.DeletionTimestamp != nil {
		return nil
	}
	folder, ok := c.folderOf(pv)
	if !ok { // foreign path: ours are directly below the folder and named after the volume
		c.events.Eventf(pv, corev1.EventTypeWarning, "VolumeFailedDelete", "its path is not a folder that %s has made: remove the volume and its content by hand", Provisioner)
		return nil
	}
	if err := c.remove(folder); err != nil {
		c.events.Eventf(pv, corev1.EventTypeWarning, "VolumeFailedDelete", "removing its folder: %v", err)
		return err
	}
	err = c.Client.CoreV1().PersistentVolumes().Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pv.UID}})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// folderOf is the name of the volume's folder below ours. A volume is a user's object: its path is not trusted.
func (c *Controller) folderOf(pv *corev1.PersistentVolume) (string, bool) {
	name := pv.Name
	if pv.Spec.HostPath == nil || !strings.HasPrefix(name, "pvc-") || !uidPattern.MatchString(strings.TrimPrefix(name, "pvc-")) {
		return "", false
	}
	// The folder that the state lay in when the volume was made may be another one: only the last part counts.
	if filepath.Base(filepath.Clean(pv.Spec.HostPath.Path)) != name || pv.Spec.ClaimRef == nil || "pvc-"+string(pv.Spec.ClaimRef.UID) != name {
		return "", false
	}
	return name, true
}

// remove removes a folder below ours; os.Root never leaves it, not through symbolic links either. It is renamed first,
// so that nobody meets a half removed volume.
func (c *Controller) remove(name string) error {
	trash := ".removed-" + name
	if err := c.root.RemoveAll(trash); err != nil { // of an attempt that was interrupted
		return err
	}
	if err := c.root.Rename(name, trash); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return c.root.RemoveAll(trash)
}
