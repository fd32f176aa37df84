// Command generate makes from the plugin table what is derived of it: the Go types of the resources' plugins, the CustomResourceDefinitions and the
// reference documentation. Run it with `go generate ./logging/plugin`.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := run("../.."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run writes every file below the repository's root.
func run(root string) error {
	files, err := generated()
	if err != nil {
		return err
	}
	for name, content := range files {
		path := filepath.Join(root, name)
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// generated are all files by their path in the repository.
func generated() (map[string][]byte, error) {
	files := map[string][]byte{}
	if err := types(files); err != nil {
		return nil, err
	}
	if err := definitions(files); err != nil {
		return nil, err
	}
	reference(files)
	coverage(files)
	return files, nil
}
