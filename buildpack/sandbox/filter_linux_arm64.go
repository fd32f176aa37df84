package sandbox

import "golang.org/x/sys/unix"

const (
	auditArch  = 0xc00000b7 // AUDIT_ARCH_AARCH64
	foreignBit = 0
)

var forbiddenHere = []uint32{unix.SYS_KEXEC_FILE_LOAD}
