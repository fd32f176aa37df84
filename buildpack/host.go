package buildpack

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// writeEtc makes the few files of /etc that programs need: names, certificates and where to find libraries.
func writeEtc(etc string) error {
	if err := os.MkdirAll(filepath.Join(etc, "ssl", "certs"), 0o755); err != nil {
		return err
	}
	files := map[string][]byte{"passwd": []byte(passwdFile), "group": []byte(groupFile), "nsswitch.conf": []byte("hosts: files dns\n")}
	ca, err := certificates()
	if err != nil {
		return err
	}
	files["ssl/certs/ca-certificates.crt"] = ca
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(etc, name), data, 0o644); err != nil {
			return err
		}
	}
	return copyEtc(etc, "resolv.conf", "hosts", "ld.so.cache", "os-release", "debian_version", "mime.types", "localtime")
}

// copyEtc copies files of /etc that this process may read.
func copyEtc(etc string, names ...string) error {
	if err := os.MkdirAll(etc, 0o755); err != nil {
		return err
	}
	for _, name := range names {
		data, err := os.ReadFile("/etc/" + name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(etc, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// goroot is the Go toolchain of this machine, "" if there is none.
func goroot() string {
	if root := os.Getenv("GOROOT"); root != "" {
		return root
	}
	path, err := exec.LookPath("go")
	if err != nil {
		if _, err := os.Stat("/usr/local/go/bin/go"); err == nil {
			return "/usr/local/go"
		}
		return ""
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return ""
	}
	return filepath.Dir(filepath.Dir(path))
}

// passed variables of this machine's user reach buildpacks: how to get at dependencies.
var passed = []string{"GOPROXY", "GOFLAGS", "GOSUMDB", "GONOSUMDB", "GONOSUMCHECK", "GOPRIVATE", "GONOPROXY", "GOINSECURE", "GOTOOLCHAIN",
	"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT", "NPM_CONFIG_REGISTRY", "npm_config_registry", "MAVEN_MIRROR"}

// hostVariables gives them, settings made by `go env -w` included.
func hostVariables() (map[string]string, error) {
	vars := map[string]string{}
	config, err := os.UserConfigDir()
	if err == nil {
		data, err := os.ReadFile(filepath.Join(config, "go", "env"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for line := range strings.Lines(string(data)) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && slices.Contains(passed, name) {
				vars[name] = value
			}
		}
	}
	for _, name := range passed {
		if value := os.Getenv(name); value != "" {
			vars[name] = value
		}
	}
	return vars, nil
}
