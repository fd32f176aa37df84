// Command weft-testpod is what pods of tests run: servers, clients and
// behaviour that a test asks for, in one static program.
//
// It ends on SIGTERM at once unless it is told otherwise, also as the first
// process of a container. Clients exit 0 when the answer came, 1 when it did
// not (the reason on standard error begins with refused, timeout,
// unreachable, not found, closed or failed), 2 on wrong usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sort"
	"syscall"
)

// A command runs until it is done or the context ends.
type command struct {
	usage string
	about string
	run   func(ctx context.Context, args []string, out io.Writer) error
}

func commands() map[string]command {
	return map[string]command{
		"serve":   {"serve [flags]", "HTTP, TCP echo and UDP echo servers", serve},
		"get":     {"get [flags] URL", "HTTP client, prints the body", get},
		"tcp":     {"tcp [flags] HOST:PORT [MESSAGE]", "TCP client: connect, and with a message expect its echo", tcpClient},
		"udp":     {"udp [flags] HOST:PORT MESSAGE", "UDP client: expect the message's echo", udpClient},
		"resolve": {"resolve [flags] NAME", "addresses of a name, by resolv.conf's search list", resolve},
		"env":     {"env", "the environment, sorted", env},
		"burn":    {"burn [flags]", "use processor time", burn},
		"fill":    {"fill [flags]", "use memory", fill},
		"wait":    {"wait [flags]", "do nothing until SIGTERM or for a time", wait},
	}
}

var errUsage = errors.New("wrong usage")

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	all := commands()
	if len(args) == 0 || args[0] == "-h" || args[0] == "--help" {
		help(os.Stderr, all)
		return 2
	}
	c, ok := all[args[0]]
	if !ok {
		fmt.Fprintf(os.Stderr, "testpod: there is no command %q\n", args[0])
		help(os.Stderr, all)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := c.run(ctx, args[1:], os.Stdout)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintf(os.Stderr, "usage: testpod %s (%v)\n", c.usage, err)
		return 2
	}
	fmt.Fprintf(os.Stderr, "testpod %s: %s\n", args[0], reason(err))
	return 1
}

func help(w io.Writer, all map[string]command) {
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	sort.Strings(names)
	fmt.Fprintln(w, "usage: testpod COMMAND")
	for _, name := range names {
		fmt.Fprintf(w, "  %-34s %s\n", all[name].usage, all[name].about)
	}
}

// parse reads flags and wants between least and most further arguments.
func parse(flags *flag.FlagSet, args []string, least, most int) ([]string, error) {
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	if n := flags.NArg(); n < least || n > most {
		return nil, fmt.Errorf("%w: %d arguments", errUsage, n)
	}
	return flags.Args(), nil
}
