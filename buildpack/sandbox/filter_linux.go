package sandbox

import "golang.org/x/sys/unix"

// forbidden system calls answer "operation not permitted": they change the machine, look into other programs' memory, make
// namespaces, or have been the way out of sandboxes before.
var forbidden = append([]uint32{
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE,
	unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR, unix.SYS_CHROOT,
	unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_FANOTIFY_INIT, unix.SYS_PIDFD_GETFD,
	unix.SYS_KEXEC_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_REBOOT, unix.SYS_SWAPON,
	unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_ADJTIMEX,
	unix.SYS_CLOCK_ADJTIME, unix.SYS_SYSLOG, unix.SYS_VHANGUP, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME, unix.SYS_LOOKUP_DCOOKIE,
	unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV,
}, forbiddenHere...)

// absent system calls answer "not implemented", so that programs fall back: clone3 hides its flags from a filter, io_uring hides
// the calls that it makes.
var absent = []uint32{unix.SYS_CLONE3, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER}

const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID |
	unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP

// Offsets in struct seccomp_data (linux/seccomp.h); the argument words are little-endian on all our architectures.
const (
	dataNumber = 0
	dataArch   = 4
	dataArg0   = 16
	dataArg1   = 24
)

const (
	answerAllow  = 0x7fff0000
	answerErrno  = 0x00050000
	answerNoPerm = answerErrno | uint32(unix.EPERM)
	answerNoSys  = answerErrno | uint32(unix.ENOSYS)
)

func stmt(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }

func jump(code uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: code, K: k, Jt: yes, Jf: no}
}

// filterProgram compiles the rules to classic BPF (Documentation/userspace-api/seccomp_filter.rst).
func filterProgram() []unix.SockFilter {
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		anySet = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		answer = unix.BPF_RET | unix.BPF_K
	)
	p := []unix.SockFilter{
		stmt(load, dataArch),
		jump(equal, auditArch, 1, 0),
		stmt(answer, answerNoSys), // another ABI of the same processor has other numbers
		stmt(load, dataNumber),
	}
	if foreignBit != 0 {
		p = append(p, jump(anySet, foreignBit, 0, 1), stmt(answer, answerNoSys))
	}
	for _, nr := range forbidden {
		p = append(p, jump(equal, nr, 0, 1), stmt(answer, answerNoPerm))
	}
	for _, nr := range absent {
		p = append(p, jump(equal, nr, 0, 1), stmt(answer, answerNoSys))
	}
	return append(p,
		jump(equal, unix.SYS_CLONE, 0, 4),
		stmt(load, dataArg0),
		jump(anySet, newNamespaces, 0, 1),
		stmt(answer, answerNoPerm),
		stmt(answer, answerAllow),
		jump(equal, unix.SYS_IOCTL, 0, 4), // keystrokes into the terminal of the caller
		stmt(load, dataArg1),
		jump(equal, unix.TIOCSTI, 0, 1),
		stmt(answer, answerNoPerm),
		stmt(answer, answerAllow),
		stmt(answer, answerAllow),
	)
}
