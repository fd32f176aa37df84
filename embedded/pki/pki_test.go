package pki

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCertificatesAreMadeOnceAndKept(t *testing.T) {
	folder := Folder{Path: filepath.Join(t.TempDir(), "pki")}
	ca, err := folder.Authority("ca")
	if err != nil {
		t.Fatal(err)
	}
	request := Request{Name: "server", CommonName: "server", DNSNames: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}, Server: true}
	if made, err := ca.Issue(request); err != nil || !made {
		t.Fatalf("first: made %v, error %v", made, err)
	}
	again, err := folder.Authority("ca")
	if err != nil {
		t.Fatal(err)
	}
	if made, err := again.Issue(request); err != nil || made {
		t.Fatalf("second start: made %v, error %v", made, err)
	}
	request.DNSNames = append(request.DNSNames, "other")
	if made, err := again.Issue(request); err != nil || !made {
		t.Fatalf("one more name: made %v, error %v", made, err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(again.CertPEM())
	pair, err := tls.LoadX509KeyPair(folder.Cert("server"), folder.Key("server"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: "other", Roots: pool}); err != nil {
		t.Error(err)
	}
	for _, key := range []string{folder.Key("ca"), folder.Key("server")} {
		info, err := os.Stat(key)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s can be read by others: mode %v", key, info.Mode())
		}
	}
}

func TestBrokenAuthorityIsNotReplacedSilently(t *testing.T) {
	folder := Folder{Path: t.TempDir()}
	if _, err := folder.Authority("ca"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(folder.Cert("ca"), []byte("gibberish"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := folder.Authority("ca")
	if err == nil || !strings.Contains(err.Error(), "remove both files") {
		t.Errorf("got %v, expected an error that says what to do", err)
	}
}

func TestInterruptedWriteIsRepeated(t *testing.T) {
	folder := Folder{Path: t.TempDir()}
	ca, err := folder.Authority("ca")
	if err != nil {
		t.Fatal(err)
	}
	request := Request{Name: "client", CommonName: "me", Client: true}
	if _, err := ca.Issue(request); err != nil {
		t.Fatal(err)
	}
	// As after a crash between the two files.
	if err := os.Remove(folder.Cert("client")); err != nil {
		t.Fatal(err)
	}
	if made, err := ca.Issue(request); err != nil || !made {
		t.Errorf("made %v, error %v", made, err)
	}
	if _, err := tls.LoadX509KeyPair(folder.Cert("client"), folder.Key("client")); err != nil {
		t.Error(err)
	}
}

func TestEqualKubeconfigIsNotRewritten(t *testing.T) {
	folder := Folder{Path: t.TempDir()}
	ca, err := folder.Authority("ca")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Issue(Request{Name: "admin", CommonName: "admin", Client: true}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder.Path, "kubeconfig")
	k := Kubeconfig{Cluster: "weft", Server: "https://127.0.0.1:6443", CAPEM: ca.CertPEM(), User: "admin", Cert: folder.Cert("admin"), Key: folder.Key("admin")}
	inode := func() os.FileInfo {
		if err := k.Write(path); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	first := inode()
	if !os.SameFile(first, inode()) {
		t.Error("an equal file was replaced")
	}
	if first.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", first.Mode())
	}
	k.Server = "https://127.0.0.1:7443"
	if os.SameFile(first, inode()) {
		t.Error("another address was not written")
	}
}
