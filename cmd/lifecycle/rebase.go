package main

import (
	"context"
	"errors"
	"os"

	"github.com/weft-dev/weft/buildpack/lifecycle"
	"github.com/weft-dev/weft/buildpack/spec"
)

func rebase(ctx context.Context, s *session) error {
	if len(s.args) == 0 {
		return &failure{code: codeArguments, verb: "parse arguments", err: errors.New("at least one image argument is required")}
	}
	if err := s.sameRegistry(); err != nil {
		return err
	}
	if s.get("image") != "" && s.get("run-image") != os.Getenv("CNB_RUN_IMAGE") {
		return &failure{code: codeArguments, verb: "resolve inputs", err: errors.New("supply only one of -run-image or (deprecated) -image")}
	}
	runName := orElse(s.get("run-image"), s.get("image"))
	from := orElse(s.get("previous-image"), s.args[0])
	if err := s.begin(ctx, append(s.names(), from, runName)...); err != nil {
		return err
	}
	run := s.lookUp(ctx, runName) // meanwhile
	app, err := s.need(ctx, from)
	if err != nil {
		return fail("rebase", err)
	}
	if runName == "" {
		md, err := lifecycle.LayersLabel(app.Image)
		if err != nil {
			return fail("rebase", err)
		}
		known := md.RunImage.RunImageName
		if (known.Image == "" || !s.api.RunTOML) && md.Stack != nil {
			known = md.Stack.RunImage
		}
		if known.Image == "" {
			return &failure{code: codeArguments, verb: "parse arguments", err: errors.New("-run-image is required when there is no run image metadata available")}
		}
		if runName, err = s.bestMirror(ctx, known, from); err != nil {
			return fail("rebase", err)
		}
		run = s.lookUp(ctx, runName)
	}
	base, err := run()
	if err != nil {
		return &failure{codeFailed, "access run image", err}
	}
	if err := errors.Join(s.whole(ctx, app), s.whole(ctx, base)); err != nil {
		return fail("rebase", err)
	}
	to, err := s.target(s.args[0])
	if err != nil {
		return fail("rebase", err)
	}
	r := &lifecycle.Rebaser{API: s.api, Logger: s.log, Target: to, Names: s.names(), Force: s.is("force"), From: app.Reference}
	report, err := r.Rebase(ctx, app.Image, *base)
	if err != nil {
		return fail("rebase", err)
	}
	s.reportOfDaemon(&report.Image)
	return fail("rebase", writeTOML(s.get("report"), struct {
		Image spec.ImageReport `toml:"image"`
	}{report.Image}))
}
