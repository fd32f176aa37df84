package debian

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// TestCompare has the examples of deb-version(7) and pairs that archives have.
func TestCompare(t *testing.T) {
	ascending := []string{"~~", "~~a", "~", "", "0.9~rc1", "0.9", "1.0~beta1~svn1245", "1.0~beta1", "1.0", "1.0-1", "1.0-1+b1", "1.0-1.1", "1.0-2", "1.0-10",
		"1.0a", "1.0+dfsg-1", "1.0.1", "2.36-9+deb12u1", "2.36-9+deb12u10", "20230311", "1:0.1", "2:0"}
	for i, a := range ascending {
		for j, b := range ascending {
			if got := Compare(a, b); got < 0 != (i < j) || got > 0 != (i > j) {
				t.Errorf("Compare(%q, %q) = %d", a, b, got)
			}
		}
	}
	for _, equal := range [][2]string{{"1.0", "1.00"}, {"0:1", "1"}, {"1-0", "1-"}} {
		if Compare(equal[0], equal[1]) != 0 {
			t.Errorf("%q and %q are equal", equal[0], equal[1])
		}
	}
}

func contents(t *testing.T, img v1.Image) map[string]*tar.Header {
	t.Helper()
	out := map[string]*tar.Header{}
	r := mutate.Extract(img)
	defer r.Close()
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimPrefix(h.Name, "/")] = h
	}
}

// TestImages makes the images of a small archive twice, from nothing but the lock the second time.
func TestImages(t *testing.T) {
	m := small(t)
	m.add("nodejs", "18", "xz", map[string]string{"./usr/bin/node": "node"}, "Depends: libc6, ca-certificates")
	m.add("npm", "9", "xz", map[string]string{"./usr/bin/npm": "npm"}, "Depends: nodejs, node-abbrev")
	m.add("node-abbrev-real", "1", "xz", map[string]string{"./usr/share/nodejs/abbrev/index.js": "x"}, "Provides: node-abbrev (= 1)")
	m.publish("")
	images := Images{Dir: t.TempDir(), Root: m.root}
	build, run, err := images.Language(t.Context(), "node", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	files := contents(t, build)
	for _, name := range []string{"usr/bin/node", "usr/bin/npm", "usr/share/nodejs/abbrev/index.js", "usr/bin/x-bash", "usr/lib64/ld.so", "etc/passwd", "usr/bin/awk", "usr/bin/same",
		"etc/ssl/certs/ca-certificates.crt", "usr/share/doc/bash/copyright", "var/lib/dpkg/status", "tmp"} {
		if files[name] == nil {
			t.Errorf("the build image has no %s", name)
		}
	}
	for _, name := range []string{"usr/share/doc/bash/changelog", "usr/share/man/man1/bash", "bin/x-bash"} {
		if files[name] != nil {
			t.Errorf("the build image has %s", name)
		}
	}
	if link := files["bin"]; link == nil || link.Linkname != "usr/bin" {
		t.Errorf("/bin is %+v, not a link to usr/bin", link)
	}
	if h := files["usr/bin/node"]; h != nil && (h.Mode&0o6000 != 0 || h.ModTime.Year() != 1980) {
		t.Errorf("the entry depends on where it comes from: %+v", h)
	}
	if contents(t, run)["usr/bin/npm"] != nil {
		t.Error("the run image has npm")
	}
	first, err := build.Digest()
	if err != nil {
		t.Fatal(err)
	}

	// A newer version appears: the lock keeps what it has, unless it is refreshed.
	m.add("nodejs", "20", "xz", map[string]string{"./usr/bin/node": "newer"}, "Depends: libc6, ca-certificates")
	m.publish("")
	lock, err := os.ReadFile(filepath.Join(images.Dir, "locks", "node-"+runtime.GOARCH+".json"))
	if err != nil {
		t.Fatal(err)
	}
	other := Images{Dir: t.TempDir(), Root: m.root}
	read, err := ReadLock(lock, "lock")
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := other.FromLock(t.Context(), read, "node")
	if err != nil {
		t.Fatal(err)
	}
	if second, err := again.Digest(); err != nil || second != first {
		t.Errorf("the same lock gave %s and %s (%v)", first, second, err)
	}
	images.Refresh = true
	newer, _, err := images.Language(t.Context(), "node", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if third, err := newer.Digest(); err != nil || third == first {
		t.Errorf("a refreshed lock gave the same image (%v)", err)
	}
}

func TestArchiveFaults(t *testing.T) {
	image := func(m *mirror, more ...string) error {
		_, _, err := Images{Dir: m.t.TempDir(), Root: m.root}.Language(t.Context(), Base, more, nil)
		return err
	}
	for _, tt := range []struct {
		name string
		do   func(*mirror) error
		want string
	}{
		{"a text that was changed after it was signed", func(m *mirror) error {
			m.publish("")
			at := "/debian/dists/bookworm/InRelease"
			m.files[at] = bytes.Replace(m.files[at], []byte("Origin: Test"), []byte("Origin: Evil"), 1)
			return image(m)
		}, "cannot be verified"},
		{"another key", func(m *mirror) error {
			other := newMirror(t)
			m.key = other.key
			m.publish("")
			return image(m)
		}, "cannot be verified"},
		{"no signature", func(m *mirror) error {
			m.publish("")
			m.files["/debian/dists/bookworm/InRelease"] = []byte("Origin: Test\nSHA256:\n")
			return image(m)
		}, "is not signed"},
		{"out of date", func(m *mirror) error {
			m.publish("Valid-Until: Thu, 03 Dec 2020 21:03:35 UTC\n")
			return image(m)
		}, "was valid until"},
		{"an index that is not what was signed", func(m *mirror) error {
			m.publish("")
			m.files["/debian/dists/bookworm/main/binary-"+runtime.GOARCH+"/Packages.xz"] = []byte("something else")
			return image(m)
		}, "not what the archive's index promises"},
		{"a package that is not what the index says", func(m *mirror) error {
			m.publish("")
			for name := range m.files {
				if strings.Contains(name, "pool/tzdata") {
					m.files[name] = append(slices.Clone(m.files[name][:len(m.files[name])-1]), 'x')
				}
			}
			return image(m)
		}, "tzdata"},
		{"a package that is missing", func(m *mirror) error {
			m.publish("")
			return image(m, "nonesuch")
		}, "the package nonesuch is not in the archive"},
		{"a dependency that is missing", func(m *mirror) error {
			m.add("needy", "1", "xz", nil, "Depends: middle")
			m.add("middle", "1", "xz", nil, "Depends: libc6 (>= 99)")
			m.publish("")
			return image(m, "needy")
		}, "the package middle (needed by needy) needs libc6 (>= 99), which the archive does not have, only version 2.36-9+deb12u10"},
		{"packages that exclude each other", func(m *mirror) error {
			m.add("one", "1", "xz", nil, "Conflicts: two (<< 3)")
			m.add("two", "2", "xz", nil)
			m.publish("")
			return image(m, "one", "two")
		}, "one 1 and two 2 do not go together"},
		{"a path that leads out", func(m *mirror) error {
			m.add("evil", "1", "xz", map[string]string{"./../../etc/cron.d/x": "x"})
			m.publish("")
			return image(m, "evil")
		}, "leads out of the package"},
		{"a hard link to another package's file", func(m *mirror) error {
			m.add("evil", "1", "xz", map[string]string{"./usr/x": "== ./nonesuch"})
			m.publish("")
			return image(m, "evil")
		}, "which is not before it"},
		{"a mirror that is gone", func(m *mirror) error {
			m.publish("")
			m.server.Close()
			return image(m)
		}, "fetch http://127.0.0.1"},
		{"no Debian", func(m *mirror) error {
			m.publish("")
			m.write("etc/os-release", "ID=other\n")
			return image(m)
		}, "names no VERSION_CODENAME"},
		{"offline", func(m *mirror) error {
			m.publish("")
			_, _, err := Images{Dir: t.TempDir(), Root: m.root, Offline: true}.Language(t.Context(), Base, nil, nil)
			return err
		}, "have never been fetched"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.do(small(t)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestLockFaults(t *testing.T) {
	for text, want := range map[string]string{
		"{\n\"version\": 1,,": "lock:2",
		`{"version": 2}`:      "version is 2, this program reads 1",
		`{"version": 1, "layers": [{"name": "a", "on": "b"}]}`:                                                                                                        "stands on one before it",
		`{"version": 1, "layers": [{"name": "a", "packages": [{"name": "../x", "sha256": "` + strings.Repeat("0", 64) + `", "size": 1}]}]}`:                           "needs a name",
		`{"version": 1, "layers": [{"name": "a", "packages": [{"name": "x", "url": "file:///etc/shadow", "sha256": "` + strings.Repeat("0", 64) + `", "size": 1}]}]}`: "needs a name, a url",
	} {
		if _, err := ReadLock([]byte(text), "lock"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestSources(t *testing.T) {
	root := t.TempDir()
	m := &mirror{t: t, root: root}
	m.write("etc/os-release", "VERSION_CODENAME=bookworm\n")
	m.write("etc/apt/sources.list", "# deb http://commented.example bookworm main\ndeb-src http://source.example bookworm main\n"+
		"deb [arch=other] http://arch.example bookworm main\ndeb cdrom:[x]/ bookworm main\ndeb http://flat.example ./\ndeb http://one.example/debian/ bookworm main contrib\n")
	m.write("etc/apt/sources.list.d/more.sources", "Types: deb deb-src\nURIs: http://two.example/debian\nSuites: bookworm-updates bookworm-backports\nComponents: main\n"+
		"Signed-By: /keys.gpg\n\nEnabled: no\nTypes: deb\nURIs: http://off.example\nSuites: bookworm\nComponents: main\n")
	got, err := HostSources(root)
	want := []Source{{"http://one.example/debian", "bookworm", []string{"main", "contrib"}, ""}, {"http://two.example/debian", "bookworm-updates", []string{"main"}, "/keys.gpg"}}
	if err != nil || len(got) != 2 || got[0].Mirror != want[0].Mirror || len(got[0].Components) != 2 || got[1].Keyring != want[1].Keyring || got[1].Suite != want[1].Suite {
		t.Errorf("got %+v (%v), want %+v", got, err, want)
	}
	m.write("etc/apt/sources.list", "deb [x http://one.example bookworm main\n")
	if _, err := HostSources(root); err == nil || !strings.Contains(err.Error(), "sources.list:1") {
		t.Errorf("an unclosed bracket gave %v", err)
	}
}

func TestKeyStoreIsReadByJava(t *testing.T) {
	store := KeyStore([]byte("-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"))
	if !bytes.HasPrefix(store, []byte{0xFE, 0xED, 0xFE, 0xED, 0, 0, 0, 2, 0, 0, 0, 1}) || !bytes.Contains(store, []byte("hello")) || len(store) != 12+4+2+6+8+2+5+4+5+20 {
		t.Errorf("unexpected form: %x", store)
	}
}

func FuzzDeb(f *testing.F) {
	for _, c := range []string{"", "gz", "xz", "zst"} {
		f.Add(makeDeb(f, "Package: x\nVersion: 1\n", c, map[string]string{"./a/": "", "./a/b": "c", "./l": "-> a"}))
	}
	f.Fuzz(func(_ *testing.T, data []byte) {
		if len(data) > 1<<20 {
			return
		}
		total := int64(0)
		_ = readDeb(bytes.NewReader(data), func(string) error { return nil }, func(h *tar.Header, r io.Reader) error {
			at, err := place(h.Name)
			if err == nil && at != "" && !strings.HasPrefix(at, "/") {
				panic(at)
			}
			n, err := io.Copy(io.Discard, io.LimitReader(r, 16<<20))
			if total += n; total > 32<<20 {
				return errEnough
			}
			return err
		})
	})
}

func FuzzPackages(f *testing.F) {
	f.Add([]byte("Package: x\nVersion: 1\nFilename: pool/x.deb\nSize: 1\nSHA256: " + strings.Repeat("0", 64) + "\nDepends: a (>= 1) | b, c:any\nProvides: d (= 1)\n\nPackage: y\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var list []*Package
		if err := readPackages(bytes.NewReader(data), "Packages", "http://m", func(p *Package) { list = append(list, p) }); err != nil {
			return
		}
		x := NewIndex(list)
		for _, name := range slices.Sorted(maps.Keys(x.byName)) {
			if got, err := x.Resolve([]string{name}, nil, nil); err == nil && len(got) == 0 {
				t.Errorf("%s resolves to nothing", name)
			}
		}
	})
}

func FuzzRelease(f *testing.F) {
	m := newMirror(f)
	m.publish("")
	f.Add(m.files["/debian/dists/bookworm/InRelease"])
	keys, err := readKeys(m.root, filepath.Join(m.root, "keys.gpg"))
	if err != nil {
		f.Fatal(err)
	}
	good := m.files["/debian/dists/bookworm/InRelease"]
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := readRelease(data, "InRelease", keys, time.Now())
		if err == nil && len(r.files) != 1 && !bytes.Equal(data, good) {
			t.Errorf("%q was taken for signed", data)
		}
	})
}
