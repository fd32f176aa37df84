package registry_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/server"
)

// authority signs certificates for the test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.key = newKey(t)
	a.cert = a.sign(template, template, a.key, a.key)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) sign(template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
	a.t.Helper()
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

// leaf is a certificate and its key as PEM.
func (a *authority) leaf(usage x509.ExtKeyUsage) (cert, key []byte) {
	a.t.Helper()
	k := newKey(a.t)
	c := a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "leaf"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{usage}}, a.cert, k, a.key)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// A registry that wants a certificate of its client gets the one that the folder for its name holds, in each form that containerd and
// Docker know. Without one, or with one of another authority, it refuses.
func TestClientCertificates(t *testing.T) {
	ours, other := newAuthority(t, "ours"), newAuthority(t, "other")
	serverCert, serverKey := ours.leaf(x509.ExtKeyUsageServerAuth)
	pair, err := tls.X509KeyPair(serverCert, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ours.cert)
	web := httptest.NewUnstartedServer(server.New(server.Config{Storage: server.Memory()}))
	web.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
	web.StartTLS()
	defer web.Close()
	host := strings.TrimPrefix(web.URL, "https://")
	cert, key := ours.leaf(x509.ExtKeyUsageClientAuth)
	strangeCert, strangeKey := other.leaf(x509.ExtKeyUsageClientAuth)
	files := map[string][]byte{
		"ca.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ours.cert.Raw}), "client.pem": cert, "client-key.pem": key,
		"both.pem": append(bytes.Clone(cert), key...), "strange.pem": strangeCert, "strange-key.pem": strangeKey,
	}
	head := "server = \"" + web.URL + "\"\nca = [\"ca.pem\"]\n"
	for name, test := range map[string]struct {
		files map[string][]byte // besides those above
		want  string            // in the error; "": it works
	}{
		"a pair":            {map[string][]byte{"hosts.toml": []byte(head + `client = [["client.pem", "client-key.pem"]]`)}, ""},
		"one file":          {map[string][]byte{"hosts.toml": []byte(head + `client = "both.pem"`)}, ""},
		"a list":            {map[string][]byte{"hosts.toml": []byte(head + `client = ["both.pem"]`)}, ""},
		"Docker's folder":   {map[string][]byte{"ca.crt": nil, "client.cert": cert, "client.key": key}, ""},
		"none":              {map[string][]byte{"hosts.toml": []byte(head)}, "certificate required"},
		"another authority": {map[string][]byte{"hosts.toml": []byte(head + `client = [["strange.pem", "strange-key.pem"]]`)}, "certificate"},
		"a missing file":    {map[string][]byte{"hosts.toml": []byte(head + `client = "absent.pem"`)}, "absent.pem"},
		"no such authority": {map[string][]byte{"hosts.toml": []byte("server = \"" + web.URL + "\"\nclient = \"both.pem\"")}, "unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			dir := filepath.Join(folder, strings.ReplaceAll(host, ":", "_")+"_")
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			for _, set := range []map[string][]byte{files, test.files} {
				for file, data := range set {
					if file == "ca.crt" {
						data = files["ca.pem"]
					}
					if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			c := registry.New(registry.Options{Retry: fast(), Mirrors: registry.HostsFolders{folder}})
			defer c.Close()
			repo := registry.Repository{Host: host, Name: "app"}
			body := []byte("hello " + name)
			err := c.PushBlob(t.Context(), repo, descriptor(body), opener(body))
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Fatalf("got %v, want %q", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := pullAll(c, repo, descriptor(body)); err != nil || !bytes.Equal(got, body) {
				t.Fatalf("%q, %v", got, err)
			}
		})
	}
}
