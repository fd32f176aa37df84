package kube

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Kill kills the API server, which its supervisor starts again.
func (s Server) Kill() error { return KillServer(filepath.Dir(s.Kubeconfig)) }

// KillServer kills the process of the API server of the cluster in a state folder. Its supervisor starts it again.
func KillServer(state string) error {
	settings := filepath.Join(state, "run", "server.json")
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil || !strings.Contains(string(line), "\x00server\x00"+settings) {
			continue
		}
		var pid int
		if _, err := fmt.Sscan(e.Name(), &pid); err != nil {
			return err
		}
		p, err := os.FindProcess(pid)
		if err != nil {
			return err
		}
		return p.Kill()
	}
	return errors.New("the API server does not run")
}
