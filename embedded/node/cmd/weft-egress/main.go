//go:build linux

// Command weft-egress gives a network namespace a way out that needs no
// forwarding in the host's kernel.
//
//	weft-egress -netns /proc/PID/ns/net
//
// It makes a device in the namespace with addresses and default routes, and
// carries TCP, UDP and echo requests as ordinary connections of the namespace
// it was started in. At the gateway's address it answers DNS by the host's
// name servers. The host's loopback stays out of reach except for ports given
// by -host-port. When all is set up it prints "ready" on standard output; it
// ends on SIGTERM.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/embedded/node/egress"
)

// The addresses between namespace and stack. 192.0.0.0/29 is set aside for a
// machine's own use (RFC 7335), so no network that the host reaches has it.
const (
	address4 = "192.0.0.2/29"
	gateway4 = "192.0.0.1"
	address6 = "fd77:6566:7400::2/64"
	gateway6 = "fd77:6566:7400::1"
)

type options struct {
	device    egress.Device
	config    egress.Config
	address4  string
	gateway4  string
	address6  string
	gateway6  string
	ipv6      string
	verbosity string
}

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "weft-egress:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "weft-egress:", err)
		os.Exit(1)
	}
}

func parse(args []string) (*options, error) {
	var o options
	flags := flag.NewFlagSet("weft-egress", flag.ContinueOnError)
	flags.StringVar(&o.device.Namespace, "netns", "", "network namespace, for example /proc/PID/ns/net (required)")
	flags.StringVar(&o.device.Name, "device", "weft-out", "name of the device")
	flags.IntVar(&o.device.MTU, "mtu", 65520, "largest packet in bytes; large ones are faster")
	flags.StringVar(&o.address4, "address", address4, "IPv4 address of the device")
	flags.StringVar(&o.gateway4, "gateway", gateway4, "IPv4 address of the stack: default route, DNS, host ports")
	flags.StringVar(&o.address6, "address6", address6, "IPv6 address of the device")
	flags.StringVar(&o.gateway6, "gateway6", gateway6, "IPv6 address of the stack")
	flags.StringVar(&o.ipv6, "ipv6", "auto", "auto (when the host has a way out by IPv6), on or off")
	flags.StringVar(&o.config.Resolv, "resolv-conf", "/etc/resolv.conf", "name servers for DNS at the gateway; empty: no DNS there")
	flags.StringVar(&o.verbosity, "log-level", "info", "debug, info, warn or error")
	flags.Func("host-port", "TCP port of the host's loopback that the gateway lets through; may be repeated", func(s string) error {
		port, err := strconv.ParseUint(s, 10, 16)
		o.config.HostPorts = append(o.config.HostPorts, int(port))
		return err
	})
	flags.Func("deny", "network that is refused, for example 169.254.169.254/32; may be repeated", func(s string) error {
		prefix, err := netip.ParsePrefix(s)
		o.config.Deny = append(o.config.Deny, prefix)
		return err
	})
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if o.device.Namespace == "" {
		return nil, errors.New("-netns is missing")
	}
	return &o, o.complete()
}

// complete turns the texts into addresses.
func (o *options) complete() error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.verbosity)); err != nil {
		return fmt.Errorf("-log-level: %w", err)
	}
	o.config.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	o.config.MTU = o.device.MTU
	pairs := [][3]string{{"", o.address4, o.gateway4}}
	switch o.ipv6 {
	case "on", "auto":
		if o.ipv6 == "on" || egress.HostHasIPv6() {
			pairs = append(pairs, [3]string{"6", o.address6, o.gateway6})
		}
	case "off":
	default:
		return fmt.Errorf("-ipv6 is %q, expected auto, on or off", o.ipv6)
	}
	for _, pair := range pairs {
		prefix, err := netip.ParsePrefix(pair[1])
		if err != nil {
			return fmt.Errorf("-address%s: %w", pair[0], err)
		}
		gateway, err := netip.ParseAddr(pair[2])
		if err != nil {
			return fmt.Errorf("-gateway%s: %w", pair[0], err)
		}
		if !prefix.Contains(gateway) || prefix.Addr() == gateway || gateway.Is4() != (pair[0] == "") {
			return fmt.Errorf("-gateway%s %s: expected another address in %s", pair[0], gateway, prefix.Masked())
		}
		o.device.Addresses = append(o.device.Addresses, prefix)
		o.device.Gateways = append(o.device.Gateways, gateway)
	}
	o.config.Gateways = o.device.Gateways
	return nil
}

func run(ctx context.Context, o *options) error {
	device, err := o.device.Create()
	if err != nil {
		return err
	}
	defer unix.Close(device)
	fmt.Println("ready")
	return egress.Run(ctx, device, o.config)
}
