// Package journal keeps a sequence of records durably in a folder: each is on the disk before Append returns, many that
// are appended together share one fsync, and a snapshot replaces what lies before it. It must not know what the records mean.
//
// The folder holds two files. "journal" has a header line and then one line for each record,
//
//	CRC SEQ PAYLOAD
//
// with the CRC-32 (Castagnoli, 8 hexadecimal digits) of "SEQ PAYLOAD", the record's number, and the payload, JSON without line breaks.
// "snapshot" has a header line and one such line; records up to its number are contained in it. A last line of the
// journal that was cut off by a crash is dropped: nobody was told that it is safe.
package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
)

// Version is the version of the format. Newer ones are refused.
const Version = 1

// MaxRecord is the size of the largest payload, in bytes.
const MaxRecord = 64 << 20

const (
	journalFile    = "journal"
	snapshotFile   = "snapshot"
	journalHeader  = "weft-journal "
	snapshotHeader = "weft-snapshot "
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Options change how a journal works.
type Options struct {
	// Crash is called between the steps of every write, with the step's name; tests kill the process in it.
	Crash func(point string)
	// NoSync leaves the order of writes to the kernel: a power cut may lose what Append said is safe. For tests.
	NoSync bool
}

// Contents is what a folder held when it was opened.
type Contents struct {
	Snapshot []byte   // the latest snapshot's payload, nil if there is none
	Records  [][]byte // the payloads after it
	Last     uint64   // number of the last record
	Torn     int      // bytes at the end that were dropped because a crash had cut them off
}

// Journal is an open folder. Its methods may be called by several goroutines. Only one process may have it open.
type Journal struct {
	dir  string
	opts Options

	mu      sync.Mutex
	file    *os.File
	last    uint64
	batch   *batch // being filled
	writing bool   // an appender writes a batch
	idle    *sync.Cond
	broken  error // a write failed: what is on the disk is not known any more
	syncs   atomic.Int64
}

// batch is what one write and one fsync make durable.
type batch struct {
	data []byte
	sync bool // somebody waits for the disk
	done chan struct{}
	err  error
}

// Open reads a folder, which is made if need be, and opens it for appending.
func Open(dir string, opts Options) (*Journal, *Contents, error) {
	if opts.Crash == nil {
		opts.Crash = func(string) {}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	c, size, err := Read(dir)
	if err != nil {
		return nil, nil, err
	}
	j := &Journal{dir: dir, opts: opts, last: c.Last}
	j.idle = sync.NewCond(&j.mu)
	if size == 0 {
		if err := j.restart(); err != nil {
			return nil, nil, err
		}
		return j, c, nil
	}
	if j.file, err = os.OpenFile(filepath.Join(dir, journalFile), os.O_RDWR, 0o600); err != nil {
		return nil, nil, err
	}
	if c.Torn > 0 {
		err = j.file.Truncate(size)
		if err == nil {
			err = j.sync(j.file)
		}
	}
	if err == nil {
		_, err = j.file.Seek(size, io.SeekStart)
	}
	if err != nil {
		return nil, nil, errors.Join(err, j.file.Close())
	}
	return j, c, nil
}

// Read reads a folder without opening it for appending. size is how much of the journal's file is good.
func Read(dir string) (c *Contents, size int64, err error) {
	c = &Contents{}
	data, err := os.ReadFile(filepath.Join(dir, snapshotFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, 0, err
	}
	if err == nil {
		if c.Last, c.Snapshot, err = parseSnapshot(data); err != nil {
			return nil, 0, fmt.Errorf("%s: %w", filepath.Join(dir, snapshotFile), err)
		}
	}
	f, err := os.Open(filepath.Join(dir, journalFile))
	if errors.Is(err, os.ErrNotExist) {
		return c, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	if size, err = parseJournal(f, c); err != nil {
		return nil, 0, fmt.Errorf("%s: %w", filepath.Join(dir, journalFile), err)
	}
	return c, size, nil
}

func checkHeader(line []byte, want string) error {
	rest, ok := bytes.CutPrefix(line, []byte(want))
	if !ok {
		return errors.New("line 1: this is no file of a weft journal")
	}
	version, err := strconv.Atoi(string(bytes.TrimSpace(rest)))
	if err != nil || version < 1 {
		return errors.New("line 1: the version is no number")
	}
	if version > Version {
		return fmt.Errorf("line 1: the format has version %d, this program knows up to %d: use a newer weft", version, Version)
	}
	return nil
}

func parseSnapshot(data []byte) (seq uint64, payload []byte, err error) {
	header, line, ok := bytes.Cut(data, []byte("\n"))
	if !ok {
		return 0, nil, errors.New("it is cut off")
	}
	if err := checkHeader(header, snapshotHeader); err != nil {
		return 0, nil, err
	}
	seq, payload, ok = parseLine(bytes.TrimSuffix(line, []byte("\n")))
	if !ok {
		return 0, nil, errors.New("line 2: the check sum does not fit: the file is damaged")
	}
	return seq, payload, nil
}

// parseJournal adds the records after the snapshot's number and returns the length of the good part. A bad last line is
// torn; a bad line before good ones is damage.
func parseJournal(r io.Reader, c *Contents) (size int64, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	header, err := readLine(in)
	if len(header) == 0 || header[len(header)-1] != '\n' {
		if err == nil || errors.Is(err, io.EOF) {
			c.Torn = len(header)
			return 0, nil // the crash came while the file was made
		}
		return 0, err
	}
	if err := checkHeader(header, journalHeader); err != nil {
		return 0, err
	}
	size = int64(len(header))
	badLine := 0
	for n := 2; ; n++ {
		line, err := readLine(in)
		if len(line) == 0 && errors.Is(err, io.EOF) {
			return size, nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("line %d: %w", n, err)
		}
		seq, payload, ok := parseLine(bytes.TrimSuffix(line, []byte("\n")))
		ok = ok && line[len(line)-1] == '\n'
		switch {
		case !ok && badLine == 0:
			badLine = n
			c.Torn += len(line)
			continue
		case !ok:
			c.Torn += len(line)
			continue
		case badLine > 0:
			return 0, fmt.Errorf("line %d: the check sum does not fit although good records follow: the file is damaged", badLine)
		}
		size += int64(len(line))
		if seq <= c.Last {
			continue // contained in the snapshot
		}
		if seq != c.Last+1 {
			return 0, fmt.Errorf("line %d: record %d follows record %d: the file is damaged", n, seq, c.Last)
		}
		c.Last = seq
		c.Records = append(c.Records, payload)
	}
}

func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > MaxRecord+64 {
			return nil, fmt.Errorf("longer than %d bytes", MaxRecord)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

func parseLine(line []byte) (seq uint64, payload []byte, ok bool) {
	sum, rest, ok := bytes.Cut(line, []byte(" "))
	if !ok || len(sum) != 8 {
		return 0, nil, false
	}
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if err != nil || uint32(want) != crc32.Checksum(rest, castagnoli) {
		return 0, nil, false
	}
	number, payload, ok := bytes.Cut(rest, []byte(" "))
	if !ok {
		return 0, nil, false
	}
	seq, err = strconv.ParseUint(string(number), 10, 64)
	return seq, payload, err == nil && seq > 0
}

func appendLine(data []byte, seq uint64, payload []byte) []byte {
	body := strconv.AppendUint(nil, seq, 10)
	body = append(append(body, ' '), payload...)
	data = fmt.Appendf(data, "%08x ", crc32.Checksum(body, castagnoli))
	return append(append(data, body...), '\n')
}

// Append makes a record durable and returns its number. Records of calls that overlap share one fsync. After an error
// nothing can be appended any more: what is on the disk is known only after opening again.
func (j *Journal) Append(payload []byte) (uint64, error) { return j.append(payload, true) }

// Post writes a record without waiting for the disk: a killed process loses nothing, a power cut may lose it, unless a later Append
// returned. An error may be told only by a later call.
func (j *Journal) Post(payload []byte) (uint64, error) { return j.append(payload, false) }

func (j *Journal) append(payload []byte, durable bool) (uint64, error) {
	if len(payload) > MaxRecord {
		return 0, fmt.Errorf("a record of %d bytes is larger than %d", len(payload), MaxRecord)
	}
	if bytes.IndexByte(payload, '\n') >= 0 || !json.Valid(payload) {
		return 0, errors.New("a record has to be JSON in one line")
	}
	j.mu.Lock()
	if j.broken != nil {
		defer j.mu.Unlock()
		return 0, j.broken
	}
	if j.batch == nil {
		j.batch = &batch{done: make(chan struct{})}
	}
	b := j.batch
	j.last++
	seq := j.last
	b.data = appendLine(b.data, seq, payload)
	b.sync = b.sync || durable
	if j.writing {
		j.mu.Unlock()
		if !durable {
			return seq, nil
		}
		<-b.done // the writer takes it next
		return seq, b.err
	}
	j.writing = true
	for j.batch != nil {
		j.writeBatch()
	}
	j.writing = false
	j.idle.Broadcast()
	j.mu.Unlock()
	return seq, b.err
}

// writeBatch writes what has gathered. The lock is held, and given up while the disk works.
func (j *Journal) writeBatch() {
	b := j.batch
	j.batch = nil
	if b.err = j.broken; b.err == nil {
		j.mu.Unlock()
		err := j.write(b.data, b.sync)
		j.mu.Lock()
		if err != nil {
			j.broken = fmt.Errorf("write the journal: %w", err)
			b.err = j.broken
		}
	}
	close(b.done)
}

func (j *Journal) write(data []byte, durable bool) error {
	j.opts.Crash("journal-before-write")
	if len(data) > 20 {
		// In two parts, so that a test can cut a record off.
		half := len(data) - 10
		if _, err := j.file.Write(data[:half]); err != nil {
			return err
		}
		j.opts.Crash("journal-half-written")
		data = data[half:]
	}
	if _, err := j.file.Write(data); err != nil {
		return err
	}
	if !durable {
		return nil
	}
	j.opts.Crash("journal-before-sync")
	err := j.sync(j.file)
	j.opts.Crash("journal-synced")
	return err
}

func (j *Journal) sync(f *os.File) error {
	j.syncs.Add(1)
	if j.opts.NoSync {
		return nil
	}
	return f.Sync()
}

// Compact replaces everything appended so far by a snapshot that contains it. The caller sees to it that it does.
func (j *Journal) Compact(snapshot []byte) error {
	if bytes.IndexByte(snapshot, '\n') >= 0 || !json.Valid(snapshot) {
		return errors.New("a snapshot has to be JSON in one line")
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.writing {
		j.idle.Wait()
	}
	if j.broken != nil {
		return j.broken
	}
	if j.last == 0 {
		return nil
	}
	data := appendLine(fmt.Appendf(nil, "%s%d\n", snapshotHeader, Version), j.last, snapshot)
	if err := j.replace(snapshotFile, data, nil); err != nil {
		return err // the journal still holds everything
	}
	j.opts.Crash("snapshot-renamed")
	return j.restart()
}

// restart begins an empty journal.
func (j *Journal) restart() error {
	header := fmt.Appendf(nil, "%s%d\n", journalHeader, Version)
	return j.replace(journalFile, header, func(f *os.File) {
		if j.file != nil {
			_ = j.file.Close() // nothing is written to it any more
		}
		j.file = f
	})
}

// replace writes a file aside and renames it. keep takes over the open file; without it the file is closed.
func (j *Journal) replace(name string, data []byte, keep func(*os.File)) (err error) {
	aside := filepath.Join(j.dir, name+".new")
	f, err := os.OpenFile(aside, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	kept := false
	defer func() {
		if !kept {
			err = errors.Join(err, f.Close())
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := j.sync(f); err != nil {
		return err
	}
	j.opts.Crash(name + "-written-aside")
	if err := os.Rename(aside, filepath.Join(j.dir, name)); err != nil {
		return err
	}
	if err := j.syncDir(); err != nil {
		return err
	}
	if keep != nil {
		keep(f)
		kept = true
	}
	return nil
}

func (j *Journal) syncDir() error {
	d, err := os.Open(j.dir)
	if err != nil {
		return err
	}
	return errors.Join(j.sync(d), d.Close())
}

// Syncs is how many times the disk was waited for since Open.
func (j *Journal) Syncs() int { return int(j.syncs.Load()) }

// Close ends the journal. Everything appended is already safe.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.writing {
		j.idle.Wait()
	}
	var err error
	if j.broken == nil {
		err = j.sync(j.file) // for what was posted
		j.broken = os.ErrClosed
	}
	return errors.Join(err, j.file.Close())
}
