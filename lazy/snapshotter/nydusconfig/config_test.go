package nydusconfig

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const good = `version = 1
root = "/var/lib/containerd/io.containerd.snapshotter.v1.nydus"
address = "/run/containerd-nydus/containerd-nydus-grpc.sock"
daemon_mode = "dedicated"

[daemon]
nydusd_path = "/usr/local/bin/nydusd"
fs_driver = "fusedev"

[metrics]
address = ":9110"

[snapshot]
sync_remove = true
enable_kata_volume = false
`

func TestSnapshottersConfiguration(t *testing.T) {
	var c Config
	if err := c.Snapshotter("config.toml", []byte(good)); err != nil {
		t.Fatal(err)
	}
	if c.Root != "/var/lib/containerd/io.containerd.snapshotter.v1.nydus" || c.Metrics != ":9110" || !c.SyncRemove || c.Volatile {
		t.Errorf("read %+v", c)
	}
	if len(c.Notes) != 1 || !strings.HasPrefix(c.Notes[0], "config.toml:7: daemon.nydusd_path changes nothing here") {
		t.Errorf("notes %q", c.Notes)
	}
}

func TestDaemonsConfiguration(t *testing.T) {
	var c Config
	if err := c.Nydusd("nydusd.json", []byte(`{
  "device": {"backend": {"type": "registry", "config": {"timeout": 5, "retry_limit": 2, "scheme": "http"}}, "cache": {"type": "blobcache"}},
  "mode": "direct", "amplify_io": 1048576,
  "fs_prefetch": {"enable": true, "threads_count": 8}
}`)); err != nil {
		t.Fatal(err)
	}
	if c.Timeout != 5*time.Second || c.Attempts != 3 || !c.PlainHTTP || c.ReadAhead != 1<<20 || !c.Background || !c.BackgroundSaid {
		t.Errorf("read %+v", c)
	}
}

func TestBadConfigurations(t *testing.T) {
	for what, c := range map[string]struct{ toml, json, want string }{
		"no version":    {toml: "root = \"/x\"\n", want: "version = 1 is missing"},
		"other version": {toml: "version = 2\n", want: "f:1: version: version 2 is not known"},
		"syntax":        {toml: "version = 1\nroot = \n", want: "f:2: "},
		"kind":          {toml: "version = 1\nroot = 7\n", want: "f:2: root: a text was expected"},
		"relative":      {toml: "version = 1\nroot = \"x\"\n", want: "f:2: root: \"x\" is no absolute path"},
		"driver":        {toml: "version = 1\n[daemon]\nfs_driver = \"blockdev\"\n", want: "f:3: daemon.fs_driver: \"blockdev\" is none of"},
		"stargz":        {toml: "version = 1\n[experimental]\nenable_stargz = true\n", want: "f:3: experimental.enable_stargz: this is not supported"},
		"tarfs":         {toml: "version = 1\n[experimental.tarfs]\nenable_tarfs = true\n", want: "f:3: experimental.tarfs.enable_tarfs: this is not supported"},
		"backend":       {json: "{\n\"device\": {\"backend\": {\"type\": \"oss\"}}}", want: "f:2: device.backend.type: \"oss\" is none of registry"},
		"secret":        {json: `{"device": {"backend": {"config": {"auth": "secret"}}}}`, want: "use docker login"},
		"authorities":   {json: "{\"device\": {\"backend\": {\"config\": {\n\"ca_cert_files\": [\"/ca.pem\"]}}}}", want: "f:2: device.backend.config.ca_cert_files: this is not supported: say ca of one registry"},
		"fscache proxy": {json: `{"config": {"backend_config": {"proxy": {"url": "http://p"}}}}`, want: "config.backend_config.proxy.url: this is not supported"},
		"owners":        {json: `{"id_mapping": [0, 100000, 65536]}`, want: "id_mapping: this is not supported"},
		"negative":      {json: `{"amplify_io": -1}`, want: "a whole number from 0"},
		"broken":        {json: "{\n\"mode\": }", want: "f:2: "},
	} {
		var config Config
		var err error
		if c.toml != "" {
			err = config.Snapshotter("f", []byte(c.toml))
		} else {
			err = config.Nydusd("f", []byte(c.json))
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, expected one with %q", what, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), `"secret"`) {
			t.Errorf("%s: the error shows a secret: %v", what, err)
		}
	}
}

func TestPodCredentials(t *testing.T) {
	for text, want := range map[string]string{
		"enable_cri_keychain = true\n":                                              "/run/containerd/containerd.sock",
		"enable_cri_keychain = true\nimage_service_address = \"/run/k3s/c.sock\"\n": "/run/k3s/c.sock",
		"image_service_address = \"/run/k3s/c.sock\"\n":                             "",
	} {
		var c Config
		if err := c.Snapshotter("f", []byte("version = 1\n[remote.auth]\n"+text)); err != nil || c.ImageService != want {
			t.Errorf("%q: image service %q, %v; expected %q", text, c.ImageService, err, want)
		}
	}
}

func TestUnknownKeysAreNamed(t *testing.T) {
	var c Config
	if err := c.Snapshotter("f", []byte("version = 1\n[daemon]\nspeed = 3\n")); err != nil {
		t.Fatal(err)
	}
	if len(c.Notes) != 1 || c.Notes[0] != "f:3: daemon.speed: there is no such key" {
		t.Errorf("notes %q", c.Notes)
	}
}

// TestUpstreamConfigurations reads the files of Nydus's snapshotter unchanged. UPSTREAM_NYDUS_SNAPSHOTTER is a checkout of it.
func TestUpstreamConfigurations(t *testing.T) {
	dir := os.Getenv("UPSTREAM_NYDUS_SNAPSHOTTER")
	if dir == "" {
		t.Skip("UPSTREAM_NYDUS_SNAPSHOTTER names no checkout")
	}
	files, err := filepath.Glob(filepath.Join(dir, "misc", "snapshotter", "*"))
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // a folder
		}
		var c Config
		switch filepath.Ext(file) {
		case ".toml":
			err = c.Snapshotter(filepath.Base(file), b)
		case ".json":
			err = c.Nydusd(filepath.Base(file), b)
		default:
			continue
		}
		read++
		for _, n := range c.Notes {
			if strings.HasSuffix(n, "no such key") {
				t.Errorf("%s", n)
			}
		}
		t.Logf("%s: %v", filepath.Base(file), err)
	}
	if read < 6 {
		t.Errorf("only %d files were read", read)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add(good)
	f.Add(`{"device": {"backend": {"type": "registry"}}, "amplify_io": 1}`)
	f.Fuzz(func(t *testing.T, s string) {
		var a, b Config
		_ = a.Snapshotter("f", []byte(s))
		_ = b.Nydusd("f", []byte(s))
	})
}

func TestBlobsOfConfigurations(t *testing.T) {
	// As in Nydus's example (misc/configs/nydusd-config-v2.toml), with a registry.
	b, notes, err := parseBlobs("nydusd.toml", []byte(`version = 2
[backend]
type = "registry"
[backend.registry]
host = "my.registry.com"
repo = "nydus"
auth = "abc"
ca_cert_files = ["/a.pem", "/b.pem"]
retry_limit = 5
connect_timeout = 10
blob_url_scheme = "http"
[backend.registry.proxy]
fallback = true
[cache]
type = "filecache"
`))
	if err != nil {
		t.Fatal(err)
	}
	if b.Kind != "registry" || b.Host != "my.registry.com" || b.Repository != "nydus" || b.Auth != "abc" || len(b.CA) != 2 || b.Attempts != 6 || b.Timeout != 10*time.Second {
		t.Errorf("%+v", b)
	}
	if len(notes) != 2 || !strings.HasPrefix(notes[0], "nydusd.toml:11: backend.registry.blob_url_scheme changes nothing here") {
		t.Errorf("%q", notes)
	}
	b, _, err = Backend("localfs", "f", []byte(`{"alt_dirs":["/b","/c"],"dir":"/a"}`))
	if err != nil || strings.Join(b.Folders, " ") != "/a /b /c" {
		t.Errorf("%+v %v", b, err)
	}
	for text, want := range map[string]string{
		`{"device":{"backend":{"type":"oss","config":{}}}}`:                                   `f:1: blobs in "oss" are not read: fetch the blobs`,
		"version = 2\n[backend]\ntype = \"s3\"\n":                                             `f:3: blobs in "s3" are not read`,
		`{"device":{"backend":{"type":"registry","config":{"timeout":5}}}}`:                   "device.backend.config.host and device.backend.config.repo are needed",
		`{"version":2,"backend":{"type":"localfs","localfs":{}}}`:                             "backend.localfs.dir and backend.localfs.blob_file are missing",
		`{"version":2,"backend":{"type":"localfs","localfs":{"dir":7}}}`:                      "backend.localfs.dir: a text was expected",
		`{"version":2,"backend":{"type":"localfs","localfs":{"alt_dirs":["a",7]}}}`:           "a list of texts was expected",
		`{"version":2,"backend":{"type":"registry","registry":{"scheme":"ftp"}}}`:             `"ftp" is none of`,
		`{"version":2,"backend":{"type":"registry","registry":{"proxy":{"url":"http://p"}}}}`: "proxy.url: this is not supported: say the proxy as HTTPS_PROXY",
		`{"mode":"direct"}`: "says nowhere where blobs lie",
		"{\n\"mode\" }":     "f:2: ",
		"a = \n":            "f:1: ",
	} {
		if _, _, err := parseBlobs("f", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v instead of %q", text, err, want)
		}
	}
}

// FuzzBlobs reads configurations: what is taken is complete.
func FuzzBlobs(f *testing.F) {
	f.Add([]byte(`{"device":{"backend":{"type":"registry","config":{"host":"h","repo":"r"}}}}`))
	f.Add([]byte("version = 2\n[backend]\ntype = \"localfs\"\n[backend.localfs]\ndir = \"/tmp\"\n"))
	f.Add([]byte(`{"config":{"backend_type":"localfs","backend_config":{"blob_file":"x","alt_dirs":[]}}}`))
	f.Add([]byte(`{"backend":7,"device":{"backend":[]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		b, _, err := parseBlobs("f", text)
		if err == nil && (b.Kind == "localfs") == (b.File == "" && len(b.Folders) == 0) {
			t.Errorf("%+v", b)
		}
	})
}
