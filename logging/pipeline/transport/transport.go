// Package transport makes connections as the options net.* and tls.* of inputs and outputs ask for: dialers, HTTP clients, listeners and their
// TLS. It knows no records.
package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/options"
)

// Client connects to one server.
type Client struct {
	Address string // host:port, or the path of a Unix socket
	TLS     *tls.Config
	network string
	dialer  net.Dialer
	io      time.Duration // for each read and write, 0 for none
	keep    bool
	idle    time.Duration
	env     bool
}

// NewClient reads host, port, net.* and tls.*.
func NewClient(o *options.Set, host string, port int) *Client {
	host, port = o.StringOr("host", host), o.IntOr("port", port)
	c := &Client{network: "tcp", Address: net.JoinHostPort(host, strconv.Itoa(port))}
	if o.Bool("ipv6") {
		c.network = "tcp6"
	}
	c.dialer.Timeout = o.Duration("net.connect_timeout")
	if c.dialer.Timeout <= 0 {
		c.dialer.Timeout = 10 * time.Second
	}
	c.io = o.Duration("net.io_timeout")
	c.keep, c.idle = o.Bool("net.keepalive"), o.Duration("net.keepalive_idle_timeout")
	c.env = !o.Bool("net.proxy_env_ignore")
	switch {
	case o.Bool("net.dns.prefer_ipv4"):
		c.network = "tcp4"
	case o.Bool("net.dns.prefer_ipv6"):
		c.network = "tcp6"
	}
	if a := o.String("net.source_address"); a != "" {
		ip := net.ParseIP(a)
		if ip == nil {
			o.Failf("net.source_address", "net.source_address %q is not an address", a)
		}
		c.dialer.LocalAddr = &net.TCPAddr{IP: ip}
	}
	o.Pass("net.connect_timeout_log_error", "net.dns.resolver", "net.keepalive_max_recycle", "net.max_worker_connections")
	if strings.EqualFold(o.String("net.dns.mode"), "TCP") {
		c.dialer.Resolver = byTCP()
	}
	c.dialer.KeepAliveConfig = keepAlive(o)
	if !c.dialer.KeepAliveConfig.Enable {
		c.dialer.KeepAlive = -1 // else Go looks as it does by default
	}
	if config, on := TLS(o, host); on {
		c.TLS = config
	}
	return c
}

// byTCP asks name servers over connections.
func byTCP() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, address string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", address)
	}}
}

// keepAlive says how the kernel looks whether the other side is still there: as net.tcp_keepalive* say, by default as Go does.
func keepAlive(o *options.Set) net.KeepAliveConfig {
	on := o.Bool("net.tcp_keepalive")
	left := func(key string) int { return max(o.IntOr(key, -1), -1) } // to the kernel
	idle, interval, probes := left("net.tcp_keepalive_time"), left("net.tcp_keepalive_interval"), left("net.tcp_keepalive_probes")
	if !on {
		o.Tell("net.tcp_keepalive_time", "net.tcp_keepalive_interval", "net.tcp_keepalive_probes")
		return net.KeepAliveConfig{Enable: !o.Has("net.tcp_keepalive")}
	}
	seconds := func(n int) time.Duration {
		if n <= 0 {
			return -1
		}
		return time.Duration(n) * time.Second
	}
	if probes == 0 {
		probes = -1
	}
	return net.KeepAliveConfig{Enable: true, Idle: seconds(idle), Interval: seconds(interval), Count: probes}
}

// To connects to an address, by TLS if secure is not nil. Connecting may take as long as connect says, each read and write as long as io says, 0 for
// any time; keep says that connections stay open for later.
func To(address string, secure *tls.Config, connect, io time.Duration, keep bool) *Client {
	if connect <= 0 {
		connect = 10 * time.Second
	}
	return &Client{Address: address, TLS: secure, network: "tcp", dialer: net.Dialer{Timeout: connect}, io: io, keep: keep, env: true}
}

// Unix makes the client connect to a Unix socket.
func (c *Client) Unix(path string) { c.network, c.Address = "unix", path }

// TLS reads tls and tls.* of a client. The server's certificate must be for tls.vhost, or else for host.
func TLS(o *options.Set, host string) (config *tls.Config, on bool) {
	on = o.Bool("tls")
	config = &tls.Config{ServerName: o.StringOr("tls.vhost", host), MinVersion: tls.VersionTLS12}
	verify := o.Bool("tls.verify")
	checkName := !o.Has("tls.verify_hostname") || o.Bool("tls.verify_hostname")
	o.Pass("tls.debug")
	config.RootCAs = roots(o)
	certificate(o, config, false)
	versions(o, config)
	switch {
	case !verify:
		config.InsecureSkipVerify = true // asked for by tls.verify off
	case !checkName:
		WithoutName(config)
	}
	return config, on
}

// WithoutName makes a client take a certificate for any name that a trusted authority has signed, unless it verifies nothing.
func WithoutName(config *tls.Config) {
	if config.InsecureSkipVerify && config.VerifyConnection == nil {
		return
	}
	config.InsecureSkipVerify = true // the chain is verified below, the name is not, as asked for
	config.VerifyConnection = func(s tls.ConnectionState) error { return verifyChain(s, config.RootCAs) }
}

func verifyChain(s tls.ConnectionState, roots *x509.CertPool) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("the server shows no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
	return err
}

func roots(o *options.Set) *x509.CertPool {
	var files []string
	if f := o.String("tls.ca_file"); f != "" {
		files = append(files, f)
	}
	if dir := o.String("tls.ca_path"); dir != "" {
		found, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(found) == 0 {
			o.Failf("tls.ca_path", "tls.ca_path %s holds no certificates", dir)
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		return nil
	}
	pool := x509.NewCertPool()
	any := false
	for _, f := range files {
		pem, err := os.ReadFile(f)
		if err != nil {
			o.Failf("tls.ca_file", "the certificates cannot be read: %v", err)
			continue
		}
		any = pool.AppendCertsFromPEM(pem) || any
	}
	if !any {
		o.Failf("tls.ca_file", "there is no certificate in %s", strings.Join(files, ", "))
	}
	return pool
}

// certificate reads tls.crt_file and tls.key_file.
func certificate(o *options.Set, config *tls.Config, needed bool) {
	crt, key := o.String("tls.crt_file"), o.String("tls.key_file")
	if crt == "" && key == "" {
		if needed {
			o.Failf("tls", "tls needs tls.crt_file and tls.key_file")
		}
		return
	}
	pair, err := tls.LoadX509KeyPair(crt, key)
	if err != nil {
		o.Failf("tls.crt_file", "tls.crt_file and tls.key_file cannot be used: %v", err)
		return
	}
	config.Certificates = []tls.Certificate{pair}
}

func versions(o *options.Set, config *tls.Config) {
	known := map[string]uint16{"tlsv1.0": tls.VersionTLS10, "tlsv1.1": tls.VersionTLS11, "tlsv1.2": tls.VersionTLS12, "tlsv1.3": tls.VersionTLS13}
	for key, to := range map[string]*uint16{"tls.min_version": &config.MinVersion, "tls.max_version": &config.MaxVersion} {
		v := o.String(key)
		if v == "" {
			continue
		}
		n, ok := known[strings.ToLower(v)]
		if !ok {
			o.Failf(key, "%s %q is not known; there are TLSv1.0 to TLSv1.3", key, v)
		}
		*to = n
	}
}

// Dial connects. Reads and writes of the connection fail after net.io_timeout, if it is set.
func (c *Client) Dial(ctx context.Context) (net.Conn, error) {
	conn, err := c.dialer.DialContext(ctx, c.network, c.Address)
	if err != nil {
		return nil, err
	}
	if c.io > 0 {
		conn = &timed{conn, c.io}
	}
	if c.TLS == nil {
		return conn, nil
	}
	secure := tls.Client(conn, c.TLS)
	handshake, cancel := context.WithTimeout(ctx, c.dialer.Timeout)
	defer cancel()
	if err := secure.HandshakeContext(handshake); err != nil {
		conn.Close()
		return nil, err
	}
	return secure, nil
}

// Keeps tells whether connections stay open for later.
func (c *Client) Keeps() bool { return c.keep }

type timed struct {
	net.Conn
	limit time.Duration
}

func (t *timed) Read(b []byte) (int, error) {
	if err := t.SetReadDeadline(time.Now().Add(t.limit)); err != nil {
		return 0, err
	}
	return t.Conn.Read(b)
}

func (t *timed) Write(b []byte) (int, error) {
	if err := t.SetWriteDeadline(time.Now().Add(t.limit)); err != nil {
		return 0, err
	}
	return t.Conn.Write(b)
}

// HTTP makes a client for requests to the server, and the beginning of their URLs. Requests end after the given time.
func (c *Client) HTTP(proxy string, limit time.Duration) (*http.Client, string, error) {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			plain := *c
			plain.TLS, plain.Address = nil, address
			return plain.Dial(ctx)
		},
		TLSClientConfig: c.TLS, TLSHandshakeTimeout: c.dialer.Timeout, DisableKeepAlives: !c.keep, IdleConnTimeout: c.idle,
		MaxIdleConnsPerHost: 4, ResponseHeaderTimeout: limit, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
	}
	if c.env {
		transport.Proxy = http.ProxyFromEnvironment
	}
	if proxy != "" {
		u, err := url.Parse(proxy)
		if err != nil || u.Host == "" {
			return nil, "", fmt.Errorf("the proxy %q is not of the form http://host:port", proxy)
		}
		transport.Proxy = http.ProxyURL(u)
	}
	scheme := "http://"
	if c.TLS != nil {
		scheme = "https://"
	}
	client := &http.Client{Transport: transport, Timeout: limit, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // records are not sent to where nobody configured them to go
	}}
	return client, scheme + c.Address, nil
}

// Server is where an input listens.
type Server struct {
	Address string
	TLS     *tls.Config
	Most    int // connections at a time, 0 for any number; more are closed at once
	io      time.Duration
}

// NewServer reads listen, port, net.* and tls.* of an input. Without listen it listens on the loopback only.
func NewServer(o *options.Set, port int) *Server {
	s := &Server{Address: net.JoinHostPort(o.StringOr("listen", "127.0.0.1"), strconv.Itoa(o.IntOr("port", port))), io: o.Duration("net.io_timeout")}
	if o.Has("host") && !o.Has("listen") {
		s.Address = net.JoinHostPort(o.String("host"), strconv.Itoa(o.IntOr("port", port)))
	}
	o.Ignore("host") // read above, or listen stands in its place
	o.Pass("net.share_port", "net.backlog", "net.accept_timeout", "net.accept_timeout_log_error", "net.keepalive", "ipv6", "tls.debug")
	on := o.Bool("tls")
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	pool := roots(o)
	if o.Bool("tls.verify_client_cert") {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, pool
		if pool == nil {
			o.Failf("tls.verify_client_cert", "tls.verify_client_cert needs tls.ca_file")
		}
	}
	o.Ignore("tls.verify") // of a server's clients; tls.verify_client_cert says whether they must show a certificate
	o.Pass("tls.vhost", "tls.verify_hostname")
	certificate(o, config, on)
	versions(o, config)
	if on {
		s.TLS = config
	}
	return s
}

// Listen opens the port.
func (s *Server) Listen() (net.Listener, error) {
	l, err := net.Listen("tcp", s.Address)
	if err != nil {
		return nil, err
	}
	if s.Most > 0 {
		l = &bounded{Listener: l, free: make(chan struct{}, s.Most)}
	}
	if s.io > 0 {
		l = &timedListener{l, s.io}
	}
	if s.TLS != nil {
		l = tls.NewListener(l, s.TLS)
	}
	return l, nil
}

type timedListener struct {
	net.Listener
	limit time.Duration
}

func (t *timedListener) Accept() (net.Conn, error) {
	conn, err := t.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &timed{conn, t.limit}, nil
}
