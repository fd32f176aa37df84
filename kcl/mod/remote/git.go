package remote

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/weft-dev/weft/kcl/mod"
)

// git runs the program git without asking anybody anything.
func (s *Source) git(ctx context.Context, args ...string) (string, error) {
	program := s.Git
	if program == "" {
		program = "git"
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(append([]string(nil), s.Env...), "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_COUNT=2",
		"GIT_CONFIG_KEY_0=protocol.ext.allow", "GIT_CONFIG_VALUE_0=never", "GIT_CONFIG_KEY_1=core.hooksPath", "GIT_CONFIG_VALUE_1=/dev/null")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	verb := args[0]
	if verb == "-C" {
		verb = args[2]
	}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if text := strings.TrimSpace(errs.String()); text != "" {
			return "", fmt.Errorf("git %s: %s", verb, text)
		}
		return "", fmt.Errorf("git %s: %w", verb, err)
	}
	return out.String(), nil
}

// gitURL is the address that git understands: git:// of a forge is https://
// there, since forges no longer speak the git protocol.
func gitURL(url string) string {
	if rest, ok := strings.CutPrefix(url, "git://"); ok {
		return "https://" + rest
	}
	return url
}

func (s *Source) gitTags(ctx context.Context, url string) ([]string, error) {
	out, err := s.git(ctx, "ls-remote", "--tags", "--refs", "--", gitURL(url))
	if err != nil {
		return nil, err
	}
	var tags []string
	for _, line := range strings.Split(out, "\n") {
		if _, ref, ok := strings.Cut(line, "refs/tags/"); ok {
			tags = append(tags, ref)
		}
	}
	return tags, nil
}

// clone puts the state that d means into dir, without history.
func (s *Source) clone(ctx context.Context, d mod.Dependency, dir string) error {
	url, ref := gitURL(d.Git), d.Ref()
	if _, err := s.git(ctx, "init", "--quiet", dir); err != nil {
		return err
	}
	in := func(args ...string) error {
		_, err := s.git(ctx, append([]string{"-C", dir}, args...)...)
		return err
	}
	if err := in("remote", "add", "origin", url); err != nil {
		return err
	}
	spec := ref
	switch {
	case d.Tag != "":
		spec = "refs/tags/" + ref
	case d.Branch != "":
		spec = "refs/heads/" + ref
	}
	err := in("fetch", "--quiet", "--depth=1", "origin", spec)
	target := "FETCH_HEAD"
	if err != nil && d.Commit != "" { // a short commit, or a server that gives only the tips
		err = in("fetch", "--quiet", "origin", "refs/heads/*:refs/remotes/origin/*", "--tags")
		target = ref
	}
	if err != nil {
		return err
	}
	if err := in("checkout", "--quiet", "--detach", target, "--"); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(dir, ".git"))
}
