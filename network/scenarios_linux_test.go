package network

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func parseChecks(t testing.TB, want bool, lines []string) []*probe {
	var out []*probe
	for _, line := range lines {
		f := strings.Fields(line)
		protocol, err := ParseProtocol(f[3])
		must(t, err)
		for _, port := range strings.Split(f[4], ",") {
			n, err := strconv.ParseUint(port, 10, 16)
			must(t, err)
			for _, v6 := range []bool{false, true} {
				out = append(out, &probe{from: f[0], to: f[2], protocol: protocol, port: uint16(n), v6: v6, want: want})
			}
		}
	}
	return out
}

func TestScenarios(t *testing.T) {
	w := newWorld(t, bridged, scenarioObjects(t, "").Pods)
	e := enforce(t, w)
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			o := scenarioObjects(t, s.policies)
			snapshot := NewSnapshot(o)
			if p := snapshot.Problems(); len(p) > 0 && !strings.Contains(s.name, "fails closed") {
				t.Fatal(p)
			}
			e.set(t, o)
			probes := append(parseChecks(t, true, s.allow), parseChecks(t, false, s.deny)...)
			w.run(t, probes)
			for _, p := range probes {
				i := 0
				if p.v6 {
					i = 1
				}
				d := Evaluate(snapshot, snapshot.Address(w.spots[p.from].ips[i]), snapshot.Address(w.spots[p.to].ips[i]), p.protocol, p.port)
				if d.Allowed != p.want || p.done != p.want {
					t.Errorf("%s: wanted %v, packets %v, Evaluate %s", p, p.want, p.done, d)
				}
			}
		})
	}
}

// The kernel need not speak SCTP for its packets to be filtered: an INIT goes out through a raw socket.
func TestSCTP(t *testing.T) {
	w := newWorld(t, bridged, scenarioObjects(t, "").Pods)
	e := enforce(t, w)
	e.set(t, scenarioObjects(t, `{metadata: {name: p}, spec: {podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: 81, endPort: 90, protocol: SCTP}]}]}}`))
	receiver := -1
	w.spots["x/a"].ns.do(t, func() (err error) {
		receiver, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(SCTP))
		if err == nil {
			err = unix.SetsockoptTimeval(receiver, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
		}
		return err
	})
	defer unix.Close(receiver)
	w.spots["x/b"].ns.do(t, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(SCTP))
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, port := range []uint16{80, 91, 85} {
			if err := unix.Sendto(fd, sctpInit(port), 0, &unix.SockaddrInet4{Addr: w.spots["x/a"].ips[0].As4()}); err != nil {
				return err
			}
		}
		return nil
	})
	buf := make([]byte, 1500)
	n, _, err := unix.Recvfrom(receiver, buf, 0)
	if err != nil {
		t.Fatalf("no SCTP packet came through: %v", err)
	}
	// The raw socket shows the IP header of 20 bytes first.
	if port := int(buf[22])<<8 | int(buf[23]); n < 32 || port != 85 {
		t.Errorf("a packet to port %d came through first, wanted 85", port)
	}
	drops, err := e.table.Drops()
	must(t, err)
	if drops.Ingress.Packets != 2 || drops.Ingress.Bytes == 0 || drops.Egress.Packets != 0 {
		t.Errorf("drops %+v, wanted 2 for ingress", drops)
	}
}

// A pod that nobody has announced yet is cut off, also where no policy exists; announced, it is not.
func TestUnknownPodIsCutOff(t *testing.T) {
	for name, how := range map[string]datapath{"bridge": bridged, "routed": routed} {
		t.Run(name, func(t *testing.T) {
			o := scenarioObjects(t, "")
			w := newWorld(t, how, o.Pods)
			e := enforce(t, w)
			late := o.Pods[0]
			o.Pods = o.Pods[1:]
			e.set(t, o)
			checks := []string{"x/a > x/b tcp 80", "x/a > outside udp 80", "x/b > x/a tcp 80", "outside > x/a tcp 80"}
			for _, p := range parseChecks(t, false, checks) {
				if w.reachable(t, *p) {
					t.Errorf("%s: unknown, but reachable", p)
				}
			}
			if d, err := e.table.Drops(); err != nil || d.Unknown.Packets == 0 {
				t.Errorf("drops %+v, %v", d, err)
			}
			e.compiler.SetPod(late)
			must(t, e.table.Apply(e.compiler.Changes()))
			probes := parseChecks(t, true, checks)
			w.run(t, probes)
			for _, p := range probes {
				if !p.done {
					t.Errorf("%s: known, but not reachable", p)
				}
			}
		})
	}
}

// What a pod sends to its own Service comes back to it; no policy can forbid a pod to reach itself.
func TestHairpin(t *testing.T) {
	w := newWorld(t, bridged, scenarioObjects(t, "").Pods)
	e := enforce(t, w)
	e.set(t, scenarioObjects(t, `{metadata: {name: deny}, spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}`))
	for i, p := range newGenerator(0).pods() {
		_ = p
		w.node.do(t, func() error {
			l, err := w.node.link.LinkByName(fmt.Sprint("veth", i))
			if err != nil {
				return err
			}
			return w.node.link.LinkSetHairpin(l, true)
		})
	}
	// As kube-proxy does it: translate before routing, masquerade what returns to its sender.
	w.node.nft(t, `table ip proxy {
	chain pre { type nat hook prerouting priority dstnat; ip daddr 10.96.0.1 dnat to 10.244.0.1; ip daddr 10.96.0.2 dnat to 10.244.0.2; }
	chain post { type nat hook postrouting priority srcnat; ip saddr 10.244.0.1 ip daddr 10.244.0.1 masquerade; }
}`, "-f", "-")
	w.spots["service"] = &spot{name: "service", ns: w.node, ips: w.spots["node"].ips}
	w.spots["service"].ips[0] = mustAddr("10.96.0.1")
	w.spots["other"] = &spot{name: "other", ns: w.node, ips: w.spots["node"].ips}
	w.spots["other"].ips[0] = mustAddr("10.96.0.2")
	run := func(p probe) bool {
		probes := []*probe{&p}
		w.send(t, probes)
		defer unix.Close(p.fd)
		for range 20 {
			w.collect(t, probes, 50)
		}
		return p.done
	}
	if !run(probe{from: "x/a", to: "service", protocol: TCP, port: 80}) {
		t.Error("the pod does not reach itself through its Service")
	}
	if run(probe{from: "x/a", to: "other", protocol: TCP, port: 80}) {
		t.Error("the pod reaches another one through a Service although nothing allows it")
	}
	e.set(t, scenarioObjects(t, `{metadata: {name: some}, spec: {podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {}}], ports: [{port: 80}]}],
		egress: [{to: [{podSelector: {matchLabels: {pod: b}}}]}]}}`))
	if !run(probe{from: "x/a", to: "other", protocol: TCP, port: 80}) {
		t.Error("a Service is not seen as the pod behind it")
	}
}

// A connection that exists goes on when a policy comes; new ones are refused.
func TestEstablishedConnectionsGoOn(t *testing.T) {
	w := newWorld(t, bridged, scenarioObjects(t, "").Pods)
	e := enforce(t, w)
	e.set(t, scenarioObjects(t, ""))
	p := &probe{from: "x/b", to: "x/a", protocol: TCP, port: 80}
	w.send(t, []*probe{p})
	defer unix.Close(p.fd)
	w.collect(t, []*probe{p}, 10000)
	if !p.done {
		t.Fatal("no connection")
	}
	e.set(t, scenarioObjects(t, `{metadata: {name: deny}, spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}`))
	if _, err := unix.Write(p.fd, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	poll := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(poll, 10000); n != 1 {
		t.Errorf("the connection stopped: %v", err)
	}
	if w.reachable(t, probe{from: "x/b", to: "x/a", protocol: TCP, port: 80}) {
		t.Error("a new connection is possible")
	}
}

// BridgeFiltered tells the truth: where it says no, packets between ports of a bridge are not judged.
func TestBridgeFiltered(t *testing.T) {
	w := newWorld(t, bridged, scenarioObjects(t, "").Pods)
	e := enforce(t, w)
	e.set(t, scenarioObjects(t, `{metadata: {name: deny}, spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}`))
	check := probe{from: "x/b", to: "x/a", protocol: TCP, port: 80, want: true}
	w.node.sysctl(t, "bridge/bridge-nf-call-iptables", "0")
	if err := BridgeFiltered(w.node.fd()); err == nil || !strings.Contains(err.Error(), "bridge-nf-call-iptables is 0") {
		t.Errorf("switched off, but %v", err)
	}
	if !w.reachable(t, check) {
		t.Error("packets are judged although the switch is off")
	}
	must(t, FilterBridges(w.node.fd()))
	check.want = false
	if w.reachable(t, check) {
		t.Error("packets are not judged although the switch is on")
	}
}
