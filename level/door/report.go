package door

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level/feed"
)

const (
	reportEvery = 200 * time.Millisecond // how often a door looks whether there is something to tell
	deniedEvery = 2 * time.Second        // how often further denials are told
	renewEvery  = 5 * time.Second
	// Lease is after how long a door that did not report is down.
	Lease = 15 * time.Second
)

// Resource is where doors report.
var Resource = schema.GroupVersionResource{Group: api.Group, Version: api.Version, Resource: "doors"}

// Reporter writes a door's report into the cluster.
type Reporter struct {
	Door    *Door
	Name    string // of the Door object
	Objects dynamic.Interface
	Log     *slog.Logger
}

// Run reports until the context ends. What cannot be written is tried again.
func (r *Reporter) Run(ctx context.Context) {
	ticker := time.NewTicker(reportEvery)
	defer ticker.Stop()
	var last string
	var told time.Time
	var denied int // in the last report, and how often the first of them
	var first int64
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		s := r.Door.State()
		if !s.Known || s.Snapshot == nil && !s.Stale { // no levels, nobody to tell
			r.Door.tally.forget()
			continue
		}
		report := r.Door.Report()
		wait := renewEvery
		if denied != len(report.Denied) || len(report.Denied) > 0 && report.Denied[0].Count != first {
			wait = deniedEvery
		}
		brief := report
		brief.Denied, brief.MoreDenied, brief.Audit = nil, 0, nil
		content, err := json.Marshal(brief)
		if err != nil {
			r.Log.Error("writing the report of a door", "error", err)
			continue
		}
		if string(content) == last && time.Since(told) < wait {
			continue
		}
		if err := r.write(ctx, report, s); err != nil {
			if ctx.Err() == nil && !apierrors.IsNotFound(err) {
				r.Log.Warn("writing the report of a door", "error", err)
			}
			continue
		}
		last, told, denied, first = string(content), time.Now(), len(report.Denied), 0
		if denied > 0 {
			first = report.Denied[0].Count
		}
	}
}

// Report is how the door is, without the time.
func (d *Door) Report() api.DoorReport {
	s := d.State()
	report := api.DoorReport{Kind: string(d.Kind), Setting: d.Kind.setting(s.Doors), State: api.DoorReady, Registry: s.Registry, Regrades: s.Regrades, Problems: s.Problems}
	if len(report.Problems) > shown {
		report.Problems = append(report.Problems[:shown:shown], fmt.Sprintf("and %d more", len(s.Problems)-shown))
	}
	switch {
	case d.Off():
		report.State = api.DoorOff
	case s.Stale:
		report.State = api.DoorStale
	}
	report.Denied, report.MoreDenied = d.tally.list(d.against)
	if d.Chain != nil {
		head := d.Chain.Saved()
		report.Audit = &api.AuditHead{Sequence: head.Sequence, Hash: head.Hash}
		if err := d.Chain.Err(); err != nil {
			report.Problems = append(report.Problems[:len(report.Problems):len(report.Problems)], "audit records are lost: "+err.Error())
		}
	}
	return report
}

// write applies the Door object. It is on the top level: it tells names of all levels.
func (r *Reporter) write(ctx context.Context, report api.DoorReport, s *feed.State) error {
	report.Renewed = metav1.NowMicro()
	content, err := json.Marshal(report)
	if err != nil {
		return err
	}
	var body map[string]any
	if err := json.Unmarshal(content, &body); err != nil {
		return err
	}
	u := &unstructured.Unstructured{Object: map[string]any{"report": body}}
	u.SetAPIVersion(api.Group + "/" + api.Version)
	u.SetKind("Door")
	u.SetName(r.Name)
	if len(r.Door.Exempt) > 0 { // no part of the report: definitions of an older version refuse fields that they do not know
		list, err := json.Marshal(r.Door.Exempt)
		if err != nil {
			return err
		}
		u.SetAnnotations(map[string]string{api.ExemptAnnotation: string(list)})
	}
	if s.Snapshot != nil {
		u.SetLabels(map[string]string{api.LevelLabel: s.Snapshot.Registry().TopName()})
	}
	_, err = r.Objects.Resource(Resource).Apply(ctx, r.Name, u, metav1.ApplyOptions{FieldManager: "weft-door", Force: true})
	return err
}
