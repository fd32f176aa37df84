package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"
)

// message is an entry of the guestbook, a line of its file.
type message struct {
	Name string    `json:"name"`
	Text string    `json:"text"` // Markdown
	Time time.Time `json:"time"`
}

// book is the guestbook. A message that add has taken is on disk.
type book struct {
	mu       sync.RWMutex
	file     *os.File
	messages []message // the oldest first
}

func openBook(path string) (*book, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the guestbook: %w", err)
	}
	b := &book{file: f}
	if err := b.load(); err != nil {
		f.Close()
		return nil, fmt.Errorf("read the guestbook %s: %w", path, err)
	}
	return b, nil
}

// load reads all messages. What follows the last complete line was being written when the power failed, was never acknowledged, and is
// cut off.
func (b *book) load() error {
	in := bufio.NewReader(b.file)
	var good int64
	for number := 1; ; number++ {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		var m message
		if err := json.Unmarshal(line, &m); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		b.messages = append(b.messages, m)
		good += int64(len(line))
	}
	if err := b.file.Truncate(good); err != nil {
		return err
	}
	_, err := b.file.Seek(good, io.SeekStart)
	return err
}

func (b *book) add(m message) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	begin, err := b.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if _, err = b.file.Write(append(line, '\n')); err == nil {
		err = b.file.Sync()
	}
	if err != nil { // for example a full disk: take back what was written of it
		_, seekErr := b.file.Seek(begin, io.SeekStart)
		return errors.Join(err, b.file.Truncate(begin), seekErr)
	}
	b.messages = append(b.messages, m)
	return nil
}

// list returns all messages, the newest first.
func (b *book) list() []message {
	b.mu.RLock()
	defer b.mu.RUnlock()
	list := slices.Clone(b.messages)
	slices.Reverse(list)
	return list
}

func (b *book) close() { b.file.Close() }
