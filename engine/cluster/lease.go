package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"github.com/weft-dev/weft/kube"
)

// operationAnnotation says what the holder does.
const operationAnnotation = "weft.dev/operation"

// LockedError says that somebody else works on the state.
type LockedError struct {
	Lease     string // NAMESPACE/NAME
	Holder    string
	Operation string
	Since     time.Time
}

// Error names the holder.
func (e *LockedError) Error() string {
	return fmt.Sprintf("%s works on the state (%s since %s; Lease %s); wait until it is done", e.Holder, e.Operation, e.Since.Format(time.RFC3339), e.Lease)
}

// lease is the lock.
type lease struct {
	client coordination.LeaseInterface
	name   string
	opts   Options
	holder string
	token  int64

	once  sync.Once
	lost  chan struct{} // closed when it is not ours any more
	stop  context.CancelFunc
	ended chan struct{} // closed when nothing renews it any more
}

// acquire takes the lock when it is free, when its holder gave it up, or when its holder did not renew it for as long as it lasts.
// Clocks of holders are not trusted: whether it is renewed is watched.
func (l *lease) acquire(ctx context.Context) error {
	l.holder = fmt.Sprintf("%s %s", l.opts.Holder, rand.Text()[:8])
	begun := time.Now()
	var seen string // version of the lease that is watched
	var since time.Time
	for {
		taken, current, err := l.try(ctx, seen != "" && time.Since(since) > l.opts.Duration, seen)
		if err != nil {
			return fmt.Errorf("lock the state: %w", err)
		}
		if taken {
			l.renewing()
			return nil
		}
		if current.ResourceVersion != seen {
			if seen != "" && time.Since(begun) > l.opts.Wait { // it is renewed: the holder lives
				return l.held(current)
			}
			seen, since = current.ResourceVersion, time.Now()
		}
		if renewed := current.Spec.RenewTime; renewed != nil && time.Since(renewed.Time) < l.opts.Duration/3 && time.Since(begun) >= l.opts.Wait && l.opts.Wait == 0 {
			return l.held(current) // renewed a moment ago, by a clock like ours
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(l.opts.Duration / 30):
		}
	}
}

func (l *lease) held(current *coordinationv1.Lease) error {
	e := &LockedError{Lease: l.opts.Namespace + "/" + l.name, Holder: ptr.Deref(current.Spec.HolderIdentity, "somebody"), Operation: current.Annotations[operationAnnotation]}
	if current.Spec.AcquireTime != nil {
		e.Since = current.Spec.AcquireTime.Time
	}
	return e
}

// try takes the lock if nobody has it, or if it is dead in the version that was seen.
func (l *lease) try(ctx context.Context, dead bool, seen string) (taken bool, current *coordinationv1.Lease, err error) {
	current, err = kube.Retry(ctx, func(ctx context.Context) (*coordinationv1.Lease, error) {
		return l.client.Get(ctx, l.name, metav1.GetOptions{})
	})
	now := metav1.NowMicro()
	spec := coordinationv1.LeaseSpec{HolderIdentity: &l.holder, LeaseDurationSeconds: ptr.To(int32(max(1, l.opts.Duration.Seconds()))), AcquireTime: &now, RenewTime: &now}
	if apierrors.IsNotFound(err) {
		spec.LeaseTransitions = ptr.To(int32(1))
		made := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: l.name, Namespace: l.opts.Namespace, Annotations: map[string]string{operationAnnotation: l.opts.Operation},
			Labels: map[string]string{"app.kubernetes.io/managed-by": kube.FieldManager}}, Spec: spec}
		current, err = write(ctx, func(ctx context.Context) (*coordinationv1.Lease, error) {
			return l.client.Create(ctx, made, metav1.CreateOptions{FieldManager: kube.FieldManager})
		})
		if errors.Is(err, errConflict) {
			return false, &coordinationv1.Lease{}, nil // somebody else, or an attempt of ours whose answer was lost
		}
		l.token = 1
		return err == nil, current, err
	}
	if err != nil {
		return false, nil, err
	}
	if ptr.Deref(current.Spec.HolderIdentity, "") == l.holder { // an attempt whose answer was lost
		l.token = int64(ptr.Deref(current.Spec.LeaseTransitions, 0))
		return true, current, nil
	}
	if ptr.Deref(current.Spec.HolderIdentity, "") != "" && !(dead && current.ResourceVersion == seen) {
		return false, current, nil
	}
	next := current.DeepCopy()
	spec.LeaseTransitions = ptr.To(ptr.Deref(current.Spec.LeaseTransitions, 0) + 1)
	next.Spec = spec
	if next.Annotations == nil {
		next.Annotations = map[string]string{}
	}
	next.Annotations[operationAnnotation] = l.opts.Operation
	next, err = write(ctx, func(ctx context.Context) (*coordinationv1.Lease, error) {
		return l.client.Update(ctx, next, metav1.UpdateOptions{FieldManager: kube.FieldManager})
	})
	if errors.Is(err, errConflict) {
		return false, current, nil
	}
	if err != nil {
		return false, nil, err
	}
	l.token = int64(ptr.Deref(next.Spec.LeaseTransitions, 0))
	return true, next, nil
}

// errConflict says that the lease is another than it was read, which trying again does not mend.
var errConflict = errors.New("the lease was written by somebody else")

// write makes a request that changes the lease, again after passing failures.
func write(ctx context.Context, request func(context.Context) (*coordinationv1.Lease, error)) (*coordinationv1.Lease, error) {
	return kube.Retry(ctx, func(ctx context.Context) (*coordinationv1.Lease, error) {
		l, err := request(ctx)
		if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
			return nil, errConflict
		}
		return l, err
	})
}

// renewing renews the lock until it is released or lost. It counts as lost a while before others may take it.
func (l *lease) renewing() {
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	go func() {
		defer close(l.ended)
		renewed := time.Now()
		tick := time.NewTicker(l.opts.Duration / 5)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			began := time.Now()
			attempt, end := context.WithTimeout(ctx, l.opts.Duration/5)
			ours, err := l.renew(attempt)
			end()
			switch {
			case ctx.Err() != nil:
				return
			case err == nil && ours:
				renewed = began
			case err == nil, time.Since(renewed) > l.opts.Duration*2/3:
				l.lose()
				return
			}
		}
	}()
}

func (l *lease) lose() { l.once.Do(func() { close(l.lost) }) }

func (l *lease) renew(ctx context.Context) (ours bool, err error) {
	current, err := l.client.Get(ctx, l.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if ptr.Deref(current.Spec.HolderIdentity, "") != l.holder {
		return false, nil
	}
	now := metav1.NowMicro()
	current.Spec.RenewTime = &now
	_, err = l.client.Update(ctx, current, metav1.UpdateOptions{FieldManager: kube.FieldManager})
	return err == nil, err
}

// release gives the lock up, if it still is ours.
func (l *lease) release() error {
	if l.stop == nil {
		return nil
	}
	l.stop()
	<-l.ended
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return clear(ctx, l.client, l.name, func(holder string) bool { return holder == l.holder })
}

// clear empties the holder of a lease if it is the right one.
func clear(ctx context.Context, client coordination.LeaseInterface, name string, right func(holder string) bool) error {
	for {
		current, err := kube.Retry(ctx, func(ctx context.Context) (*coordinationv1.Lease, error) {
			return client.Get(ctx, name, metav1.GetOptions{})
		})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("give up the lock: %w", err)
		}
		holder := ptr.Deref(current.Spec.HolderIdentity, "")
		if holder == "" || !right(holder) {
			return nil
		}
		current.Spec.HolderIdentity, current.Spec.RenewTime = ptr.To(""), nil
		_, err = write(ctx, func(ctx context.Context) (*coordinationv1.Lease, error) {
			return client.Update(ctx, current, metav1.UpdateOptions{FieldManager: kube.FieldManager})
		})
		if !errors.Is(err, errConflict) {
			return err
		}
	}
}

// Unlock takes the lock away from whoever holds it, and says who that was; empty if nobody did. Without force it only says.
func Unlock(ctx context.Context, cfg *rest.Config, namespace, name string, force bool) (holder *LockedError, err error) {
	leases, err := coordination.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	client := leases.Leases(namespace)
	current, err := client.Get(ctx, LeaseName(name), metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && ptr.Deref(current.Spec.HolderIdentity, "") == "" {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	l := &lease{name: LeaseName(name), opts: Options{Namespace: namespace}}
	if !errors.As(l.held(current), &holder) {
		return nil, nil
	}
	if !force {
		return holder, nil
	}
	return holder, clear(ctx, client, LeaseName(name), func(h string) bool { return h == holder.Holder })
}
