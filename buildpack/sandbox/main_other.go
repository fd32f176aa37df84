//go:build !linux

package sandbox

// Main reports failure: there is nothing to isolate with on this system.
func Main([]string) int { return 1 }
