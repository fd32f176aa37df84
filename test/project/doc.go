// Package project tests the main job as a user does it: weft takes the example from source to a page that answers, and keeps its data.
//
// It needs root, control groups and the programs of `make build`. Where these are missing it skips; in CI it fails.
package project
