// Package sandboxtest gives tests the programs and folders that a sandbox needs.
package sandboxtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

var built sync.Map // import path -> func() (string, error)

// Program builds the command with this import path once per test binary, as it is built for release, and returns its path.
func Program(t testing.TB, importPath string) string {
	t.Helper()
	build, _ := built.LoadOrStore(importPath, sync.OnceValues(func() (string, error) {
		dir, err := os.MkdirTemp("", "weft-test-program-")
		if err != nil {
			return "", err
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			return "", err
		}
		out := filepath.Join(dir, filepath.Base(importPath))
		cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", out, importPath)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		cmd.Stderr = os.Stderr
		return out, cmd.Run()
	}))
	path, err := build.(func() (string, error))()
	if err != nil {
		t.Fatalf("build %s: %v", importPath, err)
	}
	return path
}

// Clean removes what Program built. TestMain calls it last.
func Clean() {
	built.Range(func(_, build any) bool {
		if path, err := build.(func() (string, error))(); err == nil {
			os.RemoveAll(filepath.Dir(path))
		}
		return true
	})
}

// NeedKernel skips the test where there are no namespaces at all.
func NeedKernel(t testing.TB) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("sandboxes need Linux")
	}
}
