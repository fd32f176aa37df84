package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// A request is tried this often, with waits of 0.1 s that double up to 5 s (about 12 s in all). All requests made here
// may be repeated: an apply of the same object and a delete of one UID do nothing the second time.
const attempts = 9

// Retry makes a request that may be repeated until it is answered by something else than a passing failure.
func Retry[T any](ctx context.Context, request func(context.Context) (T, error)) (T, error) {
	return retry(ctx, request)
}

func retry[T any](ctx context.Context, request func(context.Context) (T, error)) (T, error) {
	delay := 100 * time.Millisecond
	for i := 1; ; i++ {
		got, err := request(ctx)
		if err == nil || i == attempts || ctx.Err() != nil || !transient(err) {
			return got, err
		}
		wait := delay/2 + rand.N(delay)
		if s, ok := apierrors.SuggestsClientDelay(err); ok {
			wait = max(wait, time.Duration(s)*time.Second)
		}
		select {
		case <-ctx.Done():
			return got, ctx.Err()
		case <-time.After(wait):
		}
		delay = min(2*delay, 5*time.Second)
	}
}

// transient tells whether the same request may succeed later.
func transient(err error) bool {
	var changed *changedError
	if isFieldConflict(err) || errors.As(err, &changed) {
		return false
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		s := status.Status()
		switch {
		case s.Reason == metav1.StatusReasonConflict:
			// The object or its managed fields changed between the server's read and write.
			return !strings.Contains(s.Message, "Precondition failed: UID")
		case s.Code == http.StatusInternalServerError:
			// The server reports a field that does not fit the schema as an internal error too.
			return !isTypeError(err) && !strings.Contains(s.Message, "admission webhook")
		}
		return s.Code == http.StatusTooManyRequests || s.Code > http.StatusInternalServerError
	}
	return utilnet.IsConnectionRefused(err) || utilnet.IsConnectionReset(err) || utilnet.IsProbableEOF(err) ||
		utilnet.IsHTTP2ConnectionLost(err) || utilnet.IsTimeout(err)
}

func (c *Client) get(ctx context.Context, r Resource, namespace, name string) (*unstructured.Unstructured, error) {
	u, err := retry(ctx, func(ctx context.Context) (*unstructured.Unstructured, error) {
		return c.on(r, namespace).Get(ctx, name, metav1.GetOptions{})
	})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return u, err
}

// pageSize bounds one answer of a list; with it 500 objects still take one request.
const pageSize = 1000

func (c *Client) list(ctx context.Context, r Resource, namespace, selector string) ([]unstructured.Unstructured, error) {
	var all []unstructured.Unstructured
	opts := metav1.ListOptions{LabelSelector: selector, Limit: pageSize}
	for {
		page, err := retry(ctx, func(ctx context.Context) (*unstructured.UnstructuredList, error) {
			return c.on(r, namespace).List(ctx, opts)
		})
		if err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if opts.Continue = page.GetContinue(); opts.Continue == "" {
			return all, nil
		}
	}
}

type patchOptions struct {
	dryRun, force bool
}

// patch applies the object on the server and returns what the server made of it. Fields that the schema does not know are refused in every
// server-side apply; what strict validation adds is a look for keys that are there twice, which the body cannot have. It would have
// the server parse every body once more.
func (c *Client) patch(ctx context.Context, r Resource, u *unstructured.Unstructured, o patchOptions) (*unstructured.Unstructured, error) {
	body, err := json.Marshal(u.Object)
	if err != nil {
		return nil, err
	}
	opts := metav1.PatchOptions{FieldManager: c.manager, FieldValidation: metav1.FieldValidationIgnore, Force: &o.force}
	if o.dryRun {
		opts.DryRun = []string{metav1.DryRunAll}
	}
	return retry(ctx, func(ctx context.Context) (*unstructured.Unstructured, error) {
		return c.on(r, u.GetNamespace()).Patch(ctx, u.GetName(), types.ApplyPatchType, body, opts)
	})
}

// deleteUID deletes the object if it still has the UID; done is false if it was already gone or is another by now.
func (c *Client) deleteUID(ctx context.Context, r Resource, namespace, name string, uid types.UID) (done bool, err error) {
	policy := metav1.DeletePropagationBackground
	_, err = retry(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, c.on(r, namespace).Delete(ctx, name, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &uid}, PropagationPolicy: &policy})
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return false, nil
	}
	return err == nil, err
}

// disown takes the owner's label off an object that is forgotten, if it is still the recorded one and carries it.
func (c *Client) disown(ctx context.Context, s Step) error {
	patch := fmt.Appendf(nil, `[{"op":"test","path":"/metadata/uid","value":%q},{"op":"test","path":"/metadata/labels/weft.dev~1owner","value":%q},{"op":"remove","path":"/metadata/labels/weft.dev~1owner"}]`,
		s.live.GetUID(), s.live.GetLabels()[OwnerLabel])
	_, err := retry(ctx, func(ctx context.Context) (*unstructured.Unstructured, error) {
		return c.on(s.resource, s.Object.Namespace).Patch(ctx, s.Object.Name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: c.manager})
	})
	if apierrors.IsNotFound(err) || apierrors.IsInvalid(err) {
		return nil // gone, or another's by now
	}
	return err
}
