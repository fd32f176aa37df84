// Package debian makes image layers of Debian packages, the same bytes each time: it reads apt's sources, verifies the archive's
// signature, resolves dependencies, pins what it found in a lock, and unpacks the packages without running any of their scripts. What the
// scripts of the packages used here would have done (users, certificates, alternatives) is done by setup.go instead.
//
// The package knows nothing of buildpacks. Formats: deb(5), deb-control(5), deb-version(7), sources.list(5), and the repository format of
// wiki.debian.org/DebianRepository/Format.
package debian
