package buildpack

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/weft-dev/weft/buildpack/layer"
	"github.com/weft-dev/weft/buildpack/spec"
)

// userID is the user and group that builds and images run as.
const userID = 1000

// runImage is the image that an application is put on.
type runImage struct {
	image     v1.Image
	reference string // by digest, "" if no registry has it
	name      spec.RunImageName
}

// bundles are where systems keep the certificates of authorities.
var bundles = []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem", "/etc/ssl/ca-bundle.pem"}

// certificates gives this machine's bundle, nil if there is none.
func certificates() ([]byte, error) {
	for _, file := range append([]string{os.Getenv("SSL_CERT_FILE")}, bundles...) {
		if file == "" {
			continue
		}
		data, err := os.ReadFile(file)
		if err == nil {
			return data, nil
		}
		if !os.IsNotExist(err) {
			return nil, err
		}
	}
	return nil, nil
}

// emptyRunImage makes the image for programs that need nothing: users, certificates and a folder for temporary files.
func emptyRunImage() (runImage, error) {
	ca, err := certificates()
	if err != nil {
		return runImage{}, fmt.Errorf("certificates: %w", err)
	}
	content := func(w io.Writer) error {
		tw := layer.NewWriter(w)
		for _, p := range []layer.Parent{{Path: "/etc", Mode: 0o755}, {Path: "/etc/ssl", Mode: 0o755}, {Path: "/etc/ssl/certs", Mode: 0o755},
			{Path: "/home", Mode: 0o755}, {Path: "/home/cnb", Mode: 0o755, Owner: layer.Owner{UID: userID, GID: userID}},
			{Path: "/tmp", Mode: 0o777 | os.ModeSticky}} {
			if err := tw.Folder(p); err != nil {
				return err
			}
		}
		files := map[string]string{
			"/etc/group":                         groupFile,
			"/etc/nsswitch.conf":                 "hosts: files dns\n",
			"/etc/passwd":                        passwdFile,
			"/etc/ssl/certs/ca-certificates.crt": string(ca),
		}
		for _, name := range []string{"/etc/group", "/etc/nsswitch.conf", "/etc/passwd", "/etc/ssl/certs/ca-certificates.crt"} {
			if files[name] == "" {
				continue
			}
			if err := tw.File(name, 0o644, layer.Owner{}, int64(len(files[name])), bytes.NewReader([]byte(files[name]))); err != nil {
				return err
			}
		}
		return tw.Close()
	}
	var blob bytes.Buffer
	measured, err := layer.Stream(&blob, layer.Gzip, content)
	if err != nil {
		return runImage{}, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.Append(base, mutate.Addendum{Layer: knownDiffID{static.NewLayer(blob.Bytes(), types.OCILayer), measured.DiffID},
		History: v1.History{CreatedBy: "weft empty run image"}})
	if err != nil {
		return runImage{}, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return runImage{}, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config.User = fmt.Sprintf("%d:%d", userID, userID)
	config.Config.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/home/cnb"}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return runImage{}, err
	}
	return runImage{image: img}, nil
}

const (
	passwdFile = "root:x:0:0:root:/root:/sbin/nologin\ncnb:x:1000:1000:cnb:/home/cnb:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n"
	groupFile  = "root:x:0:\ncnb:x:1000:\nnogroup:x:65534:\n"
)

// knownDiffID is a layer given by its compressed bytes.
type knownDiffID struct {
	v1.Layer
	diffID v1.Hash
}

func (k knownDiffID) DiffID() (v1.Hash, error) { return k.diffID, nil }
