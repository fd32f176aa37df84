// Command bench-engine measures planning and applying 500 objects without pods beside kubectl's server-side apply of the same objects, on
// the embedded Kubernetes without nodes, in interleaved runs. `make bench-engine` calls it.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	runs := flag.Int("runs", 5, "how many times everything is measured")
	bin := flag.String("bin", "bin", "folder of weft and weft-node")
	rival := flag.String("rival", "", "kubectl to compare with (default: the one in weft-node)")
	flag.Parse()
	if err := measure(*runs, *bin, *rival); err != nil {
		fmt.Fprintln(os.Stderr, "bench-engine:", err)
		os.Exit(1)
	}
}

// bench is a running cluster and where its tools are.
type bench struct {
	bin, rival, dir, state string
	supervisor             int // process id; the server is its child
}

// sample is one command's cost; server is what the API server and its store worked meanwhile.
type sample struct{ wall, cpu, server time.Duration }

func measure(runs int, bin, rival string) (err error) {
	bin, err = filepath.Abs(bin)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench-engine-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{bin: bin, rival: rival, dir: dir, state: filepath.Join(dir, "state")}
	stop, err := b.start()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if err := b.prepare(); err != nil {
		return err
	}
	samples := map[string][]sample{}
	for i := range runs {
		if err := b.round(i, samples); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "run %d of %d\n", i+1, runs)
	}
	report(samples, runs)
	return nil
}

// start runs the cluster in the foreground of its own process group.
func (b *bench) start() (stop func() error, err error) {
	cmd := exec.Command(filepath.Join(b.bin, "weft-node"), "run", "--state", b.state, "--mode", "api", "--ephemeral")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	b.supervisor = cmd.Process.Pid
	stop = func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		return cmd.Wait()
	}
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if _, err = b.run("weft", "kubectl", "get", "serviceaccount", "default"); err == nil {
			return stop, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("the cluster did not become ready: %w\n%s", err, log.String()), stop())
}

const definition = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: shelves.bench.weft.dev}
spec:
  group: bench.weft.dev
  scope: Namespaced
  names: {kind: Shelf, plural: shelves, singular: shelf}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {books: {type: array, items: {type: string}}, width: {type: integer}}}}}}
`

// prepare defines the custom kind.
func (b *bench) prepare() error {
	file := filepath.Join(b.dir, "definition.yaml")
	if err := os.WriteFile(file, []byte(definition), 0o600); err != nil {
		return err
	}
	if _, err := b.run("weft", "kubectl", "apply", "-f", file); err != nil {
		return err
	}
	_, err := b.run("weft", "kubectl", "wait", "--for=condition=Established", "crd/shelves.bench.weft.dev")
	return err
}

// objects writes 500 manifests for a namespace: 150 ConfigMaps, 100 Secrets, 100 Services, 100 Roles, 50 custom resources.
func objects(namespace string) string {
	var y strings.Builder
	add := func(n int, format string) {
		for i := range n {
			y.WriteString(strings.NewReplacer("NS", namespace, "NUM", fmt.Sprint(i), "PORT", fmt.Sprint(8000+i)).Replace(format))
		}
	}
	add(150, "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-NUM, namespace: NS, labels: {app: shop-NUM}}\ndata: {LEVEL: info, URL: \"http://service-NUM\", text: \"a few lines of a file NUM\"}\n")
	add(100, "---\napiVersion: v1\nkind: Secret\nmetadata: {name: secret-NUM, namespace: NS, labels: {app: shop-NUM}}\nstringData: {password: not-so-secret-NUM}\n")
	add(100, "---\napiVersion: v1\nkind: Service\nmetadata: {name: service-NUM, namespace: NS, labels: {app: shop-NUM}}\nspec: {selector: {app: shop-NUM}, ports: [{name: http, port: PORT}]}\n")
	add(100, "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: role-NUM, namespace: NS, labels: {app: shop-NUM}}\nrules: [{apiGroups: [\"\"], resources: [configmaps], verbs: [get, list]}]\n")
	add(50, "---\napiVersion: bench.weft.dev/v1\nkind: Shelf\nmetadata: {name: shelf-NUM, namespace: NS, labels: {app: shop-NUM}}\nspec: {width: NUM, books: [one, two]}\n")
	return y.String()
}

// round measures each command once, in namespaces of its own. They are deleted again, as each Service makes the next one cost the server more.
func (b *bench) round(i int, samples map[string][]sample) error {
	mine, theirs, bare := fmt.Sprint("weft-", i), fmt.Sprint("kubectl-", i), fmt.Sprint("bare-", i)
	for _, ns := range []string{mine, theirs, bare} {
		if _, err := b.run("weft", "kubectl", "create", "namespace", ns); err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(b.dir, ns), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(b.dir, ns, "all.yaml"), []byte(objects(ns)), 0o600); err != nil {
			return err
		}
	}
	take := func(name string, program string, args ...string) error {
		s, err := b.run(program, args...)
		samples[name] = append(samples[name], s)
		return err
	}
	plan := filepath.Join(b.dir, mine+".plan")
	steps := []func() error{
		func() error {
			if b.rival != "" {
				return take("kubectl", b.rival, "--kubeconfig", filepath.Join(b.state, "kubeconfig"), "apply", "--server-side", "-f", filepath.Join(b.dir, theirs))
			}
			return take("kubectl", "weft", "kubectl", "apply", "--server-side", "-f", filepath.Join(b.dir, theirs))
		},
		func() error {
			return errors.Join(take("plan", "weft", "plan", filepath.Join(b.dir, mine), "-n", mine, "--out", plan),
				take("apply", "weft", "apply", plan, "--wait", "none", "-q"),
				take("replan", "weft", "plan", filepath.Join(b.dir, mine), "-n", mine))
		},
		func() error {
			s, err := b.measured(func() error { return b.applyBare(bare) })
			samples["bare"] = append(samples["bare"], s)
			return err
		},
	}
	if i%2 == 1 {
		slices.Reverse(steps)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	_, err := b.run("weft", "kubectl", "delete", "namespace", mine, theirs, bare)
	return err
}

// measured measures what this process does.
func (b *bench) measured(do func() error) (sample, error) {
	var before, after syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
		return sample{}, err
	}
	began, server := time.Now(), b.serverTime()
	err := do()
	s := sample{wall: time.Since(began), server: b.serverTime() - server}
	if again := syscall.Getrusage(syscall.RUSAGE_SELF, &after); again != nil {
		return s, again
	}
	s.cpu = time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	return s, err
}

// run runs a command and measures it.
func (b *bench) run(program string, args ...string) (sample, error) {
	if program == "weft" {
		program = filepath.Join(b.bin, "weft")
		args = append([]string{"--state", b.state}, args...)
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+filepath.Join(b.dir, "config"), "WEFT_NODE="+filepath.Join(b.bin, "weft-node"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began, server := time.Now(), b.serverTime()
	err := cmd.Run()
	s := sample{wall: time.Since(began), server: b.serverTime() - server}
	if cmd.ProcessState != nil {
		s.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	if err != nil {
		return s, fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, out.String())
	}
	return s, nil
}

func median(list []time.Duration) time.Duration {
	sorted := slices.Clone(list)
	slices.Sort(sorted)
	return sorted[len(sorted)/2]
}

func report(samples map[string][]sample, runs int) {
	sums := func(of func(sample) time.Duration, names []string) time.Duration {
		var all []time.Duration
		for i := range runs {
			var sum time.Duration
			for _, n := range names {
				sum += of(samples[n][i])
			}
			all = append(all, sum)
		}
		return median(all)
	}
	wall := func(s sample) time.Duration { return s.wall }
	rival := sums(wall, []string{"kubectl"})
	fmt.Printf("500 objects without pods, medians of %d interleaved runs, whole programs\n\n", runs)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "what\ttime\tits processor time\tthe server's\tkubectl's time / its")
	for _, row := range []struct {
		name  string
		parts []string
	}{{"kubectl apply --server-side", []string{"kubectl"}}, {"weft apply PLAN", []string{"apply"}}, {"weft plan", []string{"plan"}}, {"weft plan and apply", []string{"plan", "apply"}},
		{"weft plan, nothing changed", []string{"replan"}}, {"the bare requests, 24 at once", []string{"bare"}}} {
		t := sums(wall, row.parts)
		cpu := sums(func(s sample) time.Duration { return s.cpu }, row.parts)
		server := sums(func(s sample) time.Duration { return s.server }, row.parts)
		fmt.Fprintf(w, "%s\t%.2f s\t%.2f s\t%.2f s\t%.1f\n", row.name, t.Seconds(), cpu.Seconds(), server.Seconds(), rival.Seconds()/t.Seconds())
	}
	w.Flush()
}
