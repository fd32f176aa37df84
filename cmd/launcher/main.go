// Command launcher is the entry point of images that buildpacks made. It is /cnb/lifecycle/launcher there, and the links of
// /cnb/process lead to it.
package main

import (
	"os"

	"github.com/weft-dev/weft/buildpack/launch"
)

func main() { os.Exit(launch.Main(os.Args, os.Environ(), os.Stderr)) }
