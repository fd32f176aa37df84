package fluentd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/weft-dev/weft/test/authority"
)

// trust is one way in which an output and its server trust each other or not.
type trust struct {
	server  authority.Certificate
	asks    bool // the server asks for a client's certificate
	least   uint16
	ca      string // files
	client  *authority.Certificate
	more    map[string]string // by output: what else the section says
	arrives bool
}

func trusts(t *testing.T) (ours *authority.Authority, all map[string]trust) {
	ours, other := authority.New(t), authority.New(t)
	good, named, expired := ours.Issue(t, "127.0.0.1", time.Hour), ours.Issue(t, "elsewhere.example", time.Hour), ours.Issue(t, "127.0.0.1", -time.Hour)
	foreign, client, stranger := other.Issue(t, "127.0.0.1", time.Hour), ours.Issue(t, "client", time.Hour), other.Issue(t, "client", time.Hour)
	anyName := map[string]string{"forward": "tls_verify_hostname false", "kafka2": "ssl_verify_hostname false"}
	unverified := map[string]string{"forward": "tls_insecure_mode true", "http": "tls_verify_mode none", "elasticsearch": "ssl_verify false"}
	only := func(version string) map[string]string {
		return map[string]string{"forward": "tls_version " + version, "http": "tls_version " + version, "elasticsearch": "ssl_version " + version}
	}
	cipher := map[string]string{"forward": "tls_version TLSv1_2\ntls_ciphers ECDHE-ECDSA-AES256-GCM-SHA384", "http": "tls_version TLSv1_2\ntls_ciphers ECDHE-ECDSA-AES256-GCM-SHA384"}
	return ours, map[string]trust{
		"own authority":         {server: good, ca: ours.Cert, arrives: true},
		"no authority given":    {server: good},
		"foreign authority":     {server: foreign, ca: ours.Cert},
		"wrong name":            {server: named, ca: ours.Cert},
		"name not looked at":    {server: named, ca: ours.Cert, more: anyName, arrives: true},
		"foreign, no name":      {server: foreign, ca: ours.Cert, more: anyName},
		"expired":               {server: expired, ca: ours.Cert},
		"expired, no name":      {server: expired, ca: ours.Cert, more: anyName},
		"not verified":          {server: foreign, more: unverified, arrives: true},
		"client unknown":        {server: good, asks: true, ca: ours.Cert},
		"client known":          {server: good, asks: true, ca: ours.Cert, client: &client, arrives: true},
		"client of another one": {server: good, asks: true, ca: ours.Cert, client: &stranger},
		"only 1.2":              {server: good, least: tls.VersionTLS13, ca: ours.Cert, more: only("TLSv1_2")},
		"only 1.3":              {server: good, least: tls.VersionTLS13, ca: ours.Cert, more: only("TLSv1_3"), arrives: true},
		"a cipher":              {server: good, ca: ours.Cert, more: cipher, arrives: true},
	}
}

// Outputs hand records to servers that prove who they are, and to no other.
func TestTLSOutputs(t *testing.T) {
	ours, all := trusts(t)
	options := map[string]struct{ on, ca, crt, key string }{
		"forward":       {"transport tls\nrequire_ack_response true", "tls_cert_path", "tls_client_cert_path", "tls_client_private_key_path"},
		"http":          {"", "tls_ca_cert_path", "tls_client_cert_path", "tls_private_key_path"},
		"elasticsearch": {"scheme https", "ca_file", "client_cert", "client_key"},
		"kafka2":        {"default_topic logs", "ssl_ca_cert", "ssl_client_cert", "ssl_client_cert_key"},
	}
	for output, o := range options {
		for name, c := range all {
			if c.more != nil && c.more[output] == "" || output == "kafka2" && c.ca == "" {
				continue // it has no such option; without authority kafka2 has no TLS
			}
			t.Run(output+"/"+name, func(t *testing.T) {
				t.Parallel()
				settings := &tls.Config{Certificates: []tls.Certificate{c.server.Pair}, MinVersion: max(c.least, tls.VersionTLS12)}
				if c.asks {
					settings.ClientAuth, settings.ClientCAs = tls.RequireAndVerifyClientCert, ours.Pool
				}
				address, came := tlsServer(t, output, settings)
				host, port, err := net.SplitHostPort(address)
				if err != nil {
					t.Fatal(err)
				}
				lines := []string{"<match **>", "@type " + output, o.on, c.more[output]}
				if c.ca != "" {
					lines = append(lines, o.ca+" "+c.ca)
				}
				if c.client != nil {
					lines = append(lines, o.crt+" "+c.client.Cert, o.key+" "+c.client.Key)
				}
				lines = append(lines, map[string]string{"forward": "<server>\nhost " + host + "\nport " + port + "\n</server>", "http": "endpoint https://" + address + "/",
					"elasticsearch": "host " + host + "\nport " + port, "kafka2": "brokers " + address + patience(c.arrives)}[output],
					"<buffer>\n@type memory\nretry_max_times 0\n</buffer>", "</match>")
				if output == "forward" || output == "elasticsearch" {
					lines[len(lines)-2] = "<buffer tag>\n@type memory\nretry_max_times 0\n</buffer>"
				}
				_, said := play(t, strings.Join(lines, "\n"), `a {"n":"hello"}`)
				if got := came(); got != c.arrives {
					t.Errorf("the record came: %v; %s", got, said)
				}
				if lost := strings.Contains(said, "Hit limit for retries"); lost == c.arrives {
					t.Errorf("the record was given up: %v; %s", lost, said)
				}
			})
		}
	}
}

// tlsServer is what an output sends to; came tells whether the record arrived.
func tlsServer(t *testing.T, output string, settings *tls.Config) (address string, came func() bool) {
	t.Helper()
	switch output {
	case "kafka2":
		c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "logs"), kfake.TLS(settings))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c.ListenAddrs()[0], func() bool {
			return c.PartitionInfo("logs", 0).HighWatermark > 0
		}
	case "forward":
		l, err := tls.Listen("tcp", "127.0.0.1:0", settings)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		var got atomic.Bool
		go func() {
			for {
				conn, err := l.Accept()
				if errors.Is(err, net.ErrClosed) {
					return
				}
				if err == nil {
					go acknowledge(conn, &got)
				}
			}
		}()
		return l.Addr().String(), got.Load
	}
	var got atomic.Bool
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got.Store(strings.Contains(string(body), "hello"))
		_, _ = io.WriteString(w, `{"errors":false}`)
	}))
	s.TLS = settings
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what is tried here
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), got.Load
}

// acknowledge answers a message of the forward protocol as soon as its acknowledgement's name has come.
func acknowledge(conn net.Conn, got *atomic.Bool) {
	defer conn.Close()
	var all []byte
	var b [4096]byte
	for {
		n, err := conn.Read(b[:])
		if err != nil {
			return
		}
		all = append(all, b[:n]...)
		const name = "\xa5chunk\xb8" // and 24 characters of base64
		if i := strings.Index(string(all), name); i >= 0 && len(all) >= i+len(name)+24 {
			got.Store(strings.Contains(string(all), "hello"))
			_, _ = conn.Write(append([]byte("\x81\xa3ack\xb8"), all[i+len(name):i+len(name)+24]...))
			return
		}
	}
}

// Of a server with an address alone the name that the certificate must have stands in <server>.
func TestForwardServersName(t *testing.T) {
	ours := authority.New(t)
	named := ours.Issue(t, "logs.example", time.Hour)
	for name, arrives := range map[string]bool{"logs.example": true, "other.example": false} {
		address, came := tlsServer(t, "forward", &tls.Config{Certificates: []tls.Certificate{named.Pair}, MinVersion: tls.VersionTLS12})
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		_, said := play(t, "<match **>\n@type forward\ntransport tls\ntls_cert_path "+ours.Cert+"\nrequire_ack_response true\n<server>\nhost "+host+"\nport "+port+"\nname "+name+
			"\n</server>\n<buffer tag>\nretry_max_times 0\n</buffer>\n</match>", `a {"n":"hello"}`)
		if came() != arrives {
			t.Errorf("%s: the record came: %v; %s", name, !arrives, said)
		}
	}
}

// Inputs take records over TLS, only of clients with a certificate where one is asked for, in the versions and with the ciphers that are asked for, and nothing
// in the clear.
func TestTLSInputs(t *testing.T) {
	ours, other := authority.New(t), authority.New(t)
	server, client, stranger := ours.Issue(t, "127.0.0.1", time.Hour), ours.Issue(t, "client", time.Hour), other.Issue(t, "client", time.Hour)
	texts := map[string]func(n string) string{
		"forward": func(n string) string { return "\x93\xa1m\x01\x81\xa3log" + string(rune(0xa0 + len(n)))[1:] + n },
		"http": func(n string) string {
			body := `{"log":"` + n + `"}`
			return fmt.Sprintf("POST /m HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
		},
	}
	asking := "client_cert_auth true\nca_path " + ours.Cert + "\n"
	versions := map[string][2]uint16{"TLSv1_2": {tls.VersionTLS12, tls.VersionTLS12}, "TLSv1_3": {tls.VersionTLS13, tls.VersionTLS13}}
	const aes = "ECDHE-ECDSA-AES256-GCM-SHA384"
	for kind, text := range texts {
		for name, c := range map[string]struct {
			options  string
			plain    bool
			pair     *tls.Certificate
			from, to uint16
			suite    uint16
			refused  bool
		}{
			"in the clear":      {plain: true, refused: true},
			"anybody":           {},
			"clients, unknown":  {options: asking, refused: true},
			"clients, known":    {options: asking, pair: &client.Pair},
			"clients, stranger": {options: asking, pair: &stranger.Pair, refused: true},
			"1.2 to 1.2":        {options: "version TLSv1_2\n", from: versions["TLSv1_2"][0], to: versions["TLSv1_2"][1]},
			"1.3 to 1.2":        {options: "version TLSv1_2\n", from: tls.VersionTLS13, refused: true},
			"1.2 to 1.3":        {options: "version TLSv1_3\n", to: tls.VersionTLS12, refused: true},
			"1.2 to both":       {options: "min_version TLSv1_2\nmax_version TLSv1_3\n", to: tls.VersionTLS12},
			"1.3 to both":       {options: "min_version TLSv1_2\nmax_version TLSv1_3\n", from: tls.VersionTLS13},
			"the cipher":        {options: "ciphers " + aes + "\nversion TLSv1_2\n", suite: tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384},
			"another cipher":    {options: "ciphers " + aes + "\nversion TLSv1_2\n", suite: tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, refused: true},
		} {
			t.Run(kind+"/"+name, func(t *testing.T) {
				t.Parallel()
				x := start(t, "<source>\n@type "+kind+"\nport "+freePort(t)+"\nbind 127.0.0.1\n<transport tls>\ncert_path "+server.Cert+"\nprivate_key_path "+server.Key+"\n"+c.options+
					"</transport>\n</source>\n<match **>\n@type stdout\n</match>")
				conn, err := net.Dial("tcp", x.address(t))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if !c.plain {
					settings := &tls.Config{RootCAs: ours.Pool, ServerName: "127.0.0.1", MinVersion: max(c.from, tls.VersionTLS12), MaxVersion: c.to}
					if c.pair != nil {
						settings.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.pair, nil }
					}
					if c.suite != 0 {
						settings.CipherSuites = []uint16{c.suite}
					}
					conn = tls.Client(conn, settings)
				}
				_ = conn.SetDeadline(time.Now().Add(time.Minute))
				_, _ = io.WriteString(conn, text("hello")) // who is not trusted may be cut off at once
				if !c.refused {
					await(t, "the record", func() bool { return strings.Contains(x.out.String(), "hello") })
					return
				}
				if _, err := io.ReadAll(conn); err != nil && strings.Contains(err.Error(), "timeout") {
					t.Error("the connection stays open")
				}
				x.end(t)
				if strings.Contains(x.out.String(), "hello") {
					t.Error("what a client sent that is not trusted was taken")
				}
			})
		}
	}
}

// Both ends of forward know who the other is, or no record is taken.
func TestForwardSecurity(t *testing.T) {
	const (
		keyed  = "<security>\nself_hostname in\nshared_key right\n</security>"
		users  = "<security>\nself_hostname in\nshared_key right\nuser_auth true\n<user>\nusername bob b\npassword p w\n</user>\n<user>\nusername eve\npassword q\n</user>\n"
		closed = "<security>\nself_hostname in\nshared_key right\nallow_anonymous_source false\n"
	)
	for name, c := range map[string]struct {
		in, out, server string
		why             string // "" if the record is taken
	}{
		"key":                     {in: keyed, out: "right"},
		"wrong key":               {in: keyed, out: "wrong", why: "shared_key mismatch"},
		"no key":                  {in: keyed, why: "asks for a shared key"},
		"a key nobody asks for":   {out: "right", why: "handshake with"},
		"key of the server":       {in: keyed, server: "shared_key right"},
		"user":                    {in: users + "</security>", out: "right", server: "username bob b\npassword p w"},
		"wrong password":          {in: users + "</security>", out: "right", server: "username bob b\npassword q", why: "username/password mismatch"},
		"unknown user":            {in: users + "</security>", out: "right", server: "username joe\npassword q", why: "username/password mismatch"},
		"no user":                 {in: users + "</security>", out: "right", why: "username/password mismatch"},
		"network":                 {in: closed + "<client>\nnetwork 127.0.0.0/8\n</client>\n</security>", out: "right"},
		"host":                    {in: closed + "<client>\nhost localhost\n</client>\n</security>", out: "right"},
		"another network":         {in: closed + "<client>\nnetwork 192.0.2.0/24\n</client>\n</security>", out: "right", why: "anonymous source host '127.0.0.1' denied"},
		"key of a network":        {in: closed + "<client>\nnetwork 127.0.0.1\nshared_key other\n</client>\n</security>", out: "other"},
		"wrong key of a network":  {in: closed + "<client>\nnetwork 127.0.0.1\nshared_key other\n</client>\n</security>", out: "right", why: "shared_key mismatch"},
		"user of a network":       {in: users + "<client>\nnetwork 127.0.0.1\nusers eve\n</client>\n</security>", out: "right", server: "username eve\npassword q"},
		"user of no such network": {in: users + "<client>\nnetwork 127.0.0.1\nusers eve\n</client>\n</security>", out: "right", server: "username bob b\npassword p w", why: "username/password mismatch"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := start(t, "<source>\n@type forward\nport "+freePort(t)+"\nbind 127.0.0.1\n"+c.in+"\n</source>\n<match **>\n@type stdout\n</match>")
			host, port, err := net.SplitHostPort(x.address(t))
			if err != nil {
				t.Fatal(err)
			}
			security := ""
			if c.out != "" {
				security = "<security>\nself_hostname out\nshared_key " + c.out + "\n</security>\n"
			}
			if strings.HasPrefix(name, "a key") {
				security += "hard_timeout 1s\n" // the client waits for a word that does not come
			}
			_, said := play(t, "<match **>\n@type forward\nrequire_ack_response true\n"+security+"<server>\nhost "+host+"\nport "+port+"\n"+c.server+
				"\n</server>\n<buffer tag>\nretry_max_times 0\n</buffer>\n</match>", `a {"n":"hello"}`)
			x.end(t)
			if came := strings.Contains(x.out.String(), "hello"); came != (c.why == "") || !strings.Contains(said, c.why) {
				t.Errorf("the record came: %v; %s", came, said)
			}
			for _, secret := range []string{"right", "p w"} {
				if strings.Contains(x.said.String()+said, secret) {
					t.Errorf("the log tells a secret: %s", x.said.String()+said)
				}
			}
		})
	}
}

// Passwords reach brokers that know them, and over TLS unless the configuration says otherwise.
func TestKafkaSASL(t *testing.T) {
	ours := authority.New(t)
	server := ours.Issue(t, "127.0.0.1", time.Hour)
	for name, c := range map[string]struct {
		mechanism, password string
		tls, arrives        bool
	}{
		"plain":                     {"", "right-pass", false, true},
		"plain over TLS":            {"", "right-pass", true, true},
		"plain, wrong":              {"", "wrong-pass", false, false},
		"scram 256":                 {"scram_mechanism sha256", "right-pass", false, true},
		"scram 256, wrong":          {"scram_mechanism sha256", "wrong-pass", false, false},
		"scram 512 over TLS":        {"scram_mechanism sha512", "right-pass", true, true},
		"scram 512 over TLS, wrong": {"scram_mechanism sha512", "wrong-pass", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			with := []kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(1, "logs"), kfake.EnableSASL(), kfake.Superuser("PLAIN", "bob", "right-pass"),
				kfake.Superuser("SCRAM-SHA-256", "bob", "right-pass"), kfake.Superuser("SCRAM-SHA-512", "bob", "right-pass")}
			security, view := "sasl_over_ssl false", []kgo.Opt{kgo.SASL(scram.Auth{User: "bob", Pass: "right-pass"}.AsSha256Mechanism())}
			if c.tls {
				with = append(with, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{server.Pair}, MinVersion: tls.VersionTLS12}))
				security, view = "ssl_ca_cert "+ours.Cert, append(view, kgo.DialTLSConfig(&tls.Config{RootCAs: ours.Pool, MinVersion: tls.VersionTLS12}))
			}
			b, err := kfake.NewCluster(with...)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			_, said := play(t, "<match **>\n@type kafka2\nbrokers "+b.ListenAddrs()[0]+"\ndefault_topic logs\nusername bob\npassword "+c.password+"\n"+c.mechanism+"\n"+security+
				patience(c.arrives)+"\n<buffer []>\nretry_max_times 0\n</buffer>\n</match>", `a {"n":"hello"}`)
			if !c.arrives && !strings.Contains(said, "Hit limit for retries") || strings.Contains(said, c.password) {
				t.Errorf("%s", said)
			}
			if c.arrives {
				if got := consumed(t, b, 1, view...); got[0].Topic != "logs" || string(got[0].Value) != `{"n":"hello"}` {
					t.Errorf("got %v; %s", got, said)
				}
			}
		})
	}
}

// patience is how long kafka2 tries brokers: not long if they will never take the record.
func patience(arrives bool) string {
	if arrives {
		return ""
	}
	return "\nmax_send_retries 0\nconnect_timeout 2"
}

// consumed are the first n records of the brokers.
func consumed(t *testing.T, c *kfake.Cluster, n int, options ...kgo.Opt) []*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeRegex(), kgo.ConsumeTopics(".*"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var all []*kgo.Record
	await(t, fmt.Sprintf("%d records", n), func() bool {
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		all = append(all, client.PollFetches(ctx).Records()...)
		return len(all) >= n
	})
	return all
}

// What cannot be kept of an option for TLS is refused by name, and a password is not sent in the clear unasked.
func TestTLSRefusals(t *testing.T) {
	ours := authority.New(t)
	server := ours.Issue(t, "127.0.0.1", time.Hour)
	files := "cert_path " + server.Cert + "\nprivate_key_path " + server.Key + "\n"
	for options, want := range map[string]string{
		files + "ciphers AES128-SHA":                                `the cipher "AES128-SHA" of ciphers is not built into logagent; there are ECDHE-ECDSA-AES128-GCM-SHA256`,
		files + "ciphers HIGH":                                      `the cipher "HIGH"`,
		files + "version TLSv1_1":                                   `version is "TLSv1_1"; there are TLSv1_2 and TLSv1_3`,
		files + "min_version TLSv1_2":                               "min_version and max_version must be set together",
		files + "min_version TLSv1_3\nmax_version TLSv1_2":          "min_version is above max_version",
		files + "client_cert_auth true":                             "client_cert_auth needs ca_path",
		files + "client_cert_auth true\nca_path /none":              "ca_path: open /none",
		files + "ensure_fips true":                                  "ensure_fips is not built into logagent",
		files + "cert_verifier x.rb":                                `the option "cert_verifier"`,
		files + "private_key_passphrase x":                          `the option "private_key_passphrase"`,
		"cert_path " + server.Cert:                                  "cert_path and private_key_path cannot be used",
		"":                                                          "<transport tls> needs cert_path and private_key_path",
		"ca_cert_path " + ours.Cert + "\nca_private_key_path /none": "ca_cert_path and ca_private_key_path cannot be used",
		"ca_cert_path " + server.Cert + "\nca_private_key_path " + server.Key: "ca_cert_path is not the certificate of an authority",
	} {
		for _, kind := range []string{"forward", "http"} {
			x := &trial{}
			_, err := New(file(t, "<source>\n@type "+kind+"\n<transport tls>\n"+options+"\n</transport>\n</source>"), x.options(nil))
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "fluent.conf:") {
				t.Errorf("%s, %s: %v\nwant %s", kind, options, err, want)
			}
		}
	}
	const node = "\n<server>\nhost a\n</server>"
	for text, want := range map[string]string{
		"forward\ntransport tls\ntls_ciphers RC4" + node:                      `the cipher "RC4" of tls_ciphers`,
		"forward\ntransport tls\ntls_version TLSv1_1" + node:                  `tls_version is "TLSv1_1"`,
		"forward\ntransport quic" + node:                                      `transport`,
		"forward\ntransport tls\ntls_cert_path /none" + node:                  "tls_cert_path: open /none",
		"http\nendpoint https://a/\ntls_ciphers ALL":                          `the cipher "ALL" of tls_ciphers`,
		"http\nendpoint https://a/\ntls_version TLSv1_1":                      `tls_version is "TLSv1_1"`,
		"http\nendpoint https://a/\ntls_client_cert_path /none":               "tls_client_cert_path and tls_private_key_path cannot be used",
		"elasticsearch\nscheme https\nssl_version TLSv1_1":                    `ssl_version is "TLSv1_1"`,
		"kafka2\nbrokers a:1\nusername u\npassword p":                         "a password goes over TLS",
		"kafka2\nbrokers a:1\nusername u\npassword p\nscram_mechanism sha512": "a password goes over TLS",
		"kafka2\nbrokers a:1\nscram_mechanism sha512":                         "scram_mechanism needs username and password",
		"kafka2\nbrokers a:1\nssl_ca_cert /none":                              "ssl_ca_cert: open /none",
	} {
		x := &trial{}
		_, err := New(file(t, "<source>\n@type sample\ntag a\n</source>\n<match **>\n@type "+text+"\n</match>"), x.options(nil))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "fluent.conf:") {
			t.Errorf("%s: %v\nwant %s", text, err, want)
		}
	}
}

// An input without a certificate makes one: its authority signs it, or nobody.
func TestMadeCertificates(t *testing.T) {
	ours := authority.New(t)
	for options, trusted := range map[string]bool{
		"ca_cert_path " + ours.Cert + "\nca_private_key_path " + ours.Key + "\ngenerate_cert_common_name 127.0.0.1\ngenerate_cert_expiration 1d": true,
		"insecure true": false,
	} {
		x := start(t, "<source>\n@type forward\nport "+freePort(t)+"\nbind 127.0.0.1\n<transport tls>\n"+options+"\n</transport>\n</source>\n<match a>\n@type null\n</match>")
		conn, err := tls.Dial("tcp", x.address(t), &tls.Config{RootCAs: ours.Pool, MinVersion: tls.VersionTLS12})
		if (err == nil) != trusted {
			t.Errorf("%s: %v", options, err)
		}
		if err == nil {
			conn.Close()
		}
		if conn, err = tls.Dial("tcp", x.address(t), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}); err != nil { // what is shown is looked at below
			t.Fatal(err)
		}
		shown := conn.ConnectionState().PeerCertificates[0]
		conn.Close()
		if lasts := time.Until(shown.NotAfter); shown.IsCA || trusted != (lasts < 25*time.Hour) || lasts < 20*time.Hour {
			t.Errorf("%s: %s lasts %s", options, shown.Subject, lasts)
		}
		x.end(t)
	}
}
