// Command logagent runs log pipelines: configurations of Fluent Bit and Fluentd, with the command line of Fluent Bit.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/weft-dev/weft/logging/pipeline"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// Exit codes are those of Fluent Bit.
const (
	exitOK     = 0
	exitConfig = 1   // a configuration or command line that cannot be used
	exitStart  = 255 // a part that could not start
)

func run(args []string, stdout, stderr io.Writer) int {
	c, err := parseArguments(args)
	if err != nil {
		fmt.Fprintf(stderr, "logagent: %v\nlogagent --help lists the options\n", err)
		return exitConfig
	}
	switch {
	case c.help:
		fmt.Fprint(stdout, help())
		return exitOK
	case c.version:
		fmt.Fprintf(stdout, "Weft logagent, for configurations of Fluent Bit v%s\n", pipeline.Version)
		return exitOK
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if c.tapRead != "" {
		if err := readTap(ctx, c, stdout); err != nil {
			fmt.Fprintf(stderr, "logagent: %v\n", err)
			return exitConfig
		}
		return exitOK
	}
	// A pipeline moves bytes through few large buffers: more garbage between collections costs little memory and saves time.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
	level := new(slog.LevelVar)
	level.Set(c.level)
	out := &logOutput{out: stderr}
	defer out.close()
	if c.logFile != "" {
		file, err := os.OpenFile(c.logFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			fmt.Fprintf(stderr, "logagent: --log_file: %v\n", err)
			return exitConfig
		}
		out.use(file)
	}
	a := &agent{command: c, log: pipeline.NewLogger(out, level), level: level, stderr: stderr, out: out}
	if c.dryRun {
		if _, err := a.engine(nil, 0); err != nil {
			a.tell(err)
			return exitConfig
		}
		fmt.Fprintln(stdout, "configuration test is successful")
		return exitOK
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	switch err := a.run(ctx, hangup); {
	case errors.Is(err, errConfig):
		return exitConfig
	case err != nil:
		fmt.Fprintf(stderr, "logagent: %v\n", err)
		return exitStart
	}
	return exitOK
}
