package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"github.com/weft-dev/weft/engine"
)

// forwardable finds the one Service of a stack that has the port.
func forwardable(resources []engine.Resource, port int) (namespace, name string, err error) {
	services, found := 0, 0
	for _, r := range resources {
		o, _ := engine.Reveal(r.Inputs).(map[string]any)
		if o["kind"] != "Service" || o["apiVersion"] != "v1" {
			continue
		}
		services++
		spec, _ := o["spec"].(map[string]any)
		ports, _ := spec["ports"].([]any)
		for _, p := range ports {
			p, _ := p.(map[string]any)
			if fmt.Sprint(p["port"]) == fmt.Sprint(port) {
				found++
				metadata, _ := o["metadata"].(map[string]any)
				name, _ = metadata["name"].(string)
				namespace, _ = metadata["namespace"].(string)
				break
			}
		}
	}
	switch {
	case services == 0:
		return "", "", errors.New("cannot forward port to empty service")
	case found != 1:
		return "", "", fmt.Errorf("cannot forward port %d: %d of the stack's Services have it, and it must be one", port, found)
	}
	return namespace, name, nil
}

// forward leads a port of this machine to the same port of the stack's Service until it is interrupted. Unlike upstream's, connections go
// to the port of the pod that the Service names, not to the one of the Service's number.
func (k *kusionTool) forward(ctx context.Context, o *opened, port int) error {
	namespace, name, err := forwardable(o.session.set.Resources, port)
	if err != nil {
		return err
	}
	program, env, global, err := k.app.kubectl(ctx)
	if err != nil {
		return err
	}
	k.print("\nStart port-forwarding ...\n")
	args := append(global, "port-forward", "--namespace="+cmp.Or(namespace, o.session.place.Namespace), "service/"+name, fmt.Sprint(port))
	cmd := exec.CommandContext(ctx, program, append([]string{"kubectl"}, args...)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, k.app.out, k.app.err
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("forward port %d to Service %s: %w", port, name, err)
	}
	k.print("Portforward has been completed!\n")
	return nil
}
