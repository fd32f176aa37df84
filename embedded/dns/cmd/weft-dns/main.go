// Command weft-dns is the cluster's DNS server: CoreDNS as a library with
// the plugins that a cluster needs and no other. It is a module of its own
// because CoreDNS asks for newer versions than Kubernetes pins.
//
//	weft-dns -conf /path/to/Corefile
//
// The flags are CoreDNS's own (-conf, -p, -quiet, -version, -plugins).
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/loop"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
)

// directives names the plugins in the order in which a query passes them;
// it is the order of CoreDNS's plugin.cfg, shortened to what is linked.
var directives = []string{
	"reload", "bind", "ready", "health", "errors", "log", "loadbalance",
	"cache", "hosts", "kubernetes", "loop", "forward",
}

func main() {
	// A directive that is not linked is then refused as unknown, with its
	// line, and not by an internal error.
	dnsserver.Directives = directives
	coremain.Run()
}
