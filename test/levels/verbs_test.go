package levels

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/supervise/control"
)

// weft runs the program that users start, against the house as its supervisor, and returns its exit code and what it said.
func (h *house) weft(args ...string) (code int, said string) {
	h.t.Helper()
	return h.weftAs(filepath.Join("components", "supervisor.kubeconfig"), args...)
}

func (h *house) weftAs(kubeconfig string, args ...string) (code int, said string) {
	h.t.Helper()
	program, err := filepath.Abs(filepath.Join("..", "..", "bin", "weft"))
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		if os.Getenv("CI") != "" {
			h.t.Fatal(err)
		}
		h.t.Skip("bin/weft has not been built: run make build")
	}
	state := filepath.Join(h.dir, "cluster")
	if args[1] != "off" {
		args = append([]string{"--kubeconfig", filepath.Join(state, kubeconfig)}, args...)
	}
	out, err := exec.CommandContext(h.t.Context(), program, append([]string{"--state", state}, args...)...).CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode(), string(out)
	} else if err != nil {
		h.t.Fatal(err)
	}
	return 0, string(out)
}

const verbLevels = `
apiVersion: level.weft.dev/v1alpha1
kind: Registry
metadata: {name: cluster}
spec: {levels: [{name: low}, {name: high}]}
---
apiVersion: level.weft.dev/v1alpha1
kind: Clearance
metadata: {name: bob}
spec: {subjects: [{kind: User, name: bob}], label: high}
---
apiVersion: v1
kind: Namespace
metadata: {name: vault, labels: {level.weft.dev/level: high}}
`

// TestVerbsOfDoors takes a cluster from no levels to enforcing ones and out of a lock-out, by the verbs.
func TestVerbsOfDoors(t *testing.T) {
	h := newHouse(t)
	expect := func(want int, texts []string, args ...string) {
		t.Helper()
		code, said := h.weft(args...)
		for _, text := range texts {
			if !strings.Contains(said, text) {
				t.Errorf("%q: %q is missing in %s", args, text, said)
			}
		}
		if code != want {
			t.Errorf("%q: exit code %d, want %d: %s", args, code, want, said)
		}
	}
	file := filepath.Join(t.TempDir(), "levels.yaml")
	if err := os.WriteFile(file, []byte(verbLevels), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(1, []string{"no Registry", "weft level enable FILE"}, "level", "status")
	expect(2, []string{`no setting "Sometimes"`}, "level", "enable", "--setting", "Sometimes")
	expect(0, []string{"low < high"}, "level", "enable", file)
	h.Grant("alice")
	h.Grant("bob")
	h.Eventually("the door audits", func() string { return h.door().Setting() }, string(api.Audit))
	h.Eventually("audit lets everything through", func() string { return h.lists("alice", "vault") }, "ok")
	h.Eventually("status tells of it", func() string {
		if _, said := h.weft("level", "status"); !strings.Contains(said, "alice") || !strings.Contains(said, "vault") {
			return said
		}
		return "told"
	}, "told")

	// The administrator has no clearance: enforcing would lock him out, and he is stopped. The supervisor is exempt.
	if code, said := h.weftAs("kubeconfig", "level", "enable", "--setting", "Enforce"); code != 1 || !strings.Contains(said, "would lock you out") || !strings.Contains(said, "spec.exempt") {
		t.Errorf("the administrator enforces: exit code %d, %s", code, said)
	}
	if got := h.door().Setting(); got != string(api.Audit) {
		t.Errorf("after a refusal the door is set to %s", got)
	}
	expect(0, []string{"Enforce", "Ready"}, "level", "enable", "--setting", "Enforce")
	if got := h.lists("alice", "vault") + " " + h.lists("bob", "vault"); got != "levels ok" {
		t.Errorf("alice and bob get %s", got)
	}
	h.liveVerbs(expect)
	h.regrades(expect)
	expect(0, []string{"is open until"}, "level", "off")
	h.Eventually("after off", func() string { return h.lists("alice", "vault") }, "ok")
	h.Eventually("status tells that the door is open", func() string {
		if code, said := h.weft("level", "status"); code != 1 || !strings.Contains(said, "Off") {
			return said
		}
		return "told"
	}, "told")
	expect(0, []string{"what the Registry says"}, "level", "off", "--undo")
	h.Eventually("after the undo", func() string { return h.lists("alice", "vault") }, "levels")
	h.cutRecords(expect)
}

// liveVerbs asks the verbs that need no files about the cluster as it is.
func (h *house) liveVerbs(expect func(code int, texts []string, args ...string)) {
	h.t.Helper()
	raised := filepath.Join(h.t.TempDir(), "alice.yaml")
	text := "{apiVersion: level.weft.dev/v1alpha1, kind: Clearance, metadata: {name: alice}, spec: {subjects: [{kind: User, name: alice}], label: high}}"
	if err := os.WriteFile(raised, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	expect(1, []string{"denied: a clearance for low", "by namespace"}, "level", "can", "alice", "get", "secrets/db", "-n", "vault", "--why")
	expect(0, []string{"no opinion"}, "level", "can", "bob", "get", "secrets/db", "-n", "vault")
	expect(0, []string{"user bob", "vault", "kube-system"}, "level", "matrix")
	expect(0, []string{"no longer denied", "user alice", "vault"}, "level", "simulate", "--with", raised)
	expect(1, []string{"user alice", "ClusterRole cluster-admin"}, "level", "audit")
	expect(0, []string{"Exempt"}, "level", "can", "weft:agent", "list", "pods", "-A") // a program of the installation's own
	if _, said := h.weft("level", "audit"); strings.Contains(said, "user weft:") {
		h.t.Errorf("audit lists the installation's own programs: %s", said)
	}
	expect(0, []string{`"user": "alice"`, `"event": "Denied"`}, "level", "audit", "records", "--user", "alice", "-o", "json")
	h.Eventually("the chain is compared with the door's word", func() string {
		if code, said := h.weft("level", "audit", "records", "--verify"); code != 0 || !strings.Contains(said, "told the cluster of it") {
			return said
		}
		return "compared"
	}, "compared")
}

// cutRecords takes all records but the first away, as somebody would who has something to hide: each that is left holds.
func (h *house) cutRecords(expect func(code int, texts []string, args ...string)) {
	h.t.Helper()
	file := filepath.Join(h.dir, "cluster", control.LevelsAudit)
	data, err := os.ReadFile(file)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := os.Truncate(file, int64(bytes.IndexByte(data, '\n')+1)); err != nil {
		h.t.Fatal(err)
	}
	expect(1, []string{"records were cut off the end"}, "level", "audit", "records", "--verify")
}
