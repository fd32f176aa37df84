package stdlib

import (
	"errors"
	"slices"
	"strings"

	"github.com/weft-dev/weft/kcl/value"
)

// splitting reads sep and maxsplit; limit is -1 when there is none.
func splitting(a *args) (sep string, given bool, limit int, err error) {
	positional := func(i int, name string) value.Value {
		if i < len(a.Args) {
			return a.Call.Arg(i, "")
		}
		return a.get(i, name)
	}
	limit = -1
	if v := positional(1, "maxsplit"); v != nil && !value.IsNull(v) {
		limit = int(max(min(asInt(v), 1<<31), -1))
	}
	v := positional(0, "sep")
	if v == nil || value.IsNull(v) {
		return "", false, limit, nil
	}
	s, _ := v.(value.Str)
	if s == "" {
		return "", true, limit, errors.New("empty separator")
	}
	return string(s), true, limit, nil
}

func strList(parts []string) value.Value {
	items := make([]value.Value, len(parts))
	for i, part := range parts {
		items[i] = value.Str(part)
	}
	return value.NewList(items...)
}

func split(s string, a *args) (value.Value, error) {
	sep, given, limit, err := splitting(a)
	if err != nil {
		return nil, err
	}
	if given {
		n := -1
		if limit >= 0 {
			n = limit + 1
		}
		return strList(strings.SplitN(s, sep, n)), nil
	}
	parts := []string{}
	last := 0
	for i := 0; i < len(s); i++ {
		if !isASCIISpace(s[i]) {
			continue
		}
		if last == i {
			last++
			continue
		}
		if limit == 0 {
			break
		}
		parts = append(parts, s[last:i])
		last = i + 1
		limit--
	}
	if last != len(s) {
		parts = append(parts, s[last:])
	}
	return strList(parts), nil
}

func isASCIISpace(c byte) bool { return c == ' ' || c >= 0x09 && c <= 0x0d }

func rsplit(s string, a *args) (value.Value, error) {
	sep, given, limit, err := splitting(a)
	if err != nil {
		return nil, err
	}
	parts := []string{}
	for limit != 0 {
		i := lastSpace(s)
		width := 1
		if given {
			i, width = strings.LastIndex(s, sep), len(sep)
		}
		if i < 0 {
			break
		}
		if given || i+1 != len(s) {
			parts = append(parts, s[i+width:])
			limit--
		}
		s = s[:i]
	}
	if !given {
		s = strings.TrimRight(s, " \t\n\v\f\r")
	}
	if given || s != "" {
		parts = append(parts, s)
	}
	slices.Reverse(parts)
	return strList(parts), nil
}

func lastSpace(s string) int { return strings.LastIndexAny(s, " \t\n\v\f\r") }

func splitlines(s string, a *args) (value.Value, error) {
	var keep bool
	if len(a.Args) > 0 {
		keep = value.Truthy(a.Args[0])
	} else {
		keep = a.truth(0, "keepends")
	}
	parts := []string{}
	for s != "" {
		i := strings.IndexAny(s, "\n\r")
		if i < 0 {
			parts = append(parts, s)
			break
		}
		end := i + 1
		if strings.HasPrefix(s[i:], "\r\n") {
			end++
		}
		if keep {
			i = end
		}
		parts = append(parts, s[:i])
		s = s[end:]
	}
	return strList(parts), nil
}
