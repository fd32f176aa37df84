package fluentd

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/options"
)

// madeCertificate makes the certificate of an input that names none: signed by the authority at ca_cert_path, or, with insecure, by itself
// (lib/fluent/plugin_helper/cert_option.rb). It lives as long as the engine.
func (p *part) madeCertificate(o *options.Set, now time.Time) (tls.Certificate, bool) {
	ca, caKey, insecure := o.String("ca_cert_path"), o.String("ca_private_key_path"), o.Bool("insecure")
	if ca == "" && !insecure {
		return tls.Certificate{}, false
	}
	var parent *x509.Certificate
	var signer crypto.Signer
	if ca != "" {
		pair, err := tls.LoadX509KeyPair(ca, caKey)
		if err != nil {
			o.Failf("ca_cert_path", "ca_cert_path and ca_private_key_path cannot be used: %v", err)
			return tls.Certificate{}, true
		}
		parent = pair.Leaf
		signer, _ = pair.PrivateKey.(crypto.Signer) // every key of a pair is one
	} else {
		p.log.Warn("insecure TLS communication server is configured (using 'insecure' mode)")
	}
	name := o.StringOr("generate_cert_common_name", hostname())
	lasts := 10 * 365 * 24 * time.Hour
	if o.Has("generate_cert_expiration") {
		lasts = o.Duration("generate_cert_expiration")
	}
	subject := pkix.Name{CommonName: name, Country: words(o.String("generate_cert_country")), Province: words(o.String("generate_cert_state")),
		Locality: words(o.StringOr("generate_cert_locality", "Mountain View"))}
	o.Ignore("generate_cert_expiration")
	o.Pass("generate_private_key_length", "generate_cert_digest") // keys are of the curve P-256
	made, err := issueCertificate(subject, name, now, lasts, parent, signer)
	if err != nil {
		o.Failf("insecure", "a certificate cannot be made: %v", err)
	}
	return made, true
}

func words(text string) []string {
	if text == "" {
		return nil
	}
	return []string{text}
}

// issueCertificate makes a key and a server's certificate for it; without parent it is signed by itself.
func issueCertificate(subject pkix.Name, name string, now time.Time, lasts time.Duration, parent *x509.Certificate, signer crypto.Signer) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 80))
	if err != nil {
		return tls.Certificate{}, err
	}
	c := &x509.Certificate{SerialNumber: serial, Subject: subject, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(lasts), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if ip := net.ParseIP(name); ip != nil {
		c.IPAddresses = []net.IP{ip}
	} else {
		c.DNSNames = []string{name}
	}
	if parent == nil {
		parent, signer = c, key
	} else if !parent.IsCA {
		return tls.Certificate{}, errors.New("ca_cert_path is not the certificate of an authority")
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("signing: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
