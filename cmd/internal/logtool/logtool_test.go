package logtool

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/cmd/internal/output/transcript"
)

func TestCommands(t *testing.T) {
	transcript.Test(t, "log", func(print func() *output.Printer) []*cobra.Command {
		return Tool{Print: print, Stdin: strings.NewReader("")}.Commands()
	})
}
