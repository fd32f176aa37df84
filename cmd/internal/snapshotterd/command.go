// Package snapshotterd is the verb that serves containerd with snapshots, of the programs lazyd and weft.
package snapshotterd

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/lazy/snapshotter/nydusconfig"
)

// UsageError says that flags or a configuration cannot be used.
type UsageError struct{ err error }

func (e *UsageError) Error() string { return e.err.Error() }
func (e *UsageError) Unwrap() error { return e.err }

func usage(format string, args ...any) error { return &UsageError{fmt.Errorf(format, args...)} }

// flags of the verb.
type flags struct {
	verb, keeper                                      []string
	standsBy, follows                                 bool
	guard                                             []string // the program that guards readers, of a stand-by
	root, address, metrics, store, hosts, mode, level string
	config                                            string // of Nydus's snapshotter
	readAhead, attempts                               int    // 0: the usual
	timeout                                           time.Duration
	keeperGroup, keeperMounts                         string
	imageService                                      string // containerd's socket
	kubeconfig, node                                  string
	pullSecrets                                       []string // namespaces; * for all
	podEvents                                         bool
	mountOptions                                      []string
	asyncRemove, slowChown, volatile                  bool
	background, share                                 bool
	limit                                             int64
}

// adopt takes what Nydus's configuration says wherever no flag says otherwise.
func (f *flags) adopt(file string, given func(flag string) bool, note func(string)) error {
	c, err := nydusconfig.Read(file)
	if err != nil {
		return usage("--config: %w", err)
	}
	for _, n := range c.Notes {
		note(n)
	}
	for _, s := range []struct {
		flag string
		to   *string
		from string
	}{
		{"root", &f.root, c.Root}, {"address", &f.address, c.Address}, {"metrics", &f.metrics, c.Metrics},
		{"log-level", &f.level, c.LogLevel}, {"registry-hosts", &f.hosts, c.HostsDir}, {"image-service", &f.imageService, c.ImageService},
		{"kubeconfig", &f.kubeconfig, c.Kubeconfig},
	} {
		if s.from != "" && !given(s.flag) {
			*s.to = s.from
		}
	}
	if c.Secrets && !given("pull-secrets") {
		f.pullSecrets = []string{allNamespaces}
	}
	if !given("async-remove") {
		f.asyncRemove = !c.SyncRemove
	}
	if !given("volatile") {
		f.volatile = c.Volatile
	}
	if c.BackgroundSaid && !given("background") {
		f.background = c.Background
	}
	f.readAhead, f.attempts, f.timeout = c.ReadAhead, c.Attempts, c.Timeout
	return nil
}

// allNamespaces stands for all of them.
const allNamespaces = "*"

// Where snapshots and the socket are if nothing is said.
const (
	defaultRoot    = "/var/lib/weft/snapshotter"
	defaultAddress = "/run/weft/snapshotter.sock"
)

// Command is the verb under a name. keeper is the program's own verb that guards readers where the program keeper does not lie beside it.
func Command(name string, keeper ...string) *cobra.Command {
	f := flags{keeper: keeper}
	cmd := &cobra.Command{
		Use:   name,
		Short: "Serve containerd with snapshots: images that have an EROFS or Nydus form are mounted before they are downloaded",
		Long: `Serve containerd with snapshots, as a proxy plugin. An image that has an EROFS or Nydus form, as weft build and nydusify push it,
is mounted at once and fetched while it is read. Every other image, and every one that cannot be mounted, is unpacked as
containerd's overlayfs snapshotter does it; log and metrics say why.

containerd's configuration needs:

  [proxy_plugins.weft]
    type = "snapshot"
    address = "` + defaultAddress + `"
    capabilities = ["rebase"]
    [proxy_plugins.weft.exports]
      root = "` + defaultRoot + `"
      enable_remote_snapshot_annotations = "true"`,
		Example: "  " + name + " --root " + defaultRoot + " --address " + defaultAddress,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.config != "" {
				if err := f.adopt(f.config, cmd.Flags().Changed, func(n string) { fmt.Fprintln(cmd.ErrOrStderr(), n) }); err != nil {
					return err
				}
			}
			f.verb = strings.Fields(cmd.CommandPath())[1:]
			if f.follows {
				return follow(cmd.Context(), f, cmd.ErrOrStderr())
			}
			return run(cmd.Context(), f, cmd.ErrOrStderr())
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage("%w; see --help", err) })
	s := cmd.Flags()
	s.StringVar(&f.config, "config", "", "config.toml of Nydus's snapshotter; what flags say goes first")
	s.StringVar(&f.root, "root", defaultRoot, "folder of the snapshots and of what is fetched; on ext4, xfs or btrfs for fanotify")
	s.StringVar(&f.address, "address", defaultAddress, "Unix socket that containerd asks")
	s.StringVar(&f.metrics, "metrics", "", "address for Prometheus, for example 127.0.0.1:9110 (empty: none)")
	s.StringVar(&f.store, "store", "", "folder of the machine's content store: what is complete there is not fetched")
	s.StringVar(&f.hosts, "registry-hosts", "", "folder of folders HOST with a hosts.toml, as containerd's config_path")
	s.StringVar(&f.imageService, "image-service", "", "containerd's `socket`: the kubelet's image requests, which it sends to --address (its imageServiceEndpoint), are passed on there, and images are fetched with the credentials of the pods (empty: none)")
	s.StringSliceVar(&f.pullSecrets, "pull-secrets", nil, "`namespaces` of the cluster whose Secrets of the type kubernetes.io/dockerconfigjson hold credentials of registries, * for all: what pods were not seen to pull with is fetched with these (empty: none)")
	s.BoolVar(&f.podEvents, "pod-events", false, "give pods an event whose image was guarded by no process for a while, so that they may have read zeros")
	s.StringVar(&f.kubeconfig, "kubeconfig", "", "`file` by which the API server is asked for these two (default $KUBECONFIG, ~/.kube/config, or the service account of the pod)")
	s.StringVar(&f.node, "node-name", "", "name of the node whose pods get events (default $NODE_NAME or the machine's)")
	s.StringVar(&f.mode, "mode", "auto", "how mounted images are filled: fanotify, fuse, eager, or auto for the first of these that works")
	s.StringVar(&f.level, "log-level", "info", "debug, info, warn or error")
	s.StringArrayVar(&f.mountOptions, "mount-option", nil, "option of every overlay mount (repeatable)")
	s.BoolVar(&f.asyncRemove, "async-remove", true, "remove files of deleted snapshots when containerd cleans up, not at once")
	s.BoolVar(&f.slowChown, "slow-chown", false, "where the kernel cannot map owners, give all files of an image to them")
	s.BoolVar(&f.volatile, "volatile", false, "do not sync what containers write: faster, and lost when the machine stops")
	s.StringVar(&f.keeperGroup, "keeper-cgroup", "", "control group for the processes that guard readers, so that they outlive this one's: NAME, NAME-holder and NAME-stand-by (empty: this one's own)")
	s.StringVar(&f.keeperMounts, "keeper-mounts", "", "`file` of the mount namespace for these processes, such as /proc/1/ns/mnt for the node's; their programs are put below --root first (empty: this one's own)")
	s.BoolVar(&f.standsBy, "stand-by", true, "have a second process ready, which fills what is mounted while this one is away: readers do not wait for its next start")
	s.BoolVar(&f.background, "background", true, "fetch the rest of mounted images when nothing else is to be done")
	s.BoolVar(&f.share, "share", false, "push what was learned about an image's start beside the image")
	s.Int64Var(&f.limit, "limit", 0, "bytes per second that come from registries (0: no limit)")
	// Those of a stand-by.
	s.BoolVar(&f.follows, "follow", false, "")
	s.StringArrayVar(&f.guard, "keeper-program", nil, "")
	s.IntVar(&f.readAhead, "read-ahead", 0, "")
	s.IntVar(&f.attempts, "attempts", 0, "")
	s.DurationVar(&f.timeout, "timeout", 0, "")
	for _, name := range []string{"follow", "keeper-program", "read-ahead", "attempts", "timeout"} {
		s.Lookup(name).Hidden = true
	}
	return cmd
}
