// Package authority gives tests certificates of an authority of their own, for servers and for clients: as pairs, for the ends that a test plays, and as
// files, for options that name them. It must not know what a test is about.
package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Certificate is a certificate with its key.
type Certificate struct {
	Pair      tls.Certificate
	Cert, Key string // paths of the same as PEM
}

// Authority signs certificates. All authorities have the same name, so that what one of them signed is told from the rest by its signature alone, and a
// client shows it where a server asks for certificates of another one.
type Authority struct {
	Certificate
	Pool *x509.CertPool // of its certificate
}

// New makes an authority whose files last as long as the test.
func New(t testing.TB) *Authority {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-3 * time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a := &Authority{Certificate: sign(t, template, nil), Pool: x509.NewCertPool()}
	a.Pool.AddCert(a.Pair.Leaf)
	return a
}

// Issue makes a certificate for an address or a name, for server and client, that began two hours ago and ends after a time, or ended before where that is
// negative.
func (a *Authority) Issue(t testing.TB, name string, lasts time.Duration) Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(lasts),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	return sign(t, template, a)
}

// sign makes a certificate with a key of its own, signed by an authority, or by itself if that is nil.
func sign(t testing.TB, template *x509.Certificate, by *Authority) Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := template, any(key)
	if by != nil {
		parent, signer = by.Pair.Leaf, by.Pair.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert, secret := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})
	dir := t.TempDir()
	c := Certificate{Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key")}
	for name, data := range map[string][]byte{c.Cert: cert, c.Key: secret} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if c.Pair, err = tls.X509KeyPair(cert, secret); err != nil {
		t.Fatal(err)
	}
	return c
}
