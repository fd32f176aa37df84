package fluentd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/output"
	"github.com/weft-dev/weft/logging/pipeline/transport"
	"github.com/weft-dev/weft/logging/plugin"
)

// forward sends chunks to one of several servers, by their weights; a server that fails is left alone for a while, and those on standby take over.
type forward struct {
	part    *part
	servers []*server
	recover time.Duration
	verify  bool // that servers can be reached, when the engine starts
	now     func() time.Time

	mu sync.Mutex
}

type server struct {
	name    string
	out     *output.Forward
	weight  int
	standby bool
	credit  int // how often it was passed over, by weight
	down    time.Time
}

func newForward(b *builder, p *part) target {
	made, ok := b.buffer(p, nil, bufferDefaults{kind: "memory", keys: []string{"tag"}}).(*buffered)
	if !ok {
		return nil
	}
	o := p.set
	if !made.keys.tag {
		o.FailAt(p.section.Pos, "forward needs tag among the chunk keys; write <buffer tag>")
	}
	f := &forward{part: p, recover: o.Duration("recover_wait"), now: b.options.Now, verify: o.Bool("verify_connection_at_startup")}
	p.only("buffer", "secondary", "server", "security")
	common := f.common()
	for _, s := range p.section.Sections {
		if s.Kind == "server" {
			f.servers = append(f.servers, f.server(s, common))
		}
	}
	if len(f.servers) == 0 {
		o.FailAt(p.section.Pos, "forward needs at least one <server>")
	}
	// Connections are tried when there is something to send, to all addresses of a name; whether a server lives is learned from that.
	o.Pass("heartbeat_type", "heartbeat_interval", "phi_failure_detector", "phi_threshold", "expire_dns_cache", "dns_round_robin",
		"ignore_network_errors_at_startup", "read_interval_msec", "read_length", "send_keepalive_packet", "tls_cert_use_enterprise_store")
	made.writer = f
	return made
}

// common is what connections to all servers have.
func (f *forward) common() output.ForwardSettings {
	p, o := f.part, f.part.set
	c := output.ForwardSettings{Tell: true, Ack: o.Bool("require_ack_response"), AckTime: o.Duration("ack_response_timeout"), SendTime: o.Duration("send_timeout"), HandshakeTime: o.Duration("hard_timeout"), WholeSeconds: o.Bool("time_as_integer"),
		Compress: strings.ToLower(o.String("compress")), Idle: o.Duration("keepalive_timeout")}
	if c.AckTime < time.Second {
		o.Failf("ack_response_timeout", "ack_response_timeout must be a second or more")
	}
	switch c.Compress {
	case "text":
		c.Compress = ""
	case "", "gzip", "zstd":
	default:
		o.Failf("compress", "there is no compression %q; there are text, gzip and zstd", c.Compress)
	}
	if s := p.child("security"); s != nil {
		inner := options.New(s, plugin.Fluentd().Groups["security"], nil)
		c.Secure, c.SharedKey, c.Hostname = true, inner.String("shared_key"), inner.String("self_hostname")
		for _, key := range []string{"self_hostname", "shared_key"} {
			if inner.String(key) == "" {
				inner.Failf("", "<security> needs %s", key)
			}
		}
		for _, other := range s.Sections {
			inner.FailAt(other.Pos, "<%s> cannot stand inside of the <security> of an output; username and password stand in <server>", other.Kind)
		}
		p.finish(inner)
	}
	return c
}

// server makes the connection to one <server>.
func (f *forward) server(s *config.Section, common output.ForwardSettings) *server {
	o := options.New(s, plugin.Fluentd().Groups["server"], nil)
	host := o.String("host")
	made := &server{name: o.StringOr("name", host), weight: o.Int("weight"), standby: o.Bool("standby")}
	if host == "" {
		o.FailAt(s.Pos, "<server> needs host")
	}
	port := o.IntOr("port", 24224)
	if port < 1 || port > 65535 {
		o.Failf("port", "port must be from 1 to 65535")
	}
	secure := f.clientTLS()
	if secure != nil { // an address has no name of its own to be verified
		secure.ServerName = host
		if name := o.String("name"); name != "" && net.ParseIP(host) != nil {
			secure.ServerName = name
		}
	}
	common.Client = transport.To(net.JoinHostPort(host, strconv.Itoa(port)), secure, f.part.set.Duration("connect_timeout"), 0, f.part.set.Bool("keepalive"))
	common.User, common.Password = o.String("username"), o.String("password")
	if key := o.String("shared_key"); key != "" {
		common.SharedKey, common.Secure = key, true
	}
	o.Ignore("@id", "@log_level", "@type")
	made.out = &output.Forward{ForwardSettings: common}
	f.part.finish(o)
	return made
}

// start tries all servers, if that is asked for.
func (f *forward) start(ctx context.Context) error {
	if !f.verify {
		return nil
	}
	for _, s := range f.servers {
		if err := s.out.Try(ctx); err != nil {
			return fmt.Errorf("verify_connection_at_startup: %s: %w", s.name, err)
		}
	}
	return nil
}

// order are the servers in the order in which they are tried: those that work by weight, then those on standby, then those that failed lately.
func (f *forward) order() []*server {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, total := f.now(), 0
	var best *server
	for _, s := range f.servers {
		if s.standby || now.Before(s.down) || s.weight <= 0 {
			continue
		}
		s.credit += s.weight
		total += s.weight
		if best == nil || s.credit > best.credit {
			best = s
		}
	}
	var all []*server
	if best != nil {
		best.credit -= total
		all = append(all, best)
	}
	for _, down := range []bool{false, true} {
		for _, standby := range []bool{false, true} {
			for _, s := range f.servers {
				if s != best && s.standby == standby && now.Before(s.down) == down {
					all = append(all, s)
				}
			}
		}
	}
	return all
}

func (f *forward) write(ctx context.Context, c *delivery) error {
	var failed error
	for _, s := range f.order() {
		err := s.out.Write(ctx, output.Chunk{Tag: c.Key.Tag, Data: c.data, Count: c.Count})
		f.mu.Lock()
		if err == nil {
			s.down = time.Time{}
		} else {
			s.down = f.now().Add(f.recover)
		}
		f.mu.Unlock()
		if err == nil {
			return nil
		}
		failed = errors.Join(failed, fmt.Errorf("%s: %w", s.name, err))
		if ctx.Err() != nil {
			break
		}
		if len(f.servers) > 1 {
			f.part.log.Warn("detached forwarding server", "server", s.name, "error", err)
		}
	}
	return failed
}

func (f *forward) close() error {
	var err error
	for _, s := range f.servers {
		err = errors.Join(err, s.out.Close())
	}
	return err
}
