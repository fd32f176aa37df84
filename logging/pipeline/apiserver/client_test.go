package apiserver

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/plugin"
	"github.com/weft-dev/weft/test/authority"
)

// The name in the certificate is looked at unless tls.verify_hostname is off; its authority always is.
func TestVerifyHostname(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what is tried here
	s.StartTLS()
	defer s.Close()
	ours, other := filepath.Join(t.TempDir(), "ca.crt"), authority.New(t).Cert
	if err := os.WriteFile(ours, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		ca, more string
		answers  bool
	}{
		"its name":           {ours, "", true},
		"another name":       {ours, "    tls.vhost elsewhere.test\n", false},
		"name not looked at": {ours, "    tls.vhost elsewhere.test\n    tls.verify_hostname off\n", true},
		"name looked at":     {ours, "    tls.vhost elsewhere.test\n    tls.verify_hostname on\n", false},
		"foreign authority":  {other, "    tls.verify_hostname off\n", false},
	} {
		text := "[FILTER]\n    Name kubernetes\n    Match *\n    Kube_URL " + s.URL + "\n    Kube_CA_File " + c.ca + "\n    Kube_Token_File /none\n" + c.more
		file, err := config.Parse("test.conf", []byte(text), config.Options{})
		if err != nil {
			t.Fatal(err)
		}
		o := options.New(file.All(config.Filter)[0], plugin.FluentBit().Plugin("filter", "kubernetes"), nil)
		client := New(o, time.Now)
		o.Ignore("match")
		if err := o.Done(); err != nil {
			t.Fatal(err)
		}
		if err := client.Get(t.Context(), s.URL, &struct{}{}); (err == nil) != c.answers {
			t.Errorf("%s: %v", name, err)
		}
	}
}
