package kube

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weft-dev/weft/kube/manifest"
)

// OwnerLabel is the label of every object that belongs to a set; its value is Owner.Label.
const OwnerLabel = "weft.dev/owner"

// KeepAnnotation with the value "true" has an object forgotten instead of deleted.
const KeepAnnotation = "weft.dev/keep"

// InventoryVersion is the version of the inventory's format. A reader accepts this one and refuses newer ones.
const InventoryVersion = 1

// inventoryType is the type of the Secret that holds an inventory. It is a Secret because fingerprints of Secrets are in
// it, from which a short value could be guessed.
const inventoryType = "weft.dev/inventory"

// Owner names a set of objects: its inventory is the Secret weft-NAME in the namespace.
type Owner struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// Label is the value of OwnerLabel: NAMESPACE.NAME, or its fingerprint where that is longer than the 63 characters a
// label may have.
func (o Owner) Label() string {
	s := o.Namespace + "." + o.Name
	if len(s) > 63 {
		return "weft-" + fingerprint(s)
	}
	return s
}

// SecretName is the name of the inventory object.
func (o Owner) SecretName() string { return "weft-" + o.Name }

// Entry is one object of an inventory.
type Entry struct {
	manifest.Identity
	// UID is empty while an apply that would make the object has not said that it did.
	UID types.UID `json:"uid,omitempty"`
	// Desired is the fingerprint of what was applied, Live that of the owned fields it led to.
	Desired string `json:"desired,omitempty"`
	Live    string `json:"live,omitempty"`
}

// Inventory is what a set owns, as it was recorded by its last apply.
type Inventory struct {
	Version int     `json:"version"`
	Manager string  `json:"manager"` // field manager of the applies
	Entries []Entry `json:"entries"`

	resourceVersion string // of the Secret, empty if there is none
}

func (inv *Inventory) byIdentity() map[manifest.Identity]Entry {
	m := make(map[manifest.Identity]Entry, len(inv.Entries))
	for _, e := range inv.Entries {
		m[e.Identity] = e
	}
	return m
}

// encode returns the Secret's data: "inventory" holds the gzipped JSON with entries sorted by identity.
func (inv *Inventory) encode() (map[string][]byte, error) {
	sort.Slice(inv.Entries, func(i, j int) bool { return less(inv.Entries[i].Identity, inv.Entries[j].Identity) })
	inv.Version = InventoryVersion
	plain, err := json.Marshal(inv)
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err = z.Write(plain); err == nil {
		err = z.Close()
	}
	if err != nil {
		return nil, err
	}
	if packed.Len() > maxInventory {
		return nil, fmt.Errorf("the inventory of %d objects is larger than the %d bytes that a Secret takes; split the set", len(inv.Entries), maxInventory)
	}
	return map[string][]byte{"version": fmt.Append(nil, InventoryVersion), "inventory": packed.Bytes()}, nil
}

// maxInventory is below the API's limit for a Secret's data; maxInventoryPlain bounds what is unpacked from it.
const (
	maxInventory      = 1<<20 - 16<<10
	maxInventoryPlain = 64 << 20
)

func less(a, b manifest.Identity) bool {
	switch {
	case a.Group != b.Group:
		return a.Group < b.Group
	case a.Kind != b.Kind:
		return a.Kind < b.Kind
	case a.Namespace != b.Namespace:
		return a.Namespace < b.Namespace
	}
	return a.Name < b.Name
}

// decodeInventory reads what encode wrote, in this or an older version.
func decodeInventory(data map[string][]byte) (*Inventory, error) {
	z, err := gzip.NewReader(bytes.NewReader(data["inventory"]))
	if err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	plain, err := io.ReadAll(io.LimitReader(z, maxInventoryPlain+1))
	if err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	if len(plain) > maxInventoryPlain {
		return nil, fmt.Errorf("it unpacks to more than %d bytes", maxInventoryPlain)
	}
	inv := &Inventory{}
	if err := json.Unmarshal(plain, inv); err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	if inv.Version < 1 || inv.Version > InventoryVersion {
		return nil, fmt.Errorf("its format has version %d, this program knows up to %d: use a newer weft", inv.Version, InventoryVersion)
	}
	return inv, nil
}

// Inventory reads a set's inventory; an empty one if there is none.
func (c *Client) Inventory(ctx context.Context, owner Owner) (*Inventory, error) {
	u, err := c.get(ctx, secretResource, owner.Namespace, owner.SecretName())
	if err != nil {
		return nil, fmt.Errorf("read the inventory of %s: %w", owner.Name, err)
	}
	if u == nil {
		return &Inventory{Version: InventoryVersion, Manager: c.manager}, nil
	}
	var secret corev1.Secret
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &secret); err != nil {
		return nil, fmt.Errorf("read the inventory of %s: %w", owner.Name, err)
	}
	where := fmt.Sprintf("Secret %s/%s", owner.Namespace, owner.SecretName())
	if secret.Type != inventoryType {
		return nil, fmt.Errorf("%s is in the way: the inventory of %s has to have this name", where, owner.Name)
	}
	inv, err := decodeInventory(secret.Data)
	if err != nil {
		return nil, fmt.Errorf("cannot use the inventory in %s: %w", where, err)
	}
	inv.resourceVersion = secret.ResourceVersion
	return inv, nil
}

// errInventoryChanged says that another run of the same set wrote the inventory in the meantime.
var errInventoryChanged = errors.New("another run changes the same objects; wait until it is done and try again")

// saveInventory writes the inventory if nobody else wrote it since it was read.
func (c *Client) saveInventory(ctx context.Context, owner Owner, inv *Inventory) error {
	data, err := inv.encode()
	if err != nil {
		return err
	}
	secret := corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: owner.SecretName(), Namespace: owner.Namespace, ResourceVersion: inv.resourceVersion,
			Labels: map[string]string{"app.kubernetes.io/managed-by": FieldManager}},
		Type: inventoryType, Data: data}
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&secret)
	if err != nil {
		return err
	}
	u := &unstructured.Unstructured{Object: object}
	unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
	saved, err := retry(ctx, func(ctx context.Context) (*unstructured.Unstructured, error) {
		return c.writeSecret(ctx, u, data)
	})
	switch {
	case apierrors.IsAlreadyExists(err), apierrors.IsConflict(err), inv.resourceVersion != "" && apierrors.IsNotFound(err):
		return errInventoryChanged
	case err != nil:
		return fmt.Errorf("write the inventory of %s: %w", owner.Name, err)
	}
	inv.resourceVersion = saved.GetResourceVersion()
	return nil
}

// writeSecret creates or updates the inventory's Secret. If it is refused because it is there or has changed, an earlier
// attempt may have been carried out although its answer was lost: then it holds what is to be written.
func (c *Client) writeSecret(ctx context.Context, u *unstructured.Unstructured, data map[string][]byte) (*unstructured.Unstructured, error) {
	client := c.on(secretResource, u.GetNamespace())
	var saved *unstructured.Unstructured
	var err error
	if u.GetResourceVersion() == "" {
		saved, err = client.Create(ctx, u, metav1.CreateOptions{FieldManager: c.manager})
	} else {
		saved, err = client.Update(ctx, u, metav1.UpdateOptions{FieldManager: c.manager})
	}
	if !apierrors.IsAlreadyExists(err) && !apierrors.IsConflict(err) {
		return saved, err
	}
	there, readErr := client.Get(ctx, u.GetName(), metav1.GetOptions{})
	if readErr != nil {
		return nil, readErr
	}
	text, _, _ := unstructured.NestedString(there.Object, "data", "inventory")
	if text == base64.StdEncoding.EncodeToString(data["inventory"]) {
		return there, nil
	}
	return nil, &changedError{err}
}

// changedError keeps a conflict from being tried again: only a new plan can mend it.
type changedError struct{ error }

func (e *changedError) Unwrap() error { return e.error }

// deleteInventory removes the inventory of a set that owns nothing any more.
func (c *Client) deleteInventory(ctx context.Context, owner Owner, inv *Inventory) error {
	if inv.resourceVersion == "" {
		return nil
	}
	err := c.on(secretResource, owner.Namespace).Delete(ctx, owner.SecretName(),
		metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &inv.resourceVersion}})
	switch {
	case apierrors.IsConflict(err):
		return errInventoryChanged
	case err != nil && !apierrors.IsNotFound(err):
		return fmt.Errorf("delete the inventory of %s: %w", owner.Name, err)
	}
	inv.resourceVersion = ""
	return nil
}
