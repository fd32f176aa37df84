package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/supervise"
)

// stateMount is where a node's programs see the state folder: a short and fixed path, because socket paths may not be
// long and containerd keeps paths in its data.
const stateMount = "/run/weft"

// namespaces are the network and mount namespaces of a node. They live as long as a process or these descriptors.
type namespaces struct {
	host *os.File // the network namespace of the supervisor
	net  *os.File
	mnt  *os.File
}

// newNamespaces makes and furnishes both. The host sees nothing of it.
func newNamespaces(s State) (*namespaces, error) {
	type result struct {
		ns  *namespaces
		err error
	}
	c := make(chan result)
	go supervise.OwnThread(func() {
		ns, err := furnish(s)
		c <- result{ns, err}
	})
	r := <-c
	return r.ns, r.err
}

func furnish(s State) (ns *namespaces, err error) {
	ns = &namespaces{}
	defer func() {
		if err != nil {
			ns.Close()
		}
	}()
	const self = "/proc/thread-self/ns/"
	if ns.host, err = os.Open(self + "net"); err != nil {
		return ns, err
	}
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		return ns, fmt.Errorf("making namespaces: %w", err)
	}
	if ns.net, err = os.Open(self + "net"); err != nil {
		return ns, err
	}
	if ns.mnt, err = os.Open(self + "mnt"); err != nil {
		return ns, err
	}
	if err := setUpMounts(s); err != nil {
		return ns, err
	}
	return ns, setUpNetwork()
}

// Enter moves the calling thread into the namespaces; the thread must be locked and never be used for others again.
func (ns *namespaces) Enter() error {
	// Threads of one process share their working directory, and a thread that shares it may not change mount namespace.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	if err := unix.Setns(int(ns.net.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	return unix.Setns(int(ns.mnt.Fd()), unix.CLONE_NEWNS)
}

// Listen opens a listener inside the node's network namespace.
func (ns *namespaces) Listen(address string) (net.Listener, error) {
	return inNetwork(ns.net, func() (net.Listener, error) { return net.Listen("tcp", address) })
}

// inNetwork runs f on a thread inside a network namespace. A socket keeps the namespace in which it was made.
func inNetwork[T any](namespace *os.File, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	c := make(chan result)
	go supervise.OwnThread(func() {
		if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
			c <- result{err: err}
			return
		}
		value, err := f()
		c <- result{value, err}
	})
	r := <-c
	return r.value, r.err
}

// Close lets go of the namespaces.
func (ns *namespaces) Close() {
	for _, f := range []*os.File{ns.host, ns.net, ns.mnt} {
		if f != nil {
			f.Close()
		}
	}
}

// sysctls are values that the kubelet insists on and would otherwise write for the whole machine.
var sysctls = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
}

// setUpMounts gives the node its own /run and /var/lib, the resolver of its way out, and files in place of the sysctls
// that are global. What programs write there stays in the state folder or vanishes with the namespace.
func setUpMounts(s State) error {
	// The state folder may lie below what is covered here, so it is held open and reached through that.
	dir, err := os.Open(s.Dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	held := State{Dir: fmt.Sprintf("/proc/self/fd/%d", dir.Fd())}
	steps := []struct {
		source, target, kind string
		flags                uintptr
		data                 string
	}{
		// Nothing goes to the host; inside, mounts reach pods that ask for propagation.
		{"", "/", "", unix.MS_REC | unix.MS_SLAVE, ""},
		{"", "/", "", unix.MS_REC | unix.MS_SHARED, ""},
		{held.Data("var-lib"), "/var/lib", "", unix.MS_BIND, ""},
		// A kubelet removes the logs of pods it does not know: those of another cluster.
		{held.Data("var-log"), "/var/log", "", unix.MS_BIND, ""},
	}
	resolver := filepath.Join(held.Run(), "resolv.conf")
	if err := os.WriteFile(resolver, resolverText(), 0o644); err != nil {
		return err
	}
	for _, m := range steps {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mounting %s: %w", m.target, err)
		}
	}
	linked, err := bindResolver(resolver)
	if err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size=256m"); err != nil {
		return fmt.Errorf("mounting /run: %w", err)
	}
	for _, d := range []string{stateMount, "/run/lock", "/run/netns"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount(held.Dir, stateMount, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting the state folder at %s: %w", stateMount, err)
	}
	if linked != "" {
		if err := os.MkdirAll(filepath.Dir(linked), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(linked, resolverText(), 0o644); err != nil {
			return err
		}
	}
	for name, value := range sysctls {
		file := filepath.Join(stateMount, "run", "sysctl-"+strings.ReplaceAll(name, "/", "-"))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		err := unix.Mount(file, "/proc/sys/"+name, "", unix.MS_BIND, "")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("covering the sysctl %s: %w", name, err)
		}
	}
	return nil
}

// resolverText sends every question to the way out, which asks the host's own servers.
func resolverText() []byte { return []byte("nameserver " + egressGateway + "\n") }

// bindResolver covers the file that /etc/resolv.conf stands for. Where that lies below /run, which is covered by an empty
// folder soon, it returns the path at which the file has to be made.
func bindResolver(file string) (linked string, err error) {
	target, err := filepath.EvalSymlinks("/etc/resolv.conf")
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil // no resolver on the host: names do not resolve there either
	}
	if err != nil || strings.HasPrefix(target, "/run/") {
		return target, err
	}
	if err := unix.Mount(file, target, "", unix.MS_BIND, ""); err != nil {
		return "", fmt.Errorf("covering %s: %w", target, err)
	}
	return "", nil
}

// setUpNetwork gives the namespace its loopback with the node's addresses and lets it forward for pods.
func setUpNetwork() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	for _, cidr := range []string{nodeIPv4 + "/32", nodeIPv6 + "/128"} {
		addr, err := netlink.ParseAddr(cidr)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(lo, addr); err != nil {
			return fmt.Errorf("giving the node its address %s: %w", cidr, err)
		}
	}
	if err := routeServices(lo); err != nil {
		return err
	}
	for name, value := range map[string]string{
		"ipv4/ip_forward":                 "1",
		"ipv6/conf/all/forwarding":        "1",
		"ipv6/conf/default/accept_dad":    "0", // a pod's IPv6 address is usable at once
		"bridge/bridge-nf-call-iptables":  "1",
		"bridge/bridge-nf-call-ip6tables": "1",
		"ipv4/conf/all/route_localnet":    "1", // host ports on the node's loopback
		"ipv4/ip_local_port_range":        "32768 60999",
		"ipv4/ping_group_range":           "0 2147483647",
		"ipv4/ip_unprivileged_port_start": "0",
	} {
		err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("setting net/%s in the node's namespace: %w", name, err)
		}
	}
	return nil
}

// routeServices lets the node itself open connections to Services: kube-proxy rewrites their addresses only once a route
// was found. What no Service has goes to the loopback and is refused there.
func routeServices(lo netlink.Link) error {
	// An IPv6 source may not be named before its address has settled; there the kernel finds the same one by itself.
	for cidr, source := range map[string]net.IP{serviceCIDRv4: net.ParseIP(nodeIPv4), serviceCIDRv6: nil} {
		_, dst, err := net.ParseCIDR(cidr)
		if err != nil {
			return err
		}
		if err := netlink.RouteReplace(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: dst, Src: source}); err != nil {
			return fmt.Errorf("giving the node a route to Services (%s): %w", cidr, err)
		}
	}
	return nil
}
