package registry_test

import (
	"bytes"
	"crypto/tls"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/server"
	"github.com/weft-dev/weft/test/authority"
)

// A registry that wants a certificate of its client gets the one that the folder for its name holds, in each form that containerd and
// Docker know. Without one, or with one of another authority, it refuses.
func TestClientCertificates(t *testing.T) {
	ours, other := authority.New(t), authority.New(t)
	serving, client, stranger := ours.Issue(t, "127.0.0.1", time.Hour), ours.Issue(t, "client", time.Hour), other.Issue(t, "client", time.Hour)
	web := httptest.NewUnstartedServer(server.New(server.Config{Storage: server.Memory()}))
	web.TLS = &tls.Config{Certificates: []tls.Certificate{serving.Pair}, ClientCAs: ours.Pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
	web.StartTLS()
	defer web.Close()
	host := strings.TrimPrefix(web.URL, "https://")
	files := map[string][]byte{}
	for name, path := range map[string]string{"ca.pem": ours.Cert, "client.pem": client.Cert, "client-key.pem": client.Key, "strange.pem": stranger.Cert, "strange-key.pem": stranger.Key} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = data
	}
	files["both.pem"] = slices.Concat(files["client.pem"], files["client-key.pem"])
	head := "server = \"" + web.URL + "\"\nca = [\"ca.pem\"]\n"
	for name, test := range map[string]struct {
		files map[string][]byte // besides those above
		want  string            // in the error; "": it works
	}{
		"a pair":            {map[string][]byte{"hosts.toml": []byte(head + `client = [["client.pem", "client-key.pem"]]`)}, ""},
		"one file":          {map[string][]byte{"hosts.toml": []byte(head + `client = "both.pem"`)}, ""},
		"a list":            {map[string][]byte{"hosts.toml": []byte(head + `client = ["both.pem"]`)}, ""},
		"Docker's folder":   {map[string][]byte{"ca.crt": nil, "client.cert": files["client.pem"], "client.key": files["client-key.pem"]}, ""},
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
