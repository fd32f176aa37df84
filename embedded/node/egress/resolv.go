package egress

import (
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// nameServers is what a resolv.conf says about whom to ask (resolv.conf(5)).
type nameServers struct {
	servers  []netip.AddrPort
	timeout  time.Duration // for one server's answer
	attempts int           // rounds over all servers
	rotate   bool
}

// Limits of resolv.conf(5): the resolver silently takes at most these.
const (
	maxServers  = 3
	maxTimeout  = 30 * time.Second
	maxAttempts = 5
	maxResolv   = 64 << 10 // bytes that are read; our own limit
)

// parseResolv reads a resolv.conf. What it does not know it skips, as the C
// library does. Without a server the local machine is asked.
func parseResolv(text string) nameServers {
	n := nameServers{timeout: 5 * time.Second, attempts: 2}
	for line := range strings.Lines(text) {
		if line[0] == '#' || line[0] == ';' {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if ip, err := netip.ParseAddr(fields[1]); err == nil && len(n.servers) < maxServers {
				n.servers = append(n.servers, netip.AddrPortFrom(ip, 53))
			}
		case "options":
			for _, option := range fields[1:] {
				n.option(option)
			}
		}
	}
	if len(n.servers) == 0 {
		n.servers = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 53)}
	}
	return n
}

func (n *nameServers) option(option string) {
	name, value, _ := strings.Cut(option, ":")
	number, err := strconv.Atoi(value)
	switch {
	case name == "rotate":
		n.rotate = true
	case err != nil || number < 1:
	case name == "timeout":
		n.timeout = maxTimeout
		if number < int(maxTimeout/time.Second) {
			n.timeout = time.Duration(number) * time.Second
		}
	case name == "attempts":
		n.attempts = min(number, maxAttempts)
	}
}

// readResolv reads the start of the file.
func readResolv(file string) (nameServers, error) {
	f, err := os.Open(file)
	if err != nil {
		return nameServers{}, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxResolv))
	if err != nil {
		return nameServers{}, err
	}
	return parseResolv(string(content)), nil
}
