package attack

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strings"

	"github.com/weft-dev/weft/level/chain"
)

// Lines tells, each time it is called, what was written to a file since the last time: the first line that say finds words for. The file is one to
// which whole lines are appended.
func Lines(path string, say func(line []byte) string) func() string {
	offset := int64(0)
	if info, err := os.Stat(path); err == nil {
		offset = info.Size()
	}
	return func() string {
		f, err := os.Open(path)
		if err != nil {
			return "" // nothing was written yet
		}
		defer f.Close()
		data, err := io.ReadAll(io.NewSectionReader(f, offset, 1<<30))
		if err != nil {
			return ""
		}
		data = data[:bytes.LastIndexByte(data, '\n')+1]
		offset += int64(len(data))
		for line := range bytes.Lines(data) {
			if words := say(line); words != "" {
				return words
			}
		}
		return ""
	}
}

// ChainRecords is for Runner.Records: what doors write into the chain of records in a file.
func ChainRecords(path string) func(user string) string {
	var of string
	lines := Lines(path, func(line []byte) string {
		var r chain.Record
		if json.Unmarshal(line, &r) != nil || r.User != of || r.Event != "Denied" && r.Event != "Cut" {
			return ""
		}
		return strings.TrimSpace(r.Event + " " + r.Door + " " + r.Cause + " " + r.Detail)
	})
	return func(user string) string {
		of = user
		return lines()
	}
}
