// Command weft makes of a folder of source code and a page of configuration a running service on Kubernetes.
//
// Started under the name of a tool that it stands in for, it answers as that tool; see names.go.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/cluster"
	"github.com/weft-dev/weft/cmd/internal/output"
)

func main() {
	ctx, stop := interruptible()
	defer stop()
	code := run(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr, os.Getenv)
	os.Exit(code)
}

// errInterrupted is the cause of a context that a signal ended.
var errInterrupted = errors.New("interrupted")

// interruptible returns a context that the first SIGINT or SIGTERM ends. The second one ends the program as usual.
func interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		signal.Stop(signals)
		cancel(errInterrupted)
	}()
	return ctx, func() { signal.Stop(signals) }
}

// run is the whole program: it returns the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer, getenv func(string) string) int {
	a := &app{in: in, out: out, err: errs, getenv: getenv}
	root, err := a.command(filepath.Base(args[0]))
	if err == nil {
		root.SetArgs(args[1:])
		root.SetIn(in)
		root.SetOut(out)
		root.SetErr(errs)
		var verb *cobra.Command
		verb, err = root.ExecuteContextC(ctx)
		if err != nil && !a.started { // refused before any verb ran
			err = output.Advise(&output.UsageError{Err: err}, "See `"+verb.CommandPath()+" --help`.")
		}
	}
	if err != nil {
		a.print().Error(err)
		if a.logged {
			output.New(a.out, a.err, a.options, a.getenv).Error(err)
		}
	}
	code := output.Code(err)
	if a.called == "pack" && code == output.Usage {
		code = output.Failed // pack has one code for all failures
	}
	return code
}

// app is what the verbs share in one run of the program.
type app struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string

	options    output.Options
	state      string // flag --state
	kubeconfig string // flag --kubeconfig
	context    string // flag --context

	snapshotter string // flag --snapshotter of up

	called  string // the command as the user wrote it, for advice
	started bool   // a verb has begun: what fails from here on is no wrong usage
	printer *output.Printer
	logged  bool // the printer writes to a file, so errors are told on standard error, too
}

// print returns the printer, which is made when the flags are known.
func (a *app) print() *output.Printer {
	if a.printer == nil {
		a.printer = output.New(a.out, a.err, a.options, a.getenv)
	}
	return a.printer
}

// cluster returns the embedded cluster of the state folder. A missing weft-node is no error yet, as many verbs do without.
func (a *app) cluster() (*cluster.Cluster, error) {
	state := a.state
	var err error
	if state == "" {
		state, err = cluster.DefaultState(a.getenv)
	} else {
		state, err = filepath.Abs(state)
	}
	if err != nil {
		return nil, err
	}
	c := &cluster.Cluster{State: state}
	c.Program, c.NoProgram = a.node()
	return c, nil
}

// node returns the path of weft-node.
func (a *app) node() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	return cluster.FindProgram(a.getenv, self)
}

// begin marks the end of the checks of usage. Every command tree needs it as its PersistentPreRun.
func (a *app) begin(*cobra.Command, []string) { a.started = true }
