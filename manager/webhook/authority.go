package webhook

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"sync/atomic"
	"time"
)

// Lifetimes. An authority is followed by the next one when a fifth of its life is left; the next one signs only after everybody had a day
// to learn it.
const (
	authorityLife = 10 * 365 * 24 * time.Hour
	servingLife   = 30 * 24 * time.Hour
	clientLife    = 5 * 365 * 24 * time.Hour
	overlap       = 24 * time.Hour
	skew          = 5 * time.Minute // clocks differ
	look          = time.Hour       // how often renewal is looked after
)

// formatVersion is that of the authority's stored form.
const formatVersion = 1

// Authority signs the certificates of servers and clients. All replicas that share a Keeper share it.
type Authority struct {
	Keeper Keeper
	Clock  func() time.Time // nil: time.Now
}

// Keeper keeps the authority, which holds a private key: a Secret or a file that only its owner reads.
type Keeper interface {
	// Load returns what was saved, nil if nothing was. The version is handed to Save.
	Load(ctx context.Context) (data []byte, version string, err error)
	// Save replaces what has this version, and returns ErrConflict if it was changed meanwhile.
	Save(ctx context.Context, data []byte, version string) error
}

// ErrConflict says that somebody else saved first.
var ErrConflict = errors.New("the authority was changed by another replica")

type kept struct {
	Version     int             `json:"version"`
	Authorities []keptAuthority `json:"authorities"` // the oldest first
}

type keptAuthority struct {
	Certificate []byte `json:"certificate"` // PEM
	Key         []byte `json:"key"`         // PEM
}

// signer is a parsed authority.
type signer struct {
	pem         []byte
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func (a *Authority) now() time.Time {
	if a.Clock != nil {
		return a.Clock()
	}
	return time.Now()
}

// load returns the authorities that are valid, the oldest first, and makes the first one or the next one when it is time.
func (a *Authority) load(ctx context.Context) ([]signer, error) {
	for range 8 {
		data, version, err := a.Keeper.Load(ctx)
		if err != nil {
			return nil, fmt.Errorf("loading the authority of the webhooks: %w", err)
		}
		all, err := a.parse(data)
		if err != nil {
			return nil, err
		}
		if n := len(all); n > 0 && a.now().Before(all[n-1].certificate.NotAfter.Add(-authorityLife/5)) {
			return all, nil
		}
		made, err := a.make()
		if err != nil {
			return nil, err
		}
		all = append(all, made)
		if data, err = encode(all); err != nil {
			return nil, err
		}
		if err = a.Keeper.Save(ctx, data, version); errors.Is(err, ErrConflict) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("saving the authority of the webhooks: %w", err)
		}
		return all, nil
	}
	return nil, ErrConflict
}

func (a *Authority) parse(data []byte) ([]signer, error) {
	if data == nil {
		return nil, nil
	}
	damaged := func(err error) error {
		return fmt.Errorf("the stored authority of the webhooks is damaged (%w): remove it, and a new one is made", err)
	}
	var k kept
	if err := json.Unmarshal(data, &k); err != nil {
		return nil, damaged(err)
	}
	if k.Version != formatVersion {
		return nil, fmt.Errorf("the stored authority of the webhooks has version %d, this program knows %d", k.Version, formatVersion)
	}
	var all []signer
	for _, one := range k.Authorities {
		pair, err := tls.X509KeyPair(one.Certificate, one.Key)
		if err != nil {
			return nil, damaged(err)
		}
		key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
		if !ok || !pair.Leaf.IsCA {
			return nil, damaged(errors.New("not an authority"))
		}
		if a.now().Before(pair.Leaf.NotAfter) {
			all = append(all, signer{one.Certificate, pair.Leaf, key})
		}
	}
	return all, nil
}

func encode(all []signer) ([]byte, error) {
	k := kept{Version: formatVersion}
	for _, s := range all {
		key, err := keyPEM(s.key)
		if err != nil {
			return nil, err
		}
		k.Authorities = append(k.Authorities, keptAuthority{s.pem, key})
	}
	return json.Marshal(k)
}

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func (a *Authority) make() (signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return signer{}, err
	}
	t := &x509.Certificate{
		Subject: pkix.Name{CommonName: "weft-webhooks"}, NotBefore: a.now().Add(-skew), NotAfter: a.now().Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	return sign(t, t, key, key)
}

func sign(t, parent *x509.Certificate, public, private *ecdsa.PrivateKey) (signer, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return signer{}, err
	}
	t.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &public.PublicKey, private)
	if err != nil {
		return signer{}, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return signer{}, err
	}
	return signer{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), c, public}, nil
}

// signing is the newest authority that everybody had time to learn.
func (a *Authority) signing(all []signer) signer {
	for i := len(all) - 1; i > 0; i-- {
		if a.now().After(all[i].certificate.NotBefore.Add(skew + overlap)) {
			return all[i]
		}
	}
	return all[0]
}

// Bundle is the certificates that callers of the server have to trust, as PEM. It is to be asked for again now and then: a new authority
// is in it a day before it signs.
func (a *Authority) Bundle(ctx context.Context) ([]byte, error) {
	all, err := a.load(ctx)
	if err != nil {
		return nil, err
	}
	return bundle(all), nil
}

func bundle(all []signer) []byte {
	var b bytes.Buffer
	for _, s := range all {
		b.Write(s.pem)
	}
	return b.Bytes()
}

// Client makes a certificate with its key, both PEM, with which a caller shows who it is.
func (a *Authority) Client(ctx context.Context, name string) (certificate, key []byte, err error) {
	all, err := a.load(ctx)
	if err != nil {
		return nil, nil, err
	}
	s, err := a.issue(all, &x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, clientLife)
	if err != nil {
		return nil, nil, err
	}
	key, err = keyPEM(s.key)
	return s.pem, key, err
}

func (a *Authority) issue(all []signer, t *x509.Certificate, life time.Duration) (signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return signer{}, err
	}
	by := a.signing(all)
	t.NotBefore, t.NotAfter, t.KeyUsage = a.now().Add(-skew), a.now().Add(life), x509.KeyUsageDigitalSignature
	if t.NotAfter.After(by.certificate.NotAfter) {
		t.NotAfter = by.certificate.NotAfter
	}
	return sign(t, by.certificate, key, by.key)
}

// rotation is a server's certificate, which is exchanged while it serves.
type rotation struct {
	authority *Authority
	hosts     []string
	now       atomic.Pointer[served]
}

type served struct {
	certificate tls.Certificate
	clients     *x509.CertPool
	renew       time.Time
}

// serving makes the first certificate of a server.
func (a *Authority) serving(ctx context.Context, hosts []string) (*rotation, error) {
	r := &rotation{authority: a, hosts: hosts}
	return r, r.renew(ctx)
}

func (r *rotation) renew(ctx context.Context) error {
	all, err := r.authority.load(ctx)
	if err != nil {
		return err
	}
	t := &x509.Certificate{Subject: pkix.Name{CommonName: "weft-webhook"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, host := range r.hosts {
		if ip := net.ParseIP(host); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, host)
		}
	}
	s, err := r.authority.issue(all, t, servingLife)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(bundle(all))
	life := s.certificate.NotAfter.Sub(s.certificate.NotBefore)
	r.now.Store(&served{tls.Certificate{Certificate: [][]byte{s.certificate.Raw}, PrivateKey: s.key, Leaf: s.certificate}, pool, s.certificate.NotBefore.Add(life * 2 / 3)})
	return nil
}

func (r *rotation) current() (*tls.Certificate, *x509.CertPool) {
	s := r.now.Load()
	return &s.certificate, s.clients
}

// run renews the certificate when two thirds of its life are over. What fails is tried again: there is time.
func (r *rotation) run(ctx context.Context, log *slog.Logger) {
	for {
		timer := time.NewTimer(look)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if r.authority.now().Before(r.now.Load().renew) {
			continue
		}
		if err := r.renew(ctx); err != nil {
			log.Error("renewing the certificate of the webhooks", "error", err)
		}
	}
}
