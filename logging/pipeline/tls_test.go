package pipeline_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weft-dev/weft/logging/pipeline"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/test/authority"
)

// tlsCase is one way in which client and server trust each other or not.
type tlsCase struct {
	server  authority.Certificate
	asks    bool // the server asks for a client's certificate
	options string
	arrives bool
}

func tlsCases(t *testing.T) (*authority.Authority, map[string]tlsCase) {
	ours, other := authority.New(t), authority.New(t)
	good, named, expired := ours.Issue(t, "127.0.0.1", time.Hour), ours.Issue(t, "elsewhere.example", time.Hour), ours.Issue(t, "127.0.0.1", -time.Hour)
	foreign, client, stranger := other.Issue(t, "127.0.0.1", time.Hour), ours.Issue(t, "client", time.Hour), other.Issue(t, "client", time.Hour)
	ca := "    tls.ca_file " + ours.Cert + "\n"
	with := func(i authority.Certificate) string {
		return ca + "    tls.crt_file " + i.Cert + "\n    tls.key_file " + i.Key + "\n"
	}
	return ours, map[string]tlsCase{
		"own authority":         {good, false, ca, true},
		"no authority given":    {good, false, "", false},
		"foreign authority":     {foreign, false, ca, false},
		"wrong name":            {named, false, ca, false},
		"name not looked at":    {named, false, ca + "    tls.verify_hostname off\n", true},
		"foreign, no name":      {foreign, false, ca + "    tls.verify_hostname off\n", false},
		"expected other name":   {named, false, ca + "    tls.vhost elsewhere.example\n", true},
		"expired":               {expired, false, ca, false},
		"expired, no name":      {expired, false, ca + "    tls.verify_hostname off\n", false},
		"not verified":          {foreign, false, "    tls.verify off\n", true},
		"client unknown":        {good, true, ca, false},
		"client known":          {good, true, with(client), true},
		"client of another one": {good, true, with(stranger), false},
		"too old a version":     {good, false, ca + "    tls.max_version TLSv1.1\n    tls.min_version TLSv1.1\n", false},
	}
}

// Outputs hand records to servers that prove who they are, and to no other.
func TestTLSOutputs(t *testing.T) {
	ours, cases := tlsCases(t)
	for _, plugin := range []string{"http", "es", "loki", "forward"} {
		for name, c := range cases {
			t.Run(plugin+"/"+name, func(t *testing.T) {
				t.Parallel()
				settings := &tls.Config{Certificates: []tls.Certificate{c.server.Pair}, MinVersion: tls.VersionTLS12}
				if c.asks {
					settings.ClientAuth, settings.ClientCAs = tls.RequireAndVerifyClientCert, ours.Pool
				}
				var came atomic.Int32
				port, more := "", ""
				if plugin == "forward" {
					// With TLS 1.3 a client learns that it is refused after it has written: only an acknowledgement tells that records arrived.
					port, more = freePort(t), "    Require_ack_response on\n"
					listen := "[INPUT]\n    Name forward\n    Port " + port + "\n    tls on\n    tls.crt_file " + c.server.Cert + "\n    tls.key_file " + c.server.Key + "\n"
					if c.asks {
						listen += "    tls.verify_client_cert on\n    tls.ca_file " + ours.Cert + "\n"
					}
					dir := t.TempDir()
					start(t, dir, "[SERVICE]\n    Flush 0.05\n"+listen+toFile, pipeline.Options{})
					dial(t, "tcp", "127.0.0.1:"+port).Close()
					defer func() {
						if arrived := strings.Contains(read(filepath.Join(dir, "out")), "hello"); arrived && !c.arrives {
							t.Error("records were given to a server that is not trusted")
						}
					}()
				} else {
					s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						came.Add(1)
						_, _ = io.WriteString(w, `{"errors":false}`)
					}))
					s.TLS = settings
					s.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what is tried here
					s.StartTLS()
					defer s.Close()
					port = s.URL[strings.LastIndexByte(s.URL, ':')+1:]
				}
				r := start(t, t.TempDir(), strings.ReplaceAll(oneDummy, "PORT", port)+"    Name "+plugin+"\n    Host 127.0.0.1\n    Retry_Limit no_retries\n    tls on\n"+more+c.options, pipeline.Options{})
				what := "proc_records"
				if !c.arrives {
					what = "dropped_records"
				}
				awaitThat(t, func() string {
					return fmt.Sprint(strings.Contains(get(t, r.engine, "/api/v1/metrics/prometheus"), `fluentbit_output_`+what+`_total{name="`+plugin+`.0"} 1`))
				}, "true")
				if err := r.stop(); err != nil {
					t.Fatal(err)
				}
				if !c.arrives && came.Load() != 0 {
					t.Error("records were given to a server that is not trusted")
				}
			})
		}
	}
}

// Inputs take records over TLS, only of clients with a certificate where one is asked for, and nothing in the clear.
func TestTLSInputs(t *testing.T) {
	ours, other := authority.New(t), authority.New(t)
	server, client, stranger := ours.Issue(t, "127.0.0.1", time.Hour), ours.Issue(t, "client", time.Hour), other.Issue(t, "client", time.Hour)
	message := func(n string) []byte {
		b := record.AppendInt(record.AppendString([]byte{0x93}, "m"), 1)
		return record.AppendString(record.AppendString(append(b, 0x81), "log"), n)
	}
	post := func(n string) []byte {
		body := `{"log":"` + n + `"}`
		return []byte(fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body))
	}
	for plugin, c := range map[string]struct {
		options string
		text    func(n string) []byte
	}{
		"forward": {"", message},
		"http":    {"", post},
		"tcp":     {"", func(n string) []byte { return []byte(`{"log":"` + n + `"}`) }},
		"syslog":  {"    Mode tcp\n    Parser syslog-rfc3164\n", func(n string) []byte { return []byte("<13>Jan  2 03:04:05 host app[77]: " + n + "\n") }},
	} {
		t.Run(plugin, func(t *testing.T) {
			t.Parallel()
			port, dir := freePort(t), t.TempDir()
			start(t, dir, "[SERVICE]\n    Flush 0.05\n[INPUT]\n    Name "+plugin+"\n    Port "+port+"\n"+c.options+"    tls on\n    tls.verify_client_cert on\n    tls.ca_file "+ours.Cert+
				"\n    tls.crt_file "+server.Cert+"\n    tls.key_file "+server.Key+"\n"+toFile, pipeline.Options{})
			out := filepath.Join(dir, "out")
			say := func(what string, pair *tls.Certificate, plain bool) {
				conn := dial(t, "tcp", "127.0.0.1:"+port)
				if !plain {
					settings := &tls.Config{RootCAs: ours.Pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}
					if pair != nil {
						settings.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }
					}
					conn = tls.Client(conn, settings)
				}
				_, _ = conn.Write(c.text(what)) // who is not trusted may be cut off at once
				if what == "known" {
					return
				}
				_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
				if _, err := io.ReadAll(conn); err != nil && strings.Contains(err.Error(), "timeout") {
					t.Errorf("%s: the connection stays open", what)
				}
			}
			say("clear", nil, true)
			say("unknown", nil, false)
			say("stranger", &stranger.Pair, false)
			say("known", &client.Pair, false)
			awaitThat(t, func() string { return fmt.Sprint(strings.Count(read(out), "known")) }, "1")
			for _, bad := range []string{"clear", "unknown", "stranger"} {
				if strings.Contains(read(out), bad) {
					t.Errorf("what a client sent that is not trusted was taken: %s", bad)
				}
			}
		})
	}
}
