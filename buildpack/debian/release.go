package debian

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// release is a verified InRelease file.
type release struct {
	suite string
	date  string
	files map[string]file
}

type file struct {
	sha256 string
	size   int64
}

// trustedKeys are where apt keeps the keys it trusts, relative to the root folder.
var trustedKeys = []string{"etc/apt/trusted.gpg", "etc/apt/trusted.gpg.d/*.gpg", "etc/apt/trusted.gpg.d/*.asc",
	"usr/share/keyrings/debian-archive-keyring.gpg", "usr/share/keyrings/ubuntu-archive-keyring.gpg"}

// readKeys reads a keyring, or all that apt trusts below root if none is named.
func readKeys(root, keyring string) (openpgp.EntityList, error) {
	files := []string{keyring}
	if keyring == "" {
		files = nil
		for _, pattern := range trustedKeys {
			found, err := filepath.Glob(filepath.Join(root, pattern))
			if err != nil {
				return nil, err
			}
			files = append(files, found...)
		}
		if len(files) == 0 {
			return nil, errors.New("no keys are there to verify the archive with; install debian-archive-keyring, or name a keyring")
		}
	}
	var out openpgp.EntityList
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("the keyring: %w", err)
		}
		if bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN")) {
			block, err := armor.Decode(bytes.NewReader(data))
			if err != nil {
				return nil, fmt.Errorf("the keyring %s: %w", name, err)
			}
			keys, err := openpgp.ReadKeyRing(block.Body)
			if err != nil {
				return nil, fmt.Errorf("the keyring %s: %w", name, err)
			}
			out = append(out, keys...)
			continue
		}
		keys, err := openpgp.ReadKeyRing(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("the keyring %s: %w", name, err)
		}
		out = append(out, keys...)
	}
	return out, nil
}

// readRelease verifies the signature of an InRelease file and reads it. Nothing outside the signed text is looked at.
func readRelease(data []byte, name string, keys openpgp.KeyRing, now time.Time) (*release, error) {
	block, _ := clearsign.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s is not signed", name)
	}
	if _, err := block.VerifySignature(keys, &packet.Config{Time: func() time.Time { return now }}); err != nil {
		return nil, fmt.Errorf("the signature of %s cannot be verified: %w", name, err)
	}
	r := &release{files: map[string]file{}}
	err := eachStanza(bytes.NewReader(block.Plaintext), name, func(s stanza) error {
		r.suite, r.date = s["codename"], s["date"]
		if until := s["valid-until"]; until != "" {
			at, err := time.Parse(time.RFC1123, until)
			if err != nil {
				return fmt.Errorf("%s: the field Valid-Until: %w", name, err)
			}
			if now.After(at) {
				return fmt.Errorf("%s was valid until %s only: the mirror is out of date, or this machine's clock is wrong", name, until)
			}
		}
		for line := range strings.Lines(s["sha256"]) {
			fields := strings.Fields(line)
			if len(fields) == 0 {
				continue
			}
			if len(fields) != 3 {
				return fmt.Errorf("%s: the field SHA256 has the line %q", name, strings.TrimSpace(line))
			}
			size, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil || size < 0 {
				return fmt.Errorf("%s: the size of %s is %q", name, fields[2], fields[1])
			}
			r.files[fields[2]] = file{fields[0], size}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(r.files) == 0 {
		return nil, fmt.Errorf("%s has no field SHA256", name)
	}
	return r, nil
}

// maxRelease bounds an InRelease file, in bytes.
const maxRelease = 8 << 20

// LoadIndex reads the indexes of the sources for an architecture ("amd64").
func (a *Archive) LoadIndex(ctx context.Context, sources []Source, arch string) (*Index, error) {
	var all []*Package
	for _, s := range sources {
		keys, err := readKeys(a.root(), s.Keyring)
		if err != nil {
			return nil, err
		}
		url := s.Mirror + "/dists/" + s.Suite + "/InRelease"
		data, err := a.get(ctx, url, maxRelease)
		if err != nil {
			return nil, err
		}
		r, err := readRelease(data, url, keys, a.now())
		if err != nil {
			return nil, err
		}
		for _, component := range s.Components {
			list, err := a.component(ctx, s, r, component, arch)
			if err != nil {
				return nil, err
			}
			all = append(all, list...)
		}
	}
	return NewIndex(all), nil
}

func (a *Archive) component(ctx context.Context, s Source, r *release, component, arch string) ([]*Package, error) {
	for _, ending := range []string{".xz", ".gz", ""} {
		name := component + "/binary-" + arch + "/Packages" + ending
		f, ok := r.files[name]
		if !ok {
			continue
		}
		url := s.Mirror + "/dists/" + s.Suite + "/" + name
		at, err := a.fetch(ctx, url, f.sha256, f.size)
		if err != nil {
			return nil, err
		}
		in, err := os.Open(at)
		if err != nil {
			return nil, err
		}
		defer in.Close()
		plain, done, err := decompress(in, strings.TrimPrefix(ending, "."))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", url, err)
		}
		defer done()
		var list []*Package
		err = readPackages(&limited{plain, maxIndex}, url, s.Mirror, func(p *Package) {
			if p.Arch == arch || p.Arch == "all" {
				list = append(list, p)
			}
		})
		return list, err
	}
	return nil, fmt.Errorf("%s has no packages of %s for %s", s.Mirror+" "+s.Suite, component, arch)
}

// maxIndex bounds an index, unpacked, in bytes.
const maxIndex = 1 << 30
