// Package driver is the engine's driver for images that are built from source by package buildpack. A resource's inputs are
//
//	source:  folder, relative to the options' root
//	image:   name in a registry
//	env:     variables for buildpacks
//	process: type of the process that the image starts
//	digest:  an image that was built before and is to be used as it is (set by Pin)
//
// and its outputs are image, digest and ref, the name by digest that a manifest should use. It must not know what a project is.
package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/weft-dev/weft/buildpack"
	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/registry"
)

// Options are the same for all images of a run.
type Options struct {
	Root     string // folder that sources are relative to
	State    string // folder for caches; see buildpack.Options
	Registry *registry.Client
	Programs buildpack.Programs
	// Base is what every build has besides its inputs, for example a network it may not use.
	Base buildpack.Options
	// Events is told what happens in a build; may be nil.
	Events func(engine.ID, buildpack.Event)
	// Built is told the result of each build that was made or found unchanged; may be nil.
	Built func(engine.ID, buildpack.Result)
	// Attach puts further forms of an image that was built beside it; may be nil. The image is there without them, so what fails is for it to tell.
	Attach func(context.Context, engine.ID, buildpack.Result)
}

// Driver implements engine.Driver and engine.Pinner.
type Driver struct{ opts Options }

// New returns a driver.
func New(opts Options) *Driver {
	if opts.Registry == nil {
		opts.Registry = registry.New(registry.Options{Keychain: registry.DockerCredentials("")})
	}
	return &Driver{opts}
}

// Version is 1.
func (d *Driver) Version() string { return "1" }

// build are the inputs of one resource.
type build struct {
	source, image, process, digest string
	env                            map[string]string
}

func read(inputs map[string]any) (b build, err error) {
	plain, _ := engine.Reveal(inputs).(map[string]any)
	for key, v := range plain {
		text, isText := v.(string)
		switch key {
		case "source":
			b.source = text
		case "image":
			b.image = text
		case "process":
			b.process = text
		case "digest":
			b.digest = text
		case "env":
			m, ok := v.(map[string]any)
			if !ok {
				return b, fmt.Errorf("env: expected names with values")
			}
			b.env = map[string]string{}
			for name, value := range m {
				if b.env[name], ok = value.(string); !ok {
					return b, fmt.Errorf("env.%s: expected a text", name)
				}
			}
			continue
		default:
			return b, fmt.Errorf("%s: is no input of a build; these are source, image, env, process, digest", key)
		}
		if !isText {
			return b, fmt.Errorf("%s: expected a text that is known before it is built", key)
		}
	}
	switch {
	case b.image == "":
		return b, fmt.Errorf("image: is missing")
	case b.source == "" && b.digest == "":
		return b, fmt.Errorf("source: is missing")
	}
	return b, nil
}

func (d *Driver) options(id engine.ID, b build) buildpack.Options {
	o := d.opts.Base
	o.Source, o.Image, o.State, o.Registry, o.Programs = b.source, b.image, d.opts.State, d.opts.Registry, d.opts.Programs
	if !filepath.IsAbs(o.Source) {
		o.Source = filepath.Join(d.opts.Root, o.Source)
	}
	o.Env, o.DefaultProcess = b.env, b.process
	o.Events = func(e buildpack.Event) {
		if d.opts.Events != nil {
			d.opts.Events(id, e)
		}
	}
	return o
}

// Read compares the source with what the image was made of. The image of the record counts as long as the registry has it.
func (d *Driver) Read(ctx context.Context, r engine.Request) (*engine.Object, error) {
	b, err := d.inputs(r)
	if err != nil {
		return nil, err
	}
	if b.digest != "" {
		return d.pinned(ctx, b)
	}
	o := d.options(r.ID, b)
	o.Events = nil
	result, err := buildpack.Check(ctx, o)
	if err != nil {
		return nil, err
	}
	if result.Unchanged {
		if d.opts.Built != nil {
			d.opts.Built(r.ID, result)
		}
		return object(result), nil
	}
	if r.Record == nil || r.Record.Identity == "" {
		return nil, nil
	}
	there, err := d.exists(ctx, b.image, r.Record.Identity)
	if err != nil || !there {
		return nil, err
	}
	return &engine.Object{Identity: r.Record.Identity, Outputs: r.Record.Outputs, Mark: "made of something else than " + result.Fingerprint}, nil
}

// inputs are those wanted, or the record's for what is only known from it.
func (d *Driver) inputs(r engine.Request) (build, error) {
	if r.Inputs == nil && r.Record != nil {
		return read(r.Record.Inputs)
	}
	return read(r.Inputs)
}

func (d *Driver) pinned(ctx context.Context, b build) (*engine.Object, error) {
	there, err := d.exists(ctx, b.image, b.digest)
	if err != nil || !there {
		return nil, err
	}
	ref, err := registry.ParseReference(b.image)
	if err != nil {
		return nil, err
	}
	return object(buildpack.Result{Image: b.image, Digest: b.digest, Ref: ref.Repository.String() + "@" + b.digest, Fingerprint: b.digest}), nil
}

func (d *Driver) exists(ctx context.Context, image, sum string) (bool, error) {
	ref, err := byDigest(image, sum)
	if err != nil {
		return false, err
	}
	_, err = d.opts.Registry.Resolve(ctx, ref)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func byDigest(image, sum string) (registry.Reference, error) {
	ref, err := registry.ParseReference(image)
	if err != nil {
		return ref, err
	}
	return registry.ParseReference(ref.Repository.String() + "@" + digest.Digest(sum).String())
}

func object(r buildpack.Result) *engine.Object {
	return &engine.Object{Identity: r.Digest, Outputs: map[string]any{"image": r.Image, "digest": r.Digest, "ref": r.Ref}, Mark: r.Fingerprint}
}

// Compare says whether the image has to be built.
func (d *Driver) Compare(ctx context.Context, r engine.Request, o *engine.Object) (engine.Comparison, error) {
	b, err := d.inputs(r)
	if err != nil {
		return engine.Comparison{}, err
	}
	if o == nil {
		if b.digest != "" {
			return engine.Comparison{}, fmt.Errorf("the registry has no %s %s any more, so it cannot be gone back to", b.image, b.digest)
		}
		return engine.Comparison{}, nil
	}
	all := []string{"*"}
	if b.digest != "" {
		if r.Record != nil && r.Record.Identity == b.digest {
			return engine.Comparison{}, nil
		}
		c := engine.Change{Path: "digest", After: b.digest}
		if r.Record != nil {
			c.Before = r.Record.Identity
		}
		return engine.Comparison{Changes: []engine.Change{c}, Computed: all}, nil
	}
	options := d.options(r.ID, b)
	options.Events = nil
	result, err := buildpack.Check(ctx, options)
	if err != nil || result.Unchanged {
		return engine.Comparison{}, err
	}
	return engine.Comparison{Changes: []engine.Change{{Path: "digest", Before: o.Identity, After: engine.Unknown{}}}, Computed: all}, nil
}

// Create builds the image and pushes it.
func (d *Driver) Create(ctx context.Context, r engine.Request) (*engine.Object, error) {
	b, err := d.inputs(r)
	if err != nil {
		return nil, err
	}
	if b.digest != "" {
		o, err := d.pinned(ctx, b)
		if err == nil && o == nil {
			err = fmt.Errorf("the registry has no %s %s any more", b.image, b.digest)
		}
		return o, err
	}
	result, err := buildpack.Build(ctx, d.options(r.ID, b))
	if err != nil {
		return nil, err
	}
	if d.opts.Built != nil {
		d.opts.Built(r.ID, result)
	}
	if d.opts.Attach != nil {
		d.opts.Attach(ctx, r.ID, result)
	}
	return object(result), nil
}

// Update builds it again; what has not changed is taken from caches and the earlier image.
func (d *Driver) Update(ctx context.Context, r engine.Request, _ *engine.Object) (*engine.Object, error) {
	return d.Create(ctx, r)
}

// Delete takes the image out of the registry. Projects keep theirs, for rollbacks.
func (d *Driver) Delete(ctx context.Context, r engine.Request) error {
	b, err := read(r.Record.Inputs)
	if err != nil || r.Record.Identity == "" {
		return err
	}
	ref, err := byDigest(b.image, r.Record.Identity)
	if err != nil {
		return err
	}
	if err := d.opts.Registry.Delete(ctx, ref); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Pin returns inputs that stand for the image that was built, whatever the source is by now.
func (d *Driver) Pin(inputs, outputs map[string]any) map[string]any {
	sum, ok := outputs["digest"].(string)
	if !ok {
		return inputs
	}
	pinned := make(map[string]any, len(inputs)+1)
	for k, v := range inputs {
		pinned[k] = v
	}
	pinned["digest"] = sum
	return pinned
}
