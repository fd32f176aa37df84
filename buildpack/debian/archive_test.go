package debian

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// mirror is an archive of packages made by the test, signed with a key of its own.
type mirror struct {
	t        testing.TB
	files    map[string][]byte
	packages []string // paragraphs of the index
	key      *openpgp.Entity
	server   *httptest.Server
	root     string // with apt's sources and the keyring
}

func newMirror(t testing.TB) *mirror {
	t.Helper()
	key, err := openpgp.NewEntity("archive", "", "archive@example.com", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	if err != nil {
		t.Fatal(err)
	}
	m := &mirror{t: t, files: map[string][]byte{}, key: key, root: t.TempDir()}
	m.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := m.files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(data)
	}))
	t.Cleanup(m.server.Close)
	var ring bytes.Buffer
	if err := key.Serialize(&ring); err != nil {
		t.Fatal(err)
	}
	m.write("keys.gpg", ring.String())
	m.write("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n")
	m.write("etc/apt/sources.list", fmt.Sprintf("deb [signed-by=%s/keys.gpg] %s/debian bookworm main\ndeb http://other.example/ stable main # another's\n", m.root, m.server.URL))
	return m
}

func (m *mirror) write(name, text string) {
	m.t.Helper()
	at := filepath.Join(m.root, name)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// add makes a package with files; fields are further lines of its control file.
func (m *mirror) add(name, version, compression string, files map[string]string, fields ...string) {
	m.t.Helper()
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\nDescription: a test\n%s", name, version, runtime.GOARCH, strings.Join(append(fields, ""), "\n"))
	deb := makeDeb(m.t, control, compression, files)
	path := fmt.Sprintf("pool/%s_%s.deb", name, strings.ReplaceAll(version, ":", "%3a"))
	path = strings.ReplaceAll(path, "%3a", "-")
	m.files["/debian/"+path] = deb
	m.packages = append(m.packages, fmt.Sprintf("%sFilename: %s\nSize: %d\nSHA256: %x\n", control, path, len(deb), sha256.Sum256(deb)))
}

// publish writes index and release.
func (m *mirror) publish(extra string) {
	m.t.Helper()
	index := []byte(strings.Join(m.packages, "\n"))
	var packed bytes.Buffer
	w, err := xz.NewWriter(&packed)
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := w.Write(index); err != nil {
		m.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		m.t.Fatal(err)
	}
	at := "main/binary-" + runtime.GOARCH + "/Packages.xz"
	m.files["/debian/dists/bookworm/"+at] = packed.Bytes()
	text := fmt.Sprintf("Origin: Test\nCodename: bookworm\nDate: Sat, 11 Jul 2026 10:16:37 UTC\n%sSHA256:\n %x %d %s\n", extra, sha256.Sum256(packed.Bytes()), packed.Len(), at)
	var signed bytes.Buffer
	plain, err := clearsign.Encode(&signed, m.key.PrivateKey, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := io.WriteString(plain, text); err != nil {
		m.t.Fatal(err)
	}
	if err := plain.Close(); err != nil {
		m.t.Fatal(err)
	}
	m.files["/debian/dists/bookworm/InRelease"] = signed.Bytes()
}

func makeDeb(t testing.TB, control, compression string, files map[string]string) []byte {
	t.Helper()
	archive := func(entries map[string]string) []byte {
		var b bytes.Buffer
		tw := tar.NewWriter(&b)
		names := make([]string, 0, len(entries))
		for name := range entries {
			names = append(names, name)
		}
		sortStrings(names)
		for _, name := range names {
			h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o4755, Size: int64(len(entries[name])), ModTime: time.Now()}
			switch {
			case strings.HasSuffix(name, "/"):
				h.Typeflag, h.Size = tar.TypeDir, 0
			case strings.HasPrefix(entries[name], "-> "):
				h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, entries[name][3:], 0
			case strings.HasPrefix(entries[name], "== "):
				h.Typeflag, h.Linkname, h.Size = tar.TypeLink, entries[name][3:], 0
			}
			if err := tw.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			if h.Size > 0 {
				if _, err := io.WriteString(tw, entries[name]); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := tw.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	pack := func(data []byte) []byte {
		var b bytes.Buffer
		var w io.WriteCloser
		var err error
		switch compression {
		case "":
			return data
		case "gz":
			w = gzip.NewWriter(&b)
		case "xz":
			w, err = xz.NewWriter(&b)
		case "zst":
			w, err = zstd.NewWriter(&b)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	var out bytes.Buffer
	out.WriteString("!<arch>\n")
	member := func(name string, data []byte) {
		fmt.Fprintf(&out, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, 0, 0, 0, "100644", len(data))
		out.Write(data)
		if len(data)%2 == 1 {
			out.WriteByte('\n')
		}
	}
	ending := ".tar"
	if compression != "" {
		ending += "." + compression
	}
	member("debian-binary", []byte("2.0\n"))
	member("control"+ending, pack(archive(map[string]string{"./control": control})))
	member("data"+ending, pack(archive(files)))
	return out.Bytes()
}

func sortStrings(s []string) {
	for i := range s {
		for j := i + 1; j < len(s); j++ {
			if s[j] < s[i] {
				s[i], s[j] = s[j], s[i]
			}
		}
	}
}

// small makes a mirror with what Base wants, reduced to a few files.
func small(t testing.TB) *mirror {
	m := newMirror(t)
	for i, name := range essentials {
		files := map[string]string{"./usr/": "", "./usr/bin/": "", "./usr/bin/" + name: name, "./bin/": "", "./bin/x-" + name: name, "./usr/share/doc/" + name + "/changelog": "no",
			"./usr/share/doc/" + name + "/copyright": "free", "./usr/share/man/man1/" + name: "no"}
		switch name {
		case "base-passwd":
			files["./usr/share/base-passwd/passwd.master"] = "root:*:0:0:root:/root:/bin/bash\n"
			files["./usr/share/base-passwd/group.master"] = "root:*:0:\n"
		case "ca-certificates":
			files["./usr/share/ca-certificates/mozilla/one.crt"] = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"
		case "mawk":
			files["./usr/bin/mawk"] = "awk"
		case "bash":
			files["./usr/bin/same"] = "== ./usr/bin/bash"
			files["./bin/sh"] = "-> bash"
		}
		m.add(name, "1:1.0-1", []string{"xz", "gz", "zst", ""}[i%4], files, "Depends: libc6 (>= 2.34), debconf (>= 0.5) | debconf-2.0")
	}
	m.add("libc6", "2.36-9+deb12u1", "xz", map[string]string{"./lib64/ld.so": "old"})
	m.add("libc6", "2.36-9+deb12u10", "xz", map[string]string{"./lib64/ld.so": "linker"})
	return m
}
