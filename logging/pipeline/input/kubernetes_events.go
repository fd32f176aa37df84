package input

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/apiserver"
	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// kubernetesEvents brings the Events of a cluster, each as the object that the API server keeps. It lists them, and then watches from there on;
// what is safe is remembered by its uid and resourceVersion, so that an event comes once and its repetitions, which raise the version, come too.
type kubernetesEvents struct {
	host      Host
	api       *apiserver.Client
	database  string
	namespace string
	page      int
	interval  time.Duration
	retention time.Duration
	watch     time.Duration // 0 for as long as the API server likes

	store *PositionStore
	taken map[string]sighting // handed on, but perhaps not yet safe; by uid
}

type sighting struct {
	version int64
	at      time.Time
}

const (
	eventsPage     = 500
	maxEvent       = 4 << 20 // bytes; etcd takes 1.5 MB
	maxEventsDelay = 30 * time.Second
)

func newKubernetesEvents(o *options.Set, h Host) Input {
	k := &kubernetesEvents{host: h, api: apiserver.New(o, h.Now), database: o.String("db"), namespace: o.String("kube_namespace"), page: o.Int("kube_request_limit"),
		interval:  time.Duration(o.Int("interval_sec"))*time.Second + time.Duration(o.Int("interval_nsec")),
		retention: o.Duration("kube_retention_time"), watch: o.Duration("kube_watch_timeout"), taken: map[string]sighting{}}
	if strings.ContainsAny(k.namespace, "/%?#") {
		o.Failf("kube_namespace", "Kube_Namespace %q is no name of a namespace", k.namespace)
	}
	if k.page < 0 {
		o.Failf("kube_request_limit", "Kube_Request_Limit must be 0 or more events")
	}
	if k.page == 0 {
		k.page = eventsPage // an answer of all would be kept in memory at once
	}
	if k.interval <= 0 {
		o.Failf("interval_sec", "Interval_Sec and Interval_NSec must not both be 0")
	}
	databaseOptions(o)
	return k
}

func (k *kubernetesEvents) Run(ctx context.Context, sink flow.Sink) error {
	store, err := k.host.Positions.Open(k.database, k.host.Name+" events of "+k.api.URL+" "+k.namespace)
	if err != nil {
		return err
	}
	k.store = store
	saving, stop := context.WithCancel(ctx)
	var saver sync.WaitGroup
	saver.Go(func() { k.saveOften(saving) })
	defer func() {
		stop()
		saver.Wait()
		k.save()
	}()
	wait := k.interval
	for ctx.Err() == nil {
		version, err := k.list(ctx, sink)
		if err == nil {
			wait = k.interval
			k.forget()
			err = k.follow(ctx, sink, version)
		}
		var failed *sinkError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &failed):
			return failed.error
		case err != nil:
			k.host.Log.Warn("the events of the cluster are not read; trying again", "in", wait, "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		if err != nil {
			wait = min(2*wait, max(maxEventsDelay, k.interval))
		}
	}
	return nil
}

// sinkError is an end of the pipeline, not of a question to the API server.
type sinkError struct{ error }

// saveOften writes what became safe, each second: a database of a busy cluster is long.
func (k *kubernetesEvents) saveOften(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			k.save()
		}
	}
}

func (k *kubernetesEvents) save() {
	if err := k.store.Save(); err != nil {
		k.host.Log.Error("positions are not saved", "error", err)
	}
}

func (k *kubernetesEvents) address(query url.Values) string {
	path := "/api/v1/events"
	if k.namespace != "" {
		path = "/api/v1/namespaces/" + k.namespace + "/events"
	}
	return k.api.URL + path + "?" + query.Encode()
}

// list brings all events that the API server has and gives the version from which to watch.
func (k *kubernetesEvents) list(ctx context.Context, sink flow.Sink) (version string, err error) {
	query := url.Values{"limit": {strconv.Itoa(k.page)}}
	for {
		var page struct {
			Metadata struct {
				ResourceVersion string `json:"resourceVersion"`
				Continue        string `json:"continue"`
			} `json:"metadata"`
			Items []json.RawMessage `json:"items"`
		}
		if err := k.api.Get(ctx, k.address(query), &page); err != nil {
			return "", fmt.Errorf("listing: %w", err)
		}
		if page.Metadata.ResourceVersion == "" {
			return "", errors.New("listing: the answer is no list of objects (there is no metadata.resourceVersion)")
		}
		for _, item := range page.Items {
			if err := k.take(ctx, sink, item); err != nil {
				return "", err
			}
		}
		version = page.Metadata.ResourceVersion
		if page.Metadata.Continue == "" {
			return version, nil
		}
		query.Set("continue", page.Metadata.Continue)
	}
}

// follow watches until the API server ends it.
func (k *kubernetesEvents) follow(ctx context.Context, sink flow.Sink, version string) error {
	watching, cancel := context.WithCancel(ctx)
	query := url.Values{"watch": {"1"}, "resourceVersion": {version}}
	if k.watch > 0 {
		cancel()
		query.Set("timeoutSeconds", strconv.Itoa(int(max(k.watch/time.Second, 1))))
		watching, cancel = context.WithTimeout(ctx, k.watch+apiserver.Timeout) // a server that forgot us
	}
	defer cancel()
	body, err := k.api.Watch(watching, k.address(query))
	if err != nil {
		return fmt.Errorf("watching: %w", err)
	}
	defer body.Close()
	bounded := &boundedReader{from: body}
	for decoder := json.NewDecoder(bounded); ; {
		var change struct {
			Type   string          `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		bounded.left = maxEvent
		if err := decoder.Decode(&change); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("watching: %w", err)
		}
		switch change.Type {
		case "ADDED", "MODIFIED":
			if err := k.take(ctx, sink, change.Object); err != nil {
				return err
			}
		case "ERROR":
			var status struct {
				Message string `json:"message"`
				Code    int    `json:"code"`
			}
			if err := json.Unmarshal(change.Object, &status); err != nil {
				return fmt.Errorf("watching: %w", err)
			}
			if status.Code == http.StatusGone {
				return nil // the version is too old: all is listed again, which brings nothing twice
			}
			return fmt.Errorf("watching: %s", status.Message)
		}
	}
}

// boundedReader fails when more than left is read.
type boundedReader struct {
	from io.Reader
	left int
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("one event has more than %d bytes", maxEvent)
	}
	n, err := b.from.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// eventHead is what is looked at of an event.
type eventHead struct {
	Metadata struct {
		UID               string `json:"uid"`
		ResourceVersion   string `json:"resourceVersion"`
		CreationTimestamp string `json:"creationTimestamp"`
	} `json:"metadata"`
	FirstTimestamp string `json:"firstTimestamp"`
	LastTimestamp  string `json:"lastTimestamp"`
}

// at is when the event happened last; ok is false if it does not say.
func (e *eventHead) at() (at time.Time, ok bool) {
	for _, text := range []string{e.LastTimestamp, e.FirstTimestamp, e.Metadata.CreationTimestamp} {
		if t, err := time.Parse(time.RFC3339, text); err == nil {
			return t, true
		}
	}
	return at, false
}

// take hands one event on, unless it is too old or was handed on before. An object that is no event is told about and left out.
func (k *kubernetesEvents) take(ctx context.Context, sink flow.Sink, object []byte) error {
	var head eventHead
	if err := json.Unmarshal(object, &head); err != nil {
		k.host.Log.Warn("an event cannot be read and is left out", "error", err)
		return nil
	}
	at, dated := head.at()
	version, err := strconv.ParseInt(head.Metadata.ResourceVersion, 10, 64)
	uid := head.Metadata.UID
	if !dated || err != nil || version < 0 || uid == "" {
		k.host.Log.Warn("an event without a time, uid or resourceVersion is left out", "uid", uid, "resourceVersion", head.Metadata.ResourceVersion)
		return nil
	}
	key := "event " + uid
	if kept, ok := k.store.Get(key); ok && kept.Offset >= version || k.taken[uid].version >= version || at.Before(k.host.Now().Add(-k.retention)) {
		return nil
	}
	body, _, err := record.FromJSON(nil, object)
	if err != nil || record.KindOf(body) != record.Map {
		k.host.Log.Warn("an event cannot be read and is left out", "uid", uid, "error", err)
		return nil
	}
	ack := flow.NewAck(func() {
		if kept, ok := k.store.Get(key); !ok || kept.Offset < version {
			k.store.Set(key, Position{Name: uid, Offset: version, At: at.Unix()})
		}
	})
	data := record.AppendEvent(nil, record.TimeOf(at), record.EmptyMap, body)
	if err := sink.Append(ctx, flow.Batch{Tag: k.host.Tag, Data: data, Count: 1, Ack: ack}); err != nil {
		return &sinkError{err}
	}
	k.taken[uid] = sighting{version, at}
	ack.Release()
	return nil
}

// forget lets go of events that are older than what is taken at all.
func (k *kubernetesEvents) forget() {
	oldest := k.host.Now().Add(-k.retention)
	for uid, s := range k.taken {
		if s.at.Before(oldest) {
			delete(k.taken, uid)
		}
	}
	k.store.DeleteWhere(func(key string, p Position) bool {
		return strings.HasPrefix(key, "event ") && p.At < oldest.Unix()
	})
}
