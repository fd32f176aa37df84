// Package runtime writes the configuration of the programs under the kubelet:
// containerd, the network plugins, and their environment. It knows nothing of
// Kubernetes and starts nothing.
package runtime

import (
	_ "embed"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"text/template"
	"unicode/utf8"
)

// Containerd says where a node's containerd keeps and finds things. All paths
// are absolute.
type Containerd struct {
	Root          string  // images, containers; kept over restarts
	State         string  // sockets, mounts, runc's state; on a tmpfs
	Socket        string  // CRI and client socket
	ShimSockets   string  // at most 42 characters long
	Programs      string  // containerd-shim-runc-v2, runc and the network plugins
	NetworkConfig string  // folder of the network plugins' configuration
	RegistryHosts string  // folder of folders HOST:PORT with a hosts.toml
	SandboxImage  string  // first container of every pod; never collected
	Snapshotter   string  // overlayfs when empty
	Proxies       []Proxy // snapshotters in other processes
	LogLevel      string  // info when empty
	// RestrictOOMScore has to be set where CAP_SYS_RESOURCE is missing:
	// negative scores fail there.
	RestrictOOMScore bool
}

// Proxy is a snapshotter that another process serves.
type Proxy struct {
	Name, Socket string
	Root         string   // folder of its snapshots, whose disk counts as that of images
	Capabilities []string // what it can do besides, as containerd names it
}

// maxShimSockets follows from the 107 bytes of a Unix socket's path, the
// slash and the 64 characters of a shim's socket name.
const maxShimSockets = 42

//go:embed containerd.toml.tmpl
var containerdTemplate string

// Config gives the text of containerd's config.toml, version 4.
func (c Containerd) Config() ([]byte, error) {
	if c.Snapshotter == "" {
		c.Snapshotter = "overlayfs"
	}
	if c.LogLevel == "" {
		c.LogLevel = "info"
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("containerd's configuration: %w", err)
	}
	t, err := template.New("containerd.toml").Funcs(template.FuncMap{"quote": quote}).Parse(containerdTemplate)
	if err != nil {
		return nil, err
	}
	var out strings.Builder
	values := struct {
		Containerd
		Platform  string
		Unpackers []string
	}{Containerd: c, Platform: "linux/" + runtime.GOARCH, Unpackers: []string{"overlayfs"}}
	for _, proxy := range c.Proxies {
		values.Unpackers = append(values.Unpackers, proxy.Name)
	}
	if err := t.Execute(&out, values); err != nil {
		return nil, err
	}
	return []byte(out.String()), nil
}

func (c Containerd) check() error {
	paths := map[string]string{
		"Root": c.Root, "State": c.State, "Socket": c.Socket, "ShimSockets": c.ShimSockets,
		"Programs": c.Programs, "NetworkConfig": c.NetworkConfig, "RegistryHosts": c.RegistryHosts,
	}
	for _, p := range c.Proxies {
		paths["Proxies "+p.Name] = p.Socket
		paths["Proxies "+p.Name+" Root"] = p.Root
		if p.Name == "" {
			return errors.New("a proxy has no name")
		}
	}
	for name, path := range paths {
		if !filepath.IsAbs(path) || filepath.Clean(path) != path {
			return fmt.Errorf("%s is %q, expected an absolute clean path", name, path)
		}
	}
	if len(c.ShimSockets) > maxShimSockets {
		return fmt.Errorf("ShimSockets %q is longer than %d characters", c.ShimSockets, maxShimSockets)
	}
	if c.SandboxImage == "" {
		return errors.New("SandboxImage is missing")
	}
	return nil
}

// quote writes a TOML basic string (TOML 1.0, "String").
func quote(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", fmt.Errorf("%q is not UTF-8", s)
	}
	var out strings.Builder
	out.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			out.WriteByte('\\')
			out.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&out, `\u%04X`, r)
		default:
			out.WriteRune(r)
		}
	}
	out.WriteByte('"')
	return out.String(), nil
}

// RegistryHost gives the hosts.toml of one registry, to be written as
// HOST:PORT/hosts.toml in the folder RegistryHosts: asked by the given URLs in
// turn, over plain HTTP where a URL says so, without the registry itself.
func RegistryHost(urls ...string) ([]byte, error) {
	if len(urls) == 0 {
		return nil, errors.New("a registry needs at least one URL")
	}
	var out strings.Builder
	server, err := quote(urls[0])
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(&out, "server = %s\n", server)
	for _, url := range urls {
		if !strings.HasPrefix(url, "http://") && !strings.HasPrefix(url, "https://") {
			return nil, fmt.Errorf("registry URL %q begins with neither http:// nor https://", url)
		}
		host, err := quote(url)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&out, "\n[host.%s]\n  capabilities = [\"pull\", \"resolve\"]\n", host)
	}
	return []byte(out.String()), nil
}
