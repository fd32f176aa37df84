package tree_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-dev/weft/image/tree"
)

// inline keeps content in the tree.
type inline struct{}

func (inline) File(n *tree.Node, r io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(r, 1<<20))
	n.Inline = b
	return err
}

// archive makes a tar stream; entries are "TYPE NAME[ TARGET]".
func archive(t testing.TB, entries ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		f := strings.Split(e, " ")
		h := &tar.Header{Typeflag: f[0][0], Name: f[1], Mode: 0o640, Format: tar.FormatPAX}
		content := ""
		if len(f) > 2 {
			if h.Linkname = f[2]; h.Typeflag == tar.TypeReg {
				h.Linkname, content = "", f[2]
			}
		}
		h.Size = int64(len(content))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func listing(root *tree.Node) string {
	var b strings.Builder
	for p, n := range root.All() {
		fmt.Fprintf(&b, "/%s %o", p, n.Mode)
		if n.Opaque {
			b.WriteString(" opaque")
		}
		if n.Target != "" {
			b.WriteString(" -> " + n.Target)
		}
		if len(n.Inline) > 0 {
			fmt.Fprintf(&b, " %q", n.Inline)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestLayers(t *testing.T) {
	for name, c := range map[string]struct {
		entries []string
		want    string
	}{
		"missing parents":               {[]string{"0 a/b/c x"}, "/ 40755\n/a 40755\n/a/b 40755\n/a/b/c 100640 \"x\"\n"},
		"the last entry counts":         {[]string{"0 a x", "0 ./a y"}, "/ 40755\n/a 100640 \"y\"\n"},
		"a folder keeps its entries":    {[]string{"5 a", "0 a/b x", "5 a/"}, "/ 40755\n/a 40640\n/a/b 100640 \"x\"\n"},
		"a whiteout":                    {[]string{"0 .wh.gone"}, "/ 40755\n/gone 20000\n"},
		"a file and then its whiteout":  {[]string{"0 a x", "0 .wh.a"}, "/ 40755\n/a 100640 \"x\"\n"},
		"a whiteout and then its file":  {[]string{"0 .wh.a", "0 a x"}, "/ 40755\n/a 100640 \"x\"\n"},
		"a folder that was a file":      {[]string{"0 .wh.a", "5 a", "0 a/b x"}, "/ 40755\n/a 40640 opaque\n/a/b 100640 \"x\"\n"},
		"an opaque folder":              {[]string{"5 a", "0 a/.wh..wh..opq", "0 a/b x"}, "/ 40755\n/a 40640 opaque\n/a/b 100640 \"x\"\n"},
		"what AUFS left":                {[]string{"0 .wh..wh.plnk", "5 .wh..wh.aufs"}, "/ 40755\n"},
		"a folder behind a link":        {[]string{"5 usr/lib", "2 lib usr/lib", "0 lib/x y"}, "/ 40755\n/lib 120640 -> usr/lib\n/usr 40755\n/usr/lib 40640\n/usr/lib/x 100640 \"y\"\n"},
		"a link out of the root":        {[]string{"2 up ../../..", "0 up/x y"}, "/ 40755\n/up 120640 -> ../../..\n/x 100640 \"y\"\n"},
		"a file that becomes a folder":  {[]string{"0 a x", "0 a/b y"}, "/ 40755\n/a 40755\n/a/b 100640 \"y\"\n"},
		"the root's own entry":          {[]string{"5 ./"}, "/ 40640\n"},
		"an absolute name":              {[]string{"0 /etc/x y"}, "/ 40755\n/etc 40755\n/etc/x 100640 \"y\"\n"},
		"dots that stay in the root":    {[]string{"0 a/../b x"}, "/ 40755\n/b 100640 \"x\"\n"},
		"nothing":                       {nil, "/ 40755\n"},
		"a hard link to a later change": {[]string{"0 a x", "1 b a", "0 a y"}, "/ 40755\n/a 100640 \"y\"\n/b 100640 \"x\"\n"},
	} {
		root, err := tree.FromTar(bytes.NewReader(archive(t, c.entries...)), tree.OCI, inline{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := listing(root); got != c.want {
			t.Errorf("%s:\n%swant:\n%s", name, got, c.want)
		}
	}
}

func TestBadLayers(t *testing.T) {
	long := strings.Repeat("n", 256)
	for name, c := range map[string]struct {
		entries []string
		want    string
	}{
		"out of the root":      {[]string{"0 ../x y"}, "leads out of the root"},
		"deep out of the root": {[]string{"0 a/../../x y"}, "leads out of the root"},
		"a link to nothing":    {[]string{"1 a nowhere"}, "not in the layer before it"},
		"a link to a folder":   {[]string{"5 d", "1 a d"}, "to the folder"},
		"a long name":          {[]string{"0 " + long + " x"}, "256 bytes"},
		"links in a circle":    {[]string{"2 a b", "2 b a", "0 a/x y"}, "symbolic links"},
		"an empty link":        {[]string{"2 a"}, "target of 0 bytes"},
		"a whiteout of itself": {[]string{"0 .wh.."}, "whiteout without a name"},
		"a file as the root":   {[]string{"0 . x"}, "the root is a file"},
	} {
		_, err := tree.FromTar(bytes.NewReader(archive(t, c.entries...)), tree.OCI, inline{})
		if err == nil || !errors.Is(err, tree.ErrLayer) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	whole := archive(t, "0 a "+strings.Repeat("content", 200))
	if _, err := tree.FromTar(bytes.NewReader(whole[:900]), tree.OCI, inline{}); err == nil {
		t.Error("a truncated layer was taken")
	}
}

// TestMergeInAnyOrder puts three layers together, the lower two first or the upper two: what the middle one deletes stays deleted.
func TestMergeInAnyOrder(t *testing.T) {
	layer := func(entries ...string) *tree.Node {
		t.Helper()
		n, err := tree.FromTar(bytes.NewReader(archive(t, entries...)), tree.OCI, inline{})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	low := func() *tree.Node { return layer("5 a", "0 a/old x", "5 b", "0 b/old x", "0 c x") }
	middle := func() *tree.Node { return layer("0 .wh.a", "5 b", "0 b/.wh..wh..opq", "0 .wh.c") }
	high := func() *tree.Node { return layer("5 a", "0 a/new y", "5 b", "0 b/new y") }
	want := "/ 40755\n/a 40640\n/a/new 100640 \"y\"\n/b 40640\n/b/new 100640 \"y\"\n"
	for name, n := range map[string]*tree.Node{
		"lower two first": tree.Merge(tree.Merge(low(), middle()), high()),
		"upper two first": tree.Merge(low(), tree.Merge(middle(), high())),
	} {
		n.DropMarks()
		if got := listing(n); got != want {
			t.Errorf("%s:\n%swant:\n%s", name, got, want)
		}
	}
}

// TestUpstreamTar reads upstream's tar files: every kind of entry, and an empty file.
func TestUpstreamTar(t *testing.T) {
	dir := os.Getenv("UPSTREAM_NYDUS")
	if dir == "" {
		t.Skip("UPSTREAM_NYDUS does not name a checkout of dragonflyoss/nydus")
	}
	for name, least := range map[string]int{"all-entry-type.tar": 5, "all-entry-type-macos.tar": 5, "empty.tar": 1} {
		f, err := os.Open(filepath.Join(dir, "tests/texture/tar", name))
		if err != nil {
			t.Fatal(err)
		}
		root, err := tree.FromTar(f, tree.OCI, inline{})
		f.Close()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		n := 0
		for range root.All() {
			n++
		}
		if n < least {
			t.Errorf("%s has %d files:\n%s", name, n, listing(root))
		}
	}
}

// FuzzFromTar gives damaged layers to the reader.
func FuzzFromTar(f *testing.F) {
	f.Add(archive(f, "5 a", "0 a/b x", "2 l a", "1 h a/b", "3 c", "6 f", "0 .wh.x", "0 a/.wh..wh..opq"))
	f.Add(archive(f, "2 a b", "0 a/c x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		root, err := tree.FromTar(bytes.NewReader(b), tree.OCI, inline{})
		if err == nil {
			for p := range root.All() {
				if strings.Contains("/"+p+"/", "/../") {
					t.Errorf("the path %q", p)
				}
			}
		}
	})
}
