// Command kcl runs, checks, formats and packages KCL programs. It links
// nothing of weft but package kcl and the registry client.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/weft-dev/weft/cmd/internal/kcltool"
)

// version is set by the linker in releases.
var version = "0.12.0-weft"

// firstCollection is about how much the process allocates before the garbage
// collector runs for the first time, in units of the runtime's 4 MB.
const firstCollection = 16

// collectLate lets runs that end soon end without any garbage collection. After
// the first one the collector works as usual, or as $GOGC says.
func collectLate() {
	if os.Getenv("GOGC") != "" {
		return
	}
	usual := debug.SetGCPercent(100 * firstCollection)
	runtime.AddCleanup(new(*byte), func(percent int) { debug.SetGCPercent(percent) }, usual)
}

// grace is how long a run may take to end by itself after it was told to.
const grace = 3 * time.Second

// end lets a second signal end the process, and ends it after a while.
func end(stop func()) {
	stop()
	time.Sleep(grace)
	fmt.Fprintln(os.Stderr, "Error: interrupted")
	os.Exit(1)
}

func main() {
	collectLate()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() { end(stop) })
	dir, err := os.Getwd()
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error: the working folder:", err)
		os.Exit(1)
	}
	t := &kcltool.Tool{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.LookupEnv, Dir: dir, Version: version}
	code := t.Main(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
