package cluster

import (
	"fmt"

	"github.com/weft-dev/weft/embedded/pki"
)

// dnsArgs writes CoreDNS's configuration and returns its flags.
func dnsArgs(s State) ([]string, error) {
	config := fmt.Sprintf(`.:%d {
	bind %s
	errors
	health 127.0.0.1:8080
	ready 127.0.0.1:8181
	kubernetes cluster.local in-addr.arpa ip6.arpa {
		kubeconfig %s
		pods insecure
		fallthrough in-addr.arpa ip6.arpa
		ttl 30
	}
	forward . %s
	cache 30
	reload 5s
}
`, dnsPort, nodeIPv4, inNode(s, s.component("dns")), egressGateway)
	file := s.path("run", "Corefile")
	if err := pki.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	return []string{"-conf", inNode(s, file)}, nil
}
