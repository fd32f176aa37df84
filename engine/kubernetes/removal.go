package kubernetes

import (
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/kube"
)

// Removal leaves what became another's, what is to be kept, and what takes data or others' objects with it.
func (d *Driver) Removal(ctx context.Context, r engine.Request) (engine.Action, string, error) {
	o, _, err := d.object(ctx, r)
	if err != nil {
		return "", "", err
	}
	live, err := d.client.Get(ctx, o.Unstructured)
	switch {
	case isUnknownKind(err), err == nil && live == nil:
		return engine.Delete, "it is gone already", nil
	case err != nil:
		return "", "", err
	}
	label := live.GetLabels()[kube.OwnerLabel]
	why := kube.Precious(o.GroupVersionKind().GroupKind())
	switch {
	case r.Record.Identity != "" && string(live.GetUID()) != r.Record.Identity:
		return engine.Forget, "another object has its name by now", nil
	case label != "" && label != d.opts.Owner:
		return engine.Forget, fmt.Sprintf("it belongs to %q by now", label), nil
	case live.GetAnnotations()[kube.KeepAnnotation] == "true":
		return engine.Forget, "its annotation " + kube.KeepAnnotation + " says to keep it", nil
	case why == "":
		return engine.Delete, "", nil
	}
	with, err := d.client.GoesWith(ctx, live)
	if err != nil {
		return "", "", err
	}
	if with != "" {
		why += ": " + with
	}
	if slices.Contains(d.opts.AllowDelete, o.GetKind()) {
		return engine.Delete, why, nil
	}
	return engine.Retain, fmt.Sprintf("%s; allow deleting %s to have it removed", why, o.GetKind()), nil
}

// Release takes the owner's label off.
func (d *Driver) Release(ctx context.Context, r engine.Request) error {
	o, _, err := d.object(ctx, r)
	if err != nil {
		return err
	}
	return d.client.Disown(ctx, o.Unstructured, types.UID(r.Record.Identity), d.opts.Owner)
}

// Delete removes the object if it is the recorded one, and waits until it is gone. What became precious or is to be kept since it was
// planned is left.
func (d *Driver) Delete(ctx context.Context, r engine.Request) error {
	action, cause, err := d.Removal(ctx, r)
	if err != nil {
		return err
	}
	o, _, err := d.object(ctx, r)
	if err != nil {
		return err
	}
	switch action {
	case engine.Forget:
		return nil
	case engine.Retain:
		return fmt.Errorf("%s is not deleted: %s", o.Identity(), cause)
	}
	return d.client.DeleteObject(ctx, o.Unstructured, types.UID(r.Record.Identity), remaining(ctx))
}

// remaining is the time that the engine leaves for the operation.
func remaining(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return time.Until(deadline)
	}
	return 5 * time.Minute
}
