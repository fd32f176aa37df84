package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
)

// Levels of messages.
const (
	levelDebug = iota
	levelInfo
	levelWarn
	levelError
)

func parseLevel(name string) (int, error) {
	for i, n := range []string{"debug", "info", "warn", "error"} {
		if strings.EqualFold(name, n) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%w: the log level %q is unknown; use debug, info, warn or error", errUsage, name)
}

// logger prints messages as upstream does: everything to standard output, warnings with a word before them.
type logger struct {
	mu    sync.Mutex
	level int
	out   io.Writer
}

func (l *logger) print(level int, prefix, format string, args []any) {
	if level < l.level {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintln(l.out, prefix+strings.TrimRight(fmt.Sprintf(format, args...), "\n"))
}

func (l *logger) Debugf(format string, args ...any) { l.print(levelDebug, "", format, args) }
func (l *logger) Infof(format string, args ...any)  { l.print(levelInfo, "", format, args) }
func (l *logger) Warnf(format string, args ...any)  { l.print(levelWarn, "Warning: ", format, args) }

// phase prints a heading.
func (l *logger) phase(name string) { l.Infof("===> %s", name) }
