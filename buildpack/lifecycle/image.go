package lifecycle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/weft-dev/weft/buildpack/layer"
	"github.com/weft-dev/weft/buildpack/spec"
)

// document is an image without its layers.
type document struct {
	config    []byte
	manifest  []byte
	mediaType types.MediaType
}

// runImageMetadata says in the label on which run image the image stands.
func (e *Exporter) runImageMetadata(md *spec.LayersMetadata) error {
	config, err := e.RunImage.ConfigFile()
	if err != nil {
		return fmt.Errorf("read the run image: %w", err)
	}
	ids := config.RootFS.DiffIDs
	if len(ids) == 0 {
		return errors.New("the run image has no layers")
	}
	md.RunImage.TopLayer = ids[len(ids)-1].String()
	md.RunImage.Reference = e.RunImageRef
	if e.API.RunTOML {
		md.RunImage.RunImageName = e.RunImageName
	}
	md.Stack = &spec.StackRef{RunImage: e.RunImageName}
	return nil
}

// image writes configuration and manifest.
func (e *Exporter) image(parts []*part, md spec.LayersMetadata, build spec.BuildMetadata, entrypoint string) (document, error) {
	base, err := e.RunImage.ConfigFile()
	if err != nil {
		return document{}, err
	}
	manifest, err := e.RunImage.Manifest()
	if err != nil {
		return document{}, err
	}
	docker := manifest.MediaType == types.DockerManifestSchema2
	layers := slices.Clone(manifest.Layers) // transfer has brought them
	created := v1.Time{Time: layer.ModTime}
	if e.Created != 0 {
		created = v1.Time{Time: time.Unix(e.Created, 0).UTC()}
	}
	config := base.DeepCopy()
	config.History = completeHistory(config.History, len(layers))
	for _, p := range parts {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, p.blob.DiffID)
		config.History = append(config.History, v1.History{CreatedBy: p.createdBy})
		layers = append(layers, v1.Descriptor{MediaType: e.Compression.MediaType(docker), Size: p.blob.Size, Digest: p.blob.Digest})
	}
	for i := range config.History {
		if !e.API.LayerHistory {
			config.History[i] = v1.History{}
		}
		config.History[i].Created = created
	}
	config.Created = created
	config.Container = ""
	if err := e.setConfig(config, md, build, entrypoint); err != nil {
		return document{}, err
	}
	return encodeDocument(config, layers, manifest.Annotations, docker)
}

func (e *Exporter) setConfig(config *v1.ConfigFile, md spec.LayersMetadata, build spec.BuildMetadata, entrypoint string) error {
	labels := map[string]string{}
	for k, v := range config.Config.Labels {
		labels[k] = v
	}
	lifecycleLabel, err := json.Marshal(md)
	if err != nil {
		return err
	}
	build.Launcher = e.LauncherSource
	buildLabel, err := build.Label(e.API)
	if err != nil {
		return err
	}
	projectLabel, err := json.Marshal(e.Project)
	if err != nil {
		return err
	}
	labels[spec.LabelLifecycle] = string(lifecycleLabel)
	labels[spec.LabelBuild] = string(buildLabel)
	labels[spec.LabelProject] = string(projectLabel)
	for _, l := range build.Labels {
		labels[l.Key] = l.Value
	}
	if e.API.ExecutionEnv && e.ExecEnv != "" {
		labels[spec.LabelExecEnv] = e.ExecEnv
	}
	config.Config.Labels = labels
	setEnv(&config.Config, "CNB_LAYERS_DIR", e.Folders.Layers.Inside)
	setEnv(&config.Config, "CNB_APP_DIR", e.Folders.App.Inside)
	setEnv(&config.Config, "CNB_PLATFORM_API", e.API.String())
	setEnv(&config.Config, "CNB_DEPRECATION_MODE", "quiet")
	setEnv(&config.Config, "PATH", strings.Join([]string{processDir, lifecycleDir, getEnv(config.Config, "PATH")}, ":"))
	config.Config.WorkingDir = e.Folders.App.Inside
	config.Config.Entrypoint = []string{entrypoint}
	config.Config.Cmd = nil
	return nil
}

func getEnv(c v1.Config, name string) string {
	for _, kv := range c.Env {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			return v
		}
	}
	return ""
}

func setEnv(c *v1.Config, name, value string) {
	for i, kv := range c.Env {
		if k, _, _ := strings.Cut(kv, "="); k == name {
			c.Env[i] = name + "=" + value
			return
		}
	}
	c.Env = append(c.Env, name+"="+value)
}

// completeHistory makes the history have one entry for each layer; a history that does not fit says nothing.
func completeHistory(history []v1.History, layers int) []v1.History {
	var full []v1.History
	for _, h := range history {
		if !h.EmptyLayer {
			full = append(full, h)
		}
	}
	if len(full) == layers {
		return full
	}
	return make([]v1.History, layers)
}

func encodeDocument(config *v1.ConfigFile, layers []v1.Descriptor, annotations map[string]string, docker bool) (document, error) {
	var d document
	var err error
	if d.config, err = json.Marshal(config); err != nil {
		return d, err
	}
	digest, size, err := v1.SHA256(bytes.NewReader(d.config))
	if err != nil {
		return d, err
	}
	configType := types.OCIConfigJSON
	d.mediaType = types.OCIManifestSchema1
	if docker {
		configType, d.mediaType = types.DockerConfigJSON, types.DockerManifestSchema2
	}
	d.manifest, err = json.Marshal(v1.Manifest{SchemaVersion: 2, MediaType: d.mediaType,
		Config: v1.Descriptor{MediaType: configType, Size: size, Digest: digest}, Layers: layers, Annotations: annotations})
	return d, err
}

// maxLabel bounds the label that is read from an image, in bytes.
const maxLabel = 16 << 20

// LayersLabel reads which layers an image has. An image that buildpacks did not make has none.
func LayersLabel(img v1.Image) (spec.LayersMetadata, error) {
	var md spec.LayersMetadata
	config, err := img.ConfigFile()
	if err != nil {
		return md, err
	}
	label := config.Config.Labels[spec.LabelLifecycle]
	if label == "" {
		return md, nil
	}
	if len(label) > maxLabel {
		return md, fmt.Errorf("the label %s is longer than %d bytes", spec.LabelLifecycle, maxLabel)
	}
	if err := json.Unmarshal([]byte(label), &md); err != nil {
		return md, fmt.Errorf("the label %s: %w", spec.LabelLifecycle, err)
	}
	return md, nil
}
