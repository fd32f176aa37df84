package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/tree"
	"github.com/weft-dev/weft/registry"
)

type nydusifyCheck struct {
	source, target, workDir, platform            string
	sourceInsecure, targetInsecure, plain, multi bool
}

func (n *nydusifyCheck) options() nydusOptions {
	n.workDir, n.platform = "./output", "linux/"+runtime.GOARCH
	list := nydusOptions{
		{name: "source", env: "SOURCE", to: &n.source, usage: "`image` to compare with: files, and how it is run. One of both is ordinary, the other converted"},
		{name: "target", env: "TARGET", to: &n.target, usage: "`image` to check"},
		{name: "source-insecure", env: "SOURCE_INSECURE", to: &n.sourceInsecure, usage: "do not verify the source registry's certificate"},
		{name: "target-insecure", env: "TARGET_INSECURE", to: &n.targetInsecure, usage: "do not verify the target registry's certificate"},
		{name: "plain-http", to: &n.plain, usage: "speak to registries without TLS; nydusify tries it by itself, which gives credentials away"},
		{name: "multi-platform", env: "MULTI_PLATFORM", to: &n.multi, usage: "the target has to be an index with both OCI and Nydus manifests"},
		{name: "platform", to: &n.platform, usage: "`OS/ARCH` to check"},
		{
			name: "work-dir", env: "WORK_DIR", to: &n.workDir,
			usage: "`folder` for what was checked: in source/ and target/ manifests, configurations, indexes, bootstrap and nydus_output.json. What else lies there stays",
		},
		{name: "nydus-image", env: "NYDUS_IMAGE", accepted: "no other program is needed"}, {name: "nydusd", env: "NYDUSD", accepted: "no other program is needed"},
	}
	for _, side := range []string{"source-", "target-"} {
		for i, o := range backendOptions(side, "blobs are read from the registry: leave it out") {
			list = append(list, o.from([]string{"BACKEND_TYPE", "BACKEND_CONFIG", "BACKEND_CONFIG_FILE"}[i]))
		}
	}
	return list
}

func (a *app) nydusifyCheckCommand() *cobra.Command {
	var n nydusifyCheck
	c := &cobra.Command{
		Use:     "check",
		Short:   "Check a Nydus image: manifest, bootstrap, every chunk, and its files against the source",
		Example: "  nydusify check --target registry.example.com/app:v1-nydus --source registry.example.com/app:v1",
		Args:    cobra.NoArgs,
	}
	return a.nydusVerb(c, n.options(), func(cmd *cobra.Command, _ []string) error { return a.nydusifyCheck(cmd.Context(), &n) })
}

// side is one of the images that are compared.
type side struct {
	name, dir string
	insecure  bool
}

func (a *app) nydusifyCheck(ctx context.Context, n *nydusifyCheck) error {
	if n.target == "" {
		return output.Usagef("--target is missing")
	}
	platform, err := parsePlatform(n.platform)
	if err != nil {
		return err
	}
	converted, ordinary := side{n.target, "target", n.targetInsecure}, side{n.source, "source", n.sourceInsecure}
	from, found, err := a.openSide(ctx, n, converted, platform)
	if errors.Is(err, image.ErrOrdinary) && n.source != "" { // it was made of a converted one
		converted, ordinary = ordinary, converted
		from, found, err = a.openSide(ctx, n, converted, platform)
	}
	if err != nil {
		return err
	}
	defer from.Close()
	documents, err := found.Describe(ctx)
	if err != nil {
		return err
	}
	if err := keepConverted(filepath.Join(n.workDir, converted.dir), found, documents); err != nil {
		return err
	}
	report, err := found.CheckBlobs(ctx)
	if err != nil {
		return err
	}
	report.Problems = append(found.Problems, report.Problems...)
	if n.multi && !documents.HasBoth() {
		report.Problems = append(report.Problems, image.Problem{Rule: "manifest", What: "it is no index with both OCI and Nydus manifests"})
	}
	if ordinary.name != "" {
		if err := a.against(ctx, n, ordinary, platform, found, documents, report); err != nil {
			return err
		}
	}
	return a.reported(report)
}

func (a *app) openSide(ctx context.Context, n *nydusifyCheck, s side, platform *ocispec.Platform) (image.Place, *image.Found, error) {
	place, err := image.OpenPlace(a.nydusClient(s.name, n.plain, s.insecure, registry.Retry{}), s.name, "", false)
	if err != nil {
		return nil, nil, err
	}
	found, err := image.OpenImage(ctx, place, s.name, platform)
	if err != nil {
		return nil, nil, errors.Join(err, place.Close())
	}
	return place, found, nil
}

// against compares a converted image with an ordinary one.
func (a *app) against(ctx context.Context, n *nydusifyCheck, s side, platform *ocispec.Platform, found *image.Found, of *image.Documents, report *image.Report) error {
	place, err := image.OpenPlace(a.nydusClient(s.name, n.plain, s.insecure, registry.Retry{}), s.name, "", false)
	if err != nil {
		return err
	}
	defer place.Close()
	documents, err := image.Describe(ctx, place, platform)
	if err != nil {
		return err
	}
	if err := keep(filepath.Join(n.workDir, s.dir), "oci", documents); err != nil {
		return err
	}
	if err := report.SameRun(documents, of); err != nil {
		return err
	}
	layers, err := image.Layers(ctx, place, platform)
	if err != nil {
		return err
	}
	return found.Against(ctx, report, tree.OCI, false, layers...)
}

// keep writes the documents of an image into a folder, under the names that nydusify gives them.
func keep(dir, kind string, d *image.Documents) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, content := range map[string]json.RawMessage{"index": d.Index, "manifest": d.Manifest, "config": d.Config} {
		file := filepath.Join(dir, kind+"_"+name+".json")
		if content == nil {
			if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err // it is of an earlier check
			}
			continue
		}
		b, err := json.MarshalIndent(content, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// keepConverted also writes the bootstrap, and what nydus-image says of it.
func keepConverted(dir string, found *image.Found, d *image.Documents) error {
	if err := keep(dir, "nydus", d); err != nil {
		return err
	}
	bootstrap := filepath.Join(dir, "nydus_bootstrap", "image", "image.boot")
	if err := os.MkdirAll(filepath.Dir(bootstrap), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(bootstrap, found.Metadata, 0o644); err != nil || found.Bootstrap == nil {
		return err
	}
	return newNydusOutput(bootstrap, found.Blobs, found.Bootstrap.Super.Codec()).write(filepath.Join(dir, "nydus_output.json"), false)
}
