package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/lazytool"
	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/lazy"
	"github.com/weft-dev/weft/registry"
)

// lazyCommand is the noun lazy.
func (a *app) lazyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "lazy",
		Short: "See what lazily mounted images have fetched, and make room",
		Long: `See what lazily mounted images have fetched, and make room. The state lies in the folder of "weft image mount --lazy", or in the one that a snapshotter is
configured with.`,
		Example: `  weft lazy status
  weft lazy cache -o json
  weft lazy drop --limit 2G`,
	}
	group(c)
	c.AddCommand(a.lazyStatusCommand(), a.lazyCacheCommand(), a.lazyDropCommand(), lazytool.KeeperCommand())
	return c
}

// lazyRoot is the folder of lazily mounted images.
func lazyRoot(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", output.Advise(err, "Name the folder with --root.")
	}
	return filepath.Join(dir, "weft", "lazy"), nil
}

func (a *app) lazyLook(given string) (*lazy.View, error) {
	root, err := lazyRoot(given)
	if err != nil {
		return nil, err
	}
	p := a.print()
	v, err := lazy.Look(root, slog.New(slog.NewTextHandler(warnings{p}, nil)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, output.Advise(err, "It is made by `weft image mount --lazy`; name another folder with --root.")
	}
	return v, err
}

// warnings prints what a log has to say.
type warnings struct{ p *output.Printer }

func (w warnings) Write(b []byte) (int, error) {
	w.p.Warn("%s", strings.TrimSpace(string(b)))
	return len(b), nil
}

const rootUsage = "`folder` of the state (default ~/.cache/weft/lazy)"

func (a *app) lazyStatusCommand() *cobra.Command {
	var root string
	c := &cobra.Command{
		Use:   "status",
		Short: "Say which images are prepared and mounted, and how much of them is there",
		Example: `  weft lazy status
  weft lazy status --root /var/lib/weft/lazy -o json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v, err := a.lazyLook(root)
			if err != nil {
				return err
			}
			return a.print().Result(v, func(p *output.Page) { lazyPage(p, v) })
		},
	}
	c.Flags().StringVar(&root, "root", "", rootUsage)
	return c
}

func lazyPage(p *output.Page, v *lazy.View) {
	state := p.Paint(output.Green, "a process fills what is read")
	mounted := false
	for _, im := range v.Images {
		mounted = mounted || len(im.Mounts) > 0
	}
	switch {
	case v.Served && v.StandsIn:
		state = p.Paint(output.Yellow, "the stand-by fills what is read, since the process before it has ended")
	case v.Served:
	case mounted && v.Holder != 0:
		state = p.Paint(output.Red, "nobody fills what is read: readers wait")
	case mounted:
		state = p.Paint(output.Yellow, "nobody fills what is read")
	default:
		state = "nothing is mounted"
	}
	p.Line("%s: %s", v.Root, state)
	switch {
	case v.Reason != "":
		p.Line("filled by %s, since %s", v.Mode, v.Reason)
	case v.Mode != "":
		p.Line("filled by %s", v.Mode)
	}
	if v.Keeper != 0 || v.Holder != 0 {
		guards := fmt.Sprintf("keeper: process %d, holder: process %d", v.Keeper, v.Holder)
		if v.StandBy != 0 {
			guards += fmt.Sprintf(", stand-by: process %d", v.StandBy)
		}
		p.Line("%s", guards)
	}
	if len(v.Images) == 0 {
		return
	}
	p.Line("")
	var rows [][]output.Cell
	for _, im := range v.Images {
		learned := "no"
		if im.Learned {
			learned = "yes"
		}
		rows = append(rows, []output.Cell{
			{Text: im.Names[0]}, {Text: share(im.Present, im.Bytes)}, {Text: output.Bytes(im.Bytes)}, {Text: fmt.Sprintf("%d of %d", im.Complete, im.Devices)},
			{Text: output.Bytes(im.Fetched)}, {Text: fmt.Sprint(im.Events)}, {Text: learned}, {Text: strings.Join(im.Mounts, " ")},
		})
	}
	for _, im := range v.Images {
		for _, m := range im.Unguarded {
			p.Line("%s %s on %s was not guarded for a while: what read it then may have seen zeros or errors, start it again", p.Paint(output.Red, "Unguarded:"), im.Names[0], m)
		}
	}
	p.Table([]string{"image", "there", "bytes", "complete devices", "fetched", "waits", "start known", "mounted on"}, rows)
}

func share(part, all int64) string {
	if all == 0 {
		return "100 %"
	}
	return fmt.Sprintf("%d %%", part*100/all)
}

func (a *app) lazyCacheCommand() *cobra.Command {
	var root string
	c := &cobra.Command{
		Use:     "cache",
		Short:   "List the devices in the cache: what is there of them, and which images have them",
		Example: "  weft lazy cache -o json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v, err := a.lazyLook(root)
			if err != nil {
				return err
			}
			return a.print().Result(v.Cached, func(p *output.Page) {
				var rows [][]output.Cell
				for _, d := range v.Cached {
					mounted := "no"
					if d.Mounted {
						mounted = "yes"
					}
					rows = append(rows, []output.Cell{
						{Text: "sha256:" + d.Blob[:12]}, {Text: share(d.Present, d.Space)}, {Text: output.Bytes(d.Space)}, {Text: output.Bytes(d.Disk)}, {Text: mounted},
						{Text: fmt.Sprint(len(d.Images))}, {Text: d.Used.Format(time.DateTime)},
					})
				}
				p.Table([]string{"blob", "there", "bytes", "on the disk", "mounted", "images", "last use"}, rows)
			})
		},
	}
	c.Flags().StringVar(&root, "root", "", rootUsage)
	return c
}

func (a *app) lazyDropCommand() *cobra.Command {
	var root string
	var limit size
	var all bool
	c := &cobra.Command{
		Use:   "drop [IMAGE...]",
		Short: "Drop cached content that nothing mounts",
		Long: `Drop prepared images by name or ID, or with --limit content of images that are not mounted, the longest unused first, until the rest fits. What is
dropped is fetched again when it is needed. A process that serves the folder keeps its own limit; this is for folders that nobody serves.`,
		Example: `  weft lazy drop --limit 2G
  weft lazy drop registry.example.com/team/app:v1
  weft lazy drop --all`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && !cmd.Flags().Changed("limit") && !all {
				return output.Usagef("nothing to drop: name images, or give --limit or --all")
			}
			if _, err := a.lazyLook(root); err != nil {
				return err
			}
			dir, err := lazyRoot(root)
			if err != nil {
				return err
			}
			c, err := lazyDrop(cmd.Context(), dir, args, int64(limit), cmd.Flags().Changed("limit"), all)
			if errors.Is(err, lazy.ErrBusy) {
				return output.Advise(err, "End that process first, or give it a limit.")
			}
			if err != nil {
				return err
			}
			return a.print().Result(c, func(p *output.Page) {
				p.Line("dropped %d devices, %s; %d stay with %s", len(c.Dropped), output.Bytes(c.Bytes), c.Kept, output.Bytes(c.Disk))
			})
		},
	}
	c.Flags().StringVar(&root, "root", "", rootUsage)
	c.Flags().Var(&limit, "limit", "`size` that the cache may have on the disk")
	c.Flags().BoolVar(&all, "all", false, "drop all images that are not mounted")
	return c
}

func lazyDrop(ctx context.Context, root string, names []string, limit int64, limited, all bool) (lazy.Collected, error) {
	none := lazy.Collected{}
	s, err := lazy.Open(ctx, lazy.Options{Root: root, Mode: lazy.Eager, Learn: -1})
	if err != nil {
		return none, err
	}
	defer s.Close()
	before, err := s.Cached()
	if err != nil {
		return none, err
	}
	for _, im := range s.Images() {
		st := im.Stats()
		named := all && len(st.Mounts) == 0
		for i, n := range names {
			if n == im.ID() || n == im.Name() {
				named, names[i] = true, ""
			}
		}
		if !named {
			continue
		}
		if err := s.Remove(ctx, im.ID()); err != nil {
			return none, err
		}
	}
	for _, n := range names {
		if n != "" {
			return none, fmt.Errorf("there is no prepared image %s: `weft lazy status` lists them", n)
		}
	}
	if !limited {
		limit = -1
	}
	c, err := s.Collect(ctx, limit)
	if err != nil {
		return none, err
	}
	after, err := s.Cached()
	if err != nil {
		return none, err
	}
	left := map[string]int64{}
	for _, d := range after {
		left[d.Key] = d.Disk
	}
	c.Dropped, c.Bytes = nil, 0
	for _, d := range before {
		if now, ok := left[d.Key]; !ok || now < d.Disk {
			c.Dropped, c.Bytes = append(c.Dropped, d.Info), c.Bytes+d.Disk-now
		}
	}
	return c, nil
}

// lazyModes are the values of --mode.
var lazyModes = map[string]lazy.Mode{"": lazy.Auto, "auto": lazy.Auto, "fanotify": lazy.Fanotify, "fuse": lazy.FUSE, "eager": lazy.Eager}

// mountedOn says whether an image is mounted on a folder.
func mountedOn(im *lazy.Image, target string) bool {
	path, err := filepath.Abs(target)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	return err == nil && slices.Contains(im.Stats().Mounts, path)
}

// mountLazily mounts an image and fills it until it is told to end.
func (a *app) mountLazily(ctx context.Context, name, target, root string, mode lazy.Mode, background bool) error {
	p := a.print()
	dir, err := lazyRoot(root)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(warnings{p}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	guard, err := lazytool.KeeperProgram("lazy", "keeper")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := lazy.Open(ctx, lazy.Options{
		Root: dir, Mode: mode, Background: background, Logger: log, Retire: cancel, Keeper: guard,
		Registry: registry.Options{Keychain: registry.DockerCredentials(a.getenv("DOCKER_CONFIG"))},
	})
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Restore(ctx); err != nil {
		return err
	}
	im, err := s.Prepare(ctx, lazy.Request{Reference: name})
	if err != nil {
		return err
	}
	// A command that was killed has left its mount, which is looked after again by now.
	if !mountedOn(im, target) {
		if err := im.Mount(ctx, target, lazy.MountOptions{}); err != nil {
			return err
		}
	}
	p.Remark("mounted %s on %s (%s); end it with Ctrl-C", im.Name(), target, s.Mode())
	if s.Reason() != "" {
		p.Remark("fanotify was not chosen: %s", s.Reason())
	}
	<-ctx.Done()
	end, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer stop()
	st := im.Stats()
	if err := im.Unmount(end, target); err != nil {
		return output.Advise(err, "Something uses the mount. What it reads waits until `weft image mount --lazy` is started again.")
	}
	p.Remark("%s of %s are there; %s were fetched, %s were read, %d reads had to wait, %d failed", output.Bytes(st.Present), output.Bytes(st.Bytes), output.Bytes(st.Fetched),
		output.Bytes(st.Read), st.Events, st.Failed)
	return nil
}
