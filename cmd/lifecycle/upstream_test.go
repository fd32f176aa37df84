package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/weft-dev/weft/buildpack/sandbox/sandboxtest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	sandboxtest.Clean()
	os.Exit(code)
}

const lifecycleProgram = "github.com/weft-dev/weft/cmd/lifecycle"

// upstream is the program of buildpacks/lifecycle v0.21.0 to compare with.
func upstream(t *testing.T) string {
	t.Helper()
	program := os.Getenv("UPSTREAM_LIFECYCLE")
	if program == "" {
		t.Skip("UPSTREAM_LIFECYCLE does not name the program of buildpacks/lifecycle v0.21.0")
	}
	return program
}

// TestSameAsUpstream builds the worlds of testdata/same with this lifecycle and with upstream's and compares all that they leave.
func TestSameAsUpstream(t *testing.T) {
	theirs := upstream(t)
	ours := sandboxtest.Program(t, lifecycleProgram)
	for archive, data := range archives(t, "same") {
		for _, api := range []string{"0.7", "0.8", "0.9", "0.10", "0.11", "0.12", "0.13", "0.14", "0.15"} {
			t.Run(strings.TrimSuffix(filepath.Base(archive), ".txtar")+"/"+api, func(t *testing.T) {
				w := newWorld(t, data)
				w.furnish(api)
				want := w.story(theirs, "theirs")
				got := w.story(ours, "ours")
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("upstream is -, this is +\n%s", diff)
				}
			})
		}
	}
}

// TestSameWays does the same for other ways to build: with a cache image, with -parallel, and phase by phase as an ordinary user, which
// is how kpack, Tekton and Shipwright run a lifecycle.
func TestSameWays(t *testing.T) {
	theirs := upstream(t)
	ours := sandboxtest.Program(t, lifecycleProgram)
	data := archives(t, "same")["testdata/same/layers.txtar"]
	for _, way := range []string{"cache-image", "parallel", "phases"} {
		for _, api := range []string{"0.7", "0.10", "0.12", "0.15"} {
			t.Run(way+"/"+api, func(t *testing.T) {
				if way == "phases" && os.Getuid() != 0 {
					t.Skip("needs root to become somebody else")
				}
				w := newWorld(t, data)
				w.furnish(api)
				w.way = way
				want := w.story(theirs, "theirs")
				got := w.story(ours, "ours")
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("upstream is -, this is +\n%s", diff)
				}
				if want["second code"] != 0 {
					t.Errorf("nothing was built: %v", want)
				}
			})
		}
	}
}

// archives gives the worlds of a folder of testdata.
func archives(t *testing.T, folder string) map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/" + folder + "/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no archives", err)
	}
	out := map[string]string{}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[f] = string(data)
	}
	return out
}

// furnish adds run images, a launcher and the files that lead to them.
func (w *world) furnish(api string) {
	run := w.runImage("run:one", "one", map[string]string{"io.buildpacks.stack.id": "test", "io.buildpacks.base.distro.name": "debian"})
	w.runImage("run:two", "two", map[string]string{"io.buildpacks.stack.id": "test", "io.buildpacks.base.new": "x"})
	w.write("launcher", "#!/bin/sh\necho launcher\n")
	w.write("stack.toml", "[run-image]\nimage = \""+run+"\"\nmirrors = [\""+w.registry.Host+"/run:two\"]\n")
	w.write("run.toml", "[[images]]\nimage = \""+run+"\"\nmirrors = [\""+w.registry.Host+"/run:two\"]\n")
	w.env = []string{"CNB_PLATFORM_API=" + api, "CNB_STACK_PATH=" + w.dir + "/stack.toml", "CNB_RUN_PATH=" + w.dir + "/run.toml",
		"CNB_BUILD_CONFIG_DIR=" + w.dir + "/build-config", "CNB_SYSTEM_PATH=" + w.dir + "/system.toml"}
}

// TestExitCodes builds the worlds and compares with the exit code that their first line promises; without one it is 0.
func TestExitCodes(t *testing.T) {
	sandboxtest.NeedKernel(t)
	program := sandboxtest.Program(t, lifecycleProgram)
	promise := regexp.MustCompile(`exit code (\d+)`)
	all := archives(t, "same")
	maps.Copy(all, archives(t, "ours")) // upstream does worse there
	for archive, data := range all {
		t.Run(strings.TrimSuffix(filepath.Base(archive), ".txtar"), func(t *testing.T) {
			w := newWorld(t, data)
			w.furnish("0.15")
			w.program = program
			want := "0"
			heading, _, _ := strings.Cut(data, "\n")
			if m := promise.FindStringSubmatch(heading); m != nil {
				want = m[1]
			}
			for range 2 {
				code, text := w.create("app")
				if fmt.Sprint(code) != want {
					t.Errorf("exit code %d, want %s\n%s", code, want, text)
				}
				if code != 0 && lastError(text) == "" {
					t.Errorf("an error without a message:\n%s", text)
				}
			}
		})
	}
}

// story builds twice, rebases, and gives all that can be compared.
func (w *world) story(program, repository string) map[string]any {
	w.t.Helper()
	w.reset()
	w.write("app/app-file", "application\n") // a buildpack adds to it
	w.program = program
	out := map[string]any{}
	for _, round := range []string{"first", "second"} {
		code, text := w.create(repository + "/app")
		out[round+" code"] = code
		if code != 0 {
			w.t.Logf("%s, %s: %s", program, round, lastError(text))
			continue
		}
		w.collect(out, round, repository+"/app")
		w.write("app/app-file", "application\n")
		// The next build begins with the cache only.
		if err := os.RemoveAll(filepath.Join(w.dir, "layers")); err != nil {
			w.t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(w.dir, "layers"), 0o755); err != nil {
			w.t.Fatal(err)
		}
	}
	if out["second code"] == 0 {
		code, text := w.run("rebase", "-run-image", w.registry.Host+"/run:two", "-report", filepath.Join(w.dir, "layers", "report.toml"), w.registry.Host+"/"+repository+"/app")
		out["rebase code"] = code
		if code != 0 {
			w.t.Logf("%s, rebase: %s", program, lastError(text))
		} else {
			w.collectImage(out, "rebased", repository+"/app")
			// Upstream forgets on a rebase who made the layers; this lifecycle keeps it.
			for _, h := range out["rebased config"].(map[string]any)["history"].([]any) {
				delete(h.(map[string]any), "created_by")
			}
		}
	}
	return out
}

func (w *world) collect(out map[string]any, round, image string) {
	w.collectImage(out, round, image)
	for _, name := range []string{"analyzed.toml", "group.toml", "plan.toml", "report.toml", "config/metadata.toml"} {
		data, err := os.ReadFile(filepath.Join(w.dir, "layers", name))
		if err != nil {
			out[round+" "+name] = "missing"
			continue
		}
		out[round+" "+name] = w.normalTOML(data)
	}
	if w.way == "cache-image" {
		config, err := w.image(strings.TrimSuffix(image, "/app") + "/cache").ConfigFile()
		if err != nil {
			w.t.Fatal(err)
		}
		out[round+" cache"] = config.Config.Labels["io.buildpacks.lifecycle.cache.metadata"]
		out[round+" cache layers"] = slices.Compact(config.RootFS.DiffIDs) // upstream names each reused layer twice
		return
	}
	data, err := os.ReadFile(filepath.Join(w.dir, "cache", "committed", "io.buildpacks.lifecycle.cache.metadata"))
	out[round+" cache"] = fmt.Sprint(string(data), err)
	files, err := filepath.Glob(filepath.Join(w.dir, "cache", "committed", "*.tar"))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range files {
		files[i] = filepath.Base(files[i])
	}
	out[round+" cache files"] = files
}

var (
	repositoryName  = regexp.MustCompile(`/(ours|theirs)/app`)
	launcherVersion = regexp.MustCompile(`"launcher":\{"version":"[^"]*"`)
	digestOfImage   = regexp.MustCompile(`/app@sha256:[0-9a-f]{64}`)
)

// normalTOML takes out what has to differ: the repository and the digest of compressed layers. Entries of the plan are sorted.
func (w *world) normalTOML(data []byte) any {
	text := digestOfImage.ReplaceAllString(repositoryName.ReplaceAllString(string(data), "/app"), "/app@DIGEST")
	var v map[string]any
	if _, err := toml.Decode(text, &v); err != nil {
		w.t.Fatal(err)
	}
	if image, ok := v["image"].(map[string]any); ok && image["digest"] != nil {
		image["digest"] = "DIGEST"
		delete(image, "manifest-size") // one digit of a compressed size changes it
	}
	if entries, ok := v["entries"].([]map[string]any); ok {
		slices.SortFunc(entries, func(a, b map[string]any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	}
	return v
}

func (w *world) collectImage(out map[string]any, round, name string) {
	w.t.Helper()
	img := w.image(name)
	config, err := img.ConfigFile()
	if err != nil {
		w.t.Fatal(err)
	}
	manifest, err := img.Manifest()
	if err != nil {
		w.t.Fatal(err)
	}
	var mediaTypes []string
	for _, l := range manifest.Layers {
		mediaTypes = append(mediaTypes, string(l.MediaType))
	}
	out[round+" media types"] = append(mediaTypes, string(manifest.MediaType), string(manifest.Config.MediaType))
	labels := map[string]any{}
	for k, v := range config.Config.Labels {
		labels[k] = launcherVersion.ReplaceAllString(v, `"launcher":{"version":"VERSION"`)
	}
	out[round+" labels"] = labels
	config.Config.Labels = nil
	data, err := json.Marshal(config)
	if err != nil {
		w.t.Fatal(err)
	}
	var plain map[string]any
	if err := json.Unmarshal(data, &plain); err != nil {
		w.t.Fatal(err)
	}
	out[round+" config"] = plain
	out[round+" layers"] = w.entries(img)
}

// entries lists what is in the layers above the run image: kind, mode, owner, time, size and name of each entry.
func (w *world) entries(img v1.Image) [][]string {
	w.t.Helper()
	layers, err := img.Layers()
	if err != nil {
		w.t.Fatal(err)
	}
	var out [][]string
	for _, l := range layers {
		rc, err := l.Uncompressed()
		if err != nil {
			w.t.Fatal(err)
		}
		defer rc.Close()
		list := []string{}
		for tr := tar.NewReader(rc); ; {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				w.t.Fatal(err)
			}
			if strings.HasPrefix(w.dir, h.Name) && h.Name != w.dir {
				continue // what the folders above are like depends on the machine
			}
			list = append(list, fmt.Sprintf("%c %o %d:%d %s%s%s %s %d %s %s", h.Typeflag, h.Mode, h.Uid, h.Gid, h.Uname, h.Gname, h.ModTime.UTC().Format("2006-01-02T15:04:05"),
				h.Format, h.Size, h.Name, h.Linkname))
		}
		out = append(out, list)
	}
	return out
}

// goldenAPIs are the versions whose stories are in testdata/golden.
var goldenAPIs = []string{"0.7", "0.10", "0.12", "0.15"}

var updateGolden = flag.Bool("update", false, "write testdata/golden anew, from upstream where UPSTREAM_LIFECYCLE names it")

// TestGolden compares the stories with what upstream's lifecycle made of them.
func TestGolden(t *testing.T) {
	sandboxtest.NeedKernel(t)
	if os.Getuid() != 0 {
		t.Skip("owners of files are part of the stories: needs root")
	}
	ours, theirs := sandboxtest.Program(t, lifecycleProgram), os.Getenv("UPSTREAM_LIFECYCLE")
	for archive, data := range archives(t, "same") {
		for i, api := range goldenAPIs {
			if i%3 != 0 && !strings.HasSuffix(archive, "/layers.txtar") {
				continue // the first and the last will do
			}
			name := strings.TrimSuffix(filepath.Base(archive), ".txtar") + "-" + api
			t.Run(name, func(t *testing.T) {
				w := newWorld(t, data)
				w.furnish(api)
				got := w.normal(w.story(ours, "ours"))
				if theirs != "" {
					if diff := cmp.Diff(w.normal(w.story(theirs, "theirs")), got); diff != "" {
						t.Fatalf("upstream is -, this is +\n%s", diff)
					}
				}
				file := filepath.Join("testdata", "golden", name+".json")
				if *updateGolden {
					if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), got); diff != "" {
					t.Errorf("upstream was -, this is +\n%s", diff)
				}
			})
		}
	}
}

// sizeOfRecord is the size of a file in which paths of the world are.
var sizeOfRecord = regexp.MustCompile(`\b(\d+) (/WORLD/layers/\w+/record/env)`)

var anyDigest = regexp.MustCompile(`sha256:[0-9a-f]{64}`)

// normal takes out of a story what differs from place to place: where the world lies, the registry, and the digests that follow from it,
// which are numbered.
func (w *world) normal(story map[string]any) string {
	w.t.Helper()
	for k, v := range story {
		if files, ok := v.([]string); ok && strings.HasSuffix(k, "cache files") {
			story[k] = len(files)
		}
	}
	data, err := json.MarshalIndent(story, "", "  ")
	if err != nil {
		w.t.Fatal(err)
	}
	text := strings.NewReplacer(w.dir, "/WORLD", w.registry.Host, "HOST").Replace(string(data))
	text = sizeOfRecord.ReplaceAllString(text, "- $2")
	numbers := map[string]string{}
	return anyDigest.ReplaceAllStringFunc(text, func(d string) string {
		if numbers[d] == "" {
			numbers[d] = fmt.Sprintf("sha256:%d", len(numbers)+1)
		}
		return numbers[d]
	}) + "\n"
}

// lastError gives the last line that says what went wrong.
func lastError(text string) string {
	var last string
	for line := range strings.Lines(text) {
		if strings.Contains(line, "ERROR:") {
			last = strings.TrimSpace(line)
		}
	}
	return last
}
