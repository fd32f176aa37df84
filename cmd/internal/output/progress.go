package output

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// Progress shows what is under way on standard error: a live line for each item on a terminal, plain lines elsewhere, nothing with
// --quiet. Only one may be open at a time. Close must be called.
type Progress struct {
	printer *Printer
	ticker  *time.Ticker // nil: not live
	stop    chan struct{}
	stopped chan struct{}

	mu     sync.Mutex
	items  []*Item
	drawn  int // lines on the screen that belong to live items
	frame  int
	closed bool
}

// Item is one thing under way.
type Item struct {
	progress *Progress
	name     string
	began    time.Time
	note     string
	done     int64
	total    int64
	over     bool
}

// Progress opens the display.
func (p *Printer) Progress() *Progress {
	g := &Progress{printer: p, stop: make(chan struct{}), stopped: make(chan struct{})}
	if p.live == nil || p.options.Quiet {
		close(g.stopped)
		return g
	}
	g.ticker = time.NewTicker(100 * time.Millisecond)
	p.mu.Lock()
	p.open = g
	p.mu.Unlock()
	go func() {
		defer close(g.stopped)
		for {
			select {
			case <-g.ticker.C:
				g.mu.Lock()
				g.frame++
				g.draw("")
				g.mu.Unlock()
			case <-g.stop:
				return
			}
		}
	}()
	return g
}

// Start adds an item.
func (g *Progress) Start(name string) *Item {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := &Item{progress: g, name: name, began: time.Now()}
	g.items = append(g.items, i)
	g.draw("")
	return i
}

// Passed prints a step that is over, and when, counted from the begin of the whole.
func (g *Progress) Passed(name string, at time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.printer.errStyle
	g.permanent(s.paint(Green, "✓") + " " + oneLine(name) + "  " + s.paint(Faint, seconds(at)))
}

// above prints a line above the live items.
func (g *Progress) above(line string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.draw(line + "\n")
}

// Close ends the display. Items that are still under way vanish from a terminal.
func (g *Progress) Close() {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return
	}
	g.closed = true
	g.items = nil
	g.draw("")
	g.mu.Unlock()
	if g.ticker != nil {
		g.ticker.Stop()
		close(g.stop)
		g.printer.mu.Lock()
		g.printer.open = nil
		g.printer.mu.Unlock()
	}
	<-g.stopped
}

// Note says what the item is doing.
func (i *Item) Note(format string, args ...any) {
	g := i.progress
	g.mu.Lock()
	defer g.mu.Unlock()
	note := fmt.Sprintf(format, args...)
	if i.over || note == i.note {
		return
	}
	i.note = note
	if g.ticker == nil {
		g.permanent(i.name + ": " + note)
		return
	}
	g.draw("")
}

// Step says what part of the item is over. Unlike a note it stays on a terminal, too.
func (i *Item) Step(format string, args ...any) {
	g := i.progress
	g.mu.Lock()
	defer g.mu.Unlock()
	if i.over || g.closed {
		return
	}
	i.note = ""
	line := i.name + ": " + oneLine(fmt.Sprintf(format, args...))
	if g.ticker != nil {
		line = g.printer.errStyle.paint(Faint, line)
	}
	g.permanent(line)
}

// Wait says what the item is waiting for. Unlike a note it is shown on terminals only.
func (i *Item) Wait(note string) {
	g := i.progress
	g.mu.Lock()
	defer g.mu.Unlock()
	i.note = note
}

// Count says how much of the item is done, in bytes; total 0 means not known. It is shown on terminals only.
func (i *Item) Count(done, total int64) {
	g := i.progress
	g.mu.Lock()
	defer g.mu.Unlock()
	i.done, i.total = done, total
}

// Done ends the item well. The note may be empty.
func (i *Item) Done(note string) { i.end(Green, "✓", note) }

// Skip ends an item for which there was nothing to do.
func (i *Item) Skip(note string) { i.end(Faint, "·", note) }

// Fail ends the item badly.
func (i *Item) Fail(note string) { i.end(Red, "✗", note) }

func (i *Item) end(c Colour, mark, note string) {
	g := i.progress
	g.mu.Lock()
	defer g.mu.Unlock()
	if i.over || g.closed {
		return
	}
	i.over = true
	for n, other := range g.items {
		if other == i {
			g.items = append(g.items[:n:n], g.items[n+1:]...)
			break
		}
	}
	s := g.printer.errStyle
	line := s.paint(c, mark) + " " + i.name
	if note != "" {
		line += "  " + oneLine(note)
	}
	g.permanent(line + "  " + s.paint(Faint, seconds(time.Since(i.began))))
}

// permanent prints a line that stays. mu is held.
func (g *Progress) permanent(line string) {
	if g.printer.options.Quiet {
		return
	}
	if g.ticker != nil {
		g.draw(line + "\n")
		return
	}
	g.printer.mu.Lock()
	defer g.printer.mu.Unlock()
	fmt.Fprintln(g.printer.err, line)
}

var frames = []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")

// draw replaces the live lines on the screen, after text that stays. mu is held.
func (g *Progress) draw(text string) {
	if g.ticker == nil {
		return
	}
	var b strings.Builder
	if g.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\r\x1b[J", g.drawn)
	}
	b.WriteString(text)
	width, height := g.printer.live.size()
	g.drawn = 0
	for n, i := range g.items {
		if left := len(g.items) - n; g.drawn == height-2 && left > 1 {
			fmt.Fprintf(&b, "  and %d more\n", left)
			g.drawn++
			break
		}
		b.WriteString(i.live(g.printer.errStyle, frames[g.frame%len(frames)], width) + "\n")
		g.drawn++
	}
	if b.Len() == 0 {
		return
	}
	g.printer.mu.Lock()
	defer g.printer.mu.Unlock()
	fmt.Fprint(g.printer.err, b.String())
}

// live is the item's line, no wider than the terminal so that it stays one line.
func (i *Item) live(s style, frame rune, width int) string {
	text := " " + i.name
	if i.total > 0 {
		text += "  " + bar(i.done, i.total)
	} else if i.done > 0 {
		text += "  " + Bytes(i.done)
	}
	if i.note != "" {
		text += "  " + oneLine(i.note)
	}
	text += "  " + seconds(time.Since(i.began))
	if runes := []rune(text); len(runes) > width-2 {
		text = string(runes[:max(0, width-3)]) + "…"
	}
	return s.paint(Blue, string(frame)) + text
}

func bar(done, total int64) string {
	const cells = 20
	done = min(max(done, 0), total)
	full := int(cells * done / total)
	return strings.Repeat("█", full) + strings.Repeat("░", cells-full) + fmt.Sprintf(" %s of %s", Bytes(done), Bytes(total))
}

// Bytes writes a size for people, in powers of 1024.
func Bytes(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n)/1024, 0
	for ; v >= 1024 && unit < len(units)-1; unit++ {
		v /= 1024
	}
	return fmt.Sprintf("%.1f %ciB", v, units[unit])
}

func seconds(d time.Duration) string {
	if d >= time.Minute {
		return d.Round(time.Second).String()
	}
	return fmt.Sprintf("%.1fs", d.Seconds())
}
