// Package pki makes and keeps the certificates of one embedded cluster: a certificate authority of its own per purpose,
// serving and client certificates signed by it, and the kubeconfig files that name them. Keys are ECDSA P-256, because
// making and using RSA keys would be the largest single piece of CPU in the start of a cluster.
//
// It must not know what the certificates are used for.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	caLifetime   = 10 * 365 * 24 * time.Hour
	leafLifetime = 365 * 24 * time.Hour
	// renewBefore is how long before its end a certificate is replaced by a start.
	renewBefore = 90 * 24 * time.Hour
	// backdate allows for clocks that are set back a little between two starts.
	backdate = time.Hour
)

// Folder is a directory with certificates and keys: NAME.crt and NAME.key, keys readable by their owner only.
type Folder struct{ Path string }

// Authority is a certificate authority whose key lies in a Folder.
type Authority struct {
	folder Folder
	name   string
	cert   *x509.Certificate
	key    crypto.Signer
}

// Request says what a certificate is to be.
type Request struct {
	Name         string   // file name without ending
	CommonName   string   // the user name for a client certificate
	Organization []string // the groups for a client certificate
	DNSNames     []string
	IPs          []net.IP
	Server       bool
	Client       bool
}

// Cert is the path of NAME.crt.
func (f Folder) Cert(name string) string { return filepath.Join(f.Path, name+".crt") }

// Key is the path of NAME.key.
func (f Folder) Key(name string) string { return filepath.Join(f.Path, name+".key") }

// Authority reads the authority called name, or makes it if there is none. A broken or expired one is an error: making
// a new one silently would lock out everything that trusts the old one.
func (f Folder) Authority(name string) (*Authority, error) {
	if err := os.MkdirAll(f.Path, 0o700); err != nil {
		return nil, err
	}
	cert, key, err := f.load(name)
	if err == nil {
		if time.Now().After(cert.NotAfter) {
			return nil, fmt.Errorf("the certificate authority %s expired on %s: remove the folder %s to make a new one, all clients must then fetch it", f.Cert(name), cert.NotAfter.Format(time.DateOnly), f.Path)
		}
		return &Authority{folder: f, name: name, cert: cert, key: key}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		return nil, err
	}
	if err := f.write(name, der, signer); err != nil {
		return nil, err
	}
	cert, err = x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &Authority{folder: f, name: name, cert: cert, key: signer}, nil
}

// Issue makes sure that the requested certificate exists, is signed by this authority, names everything asked for and
// does not end soon. It reports whether it wrote a new one.
func (a *Authority) Issue(r Request) (bool, error) {
	if cert, _, err := a.folder.load(r.Name); err == nil && a.serves(cert, r) {
		return false, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return false, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: r.CommonName, Organization: r.Organization},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(leafLifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		DNSNames:     r.DNSNames,
		IPAddresses:  r.IPs,
	}
	if r.Server {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if r.Client {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return false, err
	}
	return true, a.folder.write(r.Name, der, key)
}

// CertPEM is the authority's certificate.
func (a *Authority) CertPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// serves tells whether cert still answers the request.
func (a *Authority) serves(cert *x509.Certificate, r Request) bool {
	if time.Now().Add(renewBefore).After(cert.NotAfter) || cert.CheckSignatureFrom(a.cert) != nil ||
		cert.Subject.CommonName != r.CommonName || len(cert.Subject.Organization) != len(r.Organization) {
		return false
	}
	for i, o := range r.Organization {
		if cert.Subject.Organization[i] != o {
			return false
		}
	}
	for _, name := range r.DNSNames {
		if cert.VerifyHostname(name) != nil {
			return false
		}
	}
	for _, ip := range r.IPs {
		if cert.VerifyHostname(ip.String()) != nil {
			return false
		}
	}
	return true
}

// SigningKey makes sure that the key pair NAME.key, NAME.pub exists; service account tokens are signed with it.
func (f Folder) SigningKey(name string) error {
	if err := os.MkdirAll(f.Path, 0o700); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(f.Path, name+".pub")); err == nil {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := f.writeKey(name, key); err != nil {
		return err
	}
	return WriteFile(filepath.Join(f.Path, name+".pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o644)
}

func (f Folder) load(name string) (*x509.Certificate, crypto.Signer, error) {
	certPEM, err := os.ReadFile(f.Cert(name))
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err := os.ReadFile(f.Key(name))
	if err != nil {
		return nil, nil, err
	}
	certBlock, _ := pem.Decode(certPEM)
	keyBlock, _ := pem.Decode(keyPEM)
	if certBlock == nil || keyBlock == nil {
		return nil, nil, fmt.Errorf("%s or its key is not PEM: remove both files to make new ones", f.Cert(name))
	}
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", f.Cert(name), err)
	}
	key, err := x509.ParseECPrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", f.Key(name), err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, nil, fmt.Errorf("%s and %s do not belong together: remove both files to make new ones", f.Cert(name), f.Key(name))
	}
	return cert, key, nil
}

// write stores the key first: a start that is interrupted between the two files leaves no certificate, and so is
// simply repeated.
func (f Folder) write(name string, der []byte, key *ecdsa.PrivateKey) error {
	if err := os.Remove(f.Cert(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := f.writeKey(name, key); err != nil {
		return err
	}
	return WriteFile(f.Cert(name), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

func (f Folder) writeKey(name string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return WriteFile(f.Key(name), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

// WriteFile writes a file so that a reader sees the old or the new content whole, also after a crash.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone already when the rename below succeeded
	if _, err = tmp.Write(data); err == nil {
		err = tmp.Chmod(mode)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		panic("pki: the system's random source failed: " + err.Error()) // crypto/rand documents that this cannot happen
	}
	return n
}
