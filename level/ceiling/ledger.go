package ceiling

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
)

// patience is how long a reservation may take: an API server waits three seconds for the answer.
const patience = 2 * time.Second

// Ledger keeps what was let through in the status of the Workspace, which one process at a time can change. It is an admission.Ledger.
type Ledger struct{ objects dynamic.Interface }

// NewLedger prepares a ledger. Its account must be able to read workspaces and to patch their status.
func NewLedger(config *rest.Config) (*Ledger, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1 // a storm of pods must not wait for itself
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connecting to the cluster: %w", err)
	}
	return &Ledger{objects}, nil
}

// Take writes down what try returns, after what others have written down was heard.
func (l *Ledger) Take(workspace string, hear func([]api.Reservation), try func() *api.Reservation) error {
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	for {
		u, err := l.objects.Resource(workspaces).Get(ctx, workspace, metav1.GetOptions{})
		if err != nil {
			return err
		}
		var w api.Workspace
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &w); err != nil {
			return err
		}
		hear(w.Status.Reserved)
		counted := try()
		if counted == nil {
			return nil
		}
		kept := []api.Reservation{*counted}
		for _, r := range w.Status.Reserved {
			if r.Until.After(time.Now()) && (r.Namespace != counted.Namespace || r.Name != counted.Name) {
				kept = append(kept, r)
			}
		}
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": w.ResourceVersion}, "status": map[string]any{"reserved": kept}})
		if err != nil {
			return err
		}
		_, err = l.objects.Resource(workspaces).Patch(ctx, workspace, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "weft-ledger"}, "status")
		if !apierrors.IsConflict(err) {
			return err
		}
	}
}
