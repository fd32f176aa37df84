// Package supervise keeps child processes alive: it starts them, waits until they answer, starts them again when they end,
// writes their output to log files of limited size, and stops them politely before it kills them.
//
// It must not know what the processes do, nor anything of Kubernetes.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// The states of a process.
const (
	Starting   = "starting"   // forked, its Ready has not returned yet
	Running    = "running"    // answers
	Restarting = "restarting" // ended unexpectedly; waits for its next start
	Stopping   = "stopping"   // was asked to end
	Stopped    = "stopped"    // ended, and is not started again
	Failed     = "failed"     // could not be started, or ended before it answered the first time
)

// Policy says when a process that ended by itself is started again.
type Policy int

// The policies. The zero value is Always.
const (
	Always    Policy = iota
	OnFailure        // only when its exit status was not 0
	Never
)

// Spec describes a child process.
type Spec struct {
	Name string
	Path string   // the program, absolute
	Args []string // without the program's own name
	Env  []string // nil: this process's environment
	Dir  string
	// Files become the child's descriptors 3, 4, ... They stay open in this process, for the next start.
	Files []*os.File
	// Log is the file that takes standard output and standard error; empty: they are dropped.
	Log string
	// LogLimit is the size in bytes at which Log is renamed to Log + ".1"; 0 means 16 MiB.
	LogLimit int64

	Restart Policy
	Backoff Backoff

	// StopSignal asks the process to end; 0 means SIGTERM. After Grace (0 means 10 s) it is killed.
	StopSignal syscall.Signal
	Grace      time.Duration

	// Ready returns nil when the process answers, or an error when it never will. Its context ends with the process. nil: ready
	// as soon as it runs.
	Ready func(context.Context) error

	// Enter runs once on the operating system thread that forks this process, before its first start, and may change that
	// thread's namespaces. The thread serves nothing else and ends with the process.
	Enter func() error

	// Attr is the base of the child's attributes. The process group and the signal at the death of the parent are added.
	Attr *syscall.SysProcAttr

	// OnChange, if set, is told every change of the status, one after another.
	OnChange func(Status)
}

// Backoff says how long to wait before the next start of a process that ended by itself. The wait doubles with each start.
type Backoff struct {
	Initial time.Duration // 0 means 200 ms
	Max     time.Duration // 0 means 10 s
	Reset   time.Duration // a process that ran this long begins with Initial again; 0 means Max
}

// Status is a snapshot of a process.
type Status struct {
	Name      string
	PID       int // 0 when it does not run
	State     string
	Restarts  int
	Since     time.Time // when State began
	LastError string    // why it ended the last time
	Log       string
}

// Process is a child process together with its restarts.
type Process struct {
	spec Spec
	log  *logFile

	notify sync.Mutex // orders OnChange; taken before mu
	mu     sync.Mutex
	status Status
	cmd    *exec.Cmd // nil when no child runs
	known  bool      // the outcome of the first start is known

	first   chan error    // receives that outcome
	stop    signal        // asks for the end
	kill    signal        // asks for it at once
	restart chan struct{} // holds a request for a restart
	done    chan struct{} // closed when the process has ended for good
}

// signal is a channel that is closed at most once.
type signal struct {
	c    chan struct{}
	once sync.Once
}

func (s *signal) raise() { s.once.Do(func() { close(s.c) }) }

// Start starts a process and waits until it is ready. ctx bounds only this wait: when it ends first, or when the process ends
// before it is ready, the process is gone and an error says why. From then on the process is started again as its policy
// says until Stop.
func Start(ctx context.Context, spec Spec) (*Process, error) {
	spec = withDefaults(spec)
	log, err := openLog(spec.Log, spec.LogLimit)
	if err != nil {
		return nil, fmt.Errorf("%s: open the log: %w", spec.Name, err)
	}
	p := &Process{
		spec:    spec,
		log:     log,
		status:  Status{Name: spec.Name, Log: spec.Log},
		first:   make(chan error, 1),
		stop:    signal{c: make(chan struct{})},
		kill:    signal{c: make(chan struct{})},
		restart: make(chan struct{}, 1),
		done:    make(chan struct{}),
	}
	go OwnThread(p.keep)
	select {
	case err := <-p.first:
		if err != nil {
			<-p.done
			return nil, fmt.Errorf("%s: %w", spec.Name, err)
		}
		return p, nil
	case <-ctx.Done():
		last := p.Status().LastError
		stopErr := p.Stop(context.WithoutCancel(ctx))
		err := fmt.Errorf("%s did not become ready: %w", spec.Name, context.Cause(ctx))
		if last != "" {
			err = fmt.Errorf("%w (%s)", err, last)
		}
		return nil, errors.Join(err, stopErr)
	}
}

func withDefaults(s Spec) Spec {
	setDefault(&s.LogLimit, 16<<20)
	setDefault(&s.StopSignal, syscall.SIGTERM)
	setDefault(&s.Grace, 10*time.Second)
	setDefault(&s.Backoff.Initial, 200*time.Millisecond)
	setDefault(&s.Backoff.Max, 10*time.Second)
	setDefault(&s.Backoff.Reset, s.Backoff.Max)
	return s
}

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// Status returns a snapshot.
func (p *Process) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

// Done is closed when the process has ended and will not be started again.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends a signal to the running child. It returns os.ErrProcessDone when none runs.
func (p *Process) Signal(sig os.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return os.ErrProcessDone
	}
	return p.cmd.Process.Signal(sig)
}

// Restart asks for the child to be stopped and started again, and returns at once.
func (p *Process) Restart() {
	select {
	case p.restart <- struct{}{}:
	default: // one is pending already
	}
}

// Stop ends the process: the stop signal, and SIGKILL after the grace period or when ctx ends. What the child left behind in
// its process group is killed as well. Stop returns when the child is gone; the error tells of one that not even SIGKILL ended.
func (p *Process) Stop(ctx context.Context) error {
	p.stop.raise()
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	p.kill.raise()
	select {
	case <-p.done:
		return nil
	case <-time.After(killWait):
		return fmt.Errorf("%s: process %d does not end, not even by SIGKILL (it waits in the kernel)", p.spec.Name, p.Status().PID)
	}
}

// killWait is how long a killed process may take to vanish before it counts as stuck.
const killWait = 5 * time.Second

// OwnThread runs f on a thread that serves nothing else and ends with it, so f may change the thread's namespaces. It is called in a goroutine of
// its own. The thread is never the main one, which cannot end and whose namespaces /proc shows as those of the process.
func OwnThread(f func()) {
	runtime.LockOSThread() // and never unlock: the thread may have entered namespaces, so it ends with this goroutine
	if !onMainThread() {
		f()
		return
	}
	taken := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		close(taken)
		f()
	}()
	<-taken // until then this goroutine holds the main thread, so the other one got another
	runtime.UnlockOSThread()
}

// keep runs the child again and again. It owns one operating system thread, because the kernel sends the signal at the
// death of the parent when the forking thread ends, not when the process ends.
func (p *Process) keep() {
	defer close(p.done)
	defer p.log.Close()
	if p.spec.Enter != nil {
		if err := p.spec.Enter(); err != nil {
			p.set(Failed, 0, err)
			p.settle(err)
			return
		}
	}
	wait := p.spec.Backoff.Initial
	for {
		began := time.Now()
		asked, err := p.runOnce()
		select {
		case <-p.stop.c:
			p.set(Stopped, 0, err)
			p.settle(errors.Join(errors.New("stopped before it was ready"), err))
			return
		default:
		}
		if !p.settled() && !asked {
			if err == nil {
				err = errors.New("ended before it was ready")
			}
			p.set(Failed, 0, err)
			p.settle(err)
			return
		}
		if !asked && (p.spec.Restart == Never || p.spec.Restart == OnFailure && err == nil) {
			p.set(Stopped, 0, err)
			return
		}
		if time.Since(began) >= p.spec.Backoff.Reset {
			wait = p.spec.Backoff.Initial
		}
		if err == nil && !asked {
			err = errors.New("ended with exit status 0, though it should run on")
		}
		p.set(Restarting, 0, err)
		if !asked {
			select {
			case <-p.stop.c:
				p.set(Stopped, 0, nil)
				return
			case <-p.restart:
			case <-time.After(wait):
			}
			wait = min(2*wait, p.spec.Backoff.Max)
		}
		p.mu.Lock()
		p.status.Restarts++
		p.mu.Unlock()
	}
}

// settle makes the outcome of the first start known; later calls have no effect.
func (p *Process) settle(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.known {
		p.known = true
		p.first <- err
	}
}

func (p *Process) settled() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known
}

// runOnce starts the child and waits for its end. asked says that the end was wanted by Restart. A nil error means exit status 0
// or a wanted end.
func (p *Process) runOnce() (asked bool, err error) {
	cmd := exec.Command(p.spec.Path, p.spec.Args...)
	cmd.Env, cmd.Dir, cmd.ExtraFiles = p.spec.Env, p.spec.Dir, p.spec.Files
	cmd.SysProcAttr = childAttr(p.spec.Attr)
	output, err := p.log.pipe()
	if err != nil {
		return false, err
	}
	cmd.Stdout, cmd.Stderr = output.w, output.w
	if err := cmd.Start(); err != nil {
		output.finish()
		return false, startError(p.spec, err)
	}
	p.mu.Lock()
	p.cmd = cmd
	p.mu.Unlock()
	p.set(Starting, cmd.Process.Pid, nil)

	watch := make(chan outcome, 1)
	ended := make(chan struct{})
	go func() { watch <- p.attend(ended) }()

	waitUnreaped(cmd.Process.Pid)
	killGroup(cmd.Process.Pid) // before the child is reaped, so that the number cannot belong to others yet
	err = cmd.Wait()
	output.finish()
	close(ended)
	o := <-watch
	p.mu.Lock()
	p.cmd = nil
	p.mu.Unlock()

	switch {
	case o.killed:
		err = fmt.Errorf("did not end in time after %s and was killed", signalName(p.spec.StopSignal))
	case o.asked:
		err = nil
	case o.readyErr != nil:
		err = withLine(o.readyErr, p.log.lastLine())
	case err != nil:
		err = withLine(fmt.Errorf("ended with %w", err), p.log.lastLine())
	}
	if o.asked {
		select {
		case <-p.restart: // a second request was answered by the same end
		default:
		}
	}
	return o.asked, err
}

// outcome is what happened to a child while it ran.
type outcome struct {
	readyErr error
	asked    bool // it was told to end, by Stop or Restart
	killed   bool // it did not obey
}

// attend waits for the readiness of the running child and for requests to end it, until ended is closed.
func (p *Process) attend(ended <-chan struct{}) (o outcome) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ready := make(chan error, 1)
	go func() {
		if p.spec.Ready == nil {
			ready <- nil
			return
		}
		ready <- p.spec.Ready(ctx)
	}()
	var kill <-chan time.Time
	stop, killNow, restart := p.stop.c, p.kill.c, p.restart
	end := func() {
		p.set(Stopping, p.Status().PID, nil)
		_ = p.Signal(p.spec.StopSignal) // an error means that it is gone already
		kill = time.After(p.spec.Grace)
		stop, restart = nil, nil
	}
	for {
		select {
		case <-ended:
			return o
		case err := <-ready:
			ready = nil
			if kill != nil {
				continue
			}
			if err != nil {
				o.readyErr = fmt.Errorf("never became ready: %w", err)
				end()
				continue
			}
			p.set(Running, p.Status().PID, nil)
			p.settle(nil)
		case <-stop:
			o.asked = true
			end()
		case <-restart:
			o.asked = true
			end()
		case <-killNow:
			killNow = nil
			o.asked, o.killed = true, true
			_ = p.Signal(syscall.SIGKILL) // an error means that it is gone already
		case <-kill:
			o.killed = o.asked
			_ = p.Signal(syscall.SIGKILL) // an error means that it is gone already
		}
	}
}

// set changes the state and tells OnChange. A nil error keeps the last one, as the reason of the last end stays of interest.
func (p *Process) set(state string, pid int, err error) {
	p.notify.Lock()
	defer p.notify.Unlock()
	p.mu.Lock()
	p.status.State, p.status.PID, p.status.Since = state, pid, time.Now()
	if err != nil {
		p.status.LastError = err.Error()
	}
	s := p.status
	p.mu.Unlock()
	if p.spec.OnChange != nil {
		p.spec.OnChange(s)
	}
}

func startError(spec Spec, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist) && !exists(spec.Path):
		return fmt.Errorf("the program %s is missing", spec.Path)
	case errors.Is(err, fs.ErrNotExist) && spec.Dir != "" && !exists(spec.Dir):
		return fmt.Errorf("the working directory %s is missing", spec.Dir)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the program %s may not be executed: %w", spec.Path, err)
	}
	return fmt.Errorf("cannot be started: %w", err)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// withLine explains the end of a child by its last line of output.
func withLine(err error, lastLine string) error {
	if lastLine == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, lastLine)
}

func signalName(s syscall.Signal) string {
	switch s {
	case syscall.SIGTERM:
		return "SIGTERM"
	case syscall.SIGINT:
		return "SIGINT"
	case syscall.SIGQUIT:
		return "SIGQUIT"
	}
	return s.String()
}
