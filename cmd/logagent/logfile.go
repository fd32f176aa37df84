package main

import (
	"io"
	"os"
	"sync"

	"github.com/weft-dev/weft/logging/config"
)

// logOutput is where the log goes: a file, or else standard error. A reload may change the file.
type logOutput struct {
	mu   sync.Mutex
	out  io.Writer // without a file
	file *os.File
}

func (l *logOutput) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		return l.file.Write(b)
	}
	return l.out.Write(b)
}

// use writes to another file from now on, nil for none, and gives the one before, which is the caller's to close.
func (l *logOutput) use(file *os.File) (before *os.File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, l.file = l.file, file
	return before
}

func (l *logOutput) close() {
	if file := l.use(nil); file != nil {
		file.Close()
	}
}

// openLog opens the file that Log_File of the service names, nil if it names none.
func openLog(file *config.File) (*os.File, error) {
	if file.Format == config.Fluentd {
		return nil, nil
	}
	var named config.Property
	for _, s := range file.All(config.Service) {
		if p, ok := s.Get("log_file"); ok && p.Value != "" {
			named = p
		}
	}
	if named.Value == "" {
		return nil, nil
	}
	log, err := os.OpenFile(config.Expand(named.Value, os.LookupEnv), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, &config.Error{Pos: named.Pos, Message: "Log_File: " + err.Error()}
	}
	return log, nil
}
