package policy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/weft-dev/weft/embedded/controlplane"
	"github.com/weft-dev/weft/embedded/pki"
)

// plane is the control plane that the tests share.
var plane struct {
	once   sync.Once
	client kubernetes.Interface
	config *rest.Config
	err    error
	stop   func()
}

func TestMain(m *testing.M) {
	code := m.Run()
	if plane.stop != nil {
		plane.stop()
	}
	os.Exit(code)
}

func api(t *testing.T) kubernetes.Interface {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes a network namespace")
	}
	plane.once.Do(func() { plane.client, plane.err = startAPI() })
	if plane.err != nil {
		t.Fatal(plane.err)
	}
	return plane.client
}

func startAPI() (kubernetes.Interface, error) {
	dir, err := os.MkdirTemp("", "policy")
	if err != nil {
		return nil, err
	}
	cfg := controlplane.Config{
		Data: filepath.Join(dir, "etcd"), Run: filepath.Join(dir, "run"), PKI: pki.Folder{Path: filepath.Join(dir, "pki")},
		Components: filepath.Join(dir, "components"), Plugins: filepath.Join(dir, "plugins"),
		Advertise: net.IPv4(10, 44, 0, 1), ServiceCIDR: []string{"10.43.0.0/16"},
	}
	for _, d := range []string{cfg.Run, cfg.Components} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	cfg.Listeners = []net.Listener{listener}
	server := "https://" + listener.Addr().String()
	if err := controlplane.Certificates(cfg.PKI, cfg.Components, server, nil, nil); err != nil {
		return nil, err
	}
	ca, err := cfg.PKI.Authority("ca")
	if err != nil {
		return nil, err
	}
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := controlplane.Kubeconfig(cfg.PKI, ca, "admin", server).Write(kubeconfig); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- controlplane.Run(ctx, cfg, func(*rest.Config) { close(ready) }) }()
	plane.stop = func() {
		cancel()
		<-done
		os.RemoveAll(dir)
	}
	select {
	case <-ready:
	case err := <-done:
		done <- err
		return nil, fmt.Errorf("the control plane ended: %w", err)
	case <-time.After(2 * time.Minute):
		return nil, errors.New("the control plane is not ready after two minutes")
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	plane.config = config
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	_, err = client.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{})
	return client, err
}
