// Package cluster gives tests a whole embedded cluster with a node that runs pods. One is shared by the tests of a binary;
// tests that stop, kill or purge make their own.
//
// It needs root, control groups and the built programs. Where these are missing tests skip; in CI they fail.
package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/weft-dev/weft/supervise/control"
)

// Patience is how long a test waits for what takes a second on an idle machine.
const Patience = 3 * time.Minute

// TestImage has a small server, a client and a shell; every node brings it along.
const TestImage = "weft.local/testpod:1"

// Cluster is one embedded cluster.
type Cluster struct {
	State   string // the state folder
	Node    string // path of weft-node
	Control *control.Client
	Config  *rest.Config
	Clients kubernetes.Interface

	output  string // what the supervisor printed
	process *exec.Cmd
	ended   chan error
}

var shared struct {
	sync.Once
	hasMain bool
	cluster *Cluster
	err     error
}

// Main runs the tests of a binary and then ends the shared cluster.
func Main(m *testing.M) {
	shared.hasMain = true
	code := m.Run()
	if c := shared.cluster; c != nil {
		if err := errors.Join(c.Stop(2*time.Second), c.Purge()); err != nil {
			fmt.Fprintln(os.Stderr, "test/cluster:", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// Shared returns the cluster that the tests of this binary share.
func Shared(t testing.TB) *Cluster {
	t.Helper()
	if !shared.hasMain {
		t.Fatal("test/cluster: call cluster.Main from TestMain, else nobody ends the cluster")
	}
	node := program(t)
	shared.Do(func() {
		dir, err := os.MkdirTemp("", "weft-cluster-")
		if err != nil {
			shared.err = err
			return
		}
		shared.cluster, shared.err = Run(context.Background(), node, filepath.Join(dir, "state"))
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.cluster
}

// Own starts a cluster for one test, which may do with it what it likes. It is removed at the end of the test.
func Own(t testing.TB, flags ...string) *Cluster {
	t.Helper()
	c, err := Run(t.Context(), program(t), filepath.Join(t.TempDir(), "state"), flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(c.Stop(time.Second), c.Clean()); err != nil {
			t.Error(err)
		}
	})
	return c
}

// program returns the path of weft-node, or ends the test.
func program(t testing.TB) string {
	t.Helper()
	missing := t.Skip
	if os.Getenv("CI") != "" {
		missing = t.Fatal
	}
	if os.Geteuid() != 0 {
		missing("pods need root")
	}
	node := os.Getenv("WEFT_NODE")
	for dir := "."; node == ""; dir = filepath.Join(dir, "..") {
		abs, err := filepath.Abs(dir)
		if err != nil || abs == "/" {
			missing("not in the repository: set WEFT_NODE to a built weft-node")
		}
		if _, err := os.Stat(filepath.Join(abs, "go.mod")); err == nil {
			node = filepath.Join(abs, "bin", "weft-node")
		}
	}
	for _, file := range []string{node, filepath.Join(filepath.Dir(node), "node", "containerd")} {
		if _, err := os.Stat(file); err != nil {
			missing(file + " has not been built: run make build")
		}
	}
	return node
}

// Run starts the cluster of a state folder and waits until it is ready.
func Run(ctx context.Context, node, state string, flags ...string) (*Cluster, error) {
	c := &Cluster{State: state, Node: node, Control: control.NewClient(state), output: state + ".log", ended: make(chan error, 1)}
	if err := os.MkdirAll(filepath.Dir(state), 0o700); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(c.output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c.process = exec.Command(node, append([]string{"run", "--state", state, "--mode", "node"}, flags...)...)
	c.process.Stdout, c.process.Stderr = log, log
	if err := c.process.Start(); err != nil {
		return nil, err
	}
	go func() { c.ended <- c.process.Wait() }()
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	status, err := c.Await(ctx, control.Ready)
	if err != nil {
		return nil, errors.Join(err, c.Stop(0), errors.New(c.Logs()))
	}
	if c.Config, err = clientcmd.BuildConfigFromFlags("", status.Kubeconfig); err != nil {
		return nil, err
	}
	c.Config.QPS = -1
	c.Clients, err = kubernetes.NewForConfig(c.Config)
	return c, err
}

// Await waits until the cluster is in a phase. It fails at once when the cluster has failed.
func (c *Cluster) Await(ctx context.Context, phase control.Phase) (control.Status, error) {
	for {
		status, err := c.Control.Status(ctx)
		switch {
		case err == nil && status.Phase == phase:
			return status, nil
		case err == nil && status.Phase == control.Failed:
			return status, fmt.Errorf("the cluster failed: %s", status.Error)
		}
		select {
		case err := <-c.ended:
			c.ended <- err
			return status, fmt.Errorf("the supervisor ended: %w", err)
		case <-ctx.Done():
			return status, fmt.Errorf("the cluster is %s and not %s: %w", status.Phase, phase, context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends the cluster in order. A cluster that has ended is no error.
func (c *Cluster) Stop(grace time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	err := c.Control.Stop(ctx, control.StopRequest{GraceSeconds: grace.Seconds()})
	if err != nil && !errors.Is(err, control.ErrNotRunning) {
		return err
	}
	select {
	case err := <-c.ended:
		c.ended <- err
		if err != nil && !strings.Contains(err.Error(), "signal: killed") {
			return fmt.Errorf("the supervisor ended with %w: %s", err, c.Logs())
		}
		return nil
	case <-ctx.Done():
		return errors.New("the supervisor does not end")
	}
}

// Kill ends the supervisor as a crash would.
func (c *Cluster) Kill() error {
	if err := c.process.Process.Kill(); err != nil {
		return err
	}
	err := <-c.ended
	c.ended <- err
	return nil
}

// Clean removes what a killed cluster left behind.
func (c *Cluster) Clean() error {
	out, err := exec.Command(c.Node, "clean", "--state", c.State).CombinedOutput()
	if err != nil {
		return fmt.Errorf("clean: %w: %s", err, out)
	}
	return nil
}

// Purge removes everything, the folder included.
func (c *Cluster) Purge() error {
	return errors.Join(c.Clean(), os.RemoveAll(c.State), os.Remove(c.output))
}

// Logs returns the ends of all log files.
func (c *Cluster) Logs() string {
	files, _ := filepath.Glob(filepath.Join(c.State, "logs", "*.log")) // the pattern is a constant
	var b strings.Builder
	for _, f := range append(files, c.output) {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // not written yet
		}
		lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
		fmt.Fprintf(&b, "--- %s\n%s\n", filepath.Base(f), bytes.Join(lines[max(0, len(lines)-15):], []byte("\n")))
	}
	return b.String()
}

// Kubectl runs the cluster's kubectl and returns what it printed. An error holds what it said.
func (c *Cluster) Kubectl(ctx context.Context, input string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.Node, append([]string{"kubectl", "--kubeconfig", filepath.Join(c.State, "kubeconfig")}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("kubectl %s: %w: %s%s", strings.Join(args, " "), err, stderr.String(), stdout.String())
	}
	return stdout.String(), nil
}
