package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/weft-dev/weft/embedded/pki"
)

// AgentConfig is what the supervisor tells the agent's process, as JSON in a file.
type AgentConfig struct {
	Kubeconfig string
	ID         string // of the cluster
	State      string // the state folder as the node sees it
}

// hostNetworkFD is the inherited descriptor of the host's network namespace.
const hostNetworkFD = 3

// agent is the process beside the kubelet that does what a cloud or an add-on would do elsewhere.
type agent struct {
	config AgentConfig
	rest   *rest.Config
	client kubernetes.Interface
	host   *os.File // the host's network namespace
}

// controller is one task of the agent. It runs until ctx ends; an earlier end is an error.
type controller struct {
	name string
	run  func(ctx context.Context, a *agent) error
}

// controllers are the tasks of the agent.
func controllers() []controller {
	return []controller{
		{"network policies", runPolicies},
		{"volumes", runVolumes},
		{"load balancers", runBalancers},
		{"metrics", runMetrics},
	}
}

// agentArgs writes the agent's configuration and returns its arguments.
func (c *cluster) agentArgs() ([]string, error) {
	data, err := json.Marshal(AgentConfig{Kubeconfig: inNode(c.state, c.state.component("agent")), ID: c.id.ID, State: stateMount})
	if err != nil {
		return nil, err
	}
	file := c.state.path("run", "agent.json")
	return []string{"agent", inNode(c.state, file)}, pki.WriteFile(file, data, 0o600)
}

// RunAgent runs the node's agent in this process as the file says.
func RunAgent(ctx context.Context, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	a := &agent{host: os.NewFile(hostNetworkFD, "host network")}
	if err := json.Unmarshal(data, &a.config); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if a.rest, err = clientcmd.BuildConfigFromFlags("", a.config.Kubeconfig); err != nil {
		return err
	}
	a.rest.QPS = -1
	a.rest.UserAgent = "weft-agent"
	if a.client, err = kubernetes.NewForConfig(a.rest); err != nil {
		return err
	}
	var group wait.Group
	for _, c := range controllers() {
		group.StartWithContext(ctx, func(ctx context.Context) { a.keep(ctx, c) })
	}
	<-ctx.Done()
	group.Wait()
	return nil
}

// keep runs a controller again whenever it ends: one that fails must not take the others down.
func (a *agent) keep(ctx context.Context, c controller) {
	backoff := wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Steps: 8, Cap: 10 * time.Second}
	for ctx.Err() == nil {
		began := time.Now()
		err := c.run(ctx, a)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > time.Minute {
			backoff = wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Steps: 8, Cap: 10 * time.Second}
		}
		pause := backoff.Step()
		klog.ErrorS(err, "a task of the agent ended and is started again", "task", c.name, "after", pause)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}
