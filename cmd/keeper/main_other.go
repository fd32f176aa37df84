//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "keeper: images are mounted on demand on Linux only")
	os.Exit(1)
}
