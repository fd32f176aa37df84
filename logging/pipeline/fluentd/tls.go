package fluentd

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/transport"
	"github.com/weft-dev/weft/logging/plugin"
)

// making are the options for a certificate that is made at the start.
var making = []string{"insecure", "ca_cert_path", "ca_private_key_path", "generate_private_key_length", "generate_cert_digest", "generate_cert_country", "generate_cert_state",
	"generate_cert_locality", "generate_cert_common_name", "generate_cert_expiration"}

// serverTLS reads <transport> of an input (lib/fluent/plugin_helper/server.rb, cert_option.rb): nil is a connection in the clear.
func (p *part) serverTLS(now time.Time) *tls.Config {
	s := p.child("transport")
	if s == nil {
		return nil
	}
	o := options.New(s, plugin.Fluentd().Groups["transport"], nil)
	defer p.finish(o)
	protocol := strings.ToLower(strings.TrimSpace(s.Arg))
	if protocol == "" {
		protocol = o.StringOr("protocol", "tcp")
	}
	o.Pass("receive_buffer_size", "linger_timeout")
	o.Ignore("protocol")
	if protocol == "tcp" {
		return nil
	}
	if protocol != "tls" {
		o.FailAt(s.Pos, "<transport %s> is not built into logagent; there are tcp and tls", s.Arg)
		return nil
	}
	if o.Bool("ensure_fips") {
		o.Failf("ensure_fips", "ensure_fips is not built into logagent")
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if certificate(o, c, "cert_path", "private_key_path"); o.Has("cert_path") || o.Has("private_key_path") {
		o.Pass(making...)
	} else if made, ok := p.madeCertificate(o, now); ok {
		c.Certificates = []tls.Certificate{made}
	} else {
		o.Pass(making...)
		o.FailAt(s.Pos, "<transport tls> needs cert_path and private_key_path, or ca_cert_path and ca_private_key_path, or insecure true")
	}
	switch ca := o.String("ca_path"); {
	case !o.Bool("client_cert_auth"):
	case ca == "": // as upstream, nobody would be let in
		o.Failf("client_cert_auth", "client_cert_auth needs ca_path, the certificates of the authorities whose clients may connect")
	default:
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, authorities(o, "ca_path", ca)
	}
	versions(o, c, "version", "min_version", "max_version")
	ciphers(o, c, "ciphers")
	return c
}

// certificate reads the options for a certificate and its key; without both there is none.
func certificate(o *options.Set, c *tls.Config, crt, key string) {
	certFile, keyFile := o.String(crt), o.String(key)
	if certFile == "" && keyFile == "" {
		return
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		o.Failf(crt, "%s and %s cannot be used: %v", crt, key, err)
		return
	}
	c.Certificates = []tls.Certificate{pair}
}

// authorities reads files of certificates.
func authorities(o *options.Set, key string, files ...string) *x509.CertPool {
	pool := x509.NewCertPool()
	addAuthorities(o, pool, key, files...)
	return pool
}

func addAuthorities(o *options.Set, pool *x509.CertPool, key string, files ...string) {
	for _, file := range files {
		pem, err := os.ReadFile(file)
		if err != nil {
			o.Failf(key, "%s: %v", key, err)
		} else if !pool.AppendCertsFromPEM(pem) {
			o.Failf(key, "%s: there is no certificate in %s", key, file)
		}
	}
}

// versions reads the versions of TLS: one alone is the only one that is spoken, as upstream has it. Without any, 1.2 and 1.3 are.
func versions(o *options.Set, c *tls.Config, only, least, most string) {
	c.MinVersion = tls.VersionTLS12
	from, to := uint16(0), uint16(0)
	if least != "" {
		from, to = version(o, least), version(o, most)
		switch {
		case o.Has(least) != o.Has(most):
			o.Failf(least, "%s and %s must be set together", least, most)
		case from > to && to > 0:
			o.Failf(least, "%s is above %s", least, most)
		}
	}
	if v := version(o, only); from == 0 && to == 0 {
		from, to = v, v
	}
	if from > 0 {
		c.MinVersion, c.MaxVersion = from, to
	}
}

// version reads an option that names a version of TLS, 0 if it is not there. Those before 1.2 are not spoken.
func version(o *options.Set, key string) uint16 {
	switch v := o.String(key); v {
	case "":
		return 0
	case "TLSv1_2", "TLS1_2":
		return tls.VersionTLS12
	case "TLSv1_3", "TLS1_3":
		return tls.VersionTLS13
	default:
		o.Failf(key, "%s is %q; there are TLSv1_2 and TLSv1_3", key, v)
		return 0
	}
}

// suites are the ciphers of TLS 1.2 that can be asked for, by OpenSSL's names. Those of TLS 1.3 are always all there.
var suites = map[string]uint16{
	"ECDHE-ECDSA-AES128-GCM-SHA256": tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	"ECDHE-RSA-AES128-GCM-SHA256":   tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	"ECDHE-ECDSA-AES256-GCM-SHA384": tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	"ECDHE-RSA-AES256-GCM-SHA384":   tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	"ECDHE-ECDSA-CHACHA20-POLY1305": tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	"ECDHE-RSA-CHACHA20-POLY1305":   tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// anyCipher is upstream's default.
const anyCipher = "ALL:!aNULL:!eNULL:!SSLv2"

// ciphers reads names of ciphers, separated by colons.
func ciphers(o *options.Set, c *tls.Config, key string) {
	text := o.String(key)
	if text == "" || text == anyCipher {
		return
	}
	for name := range strings.SplitSeq(text, ":") {
		suite, ok := suites[strings.TrimSpace(name)]
		if !ok {
			o.Failf(key, "the cipher %q of %s is not built into logagent; there are %s", name, key, strings.Join(names(suites), ", "))
			return
		}
		c.CipherSuites = append(c.CipherSuites, suite)
	}
}

// clientTLS reads the options for TLS of out_forward.
func (f *forward) clientTLS() *tls.Config {
	o := f.part.set
	kind := strings.ToLower(o.String("transport"))
	if kind != "tls" {
		if kind != "" && kind != "tcp" {
			o.Failf("transport", "there is no transport %q; there are tcp and tls", kind)
		}
		o.Pass("tls_version", "tls_ciphers", "tls_insecure_mode", "tls_allow_self_signed_cert", "tls_verify_hostname", "tls_cert_path", "tls_client_cert_path",
			"tls_client_private_key_path", "tls_ca_cert_path")
		return nil
	}
	c := &tls.Config{InsecureSkipVerify: o.Bool("tls_insecure_mode")} //nolint:gosec // asked for
	files := o.Array("tls_ca_cert_path")
	if own := o.Array("tls_cert_path"); len(own) > 0 {
		files = own
	}
	if len(files) > 0 { // besides those of the system
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		addAuthorities(o, pool, "tls_cert_path", files...)
		c.RootCAs = pool
	}
	certificate(o, c, "tls_client_cert_path", "tls_client_private_key_path")
	versions(o, c, "tls_version", "", "")
	ciphers(o, c, "tls_ciphers")
	if !o.Bool("tls_verify_hostname") {
		transport.WithoutName(c)
	}
	o.Pass("tls_allow_self_signed_cert") // a certificate that tls_cert_path names is trusted, whoever signed it
	return c
}
