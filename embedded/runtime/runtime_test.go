package runtime

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func containerd() Containerd {
	return Containerd{
		Root: "/state/containerd", State: "/run/weft/containerd", Socket: "/run/weft/containerd.sock",
		ShimSockets: "/run/weft/s", Programs: `/opt/odd "name"\bin`, NetworkConfig: "/state/cni",
		RegistryHosts: "/state/certs.d", SandboxImage: "weft.local/pause:1",
		Proxies: []Proxy{{Name: "weft-lazy", Socket: "/run/weft/lazy.sock", Root: "/state/snapshots", Capabilities: []string{"rebase", "remap-ids"}}},
	}
}

func TestContainerdConfigQuotesPaths(t *testing.T) {
	text, err := containerd().Config()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"version = 4\n",
		`BinaryName = "/opt/odd \"name\"\\bin/runc"`,
		`sandbox = "weft.local/pause:1"`,
		`snapshotter = "overlayfs"`,
		"[proxy_plugins.\"weft-lazy\"]\n  type = 'snapshot'\n  address = \"/run/weft/lazy.sock\"\n  capabilities = [\"rebase\", \"remap-ids\"]",
		"root = \"/state/snapshots\"\n",
		"snapshotter = \"weft-lazy\"\n",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestContainerdConfigRefusesWhatCannotWork(t *testing.T) {
	for _, c := range []struct {
		want   string
		change func(*Containerd)
	}{
		{"Root is \"state\"", func(c *Containerd) { c.Root = "state" }},
		{"longer than 42", func(c *Containerd) { c.ShimSockets = "/" + strings.Repeat("x", 42) }},
		{"SandboxImage", func(c *Containerd) { c.SandboxImage = "" }},
		{"not UTF-8", func(c *Containerd) { c.Socket = "/a\xff" }},
		{"Proxies lazy", func(c *Containerd) { c.Proxies = []Proxy{{Name: "lazy"}} }},
		{"Proxies lazy Root", func(c *Containerd) { c.Proxies = []Proxy{{Name: "lazy", Socket: "/s", Root: "x"}} }},
	} {
		config := containerd()
		c.change(&config)
		if _, err := config.Config(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, expected one with %q", err, c.want)
		}
	}
}

func TestNetworkConfigHasBothFamilies(t *testing.T) {
	text, err := Network{
		Bridge: "weft0", Leases: "/state/ipam", MTU: 1500,
		Subnets: []netip.Prefix{netip.MustParsePrefix("10.42.0.0/24"), netip.MustParsePrefix("fd42::/64")},
	}.Config()
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Plugins []struct {
			Type string
			IPAM struct {
				Ranges [][]struct{ Subnet string }
			}
		}
	}
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	ipam := list.Plugins[0].IPAM
	if list.Plugins[1].Type != "portmap" || len(ipam.Ranges) != 2 || ipam.Ranges[1][0].Subnet != "fd42::/64" {
		t.Errorf("unexpected configuration\n%s", text)
	}
}

func TestNetworkConfigRefusesWhatCannotWork(t *testing.T) {
	four := netip.MustParsePrefix("10.42.0.0/24")
	for _, n := range []Network{
		{Bridge: "a-name-that-is-too-long", Leases: "/x", Subnets: []netip.Prefix{four}},
		{Bridge: "weft0", Leases: "x", Subnets: []netip.Prefix{four}},
		{Bridge: "weft0", Leases: "/x"},
		{Bridge: "weft0", Leases: "/x", Subnets: []netip.Prefix{four, four}},
		{Bridge: "weft0", Leases: "/x", Subnets: []netip.Prefix{netip.MustParsePrefix("10.42.0.1/24")}},
	} {
		if text, err := n.Config(); err == nil {
			t.Errorf("%+v was taken:\n%s", n, text)
		}
	}
}

func TestNodeEnvironmentRenamesLoopbackProxies(t *testing.T) {
	env, err := NodeEnvironment([]string{
		"HTTPS_PROXY=http://user:secret@127.0.0.1:3128",
		"http_proxy=localhost:8888",
		"ALL_PROXY=http://proxy.example.com:80",
		"NO_PROXY=.example.com",
		"SSL_CERT_FILE=/etc/ssl/own.pem",
		"AWS_SECRET_ACCESS_KEY=private",
	}, netip.MustParseAddr("10.99.0.1"), []string{"10.0.0.0/8", ".cluster.local"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"ALL_PROXY=http://proxy.example.com:80",
		"HTTPS_PROXY=http://user:secret@10.99.0.1:3128",
		"NO_PROXY=.example.com,10.0.0.0/8,.cluster.local",
		"SSL_CERT_FILE=/etc/ssl/own.pem",
		"http_proxy=http://10.99.0.1:8888",
	}
	if !slices.Equal(env.Variables, want) {
		t.Errorf("variables %q, expected %q", env.Variables, want)
	}
	if !slices.Equal(env.HostPorts, []int{3128, 8888}) {
		t.Errorf("ports %v", env.HostPorts)
	}
}

func TestNodeEnvironmentHidesThePasswordInErrors(t *testing.T) {
	_, err := NodeEnvironment([]string{"HTTP_PROXY=http://user:secret@127.0.0.1:99999"}, netip.MustParseAddr("10.99.0.1"), nil)
	if err == nil || !strings.Contains(err.Error(), "HTTP_PROXY") || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v", err)
	}
}

func TestRegistryHost(t *testing.T) {
	text, err := RegistryHost("http://127.0.0.1:5000")
	if err != nil || !strings.Contains(string(text), `[host."http://127.0.0.1:5000"]`) {
		t.Errorf("%s %v", text, err)
	}
	if _, err := RegistryHost("127.0.0.1:5000"); err == nil {
		t.Error("a URL without scheme was taken")
	}
}
