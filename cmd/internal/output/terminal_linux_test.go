package output

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal returns a pseudo terminal, a function that waits until a text was written to it, and one that ends it and returns all that was written.
func openTerminal(t *testing.T) (tty *os.File, shows func(text string), written func() string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs pseudo terminals: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 10, Col: 40}); err != nil {
		t.Fatal(err)
	}
	pieces := make(chan string, 1000)
	go func() {
		defer close(pieces)
		for b := make([]byte, 4096); ; {
			n, err := master.Read(b) // ends with EIO when the other side is closed
			if pieces <- string(b[:n]); err != nil {
				return
			}
		}
	}()
	all := ""
	shows = func(text string) {
		for !strings.Contains(all, text) {
			all += <-pieces
		}
	}
	return tty, shows, func() string {
		tty.Close()
		for s := range pieces {
			all += s
		}
		return all
	}
}

func TestProgressOnATerminal(t *testing.T) {
	tty, shows, written := openTerminal(t)
	p := New(io.Discard, tty, Options{}, func(string) string { return "" })
	g := p.Progress()
	item := g.Start("a rather long name of an item that is cut")
	item.Count(1<<20, 2<<20)
	shows("…")
	p.Remark("a remark in between")
	item.Done("ready")
	g.Close()
	p.Error(fmt.Errorf("an error afterwards"))
	got := written()
	for _, want := range []string{"…", "\x1b[1A\r\x1b[J", "a remark in between\r\n", "\x1b[32m✓\x1b[0m a rather long", "\x1b[31merror:\x1b[0m an error"} {
		if !strings.Contains(got, want) {
			t.Errorf("the terminal lacks %q in %q", want, got)
		}
	}
	for line := range strings.SplitSeq(got, "\n") {
		if strings.Contains(line, "…") && len([]rune(line)) > 40+len("\x1b[1A\r\x1b[J\x1b[34m\x1b[0m\r") {
			t.Errorf("a live line is wider than the terminal: %q", line)
		}
	}
}

func TestNoColour(t *testing.T) {
	for name, test := range map[string]struct {
		options Options
		env     string
	}{
		"flag":     {Options{NoColor: true}, ""},
		"variable": {Options{}, "NO_COLOR"},
	} {
		t.Run(name, func(t *testing.T) {
			tty, _, written := openTerminal(t)
			p := New(tty, tty, test.options, func(n string) string {
				if n == test.env {
					return "1"
				}
				return ""
			})
			p.Error(fmt.Errorf("bad"))
			if err := p.Result(nil, func(page *Page) { page.Line("%s", page.Paint(Red, "red")) }); err != nil {
				t.Error(err)
			}
			if got := written(); got != "error: bad\r\nred\r\n" {
				t.Errorf("got %q", got)
			}
		})
	}
}
