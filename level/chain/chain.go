// Package chain is a file of audit records in which each one holds the hash of the one before: who takes one away, changes one or puts one in
// between is found. It must not know what a record says of whom.
//
// A line is a JSON object. Its last field is "hash", the SHA-256 in hexadecimal digits of all bytes of the line before `,"hash":`; its
// field "previous" is the hash of the line before, and "sequence" counts from 1. The end of a chain is told elsewhere (in the Door object of the
// cluster), so that cutting off the end is found as well.
package chain

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Record is one event.
type Record struct {
	Sequence    int64     `json:"sequence"`
	Time        time.Time `json:"time"`
	Door        string    `json:"door,omitempty"`
	Event       string    `json:"event"` // Denied, WouldDeny, Cut, Started, Setting, Off, Recovered, Lost
	User        string    `json:"user,omitempty"`
	Groups      []string  `json:"groups,omitempty"`
	Verb        string    `json:"verb,omitempty"`
	Group       string    `json:"group,omitempty"`
	Resource    string    `json:"resource,omitempty"`
	Subresource string    `json:"subresource,omitempty"`
	Namespace   string    `json:"namespace,omitempty"`
	Name        string    `json:"name,omitempty"`
	Cause       string    `json:"cause,omitempty"`
	Origin      string    `json:"origin,omitempty"`
	Detail      string    `json:"detail,omitempty"`
	Previous    string    `json:"previous"`
}

// Head is the last record of a chain.
type Head struct {
	Sequence int64  `json:"sequence"`
	Hash     string `json:"hash"`
}

const (
	hashField  = `,"hash":"`
	hashLength = sha256.Size * 2
	// maxLine bounds a line; who writes shortens what users choose.
	maxLine = 64 << 10
	// fileSize is after how many bytes the next file begins, and files how many are kept.
	fileSize  = 64 << 20
	files     = 8
	syncEvery = time.Second
)

// Writer appends records to the files of a chain. It is for many goroutines.
type Writer struct {
	path  string
	size  int64 // of a file, before the next begins
	mu    sync.Mutex
	file  *os.File
	wrote int64
	head  Head
	saved Head // known to be on the disk
	lost  int64
	err   error
	stop  chan struct{}
	done  chan struct{}
}

// Open opens the chain in a file, made if it is not there, and goes on behind its last record. A record that was not finished, because the
// machine or the process ended, is cut off and told.
func Open(path string) (*Writer, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*Writer, error) {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fail(errors.New("another process writes this chain"))
	}
	w := &Writer{path: path, size: fileSize, file: f, stop: make(chan struct{}), done: make(chan struct{})}
	torn, err := w.resume()
	if err != nil {
		return fail(err)
	}
	w.saved = w.head
	if torn > 0 {
		w.Append(Record{Event: "Recovered", Detail: fmt.Sprintf("%d bytes of a record that was not finished were cut off", torn)})
	}
	go w.keep()
	return w, nil
}

// resume finds the last whole record, in this file or in the one before.
func (w *Writer) resume() (torn int64, err error) {
	data, err := io.ReadAll(w.file)
	if err != nil {
		return 0, err
	}
	end := bytes.LastIndexByte(data, '\n') + 1
	if torn = int64(len(data) - end); torn > 0 {
		if err := w.file.Truncate(int64(end)); err != nil {
			return 0, err
		}
	}
	if _, err := w.file.Seek(int64(end), io.SeekStart); err != nil {
		return 0, err
	}
	w.wrote = int64(end)
	if end == 0 {
		before, err := os.ReadFile(w.path + ".1")
		if errors.Is(err, fs.ErrNotExist) {
			return torn, nil
		}
		if err != nil {
			return 0, err
		}
		data, end = before, len(before)
	}
	if end == 0 {
		return torn, nil
	}
	start := bytes.LastIndexByte(data[:end-1], '\n') + 1
	r, hash, err := parse(data[start : end-1])
	if err != nil {
		return 0, fmt.Errorf("its last record is damaged (%w): look at it with `weft level audit records --verify`, then move the file away to begin a new chain", err)
	}
	w.head = Head{r.Sequence, hash}
	return torn, nil
}

// Append writes a record; its sequence and previous hash are filled in, and its time if it has none. A record that cannot be written is counted and
// told in the next one that can; Err says why.
func (w *Writer) Append(r Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lost > 0 {
		lost := Record{Event: "Lost", Detail: fmt.Sprintf("%d records could not be written: %v", w.lost, w.err), Time: time.Now().UTC()}
		if w.write(lost) != nil {
			w.lost++
			return
		}
		w.lost, w.err = 0, nil
	}
	if r.Time.IsZero() {
		r.Time = time.Now().UTC()
	}
	if err := w.write(r); err != nil {
		w.lost, w.err = w.lost+1, err
	}
}

func (w *Writer) write(r Record) error {
	if w.file == nil {
		return fs.ErrClosed
	}
	r.Sequence, r.Previous = w.head.Sequence+1, w.head.Hash
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(line) > maxLine-hashLength-16 {
		return fmt.Errorf("a record of %d bytes", len(line))
	}
	line = line[:len(line)-1]
	sum := sha256.Sum256(line)
	hash := hex.EncodeToString(sum[:])
	line = append(append(line, hashField...), hash...)
	line = append(line, "\"}\n"...)
	n, err := w.file.Write(line)
	if err != nil {
		if n > 0 { // a torn line would hide the next one
			err = errors.Join(err, w.file.Truncate(w.wrote))
			_, seek := w.file.Seek(w.wrote, io.SeekStart)
			err = errors.Join(err, seek)
		}
		return err
	}
	w.wrote += int64(n)
	w.head = Head{r.Sequence, hash}
	if w.wrote >= w.size {
		return w.rotate()
	}
	return nil
}

// rotate begins the next file. The lock moves with it.
func (w *Writer) rotate() error {
	if err := w.file.Sync(); err != nil {
		return err
	}
	w.saved = w.head
	for i := files - 1; i >= 1; i-- {
		err := os.Rename(fmt.Sprintf("%s.%d", w.path, i), fmt.Sprintf("%s.%d", w.path, i+1))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(w.path, w.path+".1"); err != nil {
		return err
	}
	next, err := os.OpenFile(w.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(next.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return errors.Join(err, next.Close())
	}
	err = w.file.Close()
	w.file, w.wrote = next, 0
	if over := fmt.Sprintf("%s.%d", w.path, files); err == nil {
		if err = os.Remove(over); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	return err
}

// keep brings records to the disk once a second.
func (w *Writer) keep() {
	defer close(w.done)
	ticker := time.NewTicker(syncEvery)
	defer ticker.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-ticker.C:
		}
		w.sync()
	}
}

func (w *Writer) sync() {
	w.mu.Lock()
	file, head := w.file, w.head
	same := head == w.saved
	w.mu.Unlock()
	if same || file == nil {
		return
	}
	err := file.Sync() // not under the lock: requests are waiting for it
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case errors.Is(err, fs.ErrClosed): // the next file has begun, and this one was brought to the disk
	case err != nil:
		w.err = err
	case w.saved.Sequence < head.Sequence:
		w.saved = head
	}
}

// Saved is the last record that is known to be on the disk.
func (w *Writer) Saved() Head {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.saved
}

// Err says why records are lost, nil if none are.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Close brings all to the disk and closes the file.
func (w *Writer) Close() error {
	close(w.stop)
	<-w.done
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.file.Sync()
	if err == nil {
		w.saved = w.head
	}
	err = errors.Join(err, w.file.Close())
	w.file = nil
	return err
}

// parse reads a line, without its end, and checks its hash.
func parse(line []byte) (r Record, hash string, err error) {
	tail := len(hashField) + hashLength + len(`"}`)
	if len(line) < tail || !bytes.HasPrefix(line[len(line)-tail:], []byte(hashField)) || !bytes.HasSuffix(line, []byte(`"}`)) {
		return r, "", errors.New("it has no hash")
	}
	content := line[:len(line)-tail]
	hash = string(line[len(line)-tail+len(hashField) : len(line)-2])
	sum := sha256.Sum256(content)
	if hash != hex.EncodeToString(sum[:]) {
		return r, "", errors.New("its hash is wrong: it was changed")
	}
	if err := json.Unmarshal(append(slices.Clone(content), '}'), &r); err != nil {
		return r, "", fmt.Errorf("it is no record: %w", err)
	}
	return r, hash, nil
}

// Damage is a place where a chain does not hold.
type Damage struct {
	File    string
	Line    int
	Message string
}

func (d *Damage) Error() string { return fmt.Sprintf("%s:%d: %s", d.File, d.Line, d.Message) }

// Verify reads a chain, its older files first, and calls each with every record that holds. It returns the head, or a *Damage. A chain whose
// oldest files are gone begins where they ended.
func Verify(path string, each func(Record)) (Head, error) {
	names := []string{path}
	for i := 1; ; i++ {
		older := fmt.Sprintf("%s.%d", path, i)
		if _, err := os.Stat(older); err != nil {
			break
		}
		names = append(names, older)
	}
	slices.Reverse(names)
	var head Head
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return head, err
		}
		head, err = verify(f, name, head, each)
		if err = errors.Join(err, f.Close()); err != nil {
			return head, err
		}
	}
	return head, nil
}

func verify(in io.Reader, name string, head Head, each func(Record)) (Head, error) {
	reader := bufio.NewReaderSize(in, maxLine)
	for number := 1; ; number++ {
		line, err := reader.ReadSlice('\n')
		damage := func(message string) (Head, error) { return head, &Damage{name, number, message} }
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			return head, nil
		case errors.Is(err, io.EOF):
			return damage("the last record is not finished")
		case errors.Is(err, bufio.ErrBufferFull):
			return damage(fmt.Sprintf("a line of more than %d bytes", maxLine))
		case err != nil:
			return head, err
		}
		r, hash, err := parse(bytes.TrimSuffix(line, []byte("\n")))
		switch {
		case err != nil:
			return damage("the record after number " + fmt.Sprint(head.Sequence) + " does not hold: " + err.Error())
		case head.Sequence > 0 && r.Sequence != head.Sequence+1:
			return damage(fmt.Sprintf("record %d follows record %d: records are missing or out of order", r.Sequence, head.Sequence))
		case head.Sequence > 0 && r.Previous != head.Hash, r.Sequence == 1 && r.Previous != "":
			return damage(fmt.Sprintf("record %d does not follow the one before it: one of them was exchanged", r.Sequence))
		}
		head = Head{r.Sequence, hash}
		if each != nil {
			each(r)
		}
	}
}

// Shorten bounds what a user chose.
func Shorten(s string) string {
	const most = 1024
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
