package parser

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/record"
)

// TimeFormat reads times that are written as strptime(3) describes, with %L for a fraction of a second.
type TimeFormat struct {
	text     string
	ops      []timeOp
	hasZone  bool // %z, %Z or %s
	hasYear  bool
	hasMonth bool
	hasDay   bool
	offset   int // seconds east of UTC where the text names no zone
	location *time.Location
	iso      int // this format is %Y-%m-%dT%H:%M:%S (1), with .%L (2); the quick way is tried first
	isoZone  bool
}

type timeOp struct {
	kind byte // a directive, ' ' for blanks, 0 for a literal
	b    byte
}

var composite = map[byte]string{
	'D': "%m/%d/%y", 'F': "%Y-%m-%d", 'R': "%H:%M", 'T': "%H:%M:%S", 'r': "%I:%M:%S %p", 'X': "%H:%M:%S", 'x': "%m/%d/%y", 'c': "%a %b %e %H:%M:%S %Y", 'v': "%e-%b-%Y",
}

// NewTimeFormat compiles a format. Offset is seconds east of UTC for texts without a zone; location, if there is one, goes before it.
func NewTimeFormat(format string, offset int, location *time.Location) (*TimeFormat, error) {
	f := &TimeFormat{text: format, offset: offset, location: location}
	if err := f.compile(format, 0); err != nil {
		return nil, err
	}
	switch strings.TrimSuffix(strings.TrimSuffix(format, "%z"), "Z") {
	case "%Y-%m-%dT%H:%M:%S":
		f.iso = 1
	case "%Y-%m-%dT%H:%M:%S.%L":
		f.iso = 2
	}
	f.isoZone = strings.HasSuffix(format, "%z")
	return f, nil
}

func (f *TimeFormat) compile(format string, depth int) error {
	for i := 0; i < len(format); i++ {
		c := format[i]
		if c == ' ' || c >= '\t' && c <= '\r' {
			f.ops = append(f.ops, timeOp{kind: ' '})
			continue
		}
		if c != '%' {
			f.ops = append(f.ops, timeOp{b: c})
			continue
		}
		i++
		for i < len(format) && (format[i] == 'E' || format[i] == 'O') {
			i++
		}
		if i == len(format) {
			return fmt.Errorf("the time format %q ends with %%", f.text)
		}
		c = format[i]
		if inner, ok := composite[c]; ok && depth == 0 {
			if err := f.compile(inner, 1); err != nil {
				return err
			}
			continue
		}
		switch c {
		case '%':
			f.ops = append(f.ops, timeOp{b: '%'})
			continue
		case 'n', 't':
			c = ' '
		case 'Y', 'y', 'C', 'G', 'g':
			f.hasYear = true
		case 'm', 'b', 'B', 'h':
			f.hasMonth = true
		case 'd', 'e':
			f.hasDay = true
		case 'j':
			f.hasMonth, f.hasDay = true, true
		case 's':
			f.hasZone, f.hasYear, f.hasMonth, f.hasDay = true, true, true, true
		case 'z', 'Z':
			f.hasZone = true
		case 'H', 'k', 'I', 'l', 'M', 'S', 'p', 'L', 'f', 'N', 'a', 'A', 'u', 'w', 'U', 'W', 'V':
			if c == 'f' || c == 'N' {
				c = 'L'
			}
		default:
			return fmt.Errorf("the time format %q has %%%c, which is not known", f.text, c)
		}
		f.ops = append(f.ops, timeOp{kind: c})
	}
	return nil
}

type moment struct {
	year, month, day     int
	hour, minute, second int
	nsec                 uint32
	yearDay              int
	pm, hour12           bool
	hasPM                bool
	zone                 int
	zoned                bool
	epoch                int64
	isEpoch              bool
	century              int
}

// Parse reads a time that text begins with; what follows is passed over. Now fills in year, month and day where the format has none.
func (f *TimeFormat) Parse(text []byte, now time.Time) (record.Time, bool) {
	if f.iso > 0 {
		if t, ok := f.parseISO(text); ok {
			return t, true
		}
	}
	m := moment{year: math.MinInt, century: -1, yearDay: -1}
	at := 0
	for i := 0; i < len(f.ops); i++ {
		op := f.ops[i]
		switch op.kind {
		case 0:
			if op.b == '.' && i+1 < len(f.ops) && f.ops[i+1].kind == 'L' && (at >= len(text) || text[at] != '.') {
				i++ // a whole second may be written without a fraction
				continue
			}
			if at >= len(text) || text[at] != op.b {
				return record.Time{}, false
			}
			at++
			continue
		case ' ':
			for at < len(text) && (text[at] == ' ' || text[at] >= '\t' && text[at] <= '\r') {
				at++
			}
			continue
		}
		n := m.read(op.kind, text[at:])
		if n < 0 {
			return record.Time{}, false
		}
		at += n
	}
	return f.finish(&m, now)
}

func (f *TimeFormat) parseISO(b []byte) (record.Time, bool) {
	if len(b) < 19 || b[4] != '-' || b[7] != '-' || b[10] != 'T' || b[13] != ':' || b[16] != ':' {
		return record.Time{}, false
	}
	year, ok0 := two(b, 0)
	low, ok1 := two(b, 2)
	month, ok2 := two(b, 5)
	day, ok3 := two(b, 8)
	hour, ok4 := two(b, 11)
	minute, ok5 := two(b, 14)
	second, ok6 := two(b, 17)
	if !(ok0 && ok1 && ok2 && ok3 && ok4 && ok5 && ok6) || month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60 {
		return record.Time{}, false
	}
	at := 19
	var nsec uint32
	if f.iso == 2 {
		if at < len(b) && b[at] == '.' {
			n := 0
			if nsec, n = fraction(b[20:]); n == 0 {
				return record.Time{}, false
			}
			at += 1 + n
		}
	}
	zone := f.offset
	if f.isoZone {
		seconds, n := readZone(b[at:])
		if n < 0 {
			return record.Time{}, false
		}
		zone = seconds
	} else if f.location != nil {
		return record.Time{}, false
	}
	sec := daysFromCivil(year*100+low, month, day)*86400 + int64(hour)*3600 + int64(minute)*60 + int64(second) - int64(zone)
	return record.Time{Sec: sec, Nsec: nsec}, true
}

func two(b []byte, at int) (int, bool) {
	x, y := b[at]-'0', b[at+1]-'0'
	return int(x)*10 + int(y), x <= 9 && y <= 9
}

// daysFromCivil counts the days since 1970-01-01 (Howard Hinnant, chrono-compatible low-level date algorithms).
func daysFromCivil(y, m, d int) int64 {
	if m <= 2 {
		y--
	}
	era := y / 400
	if y < 0 {
		era = (y - 399) / 400
	}
	yoe := y - era*400
	mp := (m + 9) % 12
	doy := (153*mp+2)/5 + d - 1
	doe := yoe*365 + yoe/4 - yoe/100 + doy
	return int64(era)*146097 + int64(doe) - 719468
}

func fraction(b []byte) (nsec uint32, n int) {
	for n < len(b) && b[n] >= '0' && b[n] <= '9' {
		if n < 9 {
			nsec = nsec*10 + uint32(b[n]-'0')
		}
		n++
	}
	for i := n; i < 9; i++ {
		nsec *= 10
	}
	return nsec, n
}

func digits(b []byte, most int) (v, n int) {
	for n < len(b) && n < most && b[n] >= '0' && b[n] <= '9' {
		v = v*10 + int(b[n]-'0')
		n++
	}
	if n == 0 {
		return 0, -1
	}
	return v, n
}

func within(b []byte, most, low, high int, into *int) int {
	v, n := digits(b, most)
	if n < 0 || v < low || v > high {
		return -1
	}
	*into = v
	return n
}

// read reads one directive; -1 means that the text does not fit.
func (m *moment) read(kind byte, b []byte) int {
	ignored := 0
	switch kind {
	case 'Y', 'G':
		return within(b, 4, 0, 9999, &m.year)
	case 'y', 'g':
		n := within(b, 2, 0, 99, &m.year)
		if m.year < 69 {
			m.year += 100
		}
		m.year += 1900
		return n
	case 'C':
		return within(b, 2, 0, 99, &m.century)
	case 'm':
		return within(b, 2, 1, 12, &m.month)
	case 'd', 'e':
		blank := 0
		if len(b) > 0 && b[0] == ' ' {
			blank = 1
		}
		n := within(b[blank:], 2, 1, 31, &m.day)
		if n < 0 {
			return -1
		}
		return n + blank
	case 'H', 'k':
		blank := 0
		if len(b) > 0 && b[0] == ' ' {
			blank = 1
		}
		n := within(b[blank:], 2, 0, 23, &m.hour)
		if n < 0 {
			return -1
		}
		return n + blank
	case 'I', 'l':
		m.hour12 = true
		return within(b, 2, 1, 12, &m.hour)
	case 'M':
		return within(b, 2, 0, 59, &m.minute)
	case 'S':
		return within(b, 2, 0, 60, &m.second)
	case 'L':
		nsec, n := fraction(b)
		m.nsec = nsec
		if n == 0 {
			return -1
		}
		return n
	case 'j':
		return within(b, 3, 1, 366, &m.yearDay)
	case 'b', 'B', 'h':
		i, n := name(b, monthNames)
		m.month = i + 1
		return n
	case 'a', 'A':
		_, n := name(b, dayNames)
		return n
	case 'p':
		return m.readHalf(b)
	case 's':
		return m.readEpoch(b)
	case 'z', 'Z':
		seconds, n := readZone(b)
		m.zone, m.zoned = seconds, true
		return n
	case 'u', 'w':
		return within(b, 1, 0, 7, &ignored)
	}
	return within(b, 2, 0, 53, &ignored) // weeks
}

func (m *moment) readHalf(b []byte) int {
	if len(b) < 2 || b[1]|0x20 != 'm' || b[0]|0x20 != 'a' && b[0]|0x20 != 'p' {
		return -1
	}
	m.hasPM, m.pm = true, b[0]|0x20 == 'p'
	return 2
}

func (m *moment) readEpoch(b []byte) int {
	n := 0
	for n < len(b) && n < 18 && b[n] >= '0' && b[n] <= '9' {
		m.epoch = m.epoch*10 + int64(b[n]-'0')
		n++
	}
	m.isEpoch = true
	if n == 0 {
		return -1
	}
	return n
}

var monthNames = []string{"January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"}
var dayNames = []string{"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"}

// name finds a long or short name in any case of letters.
func name(b []byte, names []string) (int, int) {
	for i, n := range names {
		if len(b) >= len(n) && strings.EqualFold(string(b[:len(n)]), n) {
			return i, len(n)
		}
		if len(b) >= 3 && strings.EqualFold(string(b[:3]), n[:3]) && (len(b) == 3 || !bytes.EqualFold(b[:min(len(b), len(n))], []byte(n))) {
			return i, 3
		}
	}
	return 0, -1
}

var zoneNames = map[string]int{"UTC": 0, "GMT": 0, "UT": 0, "Z": 0, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7,
	"CET": 1, "CEST": 2, "EET": 2, "EEST": 3, "WET": 0, "WEST": 1, "BST": 1, "JST": 9, "MSK": 3}

// readZone reads Z, +hh, +hhmm, +hh:mm and some names; it gives seconds east of UTC.
func readZone(b []byte) (seconds, n int) {
	if len(b) == 0 {
		return 0, -1
	}
	if b[0] == 'Z' {
		return 0, 1
	}
	if b[0] != '+' && b[0] != '-' {
		for n < len(b) && (b[n] >= 'A' && b[n] <= 'Z') {
			n++
		}
		hours, ok := zoneNames[string(b[:n])]
		if !ok {
			return 0, -1
		}
		return hours * 3600, n
	}
	hours, w := digits(b[1:], 2)
	if w != 2 {
		return 0, -1
	}
	n = 3
	rest := b[3:]
	if len(rest) > 0 && rest[0] == ':' {
		rest = rest[1:]
		n++
	}
	minutes, w := digits(rest, 2)
	if w == 2 {
		n += 2
	} else {
		minutes = 0
	}
	if hours > 23 || minutes > 59 {
		return 0, -1
	}
	seconds = hours*3600 + minutes*60
	if b[0] == '-' {
		seconds = -seconds
	}
	return seconds, n
}

func (f *TimeFormat) finish(m *moment, now time.Time) (record.Time, bool) {
	if m.isEpoch {
		return record.Time{Sec: m.epoch, Nsec: m.nsec}, true
	}
	zone := f.offset
	if m.zoned {
		zone = m.zone
	}
	if m.year == math.MinInt || m.month == 0 || m.day == 0 {
		local := now.UTC().Add(time.Duration(zone) * time.Second)
		if f.location != nil && !m.zoned {
			local = now.In(f.location)
		}
		if m.year == math.MinInt {
			m.year = local.Year()
			if m.century >= 0 {
				m.year = m.century * 100
			}
		}
		if m.yearDay < 0 && m.month == 0 {
			m.month = 1
			if !f.hasYear {
				m.month = int(local.Month())
			}
		}
		if m.yearDay < 0 && m.day == 0 {
			m.day = 1
			if !f.hasYear && !f.hasMonth {
				m.day = local.Day()
			}
		}
	}
	if m.hasPM && m.hour12 {
		m.hour %= 12
		if m.pm {
			m.hour += 12
		}
	}
	if f.location != nil && !m.zoned {
		t := time.Date(m.year, time.Month(max(m.month, 1)), max(m.day, 1), m.hour, m.minute, m.second, int(m.nsec), f.location)
		return record.TimeOf(t), true
	}
	days := int64(0)
	if m.yearDay > 0 {
		days = daysFromCivil(m.year, 1, 1) + int64(m.yearDay-1)
	} else {
		days = daysFromCivil(m.year, m.month, m.day)
	}
	sec := days*86400 + int64(m.hour)*3600 + int64(m.minute)*60 + int64(m.second) - int64(zone)
	return record.Time{Sec: sec, Nsec: m.nsec}, true
}
