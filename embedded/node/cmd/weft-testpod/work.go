package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"
)

func env(_ context.Context, args []string, out io.Writer) error {
	if _, err := parse(flag.NewFlagSet("env", flag.ContinueOnError), args, 0, 0); err != nil {
		return err
	}
	list := os.Environ()
	sort.Strings(list)
	_, err := fmt.Fprintln(out, strings.Join(list, "\n"))
	return err
}

// burn keeps a share of a number of processors busy.
func burn(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("burn", flag.ContinueOnError)
	workers := flags.Int("workers", 1, "processors to keep busy")
	share := flags.Float64("share", 1, "part of each processor, 0 to 1")
	length := flags.Duration("for", 0, "end after this time; 0: on SIGTERM")
	if _, err := parse(flags, args, 0, 0); err != nil {
		return err
	}
	if *share <= 0 || *share > 1 || *workers < 1 {
		return fmt.Errorf("%w: -share is 0 to 1, -workers at least 1", errUsage)
	}
	if *length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *length)
		defer cancel()
	}
	fmt.Fprintf(out, "burning %g of %d processors\n", *share, *workers)
	var all sync.WaitGroup
	for range *workers {
		all.Go(func() { spin(ctx, *share) })
	}
	all.Wait()
	return nil
}

// spin computes for its share of each 100 ms.
func spin(ctx context.Context, share float64) {
	const period = 100 * time.Millisecond
	busy := time.Duration(float64(period) * share)
	for ctx.Err() == nil {
		for end := time.Now().Add(busy); time.Now().Before(end); {
		}
		if rest := period - busy; rest > 0 {
			time.Sleep(rest)
		}
	}
}

// fill takes memory in steps and touches it, then waits.
func fill(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("fill", flag.ContinueOnError)
	size := flags.Int("mib", 64, "memory to take, in MiB")
	pause := flags.Duration("step", 10*time.Millisecond, "pause after each MiB")
	if _, err := parse(flags, args, 0, 0); err != nil {
		return err
	}
	var held [][]byte
	for range *size {
		block := make([]byte, 1<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		held = append(held, block)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(*pause):
		}
	}
	fmt.Fprintf(out, "holding %d MiB\n", len(held))
	<-ctx.Done()
	return nil
}

// wait does nothing; with -ignore-term only SIGKILL or the time ends it.
func wait(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("wait", flag.ContinueOnError)
	length := flags.Duration("for", 0, "end after this time; 0: on SIGTERM")
	code := flags.Int("exit", 0, "exit code")
	ignore := flags.Bool("ignore-term", false, "do not end on SIGTERM")
	drain := flags.Duration("drain", 0, "go on this long after SIGTERM")
	if _, err := parse(flags, args, 0, 0); err != nil {
		return err
	}
	if *ignore {
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
		ctx = context.WithoutCancel(ctx)
	}
	var over <-chan time.Time
	if *length > 0 {
		over = time.After(*length)
	}
	fmt.Fprintln(out, "waiting")
	select {
	case <-over:
	case <-ctx.Done():
		fmt.Fprintln(out, "asked to end")
		time.Sleep(*drain)
	}
	if *code != 0 {
		os.Exit(*code)
	}
	return nil
}
