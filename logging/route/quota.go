package route

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Quota limits what the agent on one node takes in of one namespace. The zero value limits nothing.
type Quota struct {
	Records int64 // a second
	Bytes   int64 // a second
	Buffer  int64 // bytes that wait to be sent
	// DropOldest: a full buffer drops its oldest records. Else the namespace's files are not read on until there is room.
	DropOldest bool
}

// Limits tells whether anything is limited.
func (q Quota) Limits() bool { return q.Records > 0 || q.Bytes > 0 || q.Buffer > 0 }

// String is for people: "500 records/s, 1M bytes/s, 64M buffered, dropping the oldest".
func (q Quota) String() string {
	var parts []string
	if q.Records > 0 {
		parts = append(parts, fmt.Sprintf("%d records/s", q.Records))
	}
	if q.Bytes > 0 {
		parts = append(parts, Size(q.Bytes)+" bytes/s")
	}
	if q.Buffer > 0 {
		text := Size(q.Buffer) + " bytes buffered"
		if q.DropOldest {
			text += ", dropping the oldest"
		}
		parts = append(parts, text)
	}
	if len(parts) == 0 {
		return "no limit"
	}
	return strings.Join(parts, ", ")
}

// ParseQuota reads a quota as resources have it, over one that holds where a field is not given. Each mistake is told with its field; a wrong field
// counts as not given.
func ParseQuota(object map[string]any, over Quota, fail func(field, message string)) Quota {
	q := over
	for _, name := range slices.Sorted(maps.Keys(object)) {
		value := object[name]
		switch name {
		case "recordsPerSecond":
			n, ok := whole(value)
			if !ok || n < 0 {
				fail(name, fmt.Sprintf("expected a whole number that is not negative, found %v", value))
				continue
			}
			q.Records = n
		case "bytesPerSecond", "bufferedBytes":
			n, err := ParseSize(fmt.Sprint(plain(value)))
			if err != nil {
				fail(name, err.Error())
				continue
			}
			if name == "bytesPerSecond" {
				q.Bytes = n
			} else {
				q.Buffer = n
			}
		case "whenFull":
			switch value {
			case "pause", "dropOldest":
				q.DropOldest = value == "dropOldest"
			default:
				fail(name, fmt.Sprintf("expected pause or dropOldest, found %v", value))
			}
		default:
			fail(name, "there is no such field; there are recordsPerSecond, bytesPerSecond, bufferedBytes and whenFull")
		}
	}
	return q
}

func plain(value any) any {
	if n, ok := whole(value); ok {
		return n
	}
	return value
}

func whole(value any) (int64, bool) {
	switch n := value.(type) {
	case int64:
		return n, true
	case int:
		return int64(n), true
	case float64:
		return int64(n), n == float64(int64(n))
	}
	return 0, false
}

var units = []struct {
	letter string
	bytes  int64
}{{"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}}

// ParseSize reads a size in bytes as Fluent Bit has it, with K, M or G for powers of 1024.
func ParseSize(text string) (int64, error) {
	number, factor := strings.ToUpper(strings.TrimSpace(text)), int64(1)
	number = strings.TrimSuffix(number, "B")
	for _, u := range units {
		if n, ok := strings.CutSuffix(number, u.letter); ok {
			number, factor = n, u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/factor {
		return 0, fmt.Errorf("expected a size such as 500K, 64M or 1G, found %q", text)
	}
	return n * factor, nil
}

// Size writes a size so that ParseSize reads it back.
func Size(bytes int64) string {
	for _, u := range units {
		if bytes >= u.bytes && bytes%u.bytes == 0 {
			return strconv.FormatInt(bytes/u.bytes, 10) + u.letter
		}
	}
	return strconv.FormatInt(bytes, 10)
}
