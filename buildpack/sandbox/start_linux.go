package sandbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The program starts as a copy of the keeper that does nothing but a fixed list of system calls: another start of a Go program would
// take as long as all namespaces and mounts together.

// The runtime's preparations for a process that is copied, as package syscall uses them; others may, too (runtime/proc.go).

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

//go:linkname afterForkInChild syscall.runtime_AfterForkInChild
func afterForkInChild()

// step is one system call of the copy, whose errors have a name.
type step struct {
	name string
	call [7]uintptr // number and arguments
}

// failed is what the copy writes if a step fails: its number and the error.
type failed struct{ step, errno uint32 }

// startProgram starts the program as the only user of a user namespace that owns none of the other namespaces.
func startProgram(spec Spec) (int, error) {
	steps, memory, err := stepsOf(spec)
	if err != nil {
		return 0, err
	}
	var goOn, result [2]int
	if err := errors.Join(unix.Pipe2(goOn[:], unix.O_CLOEXEC), unix.Pipe2(result[:], unix.O_CLOEXEC)); err != nil {
		return 0, err
	}
	pid, errno := copyProcess(steps, goOn[0], goOn[1], result[1])
	runtime.KeepAlive(memory)
	_, _ = unix.Close(goOn[0]), unix.Close(result[1])
	if errno != 0 {
		return 0, fmt.Errorf("user namespace of the program: %w", errno)
	}
	err = mapUsers(pid, spec)
	if err == nil {
		_, err = unix.Write(goOn[1], []byte{1})
	}
	unix.Close(goOn[1]) // without a word the copy ends
	if err != nil {
		return 0, fmt.Errorf("user namespace of the program: %w", err)
	}
	return pid, programStarted(result[0], steps, spec)
}

// programStarted waits until the copy has become the program.
func programStarted(fd int, steps []step, spec Spec) error {
	f := os.NewFile(uintptr(fd), "result")
	defer f.Close()
	var failure failed
	b := unsafe.Slice((*byte)(unsafe.Pointer(&failure)), unsafe.Sizeof(failure))
	n, err := f.Read(b)
	if n == 0 {
		return nil // closed by execve
	}
	if err != nil || n < len(b) || int(failure.step) >= len(steps) {
		return fmt.Errorf("start: the process that was to be the program ended (%w)", err)
	}
	errno := error(syscall.Errno(failure.errno))
	if int(failure.step) == len(steps)-1 {
		errno = execHint(spec.Args[0], errno)
	}
	return fmt.Errorf("%s: %w", steps[failure.step].name, errno)
}

// stepsOf lists what the copy has to do, and the memory that the arguments lie in. The last step is the program.
func stepsOf(spec Spec) ([]step, any, error) {
	dir, err := unix.BytePtrFromString(spec.Dir)
	if err != nil {
		return nil, nil, err
	}
	program, err := unix.BytePtrFromString(spec.Args[0])
	if err != nil {
		return nil, nil, err
	}
	args, err := syscall.SlicePtrFromStrings(spec.Args)
	if err != nil {
		return nil, nil, err
	}
	env, err := syscall.SlicePtrFromStrings(spec.Env)
	if err != nil {
		return nil, nil, err
	}
	filter := filterProgram()
	prog := &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	none := &[2]unix.CapUserData{}
	at := func(p unsafe.Pointer) uintptr { return uintptr(p) }
	steps := []step{
		{"group", [7]uintptr{unix.SYS_SETGID, uintptr(spec.GID)}},
		{"user", [7]uintptr{unix.SYS_SETUID, uintptr(spec.UID)}},
		{"end with the keeper", [7]uintptr{unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL)}},
	}
	limits, memory, err := limitSteps(spec.Limits)
	if err != nil {
		return nil, nil, err
	}
	steps = append(append(steps, limits...),
		step{"working folder", [7]uintptr{unix.SYS_CHDIR, at(unsafe.Pointer(dir))}},
		step{"umask", [7]uintptr{unix.SYS_UMASK, 0o022}},
		step{"no_new_privs", [7]uintptr{unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1}},
		step{"capabilities", [7]uintptr{unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL}},
		step{"capabilities", [7]uintptr{unix.SYS_CAPSET, at(unsafe.Pointer(header)), at(unsafe.Pointer(none))}},
		step{"system call filter", [7]uintptr{unix.SYS_SECCOMP, 1 /* SECCOMP_SET_MODE_FILTER */, 0, at(unsafe.Pointer(prog))}},
		step{spec.Args[0], [7]uintptr{unix.SYS_EXECVE, at(unsafe.Pointer(program)), at(unsafe.Pointer(&args[0])), at(unsafe.Pointer(&env[0]))}})
	return steps, []any{dir, program, args, env, filter, prog, header, none, memory}, nil
}

// limitSteps sets what the kernel calls rlimits; none may be above what holds already.
func limitSteps(l Limits) (steps []step, memory any, err error) {
	var all []*unix.Rlimit
	for _, one := range []struct {
		what  int
		value int64
	}{{unix.RLIMIT_NPROC, l.Processes}, {unix.RLIMIT_FSIZE, l.FileSize}, {unix.RLIMIT_NOFILE, l.Files}, {unix.RLIMIT_CORE, -1}} {
		limit := &unix.Rlimit{}
		if one.value == 0 {
			continue
		}
		if one.value > 0 {
			if err := unix.Getrlimit(one.what, limit); err != nil {
				return nil, nil, err
			}
			limit.Max = min(uint64(one.value), limit.Max)
			limit.Cur = limit.Max
		}
		all = append(all, limit)
		steps = append(steps, step{"limits", [7]uintptr{unix.SYS_PRLIMIT64, 0, uintptr(one.what), uintptr(unsafe.Pointer(limit))}})
	}
	return steps, all, nil
}

// mapUsers lets the process see one user and group, which is who the program runs as.
func mapUsers(pid int, spec Spec) error {
	uid, gid := spec.HostUID, spec.HostGID
	if spec.Rootless {
		uid, gid = 0, 0 // the only one mapped in the keeper's user namespace
	}
	proc := "/proc/" + strconv.Itoa(pid) + "/"
	for _, f := range []struct{ name, text string }{{"setgroups", "deny"}, {"gid_map", fmt.Sprintf("%d %d 1", spec.GID, gid)},
		{"uid_map", fmt.Sprintf("%d %d 1", spec.UID, uid)}} {
		file, err := os.OpenFile(proc+f.name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = file.WriteString(f.text)
		if err = errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return nil
}

// copyProcess makes the copy, in a user namespace of its own. In the copy it does not return. Between the two calls of the runtime nothing
// may grow the stack, allocate or wait. The copy has nobody to tell errors to but the pipe.
//
//go:noinline
//go:norace
func copyProcess(steps []step, goOn, goOnWrite, result int) (int, syscall.Errno) {
	syscall.ForkLock.Lock()
	beforeFork()
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.CLONE_NEWUSER)|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		afterFork()
		syscall.ForkLock.Unlock()
		return int(pid), errno
	}
	becomeProgram(steps, goOn, goOnWrite, result)
	return 0, 0 // not reached
}

// becomeProgram goes the steps once the keeper lets it.
//
//go:nosplit
//go:norace
func becomeProgram(steps []step, goOn, goOnWrite, result int) {
	afterForkInChild()
	var word [1]byte
	var failure failed
	_, _, _ = syscall.RawSyscall(unix.SYS_CLOSE, uintptr(goOnWrite), 0, 0)
	n, _, _ := syscall.RawSyscall(unix.SYS_READ, uintptr(goOn), uintptr(unsafe.Pointer(&word)), 1)
	if n == 1 {
		for i := range steps {
			c := &steps[i].call
			_, _, errno := syscall.RawSyscall6(c[0], c[1], c[2], c[3], c[4], c[5], c[6])
			if errno != 0 {
				failure = failed{uint32(i), uint32(errno)}
				_, _, _ = syscall.RawSyscall(unix.SYS_WRITE, uintptr(result), uintptr(unsafe.Pointer(&failure)), unsafe.Sizeof(failure))
				break
			}
		}
	}
	for {
		_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, 1, 0, 0)
	}
}
