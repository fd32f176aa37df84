package lifecycle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/weft-dev/weft/buildpack/layer"
	"github.com/weft-dev/weft/buildpack/spec"
	"github.com/weft-dev/weft/buildpack/target"
)

// Rebaser puts an application on another run image without building: only configuration and manifest are written.
type Rebaser struct {
	API    spec.PlatformAPI
	Logger Logger
	Target target.Target
	Names  []string
	Force  bool
	From   string // reference of the application's image, if it is in a registry: then Target is not asked for its layers there
}

// errForce is what a user can do about a refusal.
const errForce = "please provide -force to override"

// Rebase replaces the layers of the old run image, up to the one that the label calls the top layer, by those of run.
func (r *Rebaser) Rebase(ctx context.Context, app v1.Image, run NamedImage) (spec.Report, error) {
	var g errgroup.Group
	var appConfig, runConfig *v1.ConfigFile
	g.Go(func() (err error) { appConfig, err = app.ConfigFile(); return err })
	g.Go(func() (err error) { runConfig, err = run.Image.ConfigFile(); return err })
	if err := g.Wait(); err != nil {
		return spec.Report{}, err
	}
	if err := r.validate(appConfig, runConfig, app, run.Image); err != nil {
		return spec.Report{}, err
	}
	md, err := LayersLabel(app)
	if err != nil {
		return spec.Report{}, fmt.Errorf("get image metadata: %w", err)
	}
	cut := slices.IndexFunc(appConfig.RootFS.DiffIDs, func(h v1.Hash) bool { return h.String() == md.RunImage.TopLayer })
	if cut < 0 || md.RunImage.TopLayer == "" {
		return spec.Report{}, fmt.Errorf("rebase app image: the image has no layer %q, which its metadata calls the top of the run image", md.RunImage.TopLayer)
	}
	runIDs := runConfig.RootFS.DiffIDs
	if len(runIDs) == 0 {
		return spec.Report{}, errors.New("get rebase run image top layer SHA: image has no layers")
	}
	md.RunImage.TopLayer, md.RunImage.Reference = runIDs[len(runIDs)-1].String(), run.Reference
	if r.API.RunTOML {
		if err := r.rename(&md, run.Name); err != nil {
			return spec.Report{}, err
		}
	}
	doc, err := r.document(ctx, app, run, appConfig, runConfig, cut+1, md)
	if err != nil {
		return spec.Report{}, err
	}
	digest, err := r.Target.Publish(ctx, doc.config, doc.manifest, doc.mediaType, r.Names)
	if err != nil {
		return spec.Report{}, err
	}
	r.Logger.Infof("*** Images (%s):", digest)
	for _, n := range r.Names {
		r.Logger.Infof("      %s", n)
	}
	return spec.Report{Image: spec.ImageReport{Tags: r.Names, Digest: digest.String(), ManifestSize: int64(len(doc.manifest))}}, nil
}

func (r *Rebaser) validate(appConfig, runConfig *v1.ConfigFile, app, run v1.Image) error {
	api := spec.API{}
	if v := getEnv(appConfig.Config, "CNB_PLATFORM_API"); v != "" {
		var err error
		if api, err = spec.ParseAPI(v); err != nil {
			return fmt.Errorf("the app image's CNB_PLATFORM_API: %w", err)
		}
	}
	if !api.AtLeast(spec.API{Major: 0, Minor: 12}) {
		return validateStack(appConfig.Config.Labels, runConfig.Config.Labels)
	}
	if appConfig.Config.Labels[spec.LabelRebasable] == "false" {
		if !r.Force {
			return errors.New("app image is not marked as rebasable; " + errForce)
		}
		r.Logger.Warnf("app image is not marked as rebasable")
	}
	from, err := TargetOf(app)
	if err != nil {
		return err
	}
	to, err := TargetOf(run)
	if err != nil {
		return err
	}
	if rebasableTarget(to, from) {
		return nil
	}
	message := fmt.Sprintf("unable to satisfy target os/arch constraints; new run image: %s, old run image: %s", asJSON(to), asJSON(from))
	if !r.Force {
		return errors.New(message + "; " + errForce)
	}
	r.Logger.Warnf("%s", message)
	return nil
}

func rebasableTarget(to, from spec.ImageTarget) bool {
	if to.OS != from.OS || to.Arch != from.Arch || to.ArchVariant != "" && from.ArchVariant != "" && to.ArchVariant != from.ArchVariant {
		return false
	}
	if to.Distro == nil {
		return true
	}
	return from.Distro != nil && (to.Distro.Name == "" || to.Distro.Name == from.Distro.Name) &&
		(to.Distro.Version == "" || to.Distro.Version == from.Distro.Version)
}

// validateStack is the rule of images made before Platform API 0.12.
func validateStack(app, run map[string]string) error {
	from, to := app[spec.LabelStackID], run[spec.LabelStackID]
	switch {
	case from == "":
		return errors.New("stack not defined on app image")
	case to == "":
		return errors.New("stack not defined on new base image")
	case from != to:
		return fmt.Errorf("incompatible stack: '%s' is not compatible with '%s'", to, from)
	}
	have, err := mixins(run)
	if err != nil {
		return fmt.Errorf("get run image mixins: %w", err)
	}
	need, err := mixins(app)
	if err != nil {
		return fmt.Errorf("get app image mixins: %w", err)
	}
	var missing []string
	for _, m := range need {
		if !slices.Contains(have, m) {
			missing = append(missing, m)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return fmt.Errorf("missing required mixin(s): %s", strings.Join(missing, ", "))
	}
	return nil
}

// mixins gives the mixins of an image without the stage that they are for.
func mixins(labels map[string]string) ([]string, error) {
	text := labels["io.buildpacks.stack.mixins"]
	if text == "" {
		return nil, nil
	}
	var list []string
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, err
	}
	for i, m := range list {
		if _, after, ok := strings.Cut(m, ":"); ok {
			list[i] = after
		}
	}
	return list, nil
}

// rename checks that the run image is one that the image knows, and with Force makes it that.
func (r *Rebaser) rename(md *spec.LayersMetadata, newName string) error {
	known := md.RunImage.RunImageName
	if SameImage(known, newName) || md.Stack != nil && SameImage(md.Stack.RunImage, newName) {
		return nil
	}
	existing := "not found"
	if known.Image != "" {
		existing = asJSON(md.RunImage)
	} else if md.Stack != nil {
		existing = asJSON(md.Stack.RunImage)
	}
	message := fmt.Sprintf("rebase app image: new base image '%s' not found in existing run image metadata: %s", newName, existing)
	if !r.Force {
		return errors.New(message + "; " + errForce)
	}
	r.Logger.Warnf("%s", message)
	md.RunImage.RunImageName = spec.RunImageName{Image: newName}
	md.Stack = &spec.StackRef{RunImage: spec.RunImageName{Image: newName}}
	return nil
}

// SameImage reports whether image is a run image or one of its mirrors; digests do not count.
func SameImage(n spec.RunImageName, image string) bool {
	image = withoutDigest(image)
	return slices.ContainsFunc(append([]string{n.Image}, n.Mirrors...), func(s string) bool { return s != "" && withoutDigest(s) == image })
}

// withoutDigest spells an image name in full and drops its digest.
func withoutDigest(image string) string {
	base, _, _ := strings.Cut(image, "@")
	ref, err := name.ParseReference(base, name.WeakValidation)
	if err != nil {
		return image
	}
	return ref.Name()
}

// document writes configuration and manifest of the rebased image.
func (r *Rebaser) document(ctx context.Context, app v1.Image, run NamedImage, appConfig, runConfig *v1.ConfigFile, cut int, md spec.LayersMetadata) (document, error) {
	appManifest, err := app.Manifest()
	if err != nil {
		return document{}, err
	}
	runManifest, err := run.Image.Manifest()
	if err != nil {
		return document{}, err
	}
	if len(appManifest.Layers) != len(appConfig.RootFS.DiffIDs) || len(runManifest.Layers) != len(runConfig.RootFS.DiffIDs) {
		return document{}, errors.New("manifest and configuration name different numbers of layers")
	}
	config := appConfig.DeepCopy()
	config.RootFS.DiffIDs = append(slices.Clone(runConfig.RootFS.DiffIDs), appConfig.RootFS.DiffIDs[cut:]...)
	created := v1.Time{Time: layer.ModTime}
	config.Created = created
	config.History = append(completeHistory(runConfig.History, len(runManifest.Layers)), completeHistory(appConfig.History, len(appManifest.Layers))[cut:]...)
	for i := range config.History {
		config.History[i].Created = created
	}
	config.OS, config.Architecture, config.OSVersion = runConfig.OS, runConfig.Architecture, runConfig.OSVersion
	if err := r.setLabels(config, runConfig, md); err != nil {
		return document{}, err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(maxParallelLayers)
	sources := []struct {
		img    v1.Image
		layers []v1.Descriptor
		ids    []v1.Hash
		from   string
	}{{run.Image, runManifest.Layers, runConfig.RootFS.DiffIDs, run.Reference}, {app, appManifest.Layers[cut:], appConfig.RootFS.DiffIDs[cut:], r.From}}
	var layers []v1.Descriptor
	for _, s := range sources {
		layers = append(layers, s.layers...)
		for i, d := range s.layers {
			g.Go(func() error {
				l, err := s.img.LayerByDigest(d.Digest)
				if err != nil {
					return err
				}
				_, err = r.Target.Layer(gctx, target.Source{Name: d.Digest.String(), Existing: l, From: s.from,
					Known: &layer.Blob{DiffID: s.ids[i], Digest: d.Digest, Size: d.Size}})
				return err
			})
		}
	}
	if err := g.Wait(); err != nil {
		return document{}, err
	}
	return encodeDocument(config, layers, appManifest.Annotations, appManifest.MediaType == types.DockerManifestSchema2)
}

func (r *Rebaser) setLabels(config, runConfig *v1.ConfigFile, md spec.LayersMetadata) error {
	data, err := json.Marshal(md)
	if err != nil {
		return err
	}
	ofBase := func(label string) bool {
		return strings.HasPrefix(label, "io.buildpacks.stack.") || r.API.RunTOML && strings.HasPrefix(label, "io.buildpacks.base.")
	}
	labels := map[string]string{}
	for k, v := range config.Config.Labels {
		if !ofBase(k) {
			labels[k] = v
		}
	}
	for k, v := range runConfig.Config.Labels {
		if ofBase(k) {
			labels[k] = v
		}
	}
	labels[spec.LabelLifecycle] = string(data)
	config.Config.Labels = labels
	return nil
}
