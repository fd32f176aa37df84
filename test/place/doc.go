// Package place holds the tests of images that go to real daemons: the containerd that `make build` builds for the embedded node, and
// Docker where it is installed.
package place
