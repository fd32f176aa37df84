package snapshotterd

import (
	"path/filepath"

	"github.com/spf13/cobra"
)

// RemoveCommand is the verb that ends what the snapshotter has left on a machine. keeper is as for Command.
func RemoveCommand(keeper ...string) *cobra.Command {
	root, files := defaultRoot, false
	cmd := &cobra.Command{
		Use:   "remove",
		Short: "Unmount the images of a snapshotter that has ended, and end the processes that guard their readers",
		Long: `Unmount the images of a snapshotter that has ended, and end the processes that guard their readers, with their control groups and programs. It is refused while the
snapshotter runs, and while containers use the images: drain the node first. It has to run where the images are mounted. On the nodes of a DaemonSet a copy of this
program lies in the folder bin below --root.`,
		Example: "  " + defaultRoot + "/bin/lazyd-* remove --root " + defaultRoot + " --files",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !filepath.IsAbs(root) {
				return usage("--root: %q is no absolute path", root)
			}
			return remove(cmd.Context(), filepath.Clean(root), keeper, files, cmd.OutOrStdout())
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage("%w; see --help", err) })
	cmd.Flags().StringVar(&root, "root", root, "folder of the snapshots and of what was fetched")
	cmd.Flags().BoolVar(&files, "files", false, "remove this folder, too: containerd must not use the snapshotter any more")
	return cmd
}
