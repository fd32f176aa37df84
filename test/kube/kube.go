// Package kube gives tests a real Kubernetes API: API server, etcd, controllers and scheduler, without nodes. One server
// is started for a test binary when its first test asks, and every test gets a namespace of its own.
//
//	func TestMain(m *testing.M) { kube.Main(m) }
//
//	func TestIt(t *testing.T) { ns := kube.Namespace(t); client, err := ... ns.Config ... }
//
// The server is the program weft-node, named by $WEFT_NODE or found as bin/weft-node in the repository. Where it has not
// been built, tests skip; in CI they fail.
package kube

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/weft-dev/weft/supervise/control"
)

// readyTimeout is how long a start may take. An idle machine needs two seconds; many tests may share a busy one.
const readyTimeout = 90 * time.Second

// cluster is the one server of this test binary.
var cluster struct {
	sync.Once
	hasMain bool
	args    []string
	server  *server
	err     error
	skip    string
	logged  sync.Once
}

// Server is a running API.
type Server struct {
	Config     *rest.Config // of a cluster administrator
	Kubeconfig string       // path of a file with the same
}

// Main runs the tests and then ends the server, if one was started. A package that uses this one calls it from TestMain. The arguments are further
// ones of weft-node.
func Main(m *testing.M, args ...string) {
	cluster.hasMain, cluster.args = true, args
	code := m.Run()
	if s := cluster.server; s != nil {
		if err := s.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "test/kube:", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// Start returns the test binary's server and starts it if it is the first call.
func Start(t testing.TB) Server {
	t.Helper()
	if !cluster.hasMain {
		t.Fatal("test/kube: call kube.Main from TestMain, else nobody ends the server")
	}
	cluster.Do(func() {
		program, reason := find()
		if program == "" {
			cluster.skip = reason
			return
		}
		cluster.server, cluster.err = startShared(program, cluster.args)
	})
	switch {
	case cluster.skip != "" && os.Getenv("CI") != "":
		t.Fatal(cluster.skip)
	case cluster.skip != "":
		t.Skip(cluster.skip)
	case cluster.err != nil:
		t.Fatal(cluster.err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			cluster.logged.Do(func() { t.Log(cluster.server.logs()) })
		}
	})
	return cluster.server.Server
}

// Place is one test's namespace in a server.
type Place struct {
	Server
	Namespace string
	Clients   kubernetes.Interface
}

// Namespace makes a namespace for the test and deletes it at the test's end, without waiting for that.
func Namespace(t testing.TB) Place {
	t.Helper()
	s := Start(t)
	clients, err := kubernetes.NewForConfig(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	made, err := clients.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := clients.CoreV1().Namespaces().Delete(ctx, made.Name, metav1.DeleteOptions{}); err != nil {
			t.Log("delete the test's namespace:", err)
		}
	})
	return Place{Server: s, Namespace: made.Name, Clients: clients}
}

// find looks for the program; the reason says how to get it.
func find() (program, reason string) {
	if p := os.Getenv("WEFT_NODE"); p != "" {
		if _, err := os.Stat(p); err != nil {
			return "", fmt.Sprintf("$WEFT_NODE: %v", err)
		}
		return p, ""
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err.Error()
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			p := filepath.Join(dir, "bin", "weft-node")
			if _, err := os.Stat(p); err == nil {
				return p, ""
			}
			return "", p + " has not been built: run make, or set WEFT_NODE to a built one"
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", "not in the repository: set WEFT_NODE to a built weft-node"
		}
		dir = parent
	}
}

type server struct {
	Server
	state string
	kept  bool // the folder outlives the server
	cmd   *exec.Cmd
	ended chan error
}

const statePrefix = "weft-test-"

func startShared(program string, args []string) (*server, error) {
	sweep()
	state, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", statePrefix, os.Getpid()))
	if err != nil {
		return nil, err
	}
	s, err := start(program, state, args)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(state))
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	if err := s.awaitDefaults(ctx); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// Own starts a server of the test's own in a folder, in which an earlier one may have run, with further flags of weft-node. The function that is returned
// ends it in order; at the end of the test it ends anyway. Nothing is asked of it as the administrator.
func Own(t testing.TB, dir string, flags ...string) (s Server, stop func()) {
	t.Helper()
	program, reason := find()
	switch {
	case program == "" && os.Getenv("CI") != "":
		t.Fatal(reason)
	case program == "":
		t.Skip(reason)
	}
	own, err := start(program, dir, flags)
	if err != nil {
		t.Fatal(err)
	}
	own.kept = true
	stop = sync.OnceFunc(func() {
		if t.Failed() {
			t.Log(own.logs())
		}
		if err := own.stop(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return own.Server, stop
}

func start(program, state string, flags []string) (*server, error) {
	s := &server{state: state, ended: make(chan error, 1)}
	log, err := os.Create(filepath.Join(state, "output.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.cmd = exec.Command(program, append([]string{"run", "--state", filepath.Join(state, "cluster"), "--mode", "api", "--ephemeral"}, flags...)...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	started := make(chan error)
	go s.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	if err := s.awaitReady(); err != nil {
		logs := s.logs()
		return nil, errors.Join(err, s.stop(), errors.New(logs))
	}
	return s, nil
}

func (s *server) awaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	client := control.NewClient(filepath.Join(s.state, "cluster"))
	for {
		status, err := client.Status(ctx)
		switch {
		case err == nil && status.Phase == control.Failed:
			return fmt.Errorf("the cluster failed to start: %s", status.Error)
		case err == nil && status.Phase == control.Ready:
			s.Kubeconfig = status.Kubeconfig
			s.Config, err = clientcmd.BuildConfigFromFlags("", status.Kubeconfig)
			if err != nil {
				return err
			}
			s.Config.QPS = -1
			return nil
		}
		select {
		case err := <-s.ended:
			s.ended <- err
			return fmt.Errorf("the cluster ended while it started: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("the cluster was not ready after %s: %w", readyTimeout, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// awaitDefaults waits for what the controllers make first: pods cannot be created before the default service account.
func (s *server) awaitDefaults(ctx context.Context) error {
	clients, err := kubernetes.NewForConfig(s.Config)
	if err != nil {
		return err
	}
	for {
		_, err := clients.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the controllers did not start: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (s *server) stop() error {
	var err error
	if s.cmd.Process != nil {
		_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
		select {
		case <-s.ended: //nolint:errcheck // it was told to end
		case <-time.After(30 * time.Second):
			err = errors.New("the cluster did not end within 30 s and was killed")
			_ = s.cmd.Process.Kill()
			<-s.ended //nolint:errcheck // it was killed
		}
	}
	if s.kept {
		return err
	}
	return errors.Join(err, os.RemoveAll(s.state))
}

// logs returns the last lines of everything the cluster wrote.
func (s *server) logs() string {
	var out strings.Builder
	_ = filepath.WalkDir(s.state, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".log" {
			return nil // what cannot be read is left out of a report about another failure
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
		fmt.Fprintf(&out, "== %s\n", strings.TrimPrefix(path, s.state+"/"))
		for _, line := range lines[max(0, len(lines)-40):] {
			fmt.Fprintf(&out, "%.300s\n", line)
		}
		return nil
	})
	return out.String()
}

// sweep removes the folders of test binaries that were killed.
func sweep() {
	old, _ := filepath.Glob(filepath.Join(os.TempDir(), statePrefix+"*"))
	for _, dir := range old {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), statePrefix), "-")
		n, err := strconv.Atoi(pid)
		if err == nil && n > 0 && errors.Is(syscall.Kill(n, 0), syscall.ESRCH) {
			_ = os.RemoveAll(dir) // another sweep may be faster
		}
	}
}
