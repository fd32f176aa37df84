package buildpack

import "syscall"

// changeTime in nanoseconds since 1970.
func changeTime(st *syscall.Stat_t) int64 { return st.Ctimespec.Nano() }
