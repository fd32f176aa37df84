package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/registry"
)

// nydusifyCommand answers as nydusify does (dragonflyoss/nydus, contrib/nydusify/cmd/nydusify.go).
func nydusifyCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use: "nydusify", Short: "Convert and check Nydus images, answered by weft",
		Example:       "  nydusify convert --source registry.example.com/app:v1 --target registry.example.com/app:v1-nydus\n  nydusify check --target registry.example.com/app:v1-nydus",
		SilenceErrors: true, SilenceUsage: true, PersistentPreRun: a.begin, Version: version,
	}
	group(root)
	flags := root.PersistentFlags()
	flags.BoolP("debug", "D", false, "accepted")
	flags.StringP("log-level", "l", "info", "accepted")
	flags.String("log-file", "", "accepted; there is no log file")
	flags.BoolVar(&a.options.Quiet, "quiet", false, "no progress and no remarks")
	root.AddCommand(a.nydusifyConvertCommand(), a.nydusifyCheckCommand())
	root.SetOut(a.out)
	return root
}

// fromEnvironment fills flags that were not given from the variables that nydusify reads.
func (a *app) fromEnvironment(flags *pflag.FlagSet, except ...string) error {
	skip := map[string]bool{}
	for _, name := range except {
		skip[name] = true
	}
	var err error
	flags.VisitAll(func(f *pflag.Flag) {
		if v := a.getenv(strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))); v != "" && !f.Changed && !skip[f.Name] && err == nil {
			if err = flags.Set(f.Name, v); err != nil {
				err = output.Usagef("the environment variable for --%s: %w", f.Name, err)
			}
		}
	})
	return err
}

// nydusClient is a client for the registries of an image's name and with the options of nydusify.
func (a *app) nydusClient(plain bool, insecure bool, names ...string) *registry.Client {
	o := registry.Options{Keychain: registry.DockerCredentials(a.getenv("DOCKER_CONFIG"))}
	for _, name := range names {
		ref, err := registry.ParseReference(name)
		if err != nil {
			continue
		}
		if plain {
			o.PlainHTTP = append(o.PlainHTTP, ref.Host)
		}
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
	source, sourceArchive, target, targetArchive, suffix, compressor, fsVersion, chunkSize, batchSize, platform, prefetchDir, workDir, outputJSON, dict string
	sourceInsecure, targetInsecure, merge, allPlatforms, ociRef, referrer, oci, reverse, prefetchPatterns, plainHTTP                                    bool
}

func (a *app) nydusifyConvertCommand() *cobra.Command {
	var n nydusifyConvert
	c := &cobra.Command{
		Use:     "convert",
		Short:   "Convert an OCI image to a Nydus image, or back with --reverse",
		Example: "  nydusify convert --source registry.example.com/app:v1 --target registry.example.com/app:v1-nydus",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.fromEnvironment(cmd.Flags(), "platform", "help", "quiet", "debug"); err != nil {
				return err
			}
			err := refuse(cmd.Flags(), map[string]string{
				"backend-type": "blobs are pushed to the registry", "backend-config": "blobs are pushed to the registry", "backend-config-file": "blobs are pushed to the registry",
				"source-backend-type": "model files are not converted", "source-backend-config": "model files are not converted",
				"build-cache": "identical layers give identical blobs, which are not pushed again", "build-cache-tag": "identical layers give identical blobs, which are not pushed again",
				"oci-ref": "indexes over gzip layers are not made yet",
			})
			if err != nil {
				return err
			}
			return a.nydusifyConvert(cmd, &n)
		},
	}
	f := c.Flags()
	f.StringVar(&n.source, "source", "", "OCI `image`")
	f.StringVar(&n.sourceArchive, "source-archive", "", "tar `file` of an OCI layout with the source")
	f.StringVar(&n.target, "target", "", "Nydus `image`")
	f.StringVar(&n.targetArchive, "target-archive", "", "tar `file` of an OCI layout to write")
	f.StringVar(&n.suffix, "target-suffix", "", "`suffix` of the source's tag that makes the target")
	f.BoolVar(&n.sourceInsecure, "source-insecure", false, "do not verify the source registry's certificate")
	f.BoolVar(&n.targetInsecure, "target-insecure", false, "do not verify the target registry's certificate")
	f.BoolVar(&n.plainHTTP, "plain-http", false, "speak to registries without TLS")
	f.StringVar(&n.compressor, "compressor", "zstd", "none, lz4_block or zstd")
	f.StringVar(&n.fsVersion, "fs-version", "6", "`version` of RAFS: 6")
	f.StringVar(&n.chunkSize, "fs-chunk-size", "0x100000", "`size` of chunks")
	f.StringVar(&n.chunkSize, "chunk-size", "0x100000", "the same as --fs-chunk-size")
	f.StringVar(&n.batchSize, "batch-size", "0", "`size` to which small chunks are put together")
	f.StringVar(&n.dict, "chunk-dict", "", "bootstrap:registry:`IMAGE` or bootstrap:local:FILE, whose chunks are not stored again")
	f.StringVar(&n.prefetchDir, "prefetch-dir", "", "`path` to fetch first")
	f.BoolVar(&n.prefetchPatterns, "prefetch-patterns", false, "read the paths to fetch first from standard input")
	f.StringVar(&n.platform, "platform", "linux/"+runtime.GOARCH, "`OS/ARCH` to convert")
	f.BoolVar(&n.allPlatforms, "all-platforms", false, "convert all platforms")
	f.BoolVar(&n.merge, "merge-platform", false, "make an index with both OCI and Nydus manifests")
	f.BoolVar(&n.merge, "multi-platform", false, "the same as --merge-platform")
	f.BoolVar(&n.referrer, "with-referrer", false, "the result's subject is the source")
	f.BoolVar(&n.oci, "oci", false, "accepted: media types are always OCI's")
	f.BoolVar(&n.reverse, "reverse", false, "convert a Nydus image to an OCI image")
	f.BoolVar(&n.ociRef, "oci-ref", false, "not answered")
	f.StringVar(&n.workDir, "work-dir", "./tmp", "`folder` for temporary files")
	f.StringVar(&n.outputJSON, "output-json", "", "`file` for the figures as JSON")
	for _, name := range []string{"nydus-image", "build-cache-version", "push-retry-count", "push-retry-delay", "build-cache-max-records"} {
		f.String(name, "", "accepted")
	}
	for _, name := range []string{"fs-align-chunk", "backend-aligned-chunk", "backend-force-push", "build-cache-insecure", "chunk-dict-insecure", "docker-v2-format"} {
		f.Bool(name, false, "accepted")
	}
	for _, name := range []string{"backend-type", "backend-config", "backend-config-file", "source-backend-type", "source-backend-config", "build-cache", "build-cache-tag"} {
		f.String(name, "", "not answered")
	}
	return c
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

func (a *app) nydusifyConvert(cmd *cobra.Command, n *nydusifyConvert) error {
	ctx := cmd.Context()
	source, target, err := n.names()
	if err != nil {
		return err
	}
	f := imageFlags{format: "nydus", compressor: n.compressor, digester: "blake3"}
	if err := f.chunkSize.Set(n.chunkSize); err != nil {
		return output.Usagef("--fs-chunk-size: %w", err)
	}
	if err := f.batch.Set(n.batchSize); err != nil {
		return output.Usagef("--batch-size: %w", err)
	}
	o, err := f.options(ctx, a)
	if err != nil {
		return err
	}
	if n.dict != "" {
		d, err := a.nydusDictionary(cmd, n.dict)
		if err != nil {
			return err
		}
		o.Dicts = append(o.Dicts, d.Opened)
	}
	switch {
	case n.prefetchDir != "" && n.prefetchPatterns:
		return output.Usagef("--prefetch-dir conflicts with --prefetch-patterns")
	case n.prefetchDir != "":
		o.Prefetch = []string{n.prefetchDir}
	case n.prefetchPatterns:
		if o.Prefetch, err = a.prefetchList("-"); err != nil {
			return err
		}
	}
	co := image.ConvertOptions{Options: o, Referrer: n.referrer, Merge: n.merge}
	if !n.allPlatforms && !strings.Contains(n.platform, ",") {
		if co.Platform, err = parsePlatform(n.platform); err != nil {
			return err
		}
	}
	if _, err := os.Stat(n.workDir); err != nil {
		if err := os.MkdirAll(n.workDir, 0o755); err != nil {
			return err
		}
		defer os.RemoveAll(n.workDir)
	}
	co.TempDir = n.workDir
	from, err := image.OpenPlace(a.nydusClient(n.plainHTTP, n.sourceInsecure, source), source, n.workDir, false)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := image.OpenPlace(a.nydusClient(n.plainHTTP, n.targetInsecure, target), target, n.workDir, true)
	if err != nil {
		return err
	}
	converted, err := n.run(cmd, from, to, source, co)
	if err != nil {
		return err
	}
	if err := to.Close(); err != nil {
		return err
	}
	a.print().Remark("Converted to %s, %s", target, converted.Manifest.Digest)
	if n.outputJSON == "" {
		return nil
	}
	b, err := json.Marshal(nydusMetric{converted.SourceBytes, converted.Pull, converted.Pack, converted.TargetBytes, converted.Push})
	if err != nil {
		return err
	}
	return os.WriteFile(n.outputJSON, append(b, '\n'), 0o644)
}

func (n *nydusifyConvert) run(cmd *cobra.Command, from, to image.Place, source string, o image.ConvertOptions) (*image.Converted, error) {
	if !n.reverse {
		return image.Convert(cmd.Context(), from, to, o)
	}
	found, err := image.OpenImage(cmd.Context(), from, source, o.Platform)
	if err != nil {
		return nil, err
	}
	return found.ToOCI(cmd.Context(), to, o.TempDir, o.Skipped)
}

// nydusDictionary opens a dictionary by nydusify's expression.
func (a *app) nydusDictionary(cmd *cobra.Command, expression string) (*image.Found, error) {
	kind, rest, _ := strings.Cut(expression, ":")
	where, name, ok := strings.Cut(rest, ":")
	if kind != "bootstrap" || !ok || where != "registry" && where != "local" {
		return nil, output.Usagef("--chunk-dict %s: expected bootstrap:registry:IMAGE or bootstrap:local:FILE", expression)
	}
	if where == "local" {
		o, err := image.OpenPath(name, nil)
		return &image.Found{Opened: o}, err
	}
	return a.openImage(cmd.Context(), name)
}

func (a *app) nydusifyCheckCommand() *cobra.Command {
	var source, target, workDir, platform string
	var sourceInsecure, targetInsecure, plain, multi bool
	c := &cobra.Command{
		Use:     "check",
		Short:   "Check a Nydus image: manifest, bootstrap, every chunk, and its files against the source",
		Example: "  nydusify check --target registry.example.com/app:v1-nydus --source registry.example.com/app:v1",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.fromEnvironment(cmd.Flags(), "platform", "help", "quiet", "debug"); err != nil {
				return err
			}
			err := refuse(cmd.Flags(), map[string]string{
				"source-backend-type": "blobs are read from the registry", "source-backend-config": "blobs are read from the registry", "source-backend-config-file": "blobs are read from the registry",
				"target-backend-type": "blobs are read from the registry", "target-backend-config": "blobs are read from the registry", "target-backend-config-file": "blobs are read from the registry",
			})
			if err != nil {
				return err
			}
			if target == "" {
				return output.Usagef("--target is missing")
			}
			p, err := parsePlatform(platform)
			if err != nil {
				return err
			}
			from, err := image.OpenPlace(a.nydusClient(plain, targetInsecure, target), target, "", false)
			if err != nil {
				return err
			}
			defer from.Close()
			found, err := image.OpenImage(cmd.Context(), from, target, p)
			if err != nil {
				return err
			}
			if err := dumpChecked(workDir, found); err != nil {
				return err
			}
			report, err := found.CheckBlobs(cmd.Context())
			if err != nil {
				return err
			}
			report.Problems = append(found.Problems, report.Problems...)
			if multi {
				desc, _, err := from.Manifest(cmd.Context())
				if err != nil {
					return err
				}
				if !registry.IsIndex(desc.MediaType) {
					report.Problems = append(report.Problems, image.Problem{Rule: "manifest", What: "it is no index with both OCI and Nydus manifests"})
				}
			}
			if source != "" {
				with, err := image.OpenPlace(a.nydusClient(plain, sourceInsecure, source), source, "", false)
				if err != nil {
					return err
				}
				defer with.Close()
				layers, err := image.Layers(cmd.Context(), with, p)
				if err != nil {
					return err
				}
				if err := found.Against(cmd.Context(), report, "oci", false, layers...); err != nil {
					return err
				}
			}
			if err := a.print().Result(report, func(p *output.Page) { reportPage(p, report) }); err != nil {
				return err
			}
			if !report.OK() {
				return output.Exit{Code: output.Failed}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&source, "source", "", "OCI `image` to compare with")
	f.StringVar(&target, "target", "", "Nydus `image`")
	f.BoolVar(&sourceInsecure, "source-insecure", false, "do not verify the source registry's certificate")
	f.BoolVar(&targetInsecure, "target-insecure", false, "do not verify the target registry's certificate")
	f.BoolVar(&plain, "plain-http", false, "speak to registries without TLS")
	f.BoolVar(&multi, "multi-platform", false, "expect an index with both OCI and Nydus manifests")
	f.StringVar(&platform, "platform", "linux/"+runtime.GOARCH, "`OS/ARCH` to check")
	f.StringVar(&workDir, "work-dir", "./output", "`folder` for manifest, configuration and bootstrap")
	f.String("nydus-image", "", "accepted")
	f.String("nydusd", "", "accepted")
	for _, side := range []string{"source", "target"} {
		for _, name := range []string{"backend-type", "backend-config", "backend-config-file"} {
			f.String(side+"-"+name, "", "not answered")
		}
	}
	return c
}

// dumpChecked writes what is checked into a folder, as nydusify does.
func dumpChecked(dir string, found *image.Found) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	b, err := json.MarshalIndent(found.Manifest, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "nydus_manifest.json"), b, 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "nydus_bootstrap"), found.Metadata, 0o644); err != nil {
		return fmt.Errorf("keeping the bootstrap: %w", err)
	}
	return nil
}

// trusting asks registries over TLS without verifying their certificates.
type trusting struct{ plain bool }

// Hosts is the registry itself.
func (t trusting) Hosts(_ context.Context, host string) ([]registry.Host, error) {
	h := registry.Host{Name: host, Scheme: "https", TLS: registry.TLS{SkipVerify: true}}
	if t.plain || registry.IsLoopback(host) {
		h.Scheme = "http"
	}
	return []registry.Host{h}, nil
}
