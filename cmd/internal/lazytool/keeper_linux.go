// Package lazytool is the commands around package lazy that several programs have.
package lazytool

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/lazy/keeper"
)

// KeeperCommand is the program keeper as a verb, for where that does not lie beside this program.
func KeeperCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "keeper [--cgroup NAME] [--deadline TIME] FOLDER",
		Short:              "Hold the descriptors and events of lazily mounted images",
		Example:            "  lazyd keeper --cgroup weft-keeper /var/lib/weft/lazy/run",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if code := keeper.Main(args, cmd.ErrOrStderr()); code != 0 {
				return fmt.Errorf("the keeper ended with code %d", code)
			}
			return nil
		},
	}
}

// KeeperProgram is the program that guards readers and its first arguments: keeper, which is the smallest, if it lies beside this one, or this one with a
// verb.
func KeeperProgram(verb ...string) ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	small := filepath.Join(filepath.Dir(self), "keeper")
	if st, err := os.Stat(small); err == nil && st.Mode().IsRegular() {
		return []string{small}, nil
	}
	return append([]string{self}, verb...), nil
}
