// Package leveltool is `weft level`: verbs that answer from files, or from a cluster, what levels deny to whom. It must not know how a decision is made: that
// is told by package level.
package leveltool

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/kube/manifest"
	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/feed"
)

// numberLabel is a level that was written as a number, which is no label value.
var numberLabel = regexp.MustCompile(`((?:kubernetes\.io|level\.weft\.dev)/level["']?[ \t]*:[ \t]+)([0-9]+(?:\.[0-9]+)?)([ \t]*(?:[,}#\r\n]|$))`)

func (t Tool) read(ctx context.Context, paths []string) ([]manifest.Object, error) {
	return manifest.Reader{Recursive: true, Stdin: t.Stdin, Repair: func(file string, data []byte) []byte {
		repaired := numberLabel.ReplaceAll(data, []byte(`$1"$2"$3`))
		if len(repaired) != len(data) {
			t.Print().Warn("%s: a level is written as a number, which an API server refuses in a label; it is read as text here. Put it in quotes.", file)
		}
		return repaired
	}}.Read(ctx, paths...)
}

// objects are those of the paths, or those of the cluster if there is no path.
func (t Tool) objects(ctx context.Context, paths []string) ([]manifest.Object, error) {
	if len(paths) > 0 {
		return t.read(ctx, paths)
	}
	const advice = "Or name files and folders with objects."
	if t.Cluster == nil {
		return nil, output.Advise(output.Usagef("no objects are given"), "Name files or folders with objects.")
	}
	config, err := t.Cluster(ctx)
	if err != nil {
		return nil, output.Advise(fmt.Errorf("no objects are given, and there is no cluster to read: %w", err), advice)
	}
	objects, err := feed.Objects(ctx, config)
	if err != nil {
		return nil, output.Advise(fmt.Errorf("reading the levels of the cluster: %w", err), advice)
	}
	return objects, nil
}

// exempt are the users of the installation's own programs, as the doors of the cluster tell; none where objects come from paths.
func (t Tool) exempt(ctx context.Context, paths []string) ([]string, error) {
	if len(paths) > 0 {
		return nil, nil
	}
	d, err := t.doors(ctx)
	if err != nil {
		return nil, err
	}
	reports, err := d.reports(ctx)
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) { // levels were never enabled; or doors are above who asks
		return nil, nil
	}
	var all []string
	for i := range reports {
		text := reports[i].Annotations[api.ExemptAnnotation]
		if text == "" {
			continue
		}
		var users []string
		if err := json.Unmarshal([]byte(text), &users); err != nil {
			return nil, fmt.Errorf("door %s: annotation %s: %w", reports[i].Name, api.ExemptAnnotation, err)
		}
		all = append(all, users...)
	}
	slices.Sort(all)
	return slices.Compact(all), err
}

// snapshot compiles objects, and warns of what breaks a rule between objects.
func (t Tool) compile(objects []manifest.Object, exempt []string) (*level.Snapshot, error) {
	loaded, err := level.Load(objects)
	if err != nil {
		return nil, err
	}
	loaded.Model.Exempt = append(loaded.Model.Exempt, exempt...)
	if loaded.Inferred {
		t.Print().Remark("there is no Registry among the objects; the levels are the numbers that labels hold")
	}
	for _, finding := range loaded.Findings {
		t.Print().Warn("%v", finding)
	}
	return level.NewSnapshot(loaded.Model, time.Now()), nil
}

func (t Tool) snapshot(ctx context.Context, paths []string) (*level.Snapshot, error) {
	objects, err := t.objects(ctx, paths)
	if err != nil {
		return nil, err
	}
	exempt, err := t.exempt(ctx, paths)
	if err != nil {
		return nil, err
	}
	return t.compile(objects, exempt)
}

// change compiles objects as they are, and as they are after a change.
func (t Tool) change(ctx context.Context, paths, with, without []string) (before, after *level.Snapshot, err error) {
	objects, err := t.objects(ctx, paths)
	if err != nil {
		return nil, nil, err
	}
	exempt, err := t.exempt(ctx, paths)
	if err != nil {
		return nil, nil, err
	}
	if before, err = t.compile(objects, exempt); err != nil {
		return nil, nil, err
	}
	changed := slices.Clone(objects)
	drop := func(by []manifest.Object) {
		gone := map[manifest.Identity]bool{}
		for _, o := range by {
			gone[o.Identity()] = true
		}
		changed = slices.DeleteFunc(changed, func(o manifest.Object) bool { return gone[o.Identity()] })
	}
	if len(without) > 0 {
		removed, err := t.read(ctx, without)
		if err != nil {
			return nil, nil, err
		}
		drop(removed)
	}
	if len(with) > 0 {
		put, err := t.read(ctx, with)
		if err != nil {
			return nil, nil, err
		}
		drop(put)
		changed = append(changed, put...)
	}
	after, err = t.compile(changed, exempt)
	return before, after, err
}
