package stack

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestUpstreamPlans plans every example of KusionStack/konfig on the server, with the modules from upstream's checkouts (UPSTREAM is a
// folder with konfig, catalog and kam), and applies those that need no cloud without waiting. What comes of one is there for upstream's
// field managers and kubectl alike: a second plan is empty.
func TestUpstreamPlans(t *testing.T) {
	upstream := os.Getenv("UPSTREAM")
	if upstream == "" {
		t.Skip("UPSTREAM names no folder of upstream's checkouts")
	}
	w := newWorld(t)
	var modules []string
	for _, name := range []string{"service", "job", "network", "mysql", "opsrule", "monitoring", "opensearch"} {
		modules = append(modules, "--module", name+"="+filepath.Join(upstream, "catalog/modules", name))
	}
	modules = append(modules, "--module", "kam="+filepath.Join(upstream, "kam"))
	stacks, err := filepath.Glob(filepath.Join(upstream, "konfig/example/*/*/stack.yaml"))
	if err != nil || len(stacks) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	workspace := filepath.Join(w.home, "cloud.yaml")
	if err := os.WriteFile(workspace, []byte("modules: {mysql: {path: oci://ghcr.io/kusionstack/mysql, version: 0.2.0, configs: {default: {cloud: aws, instanceType: db.t3.micro}}}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := w.run("kusion", "workspace", "create", "cloud", "-f", workspace); code != 0 {
		t.Fatalf("%s%s", out, errs)
	}
	for _, file := range stacks {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(filepath.Dir(dir))+"/"+filepath.Base(dir), func(t *testing.T) {
			w := *w
			w.t = t
			if strings.Contains(dir, "cloud") {
				t.Setenv("AWS_REGION", "eu-1")
				w.do(0, "create hashicorp:aws:aws_db_instance:", append([]string{"plan", dir, "--workspace", "cloud"}, modules...)...)
				w.do(1, "resources of Terraform cannot be made yet", append([]string{"apply", dir, "--yes", "--workspace", "cloud"}, modules...)...)
				return
			}
			w.do(0, "to create.", append([]string{"plan", dir}, modules...)...)
			w.do(0, "created", append([]string{"apply", dir, "--yes", "--wait", "none"}, modules...)...)
			w.do(0, "Nothing to do", append([]string{"plan", dir, "--detailed-exitcode"}, modules...)...)
		})
	}
}
