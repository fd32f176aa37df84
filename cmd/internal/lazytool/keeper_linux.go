// Package lazytool is the commands around package lazy that several programs have.
package lazytool

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/lazy"
	"github.com/weft-dev/weft/lazy/keeper"
)

// KeeperCommand is the process that keeps what must not be lost while others come and go. Package lazy starts it.
func KeeperCommand() *cobra.Command {
	o := keeper.Options{}
	c := &cobra.Command{
		Use:   "keeper FOLDER",
		Short: "Hold the descriptors and events of lazily mounted images",
		Long: `Hold the descriptors and events of lazily mounted images, so that the process that fills them may end and be started again at any time. It is
started by that process; FOLDER is the folder "run" of its state. It ends when nothing is mounted any more and it is told so.`,
		Example: "  lazyd keeper /var/lib/weft/lazy/run --cgroup weft-keeper",
		Args:    cobra.ExactArgs(1),
		Hidden:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Dir = args[0]
			o.Say = func(format string, args ...any) {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s %s\n", time.Now().UTC().Format(time.RFC3339), fmt.Sprintf(format, args...))
			}
			if err := lazy.Refuse(args[0]); err != nil {
				return err
			}
			return keeper.Run(o)
		},
	}
	c.Flags().StringVar(&o.Cgroup, "cgroup", "", "`name` of a control group of its own; a second process, which holds the same descriptors, gets NAME-holder")
	c.Flags().DurationVar(&o.Deadline, "deadline", 35*time.Second, "a read that nobody answers for this long fails")
	return c
}
