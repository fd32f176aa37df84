package supervise

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// logFile is a file of limited size that takes the output of one child after the other. One older file is kept beside it.
type logFile struct {
	path  string // "": nothing is kept
	limit int64

	mu   sync.Mutex
	file *os.File
	size int64
	tail []byte // the newest output, at most tailSize bytes
}

const tailSize = 4 << 10

func openLog(path string, limit int64) (*logFile, error) {
	l := &logFile{path: path, limit: limit}
	if path == "" {
		return l, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	return l, l.open()
}

func (l *logFile) open() error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	l.file, l.size = f, info.Size()
	return nil
}

// Write never fails: a full disk must not stop the child, which would block on a pipe that nobody reads. What cannot be written
// is dropped.
func (l *logFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = append(l.tail, b...)
	if n := len(l.tail) - tailSize; n > 0 {
		l.tail = append(l.tail[:0], l.tail[n:]...)
	}
	if l.path == "" {
		return len(b), nil
	}
	if l.file != nil && l.size > 0 && l.size+int64(len(b)) > l.limit {
		l.file.Close()
		l.file = nil
		_ = os.Rename(l.path, l.path+".1") // when this fails, the file goes on growing; the output counts more than its size
	}
	if l.file == nil && l.open() != nil {
		return len(b), nil
	}
	n, _ := l.file.Write(b)
	l.size += int64(n)
	return len(b), nil
}

func (l *logFile) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
}

// lastLine returns the newest line that is not empty, shortened to what fits a status.
func (l *logFile) lastLine() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := bytes.TrimSpace(l.tail)
	if i := bytes.LastIndexByte(line, '\n'); i >= 0 {
		line = line[i+1:]
	}
	const most = 400
	if len(line) > most {
		line = append(line[:most:most], "..."...)
	}
	return strings.ToValidUTF8(string(line), "?")
}

// output is the pipe through which one child writes to the log.
type output struct {
	r, w *os.File
	done chan struct{}
}

func (l *logFile) pipe() (*output, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	o := &output{r: r, w: w, done: make(chan struct{})}
	go func() {
		defer close(o.done)
		_, _ = io.Copy(l, r) // ends with the last writer, or by the deadline of finish
	}()
	return o, nil
}

// finish takes what the child wrote before it ended. A grandchild that holds the pipe is not waited for.
func (o *output) finish() {
	o.w.Close()
	_ = o.r.SetReadDeadline(time.Now().Add(200 * time.Millisecond)) // pipes have deadlines on all our systems
	<-o.done
	o.r.Close()
}
