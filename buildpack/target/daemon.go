package target

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/weft-dev/weft/buildpack/layer"
	"github.com/weft-dev/weft/registry"
)

// Daemon is a Docker daemon, spoken to by four calls of its HTTP interface: whether it is there, what it has under a name, "load these
// images" and "save this image", which are tar streams.
type Daemon struct {
	client *http.Client
	base   string
	host   string
	held   chan net.Conn // connections that were made ahead, see Hold
	dial   func(ctx context.Context) (net.Conn, error)
}

// defaultDaemon is where the daemon listens unless DOCKER_HOST says otherwise.
const defaultDaemon = "unix:///var/run/docker.sock"

// daemonPatience is how long a daemon may take to say that it is there.
const daemonPatience = 3 * time.Second

// ConnectDaemon finds the daemon at host (unix://PATH or tcp://HOST:PORT; "" is the usual socket). getenv gives DOCKER_TLS_VERIFY and
// DOCKER_CERT_PATH for TCP. Its error is fs.ErrNotExist if nothing listens.
func ConnectDaemon(ctx context.Context, host string, getenv func(string) string) (*Daemon, error) {
	if host == "" {
		host = defaultDaemon
	}
	u, err := url.Parse(host)
	if err != nil {
		return nil, fmt.Errorf("the address of the Docker daemon: %w", err)
	}
	d := &Daemon{host: host, base: "http://docker", held: make(chan net.Conn, heldConnections)}
	transport := &http.Transport{DisableCompression: true}
	switch u.Scheme {
	case "unix":
		d.dial = func(ctx context.Context) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", u.Path)
		}
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			select {
			case c := <-d.held:
				return c, nil
			default:
				return d.dial(ctx)
			}
		}
	case "tcp", "http", "https":
		d.base = "http://" + u.Host
		if u.Scheme == "https" || getenv("DOCKER_TLS_VERIFY") != "" {
			if transport.TLSClientConfig, err = daemonTLS(getenv("DOCKER_CERT_PATH")); err != nil {
				return nil, err
			}
			d.base = "https://" + u.Host
		}
	default:
		return nil, fmt.Errorf("the address of the Docker daemon %q: expected unix://PATH or tcp://HOST:PORT", host)
	}
	d.client = &http.Client{Transport: transport}
	ctx, cancel := context.WithTimeout(ctx, daemonPatience)
	defer cancel()
	body, err := d.call(ctx, http.MethodGet, "/_ping", nil)
	if err != nil {
		return nil, fmt.Errorf("no Docker daemon answers at %s: %w (%w)", host, fs.ErrNotExist, err)
	}
	return d, finish(body)
}

// heldConnections is more than the calls of one build whose connection cannot be used again.
const heldConnections = 8

// Hold makes connections ahead, for a process that is about to lose the right to the socket. Over TCP nothing is needed.
func (d *Daemon) Hold(ctx context.Context) error {
	for d.dial != nil && len(d.held) < heldConnections {
		c, err := d.dial(ctx)
		if err != nil {
			return fmt.Errorf("connect to the Docker daemon at %s: %w", d.host, err)
		}
		d.held <- c
	}
	return nil
}

// KeepAlive asks the daemon now and then whether it is there, until ctx ends: some end connections that nothing uses.
func (d *Daemon) KeepAlive(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// A daemon that does not answer is told by the call that needs it.
		if body, err := d.call(ctx, http.MethodGet, "/_ping", nil); err == nil {
			_ = finish(body)
		}
	}
}

// Close ends all connections that nothing uses.
func (d *Daemon) Close() {
	for len(d.held) > 0 {
		(<-d.held).Close()
	}
	d.client.CloseIdleConnections()
}

// finish reads what is left of an answer, so that the connection can be used again.
func finish(body io.ReadCloser) error {
	_, err := io.Copy(io.Discard, io.LimitReader(body, 64<<10))
	return errors.Join(err, body.Close())
}

func daemonTLS(dir string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if dir == "" {
		return c, nil
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return nil, fmt.Errorf("the certificate for the Docker daemon: %w", err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return nil, fmt.Errorf("the certificate for the Docker daemon: %w", err)
	}
	c.Certificates, c.RootCAs = []tls.Certificate{pair}, x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s has no certificate", filepath.Join(dir, "ca.pem"))
	}
	return c, nil
}

// String tells where the daemon is.
func (d *Daemon) String() string { return d.host }

func (d *Daemon) call(ctx context.Context, method, path string, body io.Reader) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, d.base+path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/x-tar")
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var answer struct{ Message string }
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return nil, err
	}
	if json.Unmarshal(text, &answer) != nil || answer.Message == "" {
		answer.Message = resp.Status
	}
	if resp.StatusCode == http.StatusNotFound {
		return nil, fmt.Errorf("%s: %w", answer.Message, fs.ErrNotExist)
	}
	return nil, errors.New(answer.Message)
}

// ID gives the identity of the image that has a name, "" if there is none.
func (d *Daemon) ID(ctx context.Context, name string) (string, error) {
	found, err := d.inspect(ctx, name)
	if err != nil || found == nil {
		return "", err
	}
	return found.ID, nil
}

// Load gives the daemon the image in a layout folder under names, as one tar stream that is both of the kinds that daemons read: an OCI
// layout and what `docker save` wrote before.
func (d *Daemon) Load(ctx context.Context, dir string, names []string) error {
	r, w := io.Pipe()
	go func() { w.CloseWithError(writeArchive(w, dir, names)) }()
	defer r.Close()
	body, err := d.call(ctx, http.MethodPost, "/images/load?quiet=1", r)
	if err != nil {
		return fmt.Errorf("load the image into the Docker daemon: %w", err)
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct {
			Error string `json:"error"`
		}
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Error != "" {
			return fmt.Errorf("load the image into the Docker daemon: %s", line.Error)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("load the image into the Docker daemon: %w", err)
	}
	return nil
}

// writeArchive writes the tar stream.
func writeArchive(w io.Writer, dir string, names []string) error {
	img, err := ReadLayout(dir)
	if err != nil {
		return err
	}
	if img == nil {
		return fmt.Errorf("%s: %w", dir, fs.ErrNotExist)
	}
	manifest, err := img.Manifest()
	if err != nil {
		return err
	}
	raw, err := img.RawManifest()
	if err != nil {
		return err
	}
	digest, size, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	blob := func(h v1.Hash) string { return path.Join("blobs", h.Algorithm, h.Hex) }
	saved := struct {
		Config   string
		RepoTags []string
		Layers   []string
	}{blob(manifest.Config.Digest), names, nil}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	for _, n := range names {
		d := v1.Descriptor{MediaType: manifest.MediaType, Digest: digest, Size: size, Annotations: map[string]string{"io.containerd.image.name": n}}
		if ref, err := registry.ParseReference(n); err == nil {
			d.Annotations["org.opencontainers.image.ref.name"] = ref.Tag
		}
		index.Manifests = append(index.Manifests, d)
	}
	tw := tar.NewWriter(w)
	put := func(name string, size int64, r io.Reader) error {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: layer.ModTime}); err != nil {
			return err
		}
		_, err := io.Copy(tw, r)
		return err
	}
	seen := map[v1.Hash]bool{}
	blobs := append([]v1.Descriptor{manifest.Config, {Digest: digest, Size: size}}, manifest.Layers...)
	for i, b := range blobs {
		if i > 1 {
			saved.Layers = append(saved.Layers, blob(b.Digest))
		}
		if seen[b.Digest] {
			continue
		}
		seen[b.Digest] = true
		f, err := os.Open(blobPath(dir, b.Digest))
		if err != nil {
			return err
		}
		if err := errors.Join(put(blob(b.Digest), b.Size, f), f.Close()); err != nil {
			return err
		}
	}
	for _, file := range []struct {
		name string
		v    any
	}{{"oci-layout", map[string]string{"imageLayoutVersion": "1.0.0"}}, {"index.json", index}, {"manifest.json", []any{saved}}} {
		data, err := json.Marshal(file.v)
		if err != nil {
			return err
		}
		if err := put(file.name, int64(len(data)), bytes.NewReader(data)); err != nil {
			return err
		}
	}
	return tw.Close()
}

// DaemonTarget collects an image in a folder and gives it to a daemon at the end. The folder is kept for the next build.
type DaemonTarget struct {
	*Layout
	daemon *Daemon
	dir    string
}

// NewDaemonTarget gives the target; dir takes the layers.
func NewDaemonTarget(d *Daemon, dir string) *DaemonTarget {
	return &DaemonTarget{NewFolder(dir), d, dir}
}

// Publish implements Target.
func (t *DaemonTarget) Publish(ctx context.Context, config, manifest []byte, mediaType types.MediaType, names []string) (v1.Hash, error) {
	var tagged []string
	for _, n := range names {
		ref, err := registry.ParseReference(n)
		if err != nil {
			return v1.Hash{}, err
		}
		if ref.Tag == "" {
			return v1.Hash{}, fmt.Errorf("%s: a name in a Docker daemon has a tag and no digest", n)
		}
		// The user's spelling is what the daemon shows: app and not index.docker.io/library/app.
		if !strings.HasSuffix(n, ":"+ref.Tag) {
			n += ":" + ref.Tag
		}
		tagged = append(tagged, n)
	}
	digest, err := t.Layout.Publish(ctx, config, manifest, mediaType, names[:1])
	if err != nil {
		return digest, err
	}
	return digest, t.daemon.Load(ctx, t.dir, tagged)
}

// Previous gives the image in the folder if it is the one that the daemon has under the name.
func (t *DaemonTarget) Previous(ctx context.Context, name string) (v1.Image, error) {
	id, err := t.daemon.ID(ctx, name)
	if err != nil || id == "" {
		return nil, err
	}
	img, err := ReadLayout(t.dir)
	if err != nil || img == nil {
		return nil, nil //nolint:nilerr // a damaged folder is made anew
	}
	config, err := img.ConfigName()
	if err != nil {
		return nil, err
	}
	digest, err := img.Digest()
	if err != nil {
		return nil, err
	}
	if id != config.String() && id != digest.String() { // daemons name images by one or the other
		return nil, nil
	}
	return img, nil
}

// Remove removes layers that the last published image does not have.
func (t *DaemonTarget) Remove() error {
	img, err := ReadLayout(t.dir)
	if err != nil || img == nil {
		return err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	keep := map[string]bool{digest.Hex: true, manifest.Config.Digest.Hex: true}
	for _, l := range manifest.Layers {
		keep[l.Digest.Hex] = true
	}
	blobs := filepath.Join(t.dir, "blobs", "sha256")
	entries, err := os.ReadDir(blobs)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !keep[e.Name()] {
			err = errors.Join(err, os.Remove(filepath.Join(blobs, e.Name())))
		}
	}
	return err
}
