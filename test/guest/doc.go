// Package guest holds tests that run in a virtual machine, on a kernel and a
// kind of control groups that the machine at hand may not have: Debian's
// kernel with control groups version 2 alone.
//
// The guest sees the host's files read-only, with changes kept in memory, so
// the programs in bin/ and what they need run there as they lie. `make
// test-guest` fetches the kernel and the emulator and starts the tests; without
// it they skip.
package guest
