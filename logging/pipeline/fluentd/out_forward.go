package fluentd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/output"
	"github.com/weft-dev/weft/logging/plugin"
)

// forward sends chunks to one of several servers, by their weights; a server that fails is left alone for a while, and those on standby take over.
type forward struct {
	part    *part
	servers []*server
	recover time.Duration
	now     func() time.Time

	mu sync.Mutex
}

type server struct {
	name    string
	out     output.Output
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
	if !made.keys.tag {
		p.set.FailAt(p.section.Pos, "forward needs tag among the chunk keys; write <buffer tag>")
	}
	f := &forward{part: p, recover: p.set.Duration("recover_wait"), now: b.options.Now}
	p.only("buffer", "secondary", "server", "security")
	ack := p.set.Bool("require_ack_response")
	for i, s := range p.section.Sections {
		if s.Kind == "server" {
			f.servers = append(f.servers, f.server(b, s, ack, i))
		}
	}
	if len(f.servers) == 0 {
		p.set.FailAt(p.section.Pos, "forward needs at least one <server>")
	}
	// Connections are tried when there is something to send; whether a server lives is learned from that.
	p.set.Ignore("heartbeat_type", "heartbeat_interval", "phi_failure_detector", "phi_threshold", "hard_timeout", "expire_dns_cache", "dns_round_robin",
		"ignore_network_errors_at_startup", "tls_ciphers", "keepalive_timeout", "verify_connection_at_startup", "read_interval_msec", "read_length", "send_keepalive_packet",
		"tls_cert_use_enterprise_store", "ack_response_timeout", "tls_allow_self_signed_cert")
	made.writer = f
	return made
}

// server makes the connection to one <server>.
func (f *forward) server(b *builder, s *config.Section, ack bool, number int) *server {
	p, t := f.part, translate(f.part)
	o := options.New(s, plugin.Fluentd().Groups["server"], nil)
	made := &server{name: o.StringOr("name", o.String("host")), weight: o.Int("weight"), standby: o.Bool("standby")}
	if o.String("host") == "" {
		o.FailAt(s.Pos, "<server> needs host")
	}
	t.option(o, "host", "host")
	t.option(o, "port", "port")
	t.option(p.set, "compress", "compress")
	t.option(p.set, "time_as_integer", "time_as_integer")
	if d := p.set.Duration("connect_timeout"); d > 0 {
		t.add("net.connect_timeout", fmt.Sprintf("%ds", max(1, int(d.Seconds()))), config.Property{})
	}
	if d := p.set.Duration("send_timeout"); d > 0 {
		t.add("net.io_timeout", fmt.Sprintf("%ds", max(1, int(d.Seconds()))), config.Property{})
	}
	keep := "off"
	if p.set.Bool("keepalive") {
		keep = "on"
	}
	t.add("net.keepalive", keep, config.Property{})
	if ack {
		t.add("require_ack_response", "on", config.Property{})
	}
	t.option(o, "username", "username")
	t.option(o, "password", "password")
	if p.child("security") != nil {
		p.security(t, false)
	} else {
		t.option(o, "shared_key", "shared_key")
	}
	f.tls(t)
	o.Ignore("@id", "@log_level", "@type", "shared_key")
	if err := o.Done(); err != nil {
		p.set.Join(err)
	}
	inner := options.New(t.section, plugin.FluentBit().Plugin(config.Output, "forward"), nil)
	out, err := output.New("forward", inner, output.Host{Host: b.host(p).Host, Name: p.name})
	if err != nil {
		p.set.FailAt(s.Pos, "%v", err)
	}
	if err := inner.Done(); err != nil && number >= 0 {
		p.set.Join(err)
	}
	made.out = out
	return made
}

func (f *forward) tls(t *translation) {
	o := f.part.set
	switch kind := strings.ToLower(o.String("transport")); kind {
	case "tcp", "":
		o.Ignore("tls_version", "tls_insecure_mode", "tls_verify_hostname", "tls_cert_path", "tls_client_cert_path", "tls_client_private_key_path", "tls_ca_cert_path")
		return
	case "tls":
	default:
		o.Failf("transport", "there is no transport %q; there are tcp and tls", kind)
	}
	t.add("tls", "on", config.Property{})
	if o.Bool("tls_insecure_mode") {
		t.add("tls.verify", "off", config.Property{})
	}
	if !o.Bool("tls_verify_hostname") {
		t.add("tls.verify_hostname", "off", config.Property{})
	}
	authorities := append(o.Array("tls_ca_cert_path"), o.Array("tls_cert_path")...)
	switch len(authorities) {
	case 0:
	case 1:
		t.add("tls.ca_file", authorities[0], config.Property{})
	default:
		o.Failf("tls_cert_path", "several files of authorities are not built into logagent; put the certificates into one")
	}
	t.option(o, "tls_client_cert_path", "tls.crt_file")
	t.option(o, "tls_client_private_key_path", "tls.key_file")
	version(t, o, "tls_version", "tls.min_version")
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
