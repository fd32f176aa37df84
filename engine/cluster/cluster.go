// Package cluster keeps an engine's state in a Kubernetes cluster, so that a team and its CI work on one. A Lease says who works on it,
// and Secrets hold it:
//
//	Lease  weft-NAME            holder, renewed every few seconds; each new holder gets a higher fencing token
//	Secret weft-state-NAME      the head: the token of the last writer, which chunks there are, and the newest records
//	Secret weft-state-NAME-...  chunks of gzipped records and snapshots; each is written once and named with its check sum in the head
//
// Every write of the state replaces the head in the version that was read. Whoever takes the lock writes its own token into the head
// first: from then on a former holder cannot write any more, whatever it believes. The package must not know what the state says.
package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	core "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/kube"
)

// Version is the version of the head's format. Newer ones are refused.
const Version = 1

// SecretType is the type of the Secrets.
const SecretType corev1.SecretType = "weft.dev/state"

// Label names the state that a Secret belongs to.
const Label = "weft.dev/state"

// Sizes, in bytes. A Secret may hold 1 MiB.
const (
	maxJournal = 256 << 10 // of the head's own records, gzipped; then they become a chunk
	maxChunk   = 768 << 10
	maxState   = 256 << 20 // unpacked
)

// Options say which state is opened, and how.
type Options struct {
	Namespace string // has to exist
	Name      string
	Holder    string        // who works on it, told to others, for example "ann@laptop"
	Operation string        // what it is opened for
	Wait      time.Duration // how long to wait while somebody else holds the lock; 0 refuses
	Duration  time.Duration // how long a lock lasts that is not renewed; default 15 s
	Sealer    engine.Sealer
	Crash     func(point string) // called between the steps of a write; tests kill the process in it
}

// head is the content of the head Secret.
type head struct {
	Version  int     `json:"version"`
	Fence    int64   `json:"fence"`
	Last     uint64  `json:"last"`               // number of the last record
	Snapshot []chunk `json:"snapshot,omitempty"` // in their order
	Since    uint64  `json:"since"`              // number of the last record that the snapshot contains
	Segments []chunk `json:"segments,omitempty"` // of records after the snapshot
}

// State is an opened and locked state.
type State struct {
	State *engine.State

	opts    Options
	secrets core.SecretInterface
	lease   *lease

	mu      sync.Mutex
	idle    *sync.Cond
	head    head
	version string // of the head Secret
	journal []byte // gzip members
	batch   *batch
	last    uint64 // number of the last record, written or not
	writing bool
	broken  error
	writes  int
}

// batch is what one write makes durable.
type batch struct {
	data    []byte // lines
	records int
	done    chan struct{}
	err     error
}

// Open takes the lock and reads the state, which is made if need be. The context bounds only opening.
func Open(ctx context.Context, cfg *rest.Config, o Options) (*State, error) {
	if o.Crash == nil {
		o.Crash = func(string) {}
	}
	if o.Duration == 0 {
		o.Duration = 15 * time.Second
	}
	cfg = rest.CopyConfig(cfg)
	cfg.QPS = -1 // one write at a time, and renewals
	secrets, err := core.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	leases, err := coordination.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	s := &State{opts: o, secrets: secrets.Secrets(o.Namespace), lease: &lease{client: leases.Leases(o.Namespace), name: LeaseName(o.Name), opts: o, lost: make(chan struct{}), ended: make(chan struct{})}}
	s.idle = sync.NewCond(&s.mu)
	if err := s.lease.acquire(ctx); err != nil {
		return nil, err
	}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.lease.release())
	}
	return s, nil
}

// LeaseName is the name of the Lease that locks a state.
func LeaseName(name string) string { return "weft-" + name }

func headName(name string) string { return "weft-state-" + name }

// open fences the head, so that former holders cannot write, and reads everything.
func (s *State) open(ctx context.Context) error {
	where := fmt.Sprintf("Secret %s/%s", s.opts.Namespace, headName(s.opts.Name))
	for {
		secret, err := kube.Retry(ctx, func(ctx context.Context) (*corev1.Secret, error) {
			return s.secrets.Get(ctx, headName(s.opts.Name), metav1.GetOptions{})
		})
		if apierrors.IsNotFound(err) {
			secret = nil
		} else if err != nil {
			return fmt.Errorf("read the state in %s: %w", where, err)
		}
		if secret != nil {
			if s.head, s.journal, err = readHead(secret); err != nil {
				return fmt.Errorf("the state in %s: %w", where, err)
			}
			s.version = secret.ResourceVersion
		} else {
			s.head, s.journal, s.version = head{Version: Version}, nil, ""
		}
		s.head.Fence = max(s.head.Fence+1, s.lease.token)
		s.lease.token = s.head.Fence
		err = s.writeHead(ctx)
		if err == nil {
			break
		}
		if !errors.Is(err, errChanged) {
			return fmt.Errorf("write the state in %s: %w", where, err)
		}
	}
	s.last = s.head.Last
	snapshot, records, err := s.read(ctx)
	if err != nil {
		return fmt.Errorf("the state in %s: %w", where, err)
	}
	if s.State, err = engine.Load(s, snapshot, records, s.head.Last, s.opts.Sealer); err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	return nil
}

func readHead(secret *corev1.Secret) (h head, journal []byte, err error) {
	if secret.Type != SecretType {
		return h, nil, errors.New("a Secret of another kind is in the way")
	}
	if err := json.Unmarshal(secret.Data["head"], &h); err != nil {
		return h, nil, fmt.Errorf("it is damaged: %w", err)
	}
	if h.Version < 1 || h.Version > Version {
		return h, nil, fmt.Errorf("its format has version %d, this program knows up to %d: use a newer weft", h.Version, Version)
	}
	return h, secret.Data["journal"], nil
}

// read gets the chunks that the head names and unpacks everything.
func (s *State) read(ctx context.Context) (snapshot []byte, records [][]byte, err error) {
	if len(s.head.Snapshot) > 0 {
		packed, err := s.chunks(ctx, s.head.Snapshot)
		if err != nil {
			return nil, nil, err
		}
		if snapshot, err = unpack(packed); err != nil {
			return nil, nil, err
		}
	}
	packed, err := s.chunks(ctx, s.head.Segments)
	if err != nil {
		return nil, nil, err
	}
	plain, err := unpack(append(packed, s.journal...))
	if err != nil {
		return nil, nil, err
	}
	for line := range bytes.Lines(plain) {
		records = append(records, bytes.TrimSuffix(line, []byte("\n")))
	}
	if n := s.head.Last - s.head.Since; uint64(len(records)) != n {
		return nil, nil, fmt.Errorf("it is damaged: %d records instead of %d", len(records), n)
	}
	return snapshot, records, nil
}

// Append makes a record durable and returns its number. Records of calls that overlap share one write.
func (s *State) Append(record []byte) (uint64, error) {
	s.mu.Lock()
	b, number, err := s.add(record)
	if err != nil {
		s.mu.Unlock()
		return 0, err
	}
	if s.writing {
		s.mu.Unlock()
		<-b.done
		return number, b.err
	}
	s.writeAll()
	s.mu.Unlock()
	return number, b.err
}

// Post has a record written soon.
func (s *State) Post(record []byte) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, number, err := s.add(record)
	if err == nil && !s.writing {
		s.writing = true
		go func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.writeAll()
		}()
	}
	return number, err
}

// add puts a record into the batch that is written next. mu is held.
func (s *State) add(record []byte) (*batch, uint64, error) {
	if err := s.usable(); err != nil {
		return nil, 0, err
	}
	if s.batch == nil {
		s.batch = &batch{done: make(chan struct{})}
	}
	s.batch.data = append(append(s.batch.data, record...), '\n')
	s.batch.records++
	s.last++
	return s.batch, s.last, nil
}

// writeAll writes batches until none is left. mu is held.
func (s *State) writeAll() {
	s.writing = true
	for s.batch != nil {
		s.writeBatch()
	}
	s.writing = false
	s.idle.Broadcast()
}

// usable says why nothing may be written any more. mu is held.
func (s *State) usable() error {
	if s.broken != nil {
		return s.broken
	}
	select {
	case <-s.lease.lost:
		return engine.ErrLockLost
	default:
		return nil
	}
}

// writeBatch writes what has gathered. mu is held, and given up while the server works.
func (s *State) writeBatch() {
	b := s.batch
	s.batch = nil
	next, journal := s.head, s.journal
	next.Last += uint64(b.records)
	err := s.usable()
	if err == nil {
		s.mu.Unlock()
		next, journal, err = s.write(next, journal, b.data)
		s.mu.Lock()
	}
	if err != nil {
		if s.broken == nil {
			s.broken = fmt.Errorf("write the state: %w", err)
		}
		b.err = s.broken
	} else {
		s.head, s.journal = next, journal
	}
	close(b.done)
}

// write puts lines behind the journal and replaces the head. Only the writer calls it.
func (s *State) write(next head, journal, lines []byte) (head, []byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.opts.Duration)
	defer cancel()
	s.opts.Crash("state-before-write")
	member, err := pack(lines)
	if err != nil {
		return next, journal, err
	}
	if len(journal) > 0 && len(journal)+len(member) > maxJournal {
		segments, err := s.put(ctx, journal)
		if err != nil {
			return next, journal, err
		}
		next.Segments = append(next.Segments[:len(next.Segments):len(next.Segments)], segments...)
		journal = nil
	}
	journal = append(journal[:len(journal):len(journal)], member...)
	if len(journal) > maxJournal { // one large batch
		segments, err := s.put(ctx, journal)
		if err != nil {
			return next, journal, err
		}
		next.Segments = append(next.Segments[:len(next.Segments):len(next.Segments)], segments...)
		journal = nil
	}
	err = s.replaceHead(ctx, next, journal)
	s.opts.Crash("state-written")
	return next, journal, err
}

func (s *State) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: s.opts.Namespace, Labels: map[string]string{Label: s.opts.Name, "app.kubernetes.io/managed-by": kube.FieldManager}}
}

// errChanged says that somebody else wrote the head.
var errChanged = errors.New("the state was written by somebody else")

// writeHead is replaceHead with what is in memory, for opening.
func (s *State) writeHead(ctx context.Context) error { return s.replaceHead(ctx, s.head, s.journal) }

// replaceHead writes the head if it still is as it was read. A write whose answer was lost is recognized by what is there.
func (s *State) replaceHead(ctx context.Context, h head, journal []byte) error {
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	secret := &corev1.Secret{ObjectMeta: s.meta(headName(s.opts.Name)), Type: SecretType, Data: map[string][]byte{"head": data, "journal": journal}}
	saved, err := kube.Retry(ctx, func(ctx context.Context) (*corev1.Secret, error) {
		var saved *corev1.Secret
		var err error
		if secret.ResourceVersion = s.version; s.version == "" {
			saved, err = s.secrets.Create(ctx, secret, metav1.CreateOptions{FieldManager: kube.FieldManager})
		} else {
			saved, err = s.secrets.Update(ctx, secret, metav1.UpdateOptions{FieldManager: kube.FieldManager})
		}
		if err == nil || !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) && !apierrors.IsNotFound(err) {
			return saved, err
		}
		if s.version != "" && apierrors.IsNotFound(err) {
			return nil, errors.New("the state was deleted")
		}
		there, readErr := s.secrets.Get(ctx, secret.Name, metav1.GetOptions{})
		if readErr != nil {
			return nil, readErr
		}
		if bytes.Equal(there.Data["head"], data) && bytes.Equal(there.Data["journal"], journal) {
			return there, nil
		}
		return nil, errChanged
	})
	if err != nil {
		return err
	}
	s.version = saved.ResourceVersion
	s.writes++
	return nil
}

// Compact replaces all records by a snapshot that contains them.
func (s *State) Compact(snapshot []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.writing {
		s.idle.Wait()
	}
	if err := s.usable(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.opts.Duration)
	defer cancel()
	packed, err := pack(snapshot)
	if err != nil {
		return err
	}
	chunks, err := s.put(ctx, packed)
	if err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	old := append(s.head.Snapshot, s.head.Segments...)
	next := head{Version: Version, Fence: s.head.Fence, Last: s.head.Last, Since: s.head.Last, Snapshot: chunks}
	if err := s.replaceHead(ctx, next, nil); err != nil {
		s.broken = fmt.Errorf("write the state: %w", err)
		return s.broken
	}
	s.head, s.journal = next, nil
	s.opts.Crash("state-compacted")
	for _, c := range old { // what is left of them is swept with the next state
		if err := s.secrets.Delete(ctx, c.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return nil //nolint:nilerr // they are not part of the state any more
		}
	}
	return s.sweep(ctx)
}

// Lost is closed when the lock was lost.
func (s *State) Lost() <-chan struct{} { return s.lease.lost }

// Writes is how many times the head was written.
func (s *State) Writes() int { return s.writes }

// Fence is the token of this holder.
func (s *State) Fence() int64 { return s.lease.token }

// Close gives up the lock. Everything is already written.
func (s *State) Close() error {
	s.mu.Lock()
	for s.writing {
		s.idle.Wait()
	}
	if s.broken == nil {
		s.broken = errors.New("the state is closed")
	}
	s.mu.Unlock()
	return s.lease.release()
}
