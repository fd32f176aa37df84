// Command lazyd mounts images on a node before they are there. Its verbs are the processes of that: `lazyd snapshotter` serves containerd and fills what is
// mounted. What guards readers while it is away is the program keeper.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/lazytool"
	"github.com/weft-dev/weft/cmd/internal/snapshotterd"
)

// version is set when the program is built.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:           "lazyd",
		Short:         "Mount images before they are there",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(snapshotterd.Command("snapshotter", "keeper"), snapshotterd.RemoveCommand("keeper"), lazytool.KeeperCommand())
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "lazyd:", err)
		var usage *snapshotterd.UsageError
		if errors.As(err, &usage) {
			os.Exit(2)
		}
		os.Exit(1)
	}
}
