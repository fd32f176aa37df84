package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// HostsFolders are folders as containerd reads them (its docs/hosts.md), for example /etc/containerd/certs.d: for each
// registry a folder named after it with a hosts.toml, or with certificates as Docker keeps them. The first folder that
// knows a registry decides; _default stands for all others.
type HostsFolders []string

const hostsLimit = 1 << 20 // bytes of a hosts.toml

// Hosts lists the hosts of a registry.
func (f HostsFolders) Hosts(_ context.Context, registry string) ([]Host, error) {
	for _, root := range f {
		for _, dir := range hostFolders(root, hubAlias(registry)) {
			st, err := os.Stat(dir)
			if err != nil || !st.IsDir() {
				continue
			}
			return readHostFolder(dir, hubAlias(registry))
		}
	}
	return nil, nil
}

// hostFolders are the names under which containerd looks for a registry: HOST_PORT_, HOST:PORT, _default.
func hostFolders(root, registry string) []string {
	var dirs []string
	if i := strings.LastIndexByte(registry, ':'); i > 0 && !strings.HasSuffix(registry, "]") {
		dirs = append(dirs, filepath.Join(root, registry[:i]+"_"+registry[i+1:]+"_"))
	}
	return append(dirs, filepath.Join(root, registry), filepath.Join(root, "_default"))
}

func readHostFolder(dir, registry string) ([]Host, error) {
	path := filepath.Join(dir, "hosts.toml")
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return readCertificateFolder(dir, registry)
	}
	if err == nil && st.Size() > hostsLimit {
		err = fmt.Errorf("larger than %d bytes", hostsLimit)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	hosts, err := parseHosts(data, dir, registry)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return hosts, nil
}

// readCertificateFolder is Docker's form: CA in *.crt, client certificates in *.cert beside *.key.
func readCertificateFolder(dir, registry string) ([]Host, error) {
	h, err := originURL(registry)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch filepath.Ext(path) {
		case ".crt":
			h.TLS.CA = append(h.TLS.CA, path)
		case ".cert":
			key := strings.TrimSuffix(path, ".cert") + ".key"
			if _, err := os.Stat(key); err != nil {
				return nil, fmt.Errorf("%s: its key is expected in %s", path, key)
			}
			h.TLS.Client = append(h.TLS.Client, [2]string{path, key})
		}
	}
	if len(h.TLS.CA)+len(h.TLS.Client) > 0 {
		h.Scheme = "https"
	}
	return []Host{h}, nil
}

func originURL(registry string) (Host, error) {
	if registry == "docker.io" {
		registry = DockerHub
	}
	return parseHostURL(registry)
}

// hostTable is a table of hosts.toml. Several fields have more than one form.
type hostTable struct {
	Capabilities []string       `toml:"capabilities"`
	CA           any            `toml:"ca"`
	Client       any            `toml:"client"`
	SkipVerify   *bool          `toml:"skip_verify"`
	OverridePath bool           `toml:"override_path"`
	DialTimeout  string         `toml:"dial_timeout"`
	Header       map[string]any `toml:"header"`
}

type hostsFile struct {
	hostTable
	Server string               `toml:"server"`
	Host   map[string]hostTable `toml:"host"`
}

// parseHosts reads a hosts.toml. Relative paths are meant from dir. The hosts come in the order of the file, the
// server last.
func parseHosts(data []byte, dir, registry string) ([]Host, error) {
	var file hostsFile
	meta, err := toml.Decode(string(data), &file)
	if err != nil {
		var syntax toml.ParseError
		if errors.As(err, &syntax) {
			return nil, fmt.Errorf("line %d: %s", syntax.Position.Line, syntax.Message)
		}
		return nil, err
	}
	var hosts []Host
	seen := map[string]bool{}
	for _, key := range meta.Keys() {
		if len(key) < 2 || key[0] != "host" || seen[key[1]] {
			continue
		}
		seen[key[1]] = true
		h, err := file.Host[key[1]].host(key[1], dir)
		if err != nil {
			return nil, fmt.Errorf("host %q: %w", key[1], err)
		}
		h.Mirror = true
		hosts = append(hosts, h)
	}
	server := file.Server
	if server == "" {
		h, err := originURL(registry)
		if err != nil {
			return nil, err
		}
		server = h.Scheme + "://" + h.Name
	}
	h, err := file.hostTable.host(server, dir)
	if err != nil {
		return nil, fmt.Errorf("server %q: %w", server, err)
	}
	if h.Name == "docker.io" || h.Name == "registry-1.docker.io" {
		h.Name = DockerHub
	}
	return append(hosts, h), nil
}

func (t hostTable) host(address, dir string) (Host, error) {
	h, err := parseHostURL(address)
	if err != nil {
		return h, err
	}
	if t.OverridePath {
		_, path, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(address, "https://"), "http://"), "/")
		h.Base = strings.TrimRight("/"+path, "/")
	}
	for _, c := range t.Capabilities {
		switch strings.ToLower(c) {
		case "pull":
			h.Capabilities |= CapabilityPull
		case "resolve":
			h.Capabilities |= CapabilityResolve
		case "push":
			h.Capabilities |= CapabilityPush
		default:
			return h, fmt.Errorf("capabilities: %q is unknown, expected pull, resolve or push", c)
		}
	}
	if t.SkipVerify != nil {
		h.TLS.SkipVerify = *t.SkipVerify
	}
	if t.DialTimeout != "" {
		if h.DialTimeout, err = time.ParseDuration(t.DialTimeout); err != nil || h.DialTimeout < 0 {
			return h, fmt.Errorf("dial_timeout: %q is not a duration like 5s", t.DialTimeout)
		}
	}
	if h.TLS.CA, err = stringOrList("ca", t.CA, dir); err != nil {
		return h, err
	}
	if h.TLS.Client, err = clientPairs(t.Client, dir); err != nil {
		return h, err
	}
	h.Header, err = headers(t.Header)
	return h, err
}

func stringOrList(field string, v any, dir string) ([]string, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{absolute(v, dir)}, nil
	case []any:
		var paths []string
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, fmt.Errorf("%s: expected a path or a list of paths", field)
			}
			paths = append(paths, absolute(s, dir))
		}
		return paths, nil
	}
	return nil, fmt.Errorf("%s: expected a path or a list of paths", field)
}

// clientPairs reads "file", ["file", ...] or [["certificate", "key"], ...].
func clientPairs(v any, dir string) ([][2]string, error) {
	wrong := errors.New("client: expected a path, a list of paths, or a list of pairs [certificate, key]")
	list, ok := v.([]any)
	if !ok {
		paths, err := stringOrList("client", v, dir)
		if err != nil {
			return nil, wrong
		}
		list = make([]any, len(paths))
		for i, p := range paths {
			list[i] = p
		}
	}
	var pairs [][2]string
	for _, e := range list {
		parts, err := stringOrList("client", e, dir)
		if err != nil || len(parts) == 0 || len(parts) > 2 {
			return nil, wrong
		}
		pairs = append(pairs, [2]string{parts[0], strings.Join(parts[1:], "")})
	}
	return pairs, nil
}

func absolute(path, dir string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func headers(table map[string]any) (http.Header, error) {
	if len(table) == 0 {
		return nil, nil
	}
	h := http.Header{}
	names := make([]string, 0, len(table))
	for name := range table {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		list, ok := table[name].([]any)
		if !ok {
			list = []any{table[name]}
		}
		for _, v := range list {
			s, ok := v.(string)
			if !ok || strings.ContainsAny(s+name, "\r\n") {
				return nil, fmt.Errorf("header %q: expected a text or a list of texts on one line", name)
			}
			h.Add(name, s)
		}
	}
	return h, nil
}
