package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Versions of the upstream programs as they print them; a test holds them to
// go.mod.
const (
	containerdVersion = "v2.4.2"
	pluginsVersion    = "v1.9.1"
	corednsVersion    = "v1.15.0"
)

// A program is one file in the output folder.
type program struct {
	name   string
	module string // folder of the Go module, relative to embedded/node
	pkg    string
	tags   string
	vars   string // -X settings
	cgo    bool
	// trim leaves the builder's folders out of the program, so that the
	// images made from it are the same everywhere. Only for small programs:
	// it compiles every dependency once more.
	trim    bool
	missing string // why it cannot be built on this machine
	warning string
}

// mainModule is the folder of Weft's main module, of which only the log agent is built here.
const mainModule = "../.."

const plugins = "github.com/containernetworking/plugins/plugins/"

// programs lists everything that is built, given what the C compiler can do.
func programs(c features) []program {
	runtimeVars := "-X github.com/containerd/containerd/v2/version.Version=" + containerdVersion +
		" -X github.com/containerd/containerd/v2/version.Package=github.com/containerd/containerd/v2"
	pluginVars := "-X github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion=" + pluginsVersion
	list := []program{
		{name: "containerd", pkg: "./cmd/containerd", tags: "urfave_cli_no_docs", vars: runtimeVars},
		{name: "containerd-shim-runc-v2", pkg: "./cmd/containerd-shim-runc-v2", tags: "no_grpc", vars: runtimeVars},
	}
	list = append(list, runcPrograms(c)...)
	list = append(list,
		program{name: "bridge", pkg: plugins + "main/bridge", vars: pluginVars},
		program{name: "host-local", pkg: plugins + "ipam/host-local", vars: pluginVars},
		program{name: "loopback", pkg: plugins + "main/loopback", vars: pluginVars},
		program{name: "portmap", pkg: plugins + "meta/portmap", vars: pluginVars},
		program{name: "weft-egress", pkg: "./cmd/weft-egress"},
		program{name: "weft-import", pkg: "./cmd/weft-import"},
		program{name: "weft-init", pkg: "./cmd/weft-init", trim: true},
		program{name: "weft-pause", pkg: "./cmd/weft-pause", trim: true},
		program{name: "weft-testpod", pkg: "./cmd/weft-testpod", trim: true},
		program{name: "logagent", module: mainModule, pkg: "./cmd/logagent", trim: true},
		program{name: "weft-dns", module: "../dns", pkg: "./cmd/weft-dns", vars: "-X github.com/coredns/coredns/coremain.GitCommit=" + corednsVersion},
	)
	for i := range list {
		if list[i].module == "" {
			list[i].module = "."
		}
	}
	return list
}

// runcPrograms gives runc as the machine can build it.
func runcPrograms(c features) []program {
	runc := program{
		name: "runc", pkg: "github.com/opencontainers/runc", cgo: true,
		tags: "seccomp netgo osusergo urfave_cli_no_docs",
		vars: "-extldflags -static",
	}
	switch {
	case !c.compiler:
		runc.missing = "no C compiler; install gcc and libc6-dev"
	case !c.static:
		runc.missing = "the C compiler cannot link statically; install libc6-dev"
	case !c.seccomp:
		core := runc
		core.name, core.tags = "runc-core", "netgo osusergo urfave_cli_no_docs"
		core.warning = "containers run WITHOUT system call filters, for libseccomp's headers are missing; install libseccomp-dev and build again"
		wrapper := program{name: "runc", pkg: "./cmd/runc-no-seccomp"}
		return []program{core, wrapper}
	}
	return []program{runc}
}

func (p program) ldflags() string { return strings.TrimSpace("-s -w " + p.vars) }

// stamp changes whenever the program has to be built again.
func (p program) stamp(sources string) string {
	return fmt.Sprintf("%s\n%s\n%s\n%s\n%t %t\n%s\n", sources, p.pkg, p.tags, p.ldflags(), p.cgo, p.trim, os.Getenv("GOFLAGS"))
}

// sources digests the Go files and module files of each module, and the
// version of Go.
func sources(ctx context.Context) (map[string]string, error) {
	version, err := exec.CommandContext(ctx, "go", "version").Output()
	if err != nil {
		return nil, fmt.Errorf("go version: %w", err)
	}
	digests := map[string]string{}
	for module, parts := range map[string][]string{".": {"."}, "../dns": {"../dns"}, mainModule: {"../../cmd/logagent", "../../logging", "../../go.mod", "../../go.sum"}} {
		sum := sha256.New()
		sum.Write(version)
		for _, part := range parts {
			err := filepath.WalkDir(part, func(name string, entry fs.DirEntry, err error) error {
				if err != nil || entry.IsDir() || !isSource(name) {
					return err
				}
				content, err := os.ReadFile(name)
				fmt.Fprintf(sum, "%s %d\n%s", name, len(content), content)
				return err
			})
			if err != nil {
				return nil, err
			}
		}
		digests[module] = hex.EncodeToString(sum.Sum(nil))
	}
	return digests, nil
}

// isSource tells whether a program depends on the file. The build program
// itself is left out: what it decides is part of each stamp.
func isSource(name string) bool {
	base := filepath.Base(name)
	if base == "go.mod" || base == "go.sum" {
		return true
	}
	return strings.HasSuffix(base, ".go") && !strings.HasSuffix(base, "_test.go") && filepath.Dir(name) != "build"
}

// features is what the machine's C compiler can do.
type features struct{ compiler, static, seccomp bool }

func cFeatures(ctx context.Context) features {
	return features{
		compiler: compiles(ctx, "int main(void){return 0;}"),
		static:   compiles(ctx, "#include <stdio.h>\nint main(void){return puts(\"\");}", "-static"),
		seccomp: compiles(ctx, "#include <seccomp.h>\nint main(void){return seccomp_init(SCMP_ACT_ALLOW)==0;}",
			"-static", "-lseccomp"),
	}
}

// compiles tells whether the C compiler that Go would use makes a program of
// the source.
func compiles(ctx context.Context, source string, flags ...string) bool {
	out, err := exec.CommandContext(ctx, "go", "env", "CC").Output()
	if err != nil {
		return false
	}
	compiler := strings.Fields(string(out)) // it may carry flags
	if len(compiler) == 0 {
		return false
	}
	// Not to /dev/null: some linkers remove their output first, as root also a device.
	folder, err := os.MkdirTemp("", "weft-build-")
	if err != nil {
		return false
	}
	defer os.RemoveAll(folder)
	args := append(compiler[1:], "-x", "c", "-", "-o", filepath.Join(folder, "out"))
	cmd := exec.CommandContext(ctx, compiler[0], append(args, flags...)...)
	cmd.Stdin = strings.NewReader(source)
	return cmd.Run() == nil
}
