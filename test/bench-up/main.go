// Command bench-up measures the embedded Kubernetes: its start from an empty folder, its first pods, a further pod, its memory
// and its end. It prints a table with the limits that the project sets itself and the load of the machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/weft-dev/weft/supervise/control"
	"github.com/weft-dev/weft/test/cluster"
)

// row is one figure over all runs.
type row struct {
	name  string
	unit  string
	limit float64
	runs  []float64
}

func (r *row) median() float64 {
	s := slices.Sorted(slices.Values(r.runs))
	if len(s) == 0 {
		return 0
	}
	return s[len(s)/2]
}

func main() {
	runs := flag.Int("n", 5, "starts from an empty folder")
	settle := flag.Duration("settle", 60*time.Second, "time after ready at which memory is measured, in the last run")
	snapshotter := flag.String("snapshotter", "", "what makes pods' files of images: overlayfs or weft; empty: the cluster's default")
	flag.Parse()
	var args []string
	if *snapshotter != "" {
		args = []string{"--snapshotter", *snapshotter}
	}
	if err := bench(context.Background(), *runs, *settle, args); err != nil {
		fmt.Fprintln(os.Stderr, "bench-up:", err)
		os.Exit(1)
	}
}

type table struct{ api, node, pods, further, second, pss, down row }

func bench(ctx context.Context, runs int, settle time.Duration, args []string) error {
	node, err := filepath.Abs("bin/weft-node")
	if err != nil {
		return err
	}
	t := table{
		api:     row{name: "API ready", unit: "s", limit: 1.6},
		node:    row{name: "node ready", unit: "s", limit: 3.2},
		pods:    row{name: "two pods of a pushed image available", unit: "s", limit: 5.0},
		further: row{name: "further pod running", unit: "s", limit: 0.6},
		second:  row{name: "node ready, second start on the same data", unit: "s", limit: 3.2},
		down:    row{name: "down, two pods running", unit: "s", limit: 3.0},
		pss:     row{name: fmt.Sprintf("PSS %s after ready", settle), unit: "MiB", limit: 700},
	}
	for i := range runs {
		fmt.Fprintf(os.Stderr, "run %d of %d\n", i+1, runs)
		wait := time.Duration(0)
		if i == runs-1 {
			wait = settle
		}
		if err := t.run(ctx, node, wait, args); err != nil {
			return err
		}
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	fmt.Printf("load average at the end: %s", load)
	fmt.Printf("%-44s %9s %9s %9s %9s\n", "", "min", "median", "max", "limit")
	for _, r := range []row{t.api, t.node, t.pods, t.further, t.second, t.down, t.pss} {
		fmt.Printf("%-44s %9.2f %9.2f %9.2f %9.2f %s\n", r.name, slices.Min(r.runs), r.median(), slices.Max(r.runs), r.limit, r.unit)
	}
	return nil
}

// run measures one life of a cluster.
func (t *table) run(ctx context.Context, node string, settle time.Duration, args []string) (err error) {
	dir, err := os.MkdirTemp("", "weft-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	state := filepath.Join(dir, "state")
	began := time.Now()
	pushed := make(chan pushResult, 1)
	go func() { pushed <- push(ctx, filepath.Join(filepath.Dir(node), "node", "images", "testpod.tar"), state) }()
	c, err := cluster.Run(ctx, node, state, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop(time.Second), c.Clean()) }()
	status, err := c.Control.Status(ctx)
	if err != nil {
		return err
	}
	t.api.add(step(status, "api ready"))
	t.node.add(step(status, "node ready"))
	image := <-pushed
	if image.err != nil {
		return image.err
	}
	if err := deploy(ctx, c, image.name); err != nil {
		return err
	}
	t.pods.add(time.Since(began).Seconds())
	for i := range 5 {
		seconds, err := furtherPod(ctx, c, fmt.Sprintf("further-%d", i), image.name)
		if err != nil {
			return err
		}
		t.further.add(seconds)
	}
	if settle > 0 {
		time.Sleep(settle)
		mib, err := pss(state, status.PID)
		if err != nil {
			return err
		}
		t.pss.add(mib)
	}
	if _, err := c.Kubectl(ctx, "", "delete", "pods", "-l", "further=yes", "--wait"); err != nil {
		return err
	}
	down := time.Now()
	if err := c.Stop(10 * time.Second); err != nil {
		return err
	}
	t.down.add(time.Since(down).Seconds())
	if c, err = cluster.Run(ctx, node, state, args...); err != nil {
		return err
	}
	if status, err = c.Control.Status(ctx); err != nil {
		return err
	}
	t.second.add(step(status, "node ready"))
	return nil
}

func (r *row) add(v float64) { r.runs = append(r.runs, v) }

func step(s control.Status, name string) float64 {
	for _, step := range s.Steps {
		if step.Name == name {
			return step.Seconds
		}
	}
	return -1
}

type pushResult struct {
	name string
	err  error
}

// push brings the test image into the cluster's registry as soon as that answers.
func push(ctx context.Context, archive, state string) pushResult {
	client := control.NewClient(state)
	registry := ""
	for registry == "" {
		if status, err := client.Status(ctx); err == nil {
			registry = status.Registry
		}
		select {
		case <-ctx.Done():
			return pushResult{err: ctx.Err()}
		case <-time.After(10 * time.Millisecond):
		}
	}
	image, err := tarball.ImageFromPath(archive, nil)
	if err != nil {
		return pushResult{err: err}
	}
	ref, err := name.ParseReference(registry + "/bench/pod:1")
	if err != nil {
		return pushResult{err: err}
	}
	return pushResult{ref.Name(), remote.Write(ref, image, remote.WithContext(ctx))}
}

// deploy starts two pods and waits until they are available.
func deploy(ctx context.Context, c *cluster.Cluster, image string) error {
	labels, replicas, grace := map[string]string{"app": "bench"}, int32(2), int64(5)
	deployments := c.Clients.AppsV1().Deployments("default")
	w, err := deployments.Watch(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", "bench").String()})
	if err != nil {
		return err
	}
	defer w.Stop()
	_, err = deployments.Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "bench"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{TerminationGracePeriodSeconds: &grace, Containers: []corev1.Container{{Name: "main", Image: image}}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	return until(ctx, w, func(e watch.Event) bool {
		d, ok := e.Object.(*appsv1.Deployment)
		return ok && d.Status.AvailableReplicas == replicas
	})
}

// furtherPod returns the seconds from a pod's creation to the event that it runs.
func furtherPod(ctx context.Context, c *cluster.Cluster, name, image string) (float64, error) {
	pods := c.Clients.CoreV1().Pods("default")
	w, err := pods.Watch(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()})
	if err != nil {
		return 0, err
	}
	defer w.Stop()
	grace := int64(1)
	began := time.Now()
	_, err = pods.Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"further": "yes"}},
		Spec:       corev1.PodSpec{TerminationGracePeriodSeconds: &grace, Containers: []corev1.Container{{Name: "main", Image: image}}},
	}, metav1.CreateOptions{})
	if err != nil {
		return 0, err
	}
	err = until(ctx, w, func(e watch.Event) bool {
		p, ok := e.Object.(*corev1.Pod)
		return ok && p.Status.Phase == corev1.PodRunning
	})
	return time.Since(began).Seconds(), err
}

func until(ctx context.Context, w watch.Interface, done func(watch.Event) bool) error {
	ctx, cancel := context.WithTimeout(ctx, cluster.Patience)
	defer cancel()
	for {
		select {
		case e, ok := <-w.ResultChan():
			if !ok {
				return errors.New("the watch ended")
			}
			if done(e) {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// pss sums the proportional set sizes, in MiB, of the supervisor and all processes of the cluster that are not pods.
func pss(state string, supervisor int) (float64, error) {
	matches, err := filepath.Glob("/sys/fs/cgroup/*/weft-*/system/cgroup.procs")
	if err != nil {
		return 0, err
	}
	more, err := filepath.Glob("/sys/fs/cgroup/weft-*/system/cgroup.procs")
	if err != nil {
		return 0, err
	}
	identity, err := os.ReadFile(filepath.Join(state, "cluster.json"))
	if err != nil {
		return 0, err
	}
	pids := map[string]bool{strconv.Itoa(supervisor): true}
	for _, file := range append(matches, more...) {
		id := strings.TrimPrefix(filepath.Base(filepath.Dir(filepath.Dir(file))), "weft-")
		if !strings.Contains(string(identity), id) {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		for _, pid := range strings.Fields(string(data)) {
			pids[pid] = true
		}
	}
	total := 0.0
	for pid := range pids {
		data, err := os.ReadFile("/proc/" + pid + "/smaps_rollup")
		if err != nil {
			continue // ended meanwhile
		}
		for line := range strings.Lines(string(data)) {
			if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
				kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
				if err != nil {
					return 0, err
				}
				total += kib / 1024
			}
		}
	}
	return total, nil
}
