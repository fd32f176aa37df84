package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/engine/cluster"
	"github.com/weft-dev/weft/engine/folder"
	"github.com/weft-dev/weft/engine/seal"
)

// stateBackend is an opened and locked state.
type stateBackend interface {
	State() *engine.State
	// Lost is closed when the lock was lost.
	Lost() <-chan struct{}
	Close() error
}

type folderBackend struct{ *folder.Folder }

func (b folderBackend) State() *engine.State { return b.Folder.State }

func (b folderBackend) Lost() <-chan struct{} { return nil }

// kubernetesBackend is the value of --backend for the cluster itself.
const kubernetesBackend = "kubernetes"

type clusterBackend struct{ opened *cluster.State }

func (b clusterBackend) State() *engine.State { return b.opened.State }

func (b clusterBackend) Lost() <-chan struct{} { return b.opened.Lost() }

func (b clusterBackend) Close() error { return b.opened.Close() }

// openInCluster opens the state in the cluster. Its namespace is made if need be, as the state is there before any object.
func (a *app) openInCluster(ctx context.Context, s *session, r sessionRequest) (stateBackend, error) {
	if err := s.place.Client.EnsureNamespace(ctx, s.place.Namespace); err != nil {
		return nil, err
	}
	opened, err := cluster.Open(ctx, s.rest, cluster.Options{Namespace: s.place.Namespace, Name: s.settings.Name, Holder: whoAmI(), Operation: r.operation, Wait: r.state.lockWait, Sealer: s.keys})
	if err != nil {
		return nil, lockAdvice(err)
	}
	return clusterBackend{opened}, nil
}

// openState opens the state where the flags say, or where it belongs by the kind of cluster.
func (a *app) openState(ctx context.Context, s *session, r sessionRequest, where locations) error {
	identity, err := a.identity(r.state.identity)
	if err != nil {
		return err
	}
	if s.keys, err = seal.New(r.state.recipients, []string{identity}); err != nil {
		return err
	}
	at := cmp.Or(r.state.backend, r.settings.Backend)
	if at == "" && where.states == "" {
		at = kubernetesBackend
	}
	s.settings.Backend = at
	name := s.place.Namespace + "." + s.settings.Name
	if at == kubernetesBackend {
		if s.backend, err = a.openInCluster(ctx, s, r); err != nil {
			return err
		}
	} else {
		if at != "" {
			if at, err = filepath.Abs(at); err != nil {
				return err
			}
			s.settings.Backend = at
		} else {
			at = filepath.Join(where.states, name)
		}
		f, err := folder.Open(ctx, at, folder.Options{Operation: r.operation, Wait: r.state.lockWait, Sealer: s.keys})
		if err != nil {
			return lockAdvice(err)
		}
		s.backend = folderBackend{f}
	}
	if err := s.shareKeys(r.state.recipients, identity); err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}

func lockAdvice(err error) error {
	var here *folder.LockedError
	var there *cluster.LockedError
	switch {
	case errors.As(err, &here):
		return output.Advise(err, "Wait with --lock-wait 1m, or end the other process.")
	case errors.As(err, &there):
		return output.Advise(err, "Wait with --lock-wait 1m. If the holder is gone its lock ends by itself; `weft state unlock --force` ends it at once.")
	}
	return err
}

// shareKeys encrypts to those whom the state names; a new state is told for whom it is.
func (s *session) shareKeys(recipients []string, identity string) error {
	state := s.backend.State()
	known := state.Recipients()
	switch {
	case len(known) == 0 || len(recipients) == 0:
	case strings.Join(known, " ") != strings.Join(recipients, " "):
		return output.Advise(fmt.Errorf("the state is encrypted to %s and not to those of --recipient", strings.Join(known, ", ")),
			"Leave --recipient out, or change them with `weft state rekey --recipient ...`.")
	}
	if len(known) > 0 {
		keys, err := seal.New(known, []string{identity})
		if err != nil {
			return err
		}
		s.keys = keys
	}
	return state.SetRecipients(s.keys, s.keys.Recipients())
}

// identity returns the user's age key.
func (a *app) identity(file string) (string, error) {
	if file != "" {
		if _, err := os.Stat(file); err != nil {
			return "", fmt.Errorf("--identity: %w", err)
		}
		return seal.UserIdentity(file)
	}
	if key := a.getenv("WEFT_IDENTITY"); key != "" {
		return key, nil
	}
	base := a.getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(base) {
		home := a.getenv("HOME")
		if home == "" {
			return "", errors.New("no place for the key that secrets are encrypted with: neither XDG_CONFIG_HOME nor HOME is set; name one with --identity")
		}
		base = filepath.Join(home, ".config")
	}
	return seal.UserIdentity(filepath.Join(base, "weft", "identity"))
}

// unlock shows or takes away a lock.
func (a *app) unlock(ctx context.Context, path string, src sourceFlags, state stateFlags, force bool) error {
	r := sessionRequest{operation: "unlock", state: state}
	if src.name != "" && path == "" && len(src.files) == 0 {
		r.settings = settings{Name: src.name, Namespace: src.namespace}
	} else {
		var err error
		if _, r.settings, err = a.readSource(ctx, path, src); err != nil {
			return err
		}
	}
	s := &session{app: a, settings: r.settings}
	where, err := a.place(ctx, s, r)
	if err != nil {
		return err
	}
	if at := cmp.Or(state.backend, r.settings.Backend); at != kubernetesBackend && (at != "" || where.states != "") {
		f, err := folder.Open(ctx, cmp.Or(at, filepath.Join(where.states, s.place.Namespace+"."+s.settings.Name)), folder.Options{Operation: "unlock", LockOnly: true})
		if err == nil {
			return errors.Join(f.Close(), errNotLocked)
		}
		return output.Advise(err, "The lock of a folder ends with its holder: end that process.")
	}
	holder, err := cluster.Unlock(ctx, s.rest, s.place.Namespace, s.settings.Name, force)
	switch {
	case err != nil:
		return err
	case holder == nil:
		return errNotLocked
	case !force:
		return output.Advise(holder, "--force takes the lock away.")
	}
	return a.changed("The lock of %s is taken away.", holder.Holder)
}
