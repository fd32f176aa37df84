package fluentd

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/input"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/pipeline/transport"
	"github.com/weft-dev/weft/logging/plugin"
)

// largestMessage bounds a message for which the configuration sets no limit, in bytes.
const largestMessage = 256 << 20

// forwardInput takes records of other agents (lib/fluent/plugin/in_forward.rb), and answers their heartbeats.
type forwardInput struct {
	*input.Forward
	address string
}

func newForwardInput(b *builder, p *part) (input.Input, fullPolicy) {
	o := p.set
	f := &forwardInput{&input.Forward{Host: b.host(p), Tag: o.String("tag"), Limit: largestMessage, Once: o.Bool("deny_keepalive"), SkipBad: o.Bool("skip_invalid_event"),
		Drop: int(o.Size("chunk_size_limit")), Warn: int(o.Size("chunk_size_warn_limit")), Unpacked: 256 << 20}, net.JoinHostPort(o.String("bind"), o.StringOr("port", "24224"))}
	if o.Has("decompression_size_limit") {
		f.Unpacked = o.Size("decompression_size_limit")
	}
	o.Ignore("decompression_size_limit")
	if f.Tag == "" && o.Has("tag") {
		o.Failf("tag", "tag must not be empty")
	}
	if prefix := o.String("add_tag_prefix"); prefix != "" {
		f.Prefix = prefix + "."
	} else if o.Has("add_tag_prefix") {
		o.Failf("add_tag_prefix", "add_tag_prefix must not be empty")
	}
	if o.Bool("send_keepalive_packet") && f.Once {
		o.Failf("send_keepalive_packet", "send_keepalive_packet and deny_keepalive cannot both be true")
	}
	f.Peer = peers(o)
	p.only("transport", "security")
	f.Security = p.forwardSecurity()
	server := &transport.Server{Address: f.address, TLS: p.serverTLS(b.options.Now())}
	f.Listen = server.Listen
	o.Pass("linger_timeout", "backlog", "blocking_timeout", "send_keepalive_packet")
	return f, refuse
}

// Run serves connections and heartbeats.
func (f *forwardInput) Run(ctx context.Context, sink flow.Sink) error {
	beats, err := net.ListenPacket("udp", f.address)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { beats.Close() })
	defer stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		answerHeartbeats(beats)
	}()
	err = f.Forward.Run(ctx, sink)
	beats.Close()
	<-ended
	return err
}

// answerHeartbeats answers each datagram with one byte, until the socket is closed.
func answerHeartbeats(beats net.PacketConn) {
	var b [128]byte
	for {
		_, from, err := beats.ReadFrom(b[:])
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = beats.WriteTo([]byte{0}, from) // one that is lost is missed by its sender alone
		}
	}
}

// lookupTime bounds the search for the name of a client.
const lookupTime = 5 * time.Second

// peers adds the address and the name of a client to its records.
func peers(o *options.Set) func(context.Context, net.Conn) func([]byte) []byte {
	addressKey, nameKey := o.String("source_address_key"), o.String("source_hostname_key")
	if nameKey != "" && o.Has("resolve_hostname") && !o.Bool("resolve_hostname") {
		o.Failf("resolve_hostname", "resolve_hostname must be true with source_hostname_key")
	}
	if nameKey == "" {
		o.Pass("resolve_hostname") // only the name in records tells of it
	}
	if addressKey == "" && nameKey == "" {
		return nil
	}
	return func(ctx context.Context, conn net.Conn) func([]byte) []byte {
		host, _, err := net.SplitHostPort(conn.RemoteAddr().String())
		if err != nil {
			host = conn.RemoteAddr().String()
		}
		more, n := []byte{0x80}, 0
		add := func(key, value string) {
			if key != "" {
				more = record.AppendString(record.AppendString(more, key), value)
				n++
			}
		}
		add(addressKey, host)
		if nameKey != "" {
			looking, stop := context.WithTimeout(ctx, lookupTime)
			defer stop()
			if found, err := net.DefaultResolver.LookupAddr(looking, host); err == nil && len(found) > 0 {
				host = strings.TrimSuffix(found[0], ".")
			}
			add(nameKey, host)
		}
		more = record.CloseMap(more, 0, n)
		return func(body []byte) []byte { return mergedMaps(body, more) }
	}
}

// forwardSecurity reads <security> of an input.
func (p *part) forwardSecurity() *input.ForwardSecurity {
	s := p.child("security")
	if s == nil {
		return nil
	}
	o := options.New(s, plugin.Fluentd().Groups["security"], nil)
	defer p.finish(o)
	out := &input.ForwardSecurity{SharedKey: o.String("shared_key"), Self: o.String("self_hostname"), KnownOnly: !o.Bool("allow_anonymous_source")}
	for _, key := range []string{"self_hostname", "shared_key"} {
		if o.String(key) == "" {
			o.Failf("", "<security> needs %s", key)
		}
	}
	auth := o.Bool("user_auth")
	users := map[string]string{}
	for _, inner := range s.Sections {
		switch inner.Kind {
		case "user":
			i := options.New(inner, plugin.Fluentd().Groups["user"], nil)
			users[i.String("username")] = i.String("password")
			p.finish(i)
		case "client":
			out.Clients = append(out.Clients, p.forwardClient(inner)...)
		default:
			o.FailAt(inner.Pos, "<%s> is not built into logagent inside of <security>", inner.Kind)
		}
	}
	switch {
	case auth && len(users) == 0:
		o.Failf("user_auth", "user_auth needs a <user> section")
	case auth:
		out.Users = users
	}
	if out.KnownOnly && len(out.Clients) == 0 {
		o.Failf("allow_anonymous_source", "allow_anonymous_source false needs a <client> section")
	}
	return out
}

// forwardClient reads a <client>: a network, or the addresses of a host as they are when the configuration is read.
func (p *part) forwardClient(s *config.Section) []input.ForwardClient {
	o := options.New(s, plugin.Fluentd().Groups["client"], nil)
	defer p.finish(o)
	host, network := o.String("host"), o.String("network")
	made := input.ForwardClient{SharedKey: o.String("shared_key"), Users: o.Array("users")}
	if (host == "") == (network == "") {
		o.FailAt(s.Pos, "<client> needs either host or network")
		return nil
	}
	if network != "" {
		found, err := netip.ParsePrefix(network)
		if address, plain := netip.ParseAddr(network); plain == nil {
			found, err = netip.PrefixFrom(address, address.BitLen()), nil
		}
		if err != nil {
			o.Failf("network", "the network %q is no range of addresses such as 192.0.2.0/24", network)
		}
		made.Network = found.Masked()
		return []input.ForwardClient{made}
	}
	addresses, err := net.LookupHost(host)
	if err != nil {
		o.Failf("host", "the host %q cannot be resolved: %v", host, err)
	}
	var all []input.ForwardClient
	for _, a := range addresses {
		if found, err := netip.ParseAddr(a); err == nil {
			made.Network = netip.PrefixFrom(found.Unmap(), found.Unmap().BitLen())
			all = append(all, made)
		}
	}
	return all
}
