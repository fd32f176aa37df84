package tree_test

import (
	"archive/tar"
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/tree"
)

// side reads a layer with chunks of 4 KiB.
func side(t *testing.T, headers []tar.Header, contents map[string]string) tree.Side {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		h.Size, h.Format = int64(len(contents[h.Name])), tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, contents[h.Name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	writer, err := chunk.NewWriter(t.Context(), chunk.Discard{}, chunk.Options{ChunkSize: 4096, Algorithm: chunk.Blake3})
	if err != nil {
		t.Fatal(err)
	}
	root, err := tree.FromTar(&b, tree.OCI, tree.Chunks{Writer: writer, Inline: 100})
	if err != nil {
		writer.Abort()
		t.Fatal(err)
	}
	table, _, err := writer.Close()
	if err != nil {
		t.Fatal(err)
	}
	return tree.Side{Root: root, Table: table}
}

// TestCompare changes one thing of a layer at a time: each is found, and nothing else.
func TestCompare(t *testing.T) {
	layer := func(change func(h map[string]*tar.Header, contents map[string]string)) tree.Side {
		contents := map[string]string{"big": strings.Repeat("0123456789abcdef", 1000), "small": "small"}
		headers := []tar.Header{
			{Typeflag: tar.TypeDir, Name: "dir/", Mode: 0o755},
			{Typeflag: tar.TypeReg, Name: "big", Mode: 0o644, ModTime: time.Unix(1000, 7), PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}},
			{Typeflag: tar.TypeReg, Name: "small", Mode: 0o644},
			{Typeflag: tar.TypeLink, Name: "hard", Linkname: "big"},
			{Typeflag: tar.TypeSymlink, Name: "soft", Linkname: "big"},
			{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3},
		}
		byName := map[string]*tar.Header{}
		for i := range headers {
			byName[headers[i].Name] = &headers[i]
		}
		change(byName, contents)
		return side(t, headers, contents)
	}
	same := layer(func(map[string]*tar.Header, map[string]string) {})
	if found := tree.Compare(same, layer(func(map[string]*tar.Header, map[string]string) {}), 0); len(found) > 0 {
		t.Errorf("equal trees differ: %v", found)
	}
	for want, change := range map[string]func(h map[string]*tar.Header, c map[string]string){
		"/big content of chunk 2": func(_ map[string]*tar.Header, c map[string]string) {
			c["big"] = c["big"][:9000] + "X" + c["big"][9001:]
		},
		"/small content":          func(_ map[string]*tar.Header, c map[string]string) { c["small"] = "other" },
		"/small size":             func(_ map[string]*tar.Header, c map[string]string) { c["small"] = "longer" },
		"/big mode, /hard mode":   func(h map[string]*tar.Header, _ map[string]string) { h["big"].Mode = 0o4755 },
		"/big owner, /hard owner": func(h map[string]*tar.Header, _ map[string]string) { h["big"].Gid = 7 },
		"/big time, /hard time":   func(h map[string]*tar.Header, _ map[string]string) { h["big"].ModTime = time.Unix(1000, 8) },
		"/big extended attributes, /hard extended attributes": func(h map[string]*tar.Header, _ map[string]string) { h["big"].PAXRecords["SCHILY.xattr.user.a"] = "c" },
		"/hard first hard link":                               func(h map[string]*tar.Header, _ map[string]string) { *h["hard"] = *h["big"]; h["hard"].Name = "hard" },
		"/soft target":                                        func(h map[string]*tar.Header, _ map[string]string) { h["soft"].Linkname = "small" },
		"/null device":                                        func(h map[string]*tar.Header, _ map[string]string) { h["null"].Devminor = 5 },
		"/null kind":                                          func(h map[string]*tar.Header, _ map[string]string) { h["null"].Typeflag = tar.TypeBlock },
		"/dir opaque": func(h map[string]*tar.Header, _ map[string]string) {
			h["null"].Name, h["null"].Typeflag = "dir/.wh..wh..opq", tar.TypeReg
		},
		"/new file, /soft file": func(h map[string]*tar.Header, _ map[string]string) { h["soft"].Name = "new" },
	} {
		var fields []string
		for _, d := range tree.Compare(same, layer(func(h map[string]*tar.Header, c map[string]string) {
			change(h, c)
			if h["hard"].Typeflag == tar.TypeReg {
				c["hard"] = c["big"]
			}
		}), 0) {
			if d.Path != "/null" || !strings.HasPrefix(want, "/dir") { // which went to make the mark
				fields = append(fields, d.Path+" "+d.Field)
			}
		}
		if got := strings.Join(fields, ", "); got != want {
			t.Errorf("differences are %q, expected %q", got, want)
		}
	}
}

// TestTakeNames gives layers whose marks are files of their names the meaning that they have in tar.
func TestTakeNames(t *testing.T) {
	entries := []string{"5 a/", "0 a/.wh.gone", "5 b/", "0 b/.wh..wh..opq", "0 b/new x", "0 .wh.dir", "5 dir/", "0 dir/own x", "0 .wh.file", "0 file x", "0 .wh..wh.plnk", "0 .wh."}
	asFiles, err := tree.FromTar(bytes.NewReader(archive(t, entries...)), tree.Keep, inline{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(listing(asFiles), "/.wh.dir") {
		t.Fatal("marks were not kept as files")
	}
	asFiles.TakeNames()
	marks, err := tree.FromTar(bytes.NewReader(archive(t, entries[:len(entries)-1]...)), tree.OCI, inline{}) // the last has no name and is refused
	if err != nil {
		t.Fatal(err)
	}
	if got, want := listing(asFiles), listing(marks); got != want {
		t.Errorf("by their names:\n%s\nby tar:\n%s", got, want)
	}
}
