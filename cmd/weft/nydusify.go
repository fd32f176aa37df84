package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/registry"
)

// nydusifyCommand answers as nydusify does.
func nydusifyCommand(a *app) *cobra.Command {
	var log nydusLog
	options := log.options(true)
	root := &cobra.Command{
		Use: "nydusify", Short: "Convert and check Nydus images, answered by weft",
		Example:       "  nydusify convert --source registry.example.com/app:v1 --target registry.example.com/app:v1-nydus\n  nydusify check --target registry.example.com/app:v1-nydus",
		SilenceErrors: true, SilenceUsage: true, PersistentPreRunE: log.begin(a, options), Version: version,
	}
	group(root)
	flags := root.PersistentFlags()
	options.add(flags)
	flags.BoolVar(&a.options.Quiet, "quiet", false, "no progress and no remarks")
	root.AddCommand(a.nydusifyConvertCommand(), a.nydusifyCheckCommand(),
		a.notAnswered("mount", "there is no nydusd; the kernel mounts images", "weft image mount IMAGE FOLDER --lazy", "view"),
		a.notAnswered("build", "a folder is not packed for a storage backend", "nydus-image create --blob-inline-meta --blob FILE FOLDER", "pack"),
		a.notAnswered("copy", "images are not copied", "crane copy"),
		a.notAnswered("optimize", "no blob is made beside those of an image for what comes first; the snapshotter learns what a start reads", "nydusify convert --prefetch-patterns"),
		a.notAnswered("commit", "containers are not made into images", "ctr container commit"),
		a.notAnswered("chunkdict", "there is no database of chunks; any image serves as a dictionary", "nydusify convert --chunk-dict bootstrap:registry:IMAGE"))
	root.SetOut(a.out)
	return root
}

// nydusClient is a client for the registry of an image's name, with the options of nydusify.
func (a *app) nydusClient(name string, plain, insecure bool, retry registry.Retry) *registry.Client {
	o := registry.Options{Keychain: registry.DockerCredentials(a.getenv("DOCKER_CONFIG")), Retry: retry}
	if ref, err := registry.ParseReference(name); err == nil && plain {
		o.PlainHTTP = append(o.PlainHTTP, ref.Host)
	}
	if insecure {
		o.Mirrors = trusting{plain}
	}
	return registry.New(o)
}

// nydusMetric is what nydusify writes with --output-json (goharbor/acceleration-service, pkg/converter).
type nydusMetric struct {
	SourceImageSize   int64
	SourcePullElapsed time.Duration
	ConversionElapsed time.Duration
	TargetImageSize   int64
	TargetPushElapsed time.Duration
}

type nydusifyConvert struct {
	source, sourceArchive, target, targetArchive, suffix, compressor, fsVersion, platform, prefetchDir, workDir, outputJSON, dict, retryDelay string
	cache                                                                                                                                     nydusCache
	chunkSize, batchSize                                                                                                                      size
	retries                                                                                                                                   int
	sourceInsecure, targetInsecure, dictInsecure, plainHTTP, merge, allPlatforms, referrer, oci, docker, reverse, prefetchPatterns            bool
}

func (n *nydusifyConvert) options() nydusOptions {
	n.platform, n.workDir, n.retries, n.retryDelay = "linux/"+runtime.GOARCH, "./tmp", 3, "5s"
	const (
		noBackend = "blobs are pushed to the registry: leave it out"
		noModels  = "model files are not converted: leave it out"
	)
	chunks := chunkSizeOption("fs-chunk-size", &n.chunkSize).from("FS_CHUNK_SIZE")
	chunks.aliases = []string{"chunk-size"}
	list := nydusOptions{
		{name: "source", env: "SOURCE", to: &n.source, usage: "ordinary `image`; with --reverse a converted one"},
		{name: "source-archive", env: "SOURCE_ARCHIVE", to: &n.sourceArchive, usage: "tar `file` of an OCI layout with the source"},
		{name: "target", env: "TARGET", to: &n.target, usage: "the result's `name`"},
		{name: "target-archive", env: "TARGET_ARCHIVE", to: &n.targetArchive, usage: "tar `file` of an OCI layout to write instead"},
		{name: "target-suffix", env: "TARGET_SUFFIX", to: &n.suffix, usage: "`suffix` of the source's tag that makes the target"},
		{name: "source-insecure", env: "SOURCE_INSECURE", to: &n.sourceInsecure, usage: "do not verify the source registry's certificate"},
		{name: "target-insecure", env: "TARGET_INSECURE", to: &n.targetInsecure, usage: "do not verify the target registry's certificate"},
		{name: "plain-http", env: "PLAIN_HTTP", to: &n.plainHTTP, usage: "speak to registries without TLS, which otherwise is done with those on loopback only"},
		compressorOption(&n.compressor).from("COMPRESSOR"), versionOption("", &n.fsVersion).from("FS_VERSION"), chunks, batchSizeOption(&n.batchSize).from("BATCH_SIZE"),
		{name: "chunk-dict", env: "CHUNK_DICT", to: &n.dict, usage: "bootstrap:registry:`IMAGE` or bootstrap:local:FILE, whose chunks are not stored again"},
		{name: "chunk-dict-insecure", env: "CHUNK_DICT_INSECURE", to: &n.dictInsecure, usage: "do not verify the certificate of the dictionary's registry"},
		{name: "prefetch-dir", env: "PREFETCH_DIR", to: &n.prefetchDir, usage: "`path` to fetch first (default: the table of what to fetch first names all of the image)"},
		{name: "prefetch-patterns", env: "PREFETCH_PATTERNS", to: &n.prefetchPatterns, usage: "read the paths to fetch first from standard input"},
		{name: "platform", to: &n.platform, usage: "`OS/ARCH,...` to convert"},
		{name: "all-platforms", to: &n.allPlatforms, usage: "convert all platforms; it goes before --platform"},
		{name: "merge-platform", aliases: []string{"multi-platform"}, env: "MERGE_PLATFORM", to: &n.merge, usage: "make an index with both OCI and Nydus manifests"},
		{name: "with-referrer", env: "WITH_REFERRER", to: &n.referrer, usage: "the result's subject is the source; it has OCI's media types"},
		{name: "oci", env: "OCI", to: &n.oci, usage: "OCI's media types in place of Docker's, where the source has those"},
		{name: "docker-v2-format", to: &n.docker, usage: "the source's media types in spite of --oci"},
		{name: "reverse", env: "REVERSE", to: &n.reverse, usage: "make an ordinary image of a converted one, with OCI's media types; options about chunks and prefetching change nothing"},
		{name: "work-dir", env: "WORK_DIR", to: &n.workDir, usage: "`folder` for temporary files; removed at the end if it was not there"},
		{name: "output-json", env: "OUTPUT_JSON", to: &n.outputJSON, usage: "`file` for the figures as JSON"},
		{name: "push-retry-count", env: "PUSH_RETRY_COUNT", to: &n.retries, usage: "how often a request to the target that fails is tried again without progress"},
		{name: "push-retry-delay", env: "PUSH_RETRY_DELAY", to: &n.retryDelay, usage: "the longest pause before it is, such as 5s"},
		{name: "nydus-image", env: "NYDUS_IMAGE", accepted: "no other program is needed"},
		{name: "fs-align-chunk", env: "FS_ALIGN_CHUNK", bare: true, accepted: "chunks of RAFS v6 always begin on blocks"},
		{name: "backend-aligned-chunk", env: "BACKEND_ALIGNED_CHUNK", bare: true, accepted: "chunks of RAFS v6 always begin on blocks"},
		{name: "oci-ref", env: "OCI_REF", bare: true, refused: "indexes over gzip layers are not made: leave it out, and the image gets blobs of its own"},
		{name: "backend-force-push", env: "BACKEND_FORCE_PUSH", bare: true, refused: noBackend},
		{name: "source-backend-type", env: "BACKEND_TYPE", refused: noModels}, {name: "source-backend-config", env: "BACKEND_CONFIG", refused: noModels},
	}
	for _, o := range backendOptions("", noBackend) {
		list = append(list, o.from(variable(o.name)))
	}
	return append(list, n.cache.options()...)
}

// variable is the name of most variables: that of the option.
func variable(option string) string { return strings.ToUpper(strings.ReplaceAll(option, "-", "_")) }

func (a *app) nydusifyConvertCommand() *cobra.Command {
	var n nydusifyConvert
	c := &cobra.Command{
		Use:     "convert",
		Short:   "Convert an OCI image to a Nydus image, or back with --reverse",
		Example: "  nydusify convert --source registry.example.com/app:v1 --target registry.example.com/app:v1-nydus",
		Args:    cobra.NoArgs,
	}
	return a.nydusVerb(c, n.options(), func(cmd *cobra.Command, _ []string) error { return a.nydusifyConvert(cmd.Context(), &n) })
}

// names gives the places that the flags name.
func (n *nydusifyConvert) names() (source, target string, err error) {
	if n.source == "" {
		return "", "", output.Usagef("--source is missing")
	}
	if n.fsVersion != "6" {
		return "", "", output.Usagef("--fs-version %s: only 6 is written here", n.fsVersion)
	}
	source, target = n.source, n.target
	if n.sourceArchive != "" {
		source = "oci-archive:" + n.sourceArchive
	}
	switch {
	case n.target != "" && n.suffix != "":
		return "", "", output.Usagef("--target and --target-suffix exclude each other")
	case n.suffix != "":
		ref, err := registry.ParseReference(n.source)
		if err != nil {
			return "", "", output.Usagef("--source: %w", err)
		}
		if ref.Digest != "" {
			return "", "", output.Usagef("--target-suffix needs a source with a tag")
		}
		target = ref.WithTag(ref.Tag + n.suffix).String()
	}
	if n.targetArchive != "" {
		target = "oci-archive:" + n.targetArchive
	}
	if target == "" {
		return "", "", output.Usagef("--target or --target-suffix is missing")
	}
	return source, target, nil
}

// platforms are those of an index that are converted; none: all.
func (n *nydusifyConvert) platforms() ([]ocispec.Platform, error) {
	if n.allPlatforms {
		if n.reverse {
			return nil, output.Usagef("--reverse makes one image: name its platform with --platform instead of --all-platforms")
		}
		return nil, nil
	}
	var list []ocispec.Platform
	for text := range strings.SplitSeq(n.platform, ",") {
		p, err := parsePlatform(strings.TrimSpace(text))
		if err != nil || p == nil {
			return nil, output.Usagef("--platform %s: expected OS/ARCH, several with commas", n.platform)
		}
		list = append(list, *p)
	}
	if n.reverse && len(list) > 1 {
		return nil, output.Usagef("--reverse makes one image: name one --platform")
	}
	return list, nil
}

// convertOptions are what the options about the result say.
func (a *app) convertOptions(ctx context.Context, n *nydusifyConvert) (o image.ConvertOptions, err error) {
	f := imageFlags{format: "nydus", compressor: n.compressor, digester: "blake3", chunkSize: n.chunkSize, batch: n.batchSize}
	if err := checkBatch(n.batchSize, n.chunkSize); err != nil {
		return o, err
	}
	if o.Options, err = f.options(ctx, a); err != nil {
		return o, err
	}
	o.Referrer, o.Merge, o.Docker, o.TempDir = n.referrer, n.merge, !n.oci || n.docker, n.workDir
	if o.Platforms, err = n.platforms(); err != nil {
		return o, err
	}
	if n.dict != "" {
		d, err := a.nydusDictionary(ctx, n)
		if err != nil {
			return o, err
		}
		o.Dicts = append(o.Dicts, d)
	}
	switch {
	case n.prefetchDir != "" && n.prefetchPatterns:
		return o, output.Usagef("--prefetch-dir conflicts with --prefetch-patterns")
	case n.prefetchDir != "":
		o.Prefetch = []string{n.prefetchDir}
	case n.prefetchPatterns:
		o.Prefetch, err = a.prefetchList("-")
	}
	if len(o.Prefetch) == 0 {
		o.Prefetch = []string{"/"}
	}
	return o, err
}

func (n *nydusifyConvert) retry() (registry.Retry, error) {
	delay, err := time.ParseDuration(n.retryDelay)
	if err != nil || delay <= 0 {
		return registry.Retry{}, output.Usagef("--push-retry-delay %s: expected a time such as 5s", n.retryDelay)
	}
	if n.retries < 0 {
		return registry.Retry{}, output.Usagef("--push-retry-count %d: expected a number from 0 on", n.retries)
	}
	return registry.Retry{Attempts: n.retries + 1, Min: min(delay, 200*time.Millisecond), Max: delay}, nil
}

func (a *app) nydusifyConvert(ctx context.Context, n *nydusifyConvert) error {
	source, target, err := n.names()
	if err != nil {
		return err
	}
	retry, err := n.retry()
	if err != nil {
		return err
	}
	o, err := a.convertOptions(ctx, n)
	if err != nil {
		return err
	}
	if !n.reverse {
		if o.Cache, err = a.nydusBuildCache(ctx, n, target); err != nil {
			return err
		}
	}
	if _, err := os.Stat(n.workDir); err != nil {
		if err := os.MkdirAll(n.workDir, 0o755); err != nil {
			return err
		}
		defer os.RemoveAll(n.workDir)
	}
	from, err := image.OpenPlace(a.nydusClient(source, n.plainHTTP, n.sourceInsecure, registry.Retry{}), source, n.workDir, false)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := image.OpenPlace(a.nydusClient(target, n.plainHTTP, n.targetInsecure, retry), target, n.workDir, true)
	if err != nil {
		return err
	}
	converted, err := n.run(ctx, from, to, source, o)
	if err = errors.Join(err, to.Close()); err != nil {
		return err
	}
	a.print().Remark("Converted to %s, %s", target, converted.Manifest.Digest)
	if o.Cache != nil {
		cached, layers := 0, 0
		for _, im := range converted.Images {
			cached, layers = cached+im.Cached, layers+len(im.Layers)
		}
		a.print().Remark("Layers from the build cache: %d of %d", cached, layers)
	}
	if n.outputJSON == "" {
		return nil
	}
	b, err := json.Marshal(nydusMetric{converted.SourceBytes, converted.Pull, converted.Pack, converted.TargetBytes, converted.Push})
	if err != nil {
		return err
	}
	return os.WriteFile(n.outputJSON, append(b, '\n'), 0o644)
}

func (n *nydusifyConvert) run(ctx context.Context, from, to image.Place, source string, o image.ConvertOptions) (*image.Converted, error) {
	if !n.reverse {
		return image.Convert(ctx, from, to, o)
	}
	found, err := image.OpenImage(ctx, from, source, &o.Platforms[0])
	if err != nil {
		return nil, err
	}
	return found.ToOCI(ctx, to, o.TempDir, o.Skipped)
}

// nydusDictionary opens a dictionary by nydusify's expression.
func (a *app) nydusDictionary(ctx context.Context, n *nydusifyConvert) (*image.Opened, error) {
	kind, rest, _ := strings.Cut(n.dict, ":")
	where, name, ok := strings.Cut(rest, ":")
	if kind != "bootstrap" || !ok || where != "registry" && where != "local" {
		return nil, output.Usagef("--chunk-dict %s: expected bootstrap:registry:IMAGE or bootstrap:local:FILE", n.dict)
	}
	if where == "local" {
		return image.OpenPath(name, nil)
	}
	place, err := image.OpenPlace(a.nydusClient(name, n.plainHTTP, n.dictInsecure, registry.Retry{}), name, "", false)
	if err != nil {
		return nil, output.Usagef("--chunk-dict: %w", err)
	}
	found, err := image.OpenImage(ctx, place, name, &ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH})
	if err != nil {
		return nil, fmt.Errorf("the chunk dictionary: %w", err)
	}
	return found.Opened, nil
}

// trusting asks registries over TLS without verifying their certificates.
type trusting struct{ plain bool }

// Hosts is the registry itself.
func (t trusting) Hosts(_ context.Context, host string) ([]registry.Host, error) {
	h := registry.Host{Name: host, Scheme: "https", Base: "/v2", TLS: registry.TLS{SkipVerify: true}}
	if t.plain || registry.IsLoopback(host) {
		h.Scheme = "http"
	}
	return []registry.Host{h}, nil
}
