package stdlib

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/weft-dev/weft/kcl/value"
)

var datetimeFunctions = map[string]function{
	"today": func(c *value.Call) (value.Value, error) {
		t, err := clock(c, "today")
		return value.Str(t.Format(dateTime) + "." + strconv.FormatInt(t.Unix(), 10)), err
	},
	"now": func(c *value.Call) (value.Value, error) {
		format, ok := read(c).optional(0, "format")
		if !ok {
			format = "%a %b %d %H:%M:%S %Y"
		}
		t, err := clock(c, "now")
		if err != nil {
			return nil, err
		}
		s, err := strftime(t, format)
		return value.Str(s), err
	},
	"ticks": func(c *value.Call) (value.Value, error) {
		t, err := clock(c, "ticks")
		return value.Float(t.Unix()), err
	},
	"date": func(c *value.Call) (value.Value, error) {
		t, err := clock(c, "date")
		return value.Str(t.Format(dateTime)), err
	},
	"validate": func(c *value.Call) (value.Value, error) {
		a := read(c)
		date := a.str(0, "date", "validate() takes 2 positional arguments (0 given)")
		format := a.str(1, "format", "validate() takes 2 positional arguments (1 given)")
		return value.Bool(a.err == nil && validDate(date, format)), a.err
	},
	"is_rfc3339": func(c *value.Call) (value.Value, error) {
		a := read(c)
		return value.Bool(isRFC3339(a.str(0, "date", missing("is_rfc3339", "date")))), a.err
	},
	"is_iso8601": func(c *value.Call) (value.Value, error) {
		a := read(c)
		s := a.str(0, "date", missing("is_iso8601", "date"))
		return value.Bool(isRFC3339(s) || isDuration(s)), a.err
	},
}

const dateTime = "2006-01-02 15:04:05"

func clock(c *value.Call, fn string) (time.Time, error) {
	if c.Host == nil || c.Host.Now == nil {
		return time.Time{}, fmt.Errorf("%s() needs the clock, which this run has not", fn)
	}
	return c.Host.Now(), nil
}

func isRFC3339(s string) bool {
	if len(s) < 20 {
		return false
	}
	b := []byte(s)
	if b[10] == 't' || b[10] == ' ' {
		b[10] = 'T'
	}
	if b[len(b)-1] == 'z' {
		b[len(b)-1] = 'Z'
	}
	_, err := time.Parse(time.RFC3339Nano, string(b))
	return err == nil
}

// isDuration reads ISO 8601 durations such as P3Y6M4DT12H30M5.5S.
func isDuration(s string) bool {
	rest, ok := strings.CutPrefix(s, "P")
	date, clock, hasTime := strings.Cut(rest, "T")
	if !ok || rest == "" || hasTime && clock == "" {
		return false
	}
	return durationPart(date, "YMWD") && durationPart(clock, "HMS")
}

func durationPart(s, units string) bool {
	for s != "" {
		n := strings.IndexAny(s, units)
		if n <= 0 {
			return false
		}
		whole, fraction, point := strings.Cut(s[:n], ".")
		if !allDigits(whole) || point && !allDigits(fraction) {
			return false
		}
		units = units[strings.IndexByte(units, s[n])+1:]
		s = s[n+1:]
	}
	return true
}

func allDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// strftime writes t by the format of chrono (which is C's with extensions).
func strftime(t time.Time, format string) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(format, "%")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		pad := byte(0)
		if rest != "" && strings.IndexByte("-_0", rest[0]) >= 0 {
			pad, rest = rest[0], rest[1:]
		}
		verb, rest := dateVerb(rest)
		text, err := dateField(t, verb, pad)
		if err != nil {
			return "", err
		}
		b.WriteString(text)
		format = rest
	}
}

// dateVerb cuts the verb off: one letter, perhaps after ., : or a digit.
func dateVerb(s string) (verb, rest string) {
	for _, long := range []string{".3f", ".6f", ".9f", ".f", "3f", "6f", "9f", ":::z", "::z", ":z", "#z"} {
		if strings.HasPrefix(s, long) {
			return long, s[len(long):]
		}
	}
	if s == "" {
		return "", ""
	}
	return s[:1], s[1:]
}

// dateAliases are the verbs that stand for a format of Go.
var dateAliases = map[string]string{
	"a": "Mon", "A": "Monday", "b": "Jan", "h": "Jan", "B": "January", "F": "2006-01-02", "T": "15:04:05", "X": "15:04:05",
	"R": "15:04", "D": "01/02/06", "x": "01/02/06", "r": "03:04:05 PM", "c": "Mon Jan _2 15:04:05 2006", "p": "PM",
	"P": "pm", "v": "_2-Jan-2006", "z": "-0700", ":z": "-07:00", "::z": "-07:00:00", "#z": "-07", "Z": "-07:00",
	"+": "2006-01-02T15:04:05.999999999-07:00", ".3f": ".000", ".6f": ".000000", ".9f": ".000000000",
}

func dateField(t time.Time, verb string, pad byte) (string, error) {
	if layout, ok := dateAliases[verb]; ok {
		return t.Format(layout), nil
	}
	year, week := t.ISOWeek()
	number := func(n, width int, fill byte) (string, error) {
		switch pad {
		case '-':
			width = 0
		case '_':
			fill = ' '
		case '0':
			fill = '0'
		}
		s := strconv.Itoa(n)
		if len(s) < width {
			s = strings.Repeat(string(fill), width-len(s)) + s
		}
		return s, nil
	}
	switch verb {
	case "Y":
		return number(t.Year(), 4, '0')
	case "C":
		return number(t.Year()/100, 2, '0')
	case "y":
		return number(t.Year()%100, 2, '0')
	case "m":
		return number(int(t.Month()), 2, '0')
	case "d":
		return number(t.Day(), 2, '0')
	case "e":
		return number(t.Day(), 2, ' ')
	case "j":
		return number(t.YearDay(), 3, '0')
	case "H":
		return number(t.Hour(), 2, '0')
	case "k":
		return number(t.Hour(), 2, ' ')
	case "I":
		return number((t.Hour()+11)%12+1, 2, '0')
	case "l":
		return number((t.Hour()+11)%12+1, 2, ' ')
	case "M":
		return number(t.Minute(), 2, '0')
	case "S":
		return number(t.Second(), 2, '0')
	case "f":
		return fmt.Sprintf("%09d", t.Nanosecond()), nil
	case "3f":
		return fmt.Sprintf("%03d", t.Nanosecond()/1e6), nil
	case "6f":
		return fmt.Sprintf("%06d", t.Nanosecond()/1e3), nil
	case "9f":
		return fmt.Sprintf("%09d", t.Nanosecond()), nil
	case ".f":
		return t.Format(".999999999"), nil
	case "u":
		return strconv.Itoa((int(t.Weekday())+6)%7 + 1), nil
	case "w":
		return strconv.Itoa(int(t.Weekday())), nil
	case "U":
		return number((t.YearDay()+6-int(t.Weekday()))/7, 2, '0')
	case "W":
		return number((t.YearDay()+6-(int(t.Weekday())+6)%7)/7, 2, '0')
	case "G":
		return number(year, 4, '0')
	case "g":
		return number(year%100, 2, '0')
	case "V":
		return number(week, 2, '0')
	case "q":
		return strconv.Itoa((int(t.Month())-1)/3 + 1), nil
	case "s":
		return strconv.FormatInt(t.Unix(), 10), nil
	case "n":
		return "\n", nil
	case "t":
		return "\t", nil
	case "%":
		return "%", nil
	}
	return "", errors.New("now(): unknown directive %" + verb + " in the format")
}
