package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/term"
)

// say prints the line of a step that is over.
func say(mark, name, what string) { fmt.Fprintf(os.Stderr, "%s %-24s %s\n", mark, name, what) }

// compile runs the Go compiler. It counts the packages that are compiled, live
// on a terminal and now and then elsewhere, and passes on everything else that
// the compiler says.
func compile(ctx context.Context, p program, target string) error {
	args := []string{"build", "-v", "-ldflags", p.ldflags(), "-tags", p.tags, "-o", target}
	if p.trim {
		args = append(args, "-trimpath")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, p.pkg)...)
	cmd.Dir = p.module
	cgo := "CGO_ENABLED=0"
	if p.cgo {
		cgo = "CGO_ENABLED=1"
	}
	cmd.Env = append(os.Environ(), cgo)
	cmd.Stdout = os.Stderr
	lines, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	count := counter{name: p.name, live: term.IsTerminal(int(os.Stderr.Fd())), told: time.Now()}
	for scanner := bufio.NewScanner(lines); scanner.Scan(); {
		count.line(scanner.Text())
	}
	count.clear()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s: go %s: %w", p.name, strings.Join(cmd.Args[1:], " "), err)
	}
	return nil
}

// counter shows how far a compilation is.
type counter struct {
	name     string
	live     bool // on a terminal
	packages int
	told     time.Time
}

func (c *counter) line(text string) {
	switch {
	case strings.HasPrefix(text, "go: downloading "):
		c.show(strings.TrimPrefix(text, "go: "))
	case strings.ContainsAny(text, " #"):
		c.clear()
		fmt.Fprintln(os.Stderr, text)
	default: // the import path of a package that is compiled now
		c.packages++
		c.show(fmt.Sprintf("%d packages compiled", c.packages))
	}
}

func (c *counter) show(what string) {
	switch {
	case c.live:
		fmt.Fprintf(os.Stderr, "\r\033[K  %s: %s", c.name, what)
	case time.Since(c.told) > 30*time.Second:
		c.told = time.Now()
		fmt.Fprintf(os.Stderr, "  %s: %s\n", c.name, what)
	}
}

func (c *counter) clear() {
	if c.live {
		fmt.Fprint(os.Stderr, "\r\033[K")
	}
}
