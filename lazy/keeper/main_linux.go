package keeper

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/lazy/mountinfo"
)

// Main is the keeper as a program: its arguments are flags and the folder run of the state. It returns the exit code.
func Main(args []string, stderr io.Writer) int {
	var o Options
	s := flag.NewFlagSet("keeper", flag.ContinueOnError)
	s.SetOutput(stderr)
	s.Usage = func() {
		fmt.Fprint(stderr, "Hold the descriptors and events of lazily mounted images, so that the process that fills them may end and start again.\n"+
			"That process starts this one. FOLDER is the folder \"run\" of its state.\n\nkeeper [FLAGS] FOLDER\n")
		s.PrintDefaults()
	}
	s.StringVar(&o.Cgroup, "cgroup", "", "`name` of a control group of its own; a second process, which holds the same descriptors, gets NAME-holder")
	s.DurationVar(&o.Deadline, "deadline", 35*time.Second, "a read that nobody answers for this long fails")
	mounts := s.String("mounts", "", "`file` of the mount namespace to live in, such as /proc/1/ns/mnt; this program has to lie there under the same path")
	if err := s.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	if s.NArg() != 1 {
		fmt.Fprintf(stderr, "keeper: name one folder, the folder run of a state; see keeper --help\n")
		return 2
	}
	o.Dir = s.Arg(0)
	o.Say = func(format string, args ...any) {
		fmt.Fprintf(stderr, "%s %s\n", time.Now().UTC().Format(time.RFC3339), fmt.Sprintf(format, args...))
	}
	if err := run(o, *mounts); err != nil {
		fmt.Fprintln(stderr, "keeper:", err)
		return 1
	}
	return 0
}

func run(o Options, mounts string) error {
	if mounts != "" {
		return enter(mounts)
	}
	if err := mountinfo.Refuse(o.Dir); err != nil {
		return err
	}
	return Run(o)
}

// enter starts the program again in another mount namespace, under the same path. What it holds then keeps no mounts of the namespace that it came from:
// those of a pod, which is deleted at some time.
func enter(mounts string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	f, err := os.Open(mounts)
	if err != nil {
		return fmt.Errorf("the mount namespace: %w", err)
	}
	defer f.Close()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // only a thread with folders of its own may enter another one
		return err
	}
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("entering the mount namespace %s: %w", mounts, err)
	}
	args := slices.Clone(os.Args)
	for i := len(args) - 1; i > 0; i-- {
		if args[i] == "--mounts" || args[i] == "-mounts" {
			args = slices.Delete(args, i, min(i+2, len(args)))
		}
	}
	if err := unix.Exec(self, args, os.Environ()); err != nil {
		return fmt.Errorf("%s in the mount namespace %s: %w", self, mounts, err)
	}
	return nil
}
