// Package mountinfo reads what the kernel says is mounted (proc_pid_mountinfo(5)), and makes sure that what a program needs to answer readers does not lie on
// a mount whose readers it answers. It must not know how images are filled.
package mountinfo

import (
	"strconv"
	"strings"
)

// Line is a mount.
type Line struct {
	ID                   int
	Device               string // MAJOR:MINOR
	Target, Kind, Source string
	Options              string // of the file system
}

// Parse reads a line of /proc/PID/mountinfo; false if it is none.
func Parse(line string) (Line, bool) {
	head, tail, ok := strings.Cut(strings.TrimSpace(line), " - ")
	f, t := strings.Fields(head), strings.Fields(tail)
	if !ok || len(f) < 6 || len(t) < 3 {
		return Line{}, false
	}
	id, err := strconv.Atoi(f[0])
	return Line{ID: id, Device: f[2], Target: unescape(f[4]), Kind: t[0], Source: unescape(t[1]), Options: t[2]}, err == nil
}

// unescape resolves \040 and the like.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
