//go:build !unix

package hostfs

import "os"

func readFile(name string) ([]byte, error) { return os.ReadFile(name) }
