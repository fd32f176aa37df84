package input

import (
	"time"

	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// lineMode says how lines become messages: each for itself, or several together.
type lineMode struct{}

func newLineMode(o *options.Set, h Host) lineMode {
	if !o.Bool("multiline") {
		o.Ignore("multiline_flush", "parser_firstline")
	}
	if !o.Bool("docker_mode") {
		o.Ignore("docker_mode_flush", "docker_mode_parser")
	}
	return lineMode{}
}

func (m lineMode) flushEvery() time.Duration { return 0 }

func (m lineMode) newStream() *lineStream { return nil }

// lineStream is the messages of one file that wait for more lines.
type lineStream struct{}

func (s *lineStream) idle() bool { return true }

// held is the offset of the first line that is held back.
func (s *lineStream) held() (int64, bool) { return 0, false }

func (s *lineStream) add(t *tail, f *tailed, line []byte, at int64, now record.Time) int { return 0 }

func (s *lineStream) flush(t *tail, f *tailed, now record.Time, all bool) int { return 0 }
