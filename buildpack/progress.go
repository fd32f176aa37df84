package buildpack

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"
)

// maxLine bounds a line of output, in bytes; a longer one is cut into several.
const maxLine = 16 << 10

// progress turns what phases and buildpacks say into events. It is a lifecycle.Logger, and a Writer for the output of buildpacks.
type progress struct {
	mu        sync.Mutex
	to        func(Event)
	name      string // of the phase
	buildpack string
	partial   []byte
}

func (p *progress) send(e Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sendLocked(e)
}

func (p *progress) sendLocked(e Event) {
	if p.to != nil {
		p.to(e)
	}
}

func (p *progress) phase(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.name, p.buildpack = name, ""
	p.sendLocked(Event{Kind: PhaseStarted, Phase: name})
}

// begin says which buildpack speaks from now on.
func (p *progress) begin(buildpack string) {
	p.flush()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.buildpack = buildpack
	p.sendLocked(Event{Kind: Message, Phase: p.name, Buildpack: buildpack, Line: "running " + buildpack})
}

// Write takes output of a buildpack and tells it line by line.
func (p *progress) Write(data []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.partial = append(p.partial, data...)
	for {
		i := bytes.IndexByte(p.partial, '\n')
		if i < 0 && len(p.partial) < maxLine {
			return len(data), nil
		}
		if i < 0 || i > maxLine {
			p.line(p.partial[:maxLine])
			p.partial = p.partial[maxLine:]
			continue
		}
		p.line(p.partial[:i])
		p.partial = p.partial[i+1:]
	}
}

func (p *progress) line(b []byte) {
	text := strings.TrimRight(string(b), "\r")
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "\uFFFD")
	}
	p.sendLocked(Event{Kind: Output, Phase: p.name, Buildpack: p.buildpack, Line: text})
}

// flush tells an unfinished last line.
func (p *progress) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.partial) > 0 {
		p.line(p.partial)
		p.partial = nil
	}
}

// Debugf drops the message: details are not for people who wait for a build.
func (p *progress) Debugf(string, ...any) {}

// Infof tells a message.
func (p *progress) Infof(format string, args ...any) { p.say(Message, format, args) }

// Warnf tells a warning.
func (p *progress) Warnf(format string, args ...any) { p.say(Warning, format, args) }

func (p *progress) say(kind EventKind, format string, args []any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for line := range strings.Lines(fmt.Sprintf(format, args...)) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			p.sendLocked(Event{Kind: kind, Phase: p.name, Line: line})
		}
	}
}
