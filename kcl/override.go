package kcl

import "github.com/weft-dev/weft/kcl/load"

// override applies -O specifications to a loaded program.
func override(*load.Program, []string) error { return nil }
