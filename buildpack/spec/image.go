package spec

import "encoding/json"

// Labels of an image that buildpacks made (platform.md, "Labels").
const (
	LabelLifecycle = "io.buildpacks.lifecycle.metadata"
	LabelBuild     = "io.buildpacks.build.metadata"
	LabelProject   = "io.buildpacks.project.metadata"
	LabelExecEnv   = "io.buildpacks.exec-env"
	LabelRebasable = "io.buildpacks.rebasable"
	LabelStackID   = "io.buildpacks.stack.id"
	LabelTargetID  = "io.buildpacks.base.id"
	LabelDistro    = "io.buildpacks.base.distro.name"
	LabelDistroVer = "io.buildpacks.base.distro.version"
)

// BuildMetadata is <layers>/config/metadata.toml and the label io.buildpacks.build.metadata.
type BuildMetadata struct {
	BOM                []BOMEntry     `toml:"bom,omitempty" json:"bom"`
	Buildpacks         []Element      `toml:"buildpacks" json:"buildpacks"`
	Extensions         []Element      `toml:"extensions,omitempty" json:"extensions,omitempty"`
	Labels             []Label        `toml:"labels" json:"-"`
	Launcher           LauncherSource `toml:"-" json:"launcher"`
	Processes          []Process      `toml:"processes" json:"processes"`
	Slices             []Slice        `toml:"slices" json:"-"`
	DefaultProcessType string         `toml:"buildpack-default-process-type,omitempty" json:"buildpack-default-process-type,omitempty"`
}

// Label gives the JSON of the label; from Platform API 0.9 on it has no bill of materials.
func (m BuildMetadata) Label(api PlatformAPI) ([]byte, error) {
	if !api.LegacySBOMFiles {
		return json.Marshal(m)
	}
	type plain BuildMetadata
	return json.Marshal(struct {
		*plain
		BOM []BOMEntry `json:"bom,omitempty"`
	}{plain: (*plain)(&m)})
}

// LauncherSource says which launcher an image has.
type LauncherSource struct {
	Version string `json:"version"`
	Source  struct {
		Git struct {
			Repository string `json:"repository"`
			Commit     string `json:"commit"`
		} `json:"git"`
	} `json:"source"`
}

// LayersMetadata is the label io.buildpacks.lifecycle.metadata: which layer holds what. The order of the fields is the order in the
// label.
type LayersMetadata struct {
	App          []LayerRef        `json:"app" toml:"app"`
	SBOM         *LayerRef         `json:"sbom,omitempty" toml:"sbom,omitempty"`
	Buildpacks   []BuildpackLayers `json:"buildpacks" toml:"buildpacks"`
	Config       LayerRef          `json:"config" toml:"config"`
	Launcher     LayerRef          `json:"launcher" toml:"launcher"`
	ProcessTypes LayerRef          `json:"process-types" toml:"process-types"`
	RunImage     RunImageRef       `json:"runImage" toml:"run-image"`
	Stack        *StackRef         `json:"stack,omitempty" toml:"stack,omitempty"`
}

// LayerRef is the diffID of a layer.
type LayerRef struct {
	SHA string `json:"sha" toml:"sha"`
}

// RunImageRef says on which run image an image stands.
type RunImageRef struct {
	TopLayer  string `json:"topLayer" toml:"top-layer"`
	Reference string `json:"reference" toml:"reference"`
	RunImageName
}

// RunImageName is a run image and where else it can be had.
type RunImageName struct {
	Image   string   `toml:"image,omitempty" json:"image,omitempty"`
	Mirrors []string `toml:"mirrors,omitempty" json:"mirrors,omitempty"`
}

// StackRef is the older place of RunImageName, also the form of stack.toml.
type StackRef struct {
	RunImage RunImageName `json:"runImage" toml:"run-image"`
}

// BuildpackLayers lists the layers of one buildpack.
type BuildpackLayers struct {
	ID      string                   `json:"key" toml:"key"`
	Version string                   `json:"version" toml:"version"`
	Layers  map[string]LayerMetadata `json:"layers" toml:"layers"`
	Store   *Store                   `json:"store,omitempty" toml:"store"`
}

// LayerMetadata is a layer as the label tells of it.
type LayerMetadata struct {
	SHA    string `json:"sha" toml:"sha"`
	Data   any    `json:"data" toml:"metadata"`
	Build  bool   `json:"build" toml:"build"`
	Launch bool   `json:"launch" toml:"launch"`
	Cache  bool   `json:"cache" toml:"cache"`
}

// For gives the layers of a buildpack, none if the image has none of it.
func (m LayersMetadata) For(id string) BuildpackLayers {
	for _, b := range m.Buildpacks {
		if b.ID == id {
			return b
		}
	}
	return BuildpackLayers{}
}

// Analyzed is analyzed.toml (platform.md, "analyzed.toml (TOML)").
type Analyzed struct {
	Image      *ImageRef         `toml:"image,omitempty"`
	BuildImage *ImageRef         `toml:"build-image,omitempty"`
	Metadata   LayersMetadata    `toml:"metadata"`
	RunImage   *AnalyzedRunImage `toml:"run-image,omitempty"`
}

// ImageRef is a reference by digest.
type ImageRef struct {
	Reference string `toml:"reference"`
}

// AnalyzedRunImage tells what is known of the run image.
type AnalyzedRunImage struct {
	Reference string       `toml:"reference"`
	Image     string       `toml:"image,omitempty"`
	Extend    bool         `toml:"extend,omitempty"`
	Target    *ImageTarget `toml:"target,omitempty" json:"target,omitempty"`
}

// ImageTarget is what an image is made for.
type ImageTarget struct {
	ID          string  `json:"id,omitempty" toml:"id,omitempty"`
	OS          string  `json:"os" toml:"os"`
	Arch        string  `json:"arch" toml:"arch"`
	ArchVariant string  `json:"arch-variant,omitempty" toml:"arch-variant,omitempty"`
	Distro      *Distro `json:"distro,omitempty" toml:"distro,omitempty"`
}

// Report is report.toml (platform.md, "report.toml (TOML)").
type Report struct {
	Build BuildReport `toml:"build,omitempty"`
	Image ImageReport `toml:"image"`
}

// BuildReport has the older bill of materials, before Platform API 0.9.
type BuildReport struct {
	BOM []BOMEntry `toml:"bom"`
}

// ImageReport says what has been exported.
type ImageReport struct {
	Tags         []string `toml:"tags"`
	ImageID      string   `toml:"image-id,omitempty"`
	Digest       string   `toml:"digest,omitempty"`
	ManifestSize int64    `toml:"manifest-size,omitzero"`
}

// ProjectMetadata is project-metadata.toml and the label io.buildpacks.project.metadata.
type ProjectMetadata struct {
	Source *ProjectSource `toml:"source" json:"source,omitempty"`
}

// ProjectSource says where the source came from.
type ProjectSource struct {
	Type     string         `toml:"type" json:"type,omitempty"`
	Version  map[string]any `toml:"version" json:"version,omitempty"`
	Metadata map[string]any `toml:"metadata" json:"metadata,omitempty"`
}
