package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/weft-dev/weft/image/imagetest"
)

// imageSource is a folder to make images of.
func imageSource(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "rootfs")
	if err := os.MkdirAll(filepath.Join(dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"etc/hosts": "127.0.0.1 localhost\n", "large": strings.Repeat("many bytes ", 100000)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestImageVerbs(t *testing.T) {
	w := newWorld(t)
	source, dir := imageSource(t), t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	w.expect(0, "image.erofs", "", "image", "build", source, "--to", at("a"))
	w.expect(0, "sound", "", "image", "check", at("a"), "--source", source)
	w.expect(0, "Together", "", "image", "stat", at("a"), at("a"))
	w.expect(0, "/etc/hosts", "", "image", "inspect", at("a"), "--files")
	w.expect(0, "metadata", "", "image", "merge", at("a"), "--to", at("a/merged.erofs"))
	w.expect(0, "", "", "image", "unpack", at("a"), at("a.tar"))
	w.expect(0, "sound", "", "image", "check", at("a"), "--source", at("a.tar"))
	w.expect(0, "image.boot", "", "image", "build", at("a.tar"), "--to", at("n"), "--format", "nydus", "--compressor", "zstd")

	if err := os.WriteFile(filepath.Join(source, "large"), []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.expect(1, "/large: size is", "", "image", "check", at("a"), "--source", source)
	w.expect(2, "", "--to is missing", "image", "build", source)
	w.expect(2, "", "expected a power of two", "image", "build", source, "--to", at("x"), "--chunk-size", "5000")
	w.expect(2, "", "expected none, zstd or lz4_block", "image", "build", source, "--to", at("x"), "--compressor", "rar")
	w.expect(1, "", "is no image", "image", "check", source)
	w.expect(1, "", "neither an EROFS image nor a blob", "image", "check", at("a.tar"))
}

func TestNydusNames(t *testing.T) {
	w := newWorld(t)
	source, dir := imageSource(t), t.TempDir()
	boot, result := filepath.Join(dir, "image.boot"), filepath.Join(dir, "result.json")
	as := func(want int, text string, args ...string) {
		t.Helper()
		code, out, errs := w.as(args[0], args[1:]...)
		if code != want || !strings.Contains(out+errs, text) {
			t.Errorf("%s: exit code %d, want %d and %q\n%s%s", strings.Join(args, " "), code, want, text, out, errs)
		}
	}
	as(0, "successfully built", "nydus-image", "create", "-B", boot, "-D", dir, "-J", result, source)
	b, err := os.ReadFile(result)
	if err != nil {
		t.Fatal(err)
	}
	var made struct {
		Bootstrap  string
		Blobs      []string
		FSVersion  string `json:"fs_version"`
		Compressor string
	}
	if err := json.Unmarshal(b, &made); err != nil || made.Bootstrap != boot || len(made.Blobs) != 1 || made.FSVersion != "6" || made.Compressor != "zstd" {
		t.Fatalf("%v: %s", err, b)
	}
	as(0, "metadata is valid", "nydus-image", "check", boot)
	as(0, made.Blobs[0], "nydus-image", "inspect", boot, "--request", "blobs")
	as(0, "Files:                  2", "nydus-image", "stat", "-B", boot)
	as(0, "", "nydus-image", "merge", "-B", filepath.Join(dir, "merged"), boot)
	as(0, "", "nydus-image", "unpack", boot, "-D", dir, "--output", filepath.Join(dir, "x.tar"))
	as(0, "successfully built", "nydus-image", "create", "--type", "tar-rafs", "--blob-inline-meta", "--blob", filepath.Join(dir, "blob"), filepath.Join(dir, "x.tar"))
	as(0, "inlined-meta", "nydus-image", "check", filepath.Join(dir, "blob"))
	as(2, "where the bootstrap goes", "nydus-image", "create", source)
	as(2, "only 6 is written", "nydus-image", "create", "-B", boot, "-D", dir, "-v", "5", source)
	as(2, "not answered", "nydus-image", "create", "-B", boot, "-D", dir, "--encrypt", source)
	as(2, "--target", "nydusify", "convert", "--source", "registry.example.com/a:v1")
	as(2, "--target is missing", "nydusify", "check")
}

// nydusImage runs nydus-image with a standard input, and expects it to succeed.
func nydusImage(t *testing.T, in string, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(t.Context(), append([]string{"nydus-image"}, args...), strings.NewReader(in), &out, &errs, os.Getenv); code != 0 {
		t.Fatalf("%s: exit code %d\n%s%s", strings.Join(args, " "), code, &out, &errs)
	}
	return out.String()
}

// TestNydusPrefetch builds with a list of what comes first, of a folder and of a pipe: it lies first in the one blob that a layer has, and in the table.
func TestNydusPrefetch(t *testing.T) {
	source, dir := imageSource(t), t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "zz"), bytes.Repeat([]byte("z"), 5000), 0o644); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	nydusImage(t, "/zz\n", "create", "--prefetch-policy", "fs", "-B", at("boot"), "--blob", at("blob"), "--blob-id", strings.Repeat("1", 64), "-J", at("json"), source)
	b, err := os.ReadFile(at("json"))
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ Blobs []string }
	if err := json.Unmarshal(b, &made); err != nil || len(made.Blobs) != 1 {
		t.Errorf("%v: a layer has one blob: %s", err, b)
	}
	if first := nydusImage(t, "", "inspect", at("boot"), "-R", "chunk 0"); !strings.Contains(first, "File: zz ") {
		t.Errorf("first in the blob is %s", first)
	}
	if table := nydusImage(t, "", "inspect", at("boot"), "-R", "prefetch"); !strings.Contains(table, `"/zz"`) {
		t.Errorf("the table has %s", table)
	}
	nydusImage(t, "", "unpack", at("boot"), "--blob", at("blob"), "--output", at("tar"))
	if err := syscall.Mkfifo(at("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err = os.ReadFile(at("tar"))
	if err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() { written <- os.WriteFile(at("pipe"), b, 0) }()
	nydusImage(t, "/zz\n/etc", "create", "--type", "tar-rafs", "--prefetch-policy", "blob", "-B", at("piped"), "-D", dir, at("pipe"))
	if err := <-written; err != nil {
		t.Error(err)
	}
	if table := nydusImage(t, "", "inspect", at("piped"), "-R", "prefetch"); !strings.Contains(table, `"/zz"`) || !strings.Contains(table, `"/etc"`) {
		t.Errorf("the table has %s", table)
	}
}

// TestNydusConverter calls nydus-image as Nydus's converter does (nydus-snapshotter, pkg/converter/tool): it looks into the help, packs each layer from a pipe into a
// pipe with everything to be fetched first, and merges what came out of them.
func TestNydusConverter(t *testing.T) {
	help := nydusImage(t, "", "create", "-h")
	for _, feature := range []string{"--type", "tar-rafs", "--batch-size"} {
		if !strings.Contains(help, feature) {
			t.Errorf("the converter would not find %s in the help", feature)
		}
	}
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	var blobs, digests, sizes []string
	for i, layer := range [][]byte{
		imagetest.Layer(t, imagetest.File{Name: "a", Content: strings.Repeat("lower ", 1000)}, imagetest.File{Name: "gone", Content: "gone"}),
		imagetest.Layer(t, imagetest.File{Name: "b", Content: strings.Repeat("upper ", 1000)}, imagetest.File{Name: "gone", Content: imagetest.Whiteout}),
	} {
		from, to := at(fmt.Sprint("from", i)), at(fmt.Sprint("to", i))
		if err := errors.Join(syscall.Mkfifo(from, 0o600), syscall.Mkfifo(to, 0o600)); err != nil {
			t.Fatal(err)
		}
		packed := make(chan []byte)
		go func() {
			if err := os.WriteFile(from, layer, 0); err != nil {
				t.Error(err)
			}
		}()
		go func() {
			b, err := os.ReadFile(to)
			if err != nil {
				t.Error(err)
			}
			packed <- b
		}()
		nydusImage(t, "/", "create", "--log-level", "warn", "--prefetch-policy", "fs", "--blob", to, "--whiteout-spec", "none", "--fs-version", "6", "--type", "tar-rafs",
			"--blob-inline-meta", "--features", "blob-toc", "--compressor", "zstd", "--chunk-size", "0x100000", "--batch-size", "0", from)
		b := <-packed
		digest := fmt.Sprintf("%x", sha256.Sum256(b))
		if err := os.WriteFile(at(digest), b, 0o644); err != nil {
			t.Fatal(err)
		}
		blobs, digests, sizes = append(blobs, at(digest)), append(digests, digest), append(sizes, fmt.Sprint(len(b)))
	}
	args := append([]string{"merge", "--log-level", "warn", "--prefetch-policy", "fs", "--output-json", at("json"), "--bootstrap", at("boot")}, blobs...)
	nydusImage(t, "/", append(args, "--blob-digests", strings.Join(digests, ","), "--blob-sizes", strings.Join(sizes, ","))...)
	b, err := os.ReadFile(at("json"))
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ Blobs []string }
	if err := json.Unmarshal(b, &made); err != nil || !slices.Equal(made.Blobs, digests) {
		t.Errorf("the merged layers have the blobs %v, expected %v", made.Blobs, digests)
	}
	if table := nydusImage(t, "", "inspect", at("boot"), "-R", "prefetch"); !strings.Contains(table, `["/"]`) {
		t.Errorf("the table of what to fetch first has %s", table)
	}
	nydusImage(t, "", "unpack", "--log-level", "warn", "--bootstrap", at("boot"), "--output", at("tar"))
	var names []string
	f, err := os.Open(at("tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err != nil {
			break
		}
		names = append(names, h.Name)
	}
	if fmt.Sprint(names) != "[./ a b]" {
		t.Errorf("the merged layers have %v", names)
	}
}

// TestNydusMerge merges layers of which one has nothing but chunks of the dictionary: what is said of its own blob must not be told of the dictionary's.
func TestNydusMerge(t *testing.T) {
	w, source, dir := newWorld(t), imageSource(t), t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	create := func(name string, f imagetest.File, args ...string) {
		t.Helper()
		if err := os.WriteFile(at(name+".tar"), imagetest.Layer(t, f), 0o644); err != nil {
			t.Fatal(err)
		}
		nydusImage(t, "", append([]string{"create", "--type", "tar-rafs", "-B", at(name), "-D", dir, at(name + ".tar")}, args...)...)
	}
	nydusImage(t, "", "create", "-B", at("dict"), "-D", dir, "--chunk-size", "0x1000", source)
	create("known", imagetest.File{Name: "known", Content: strings.Repeat("many bytes ", 100000)}, "--chunk-size", "0x1000", "--chunk-dict", "bootstrap="+at("dict"))
	create("new", imagetest.File{Name: "new", Content: "a new file, which no dictionary has"}, "--chunk-size", "0x1000", "--chunk-dict", "bootstrap="+at("dict"))
	id := func(digit string) string { return strings.Repeat(digit, 64) }
	nydusImage(t, "", "merge", "-B", at("merged"), "--chunk-dict", at("dict"), "--original-blob-ids", id("a")+","+id("b"), "--blob-digests", id("c")+","+id("d"),
		"--blob-sizes", "77,77", "--blob-toc-sizes", "77,77", at("known"), at("new"))
	blobs := nydusImage(t, "", "inspect", at("merged"), "-R", "blobs")
	dict := nydusImage(t, "", "inspect", at("dict"), "-R", "blobs")
	var got, want []struct {
		ID   string `json:"blob_id"`
		Size int    `json:"compressed_size"`
	}
	if err := errors.Join(json.Unmarshal([]byte(blobs), &got), json.Unmarshal([]byte(dict), &want)); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0] != want[0] || got[1].ID != id("d") || got[1].Size != 77 {
		t.Errorf("blobs of the merged layers: %s; of the dictionary: %s", blobs, dict)
	}
	if shown := nydusImage(t, "blobs\nexit\n", "inspect", at("merged")); !strings.Contains(shown, "ToC Size:               77") {
		t.Errorf("the size of the table of contents is lost:\n%s", shown)
	}
	create("larger", imagetest.File{Name: "new", Content: "x"}, "--chunk-size", "0x2000")
	create("sha256", imagetest.File{Name: "new", Content: "x"}, "--chunk-size", "0x1000", "--digester", "sha256")
	for _, other := range []string{"larger", "sha256"} {
		if code, _, errs := w.as("nydus-image", "merge", "-B", at("x"), at("new"), at(other)); code != 2 || !strings.Contains(errs, "do not go together: "+at(other)) {
			t.Errorf("merging with %s: exit code %d, %s", other, code, errs)
		}
	}
}

func TestNydusImageRefuses(t *testing.T) {
	w := newWorld(t)
	source, dir := imageSource(t), t.TempDir()
	log := filepath.Join(dir, "log")
	nydusImage(t, "", "create", "-B", filepath.Join(dir, "boot"), "-D", dir, "-l", "warn", "--blob-offset", "0", "--aligned-chunk", "--disable-check", "-L", log, source)
	for text, args := range map[string]string{
		"--encrypt is not answered here":                   "create -E SOURCE -D DIR",
		"--blob-offset is not answered here":               "create --blob-offset 512 SOURCE -D DIR",
		"--type targz-ref: indexes":                        "create -t targz-ref SOURCE -D DIR",
		"--type zip: expected directory":                   "create -t zip SOURCE -D DIR",
		"--whiteout-spec aufs: expected oci":               "create --whiteout-spec aufs SOURCE -D DIR",
		"--batch-size 8192 is larger":                      "create --chunk-size 0x1000 --batch-size 0x2000 SOURCE -D DIR",
		"--batch-size 5000: expected 0 or":                 "create --batch-size 5000 SOURCE -D DIR",
		"--config and --blob-dir exclude each other":       "check -C nydusd.json -D DIR DIR/x",
		"--backend-config or --backend-config-file":        "unpack --backend-type registry --output x DIR/x",
		"--backend-type is missing":                        "unpack --backend-config {} --output x DIR/x",
		"--localfs-dir or --config are needed":             "export --block -B x",
		"--verity is not answered here":                    "export --block --verity -B x -D DIR",
		"--threads 99":                                     "export --block --threads 99 -B x -D DIR",
		"--backend-type oss is not answered here":          "unpack --backend-type oss --output x DIR/x",
		"compact is not answered here":                     "compact -B x --min-used-ratio 5",
		"Use `nydus-image create --prefetch-policy fs`":    "optimize --anything",
		"--log-level loud: expected trace":                 "stat -l loud -B x",
		"--blob-digests has 1 values for 2":                "merge -B DIR/m --blob-digests aa DIR/boot DIR/boot",
		`--blob-toc-digests: "zz" for`:                     "merge -B DIR/m --blob-toc-digests zz DIR/boot",
		"`--bootstrap` and `--blob-dir` must be specified": "stat",
	} {
		args = strings.NewReplacer("SOURCE", source, "DIR", dir).Replace(args)
		if code, _, errs := w.as("nydus-image", strings.Fields(args)...); code != 2 || !strings.Contains(errs, text) {
			t.Errorf("%s: exit code %d, expected %q: %s", args, code, text, errs)
		}
	}
	if code, out, errs := w.as("nydus-image", "create", "-B", filepath.Join(dir, "boot"), "-D", dir, "-L", log, source); code != 0 || out+errs != "" {
		t.Errorf("with a log file: exit code %d, %s%s", code, out, errs)
	}
	if b, err := os.ReadFile(log); err != nil || strings.Count(string(b), "successfully built") != 1 { // those at the level warn are none
		t.Errorf("the log: %v %s", err, b)
	}
	if code, _, errs := w.as("nydus-image", "check", filepath.Join(dir, "none"), "-L", log); code != 1 || !strings.Contains(errs, "no such file") {
		t.Errorf("an error with a log file: exit code %d, %s", code, errs)
	}
}
