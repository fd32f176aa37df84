//go:build !linux

package lifecycle

import (
	"io/fs"
	"os"
)

// Overlays are a thing of Linux.

func isWhiteout(fs.FileInfo) bool { return false }

func isOpaque(*os.Root, string) (bool, error) { return false, nil }

func isNotDir(error) bool { return false }
