package runtime

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"sort"
	"strconv"
	"strings"
)

// Environment is what a program in the node's network namespace needs to
// reach what the host reaches.
type Environment struct {
	Variables []string // NAME=VALUE, sorted
	HostPorts []int    // ports on the host's loopback that a proxy setting names
}

// passed are variables of the host that stay as they are.
var passed = map[string]bool{
	"SSL_CERT_FILE": true, "SSL_CERT_DIR": true, "TZ": true, "LANG": true, "LC_ALL": true, "PATH": true, "HOME": true,
}

// proxies are the proxy settings, each also in lower case.
var proxies = map[string]bool{"HTTP_PROXY": true, "HTTPS_PROXY": true, "ALL_PROXY": true}

// NodeEnvironment takes from the host's environment the proxies and
// certificates. A proxy on the host's loopback cannot be reached by that name
// from the node's namespace: it is renamed to gateway, and its port is listed
// so that the way out can let exactly this port through. What noProxy lists
// (names, addresses, networks) is added to NO_PROXY when there is a proxy.
func NodeEnvironment(host []string, gateway netip.Addr, noProxy []string) (Environment, error) {
	var env Environment
	ports := map[int]bool{}
	except := map[string]string{}
	hasProxy := false
	for _, variable := range host {
		name, value, _ := strings.Cut(variable, "=")
		switch upper := strings.ToUpper(name); {
		case value == "":
		case proxies[upper]:
			renamed, port, err := renameProxy(value, gateway)
			if err != nil {
				return Environment{}, fmt.Errorf("environment variable %s: %w", name, err)
			}
			if port != 0 {
				ports[port] = true
			}
			hasProxy = true
			env.Variables = append(env.Variables, name+"="+renamed)
		case upper == "NO_PROXY":
			except[name] = value
		case passed[name]:
			env.Variables = append(env.Variables, variable)
		}
	}
	if hasProxy {
		env.Variables = append(env.Variables, exceptions(except, noProxy)...)
	}
	for port := range ports {
		env.HostPorts = append(env.HostPorts, port)
	}
	sort.Ints(env.HostPorts)
	sort.Strings(env.Variables)
	return env, nil
}

// exceptions extends NO_PROXY and no_proxy, whichever the host has, or sets
// both: programs differ in which they read.
func exceptions(have map[string]string, more []string) []string {
	if len(have) == 0 {
		have = map[string]string{"NO_PROXY": "", "no_proxy": ""}
	}
	var out []string
	for name, value := range have {
		list := more
		if value != "" {
			list = append([]string{value}, more...)
		}
		out = append(out, name+"="+strings.Join(list, ","))
	}
	return out
}

// renameProxy replaces a loopback host in a proxy setting by the gateway. The
// error does not repeat the setting, which may hold a password.
func renameProxy(value string, gateway netip.Addr) (renamed string, hostPort int, err error) {
	text := value
	if !strings.Contains(text, "://") {
		text = "http://" + text // curl and Go read it so
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return "", 0, fmt.Errorf("expected a proxy as URL or HOST:PORT")
	}
	if !isLoopback(u.Hostname()) {
		return value, 0, nil
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
	}
	if port == "" {
		port = "80"
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return "", 0, fmt.Errorf("the proxy's port is not a port")
	}
	u.Host = net.JoinHostPort(gateway.String(), port)
	return u.String(), int(number), nil
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}

// ProgramPath gives a PATH that begins with the folder of the node's own
// programs: containerd's shim looks for runc there.
func ProgramPath(programs, path string) string {
	if path == "" {
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	return programs + ":" + path
}
