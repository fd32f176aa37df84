// Command sandbox is the inner half of package sandbox: weft starts it to isolate one program. It has no use of its own.
package main

import (
	"os"

	"github.com/weft-dev/weft/buildpack/sandbox"
)

func main() { os.Exit(sandbox.Main(os.Args)) }
