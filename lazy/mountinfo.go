package lazy

import (
	"strconv"
	"strings"
)

// mountLine is a line of /proc/PID/mountinfo (proc_pid_mountinfo(5)).
type mountLine struct {
	id                   int
	device               string // MAJOR:MINOR
	target, kind, source string
	options              string // of the file system
}

// parseMount reads a line of mountinfo.
func parseMount(line string) (mountLine, bool) {
	head, tail, ok := strings.Cut(strings.TrimSpace(line), " - ")
	f, t := strings.Fields(head), strings.Fields(tail)
	if !ok || len(f) < 6 || len(t) < 3 {
		return mountLine{}, false
	}
	id, err := strconv.Atoi(f[0])
	return mountLine{id: id, device: f[2], target: unescape(f[4]), kind: t[0], source: unescape(t[1]), options: t[2]}, err == nil
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
