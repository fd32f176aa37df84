package registry

import (
	"net/http"
	"strings"
)

// challenge is one entry of WWW-Authenticate (RFC 9110, section 11.6.1): a scheme in lower case and its parameters.
type challenge struct {
	scheme     string
	parameters map[string]string
}

// parseChallenges reads all WWW-Authenticate headers. What cannot be read is left out.
func parseChallenges(h http.Header) []challenge {
	var all []challenge
	for _, line := range h.Values("Www-Authenticate") {
		if len(line) > 8<<10 {
			continue
		}
		all = append(all, parseChallengeLine(line)...)
	}
	return all
}

func parseChallengeLine(s string) []challenge {
	var all []challenge
	for {
		s = strings.TrimLeft(s, " \t,")
		token, rest := cutToken(s)
		if token == "" {
			return all
		}
		rest = strings.TrimLeft(rest, " \t")
		if !strings.HasPrefix(rest, "=") {
			all = append(all, challenge{strings.ToLower(token), map[string]string{}})
			s = rest
			continue
		}
		value, rest, ok := cutValue(strings.TrimLeft(rest[1:], " \t"))
		if !ok || len(all) == 0 {
			return all
		}
		all[len(all)-1].parameters[strings.ToLower(token)] = value
		s = rest
	}
}

func cutToken(s string) (token, rest string) {
	i := 0
	for i < len(s) && isTokenByte(s[i]) {
		i++
	}
	return s[:i], s[i:]
}

func isTokenByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~/:@", b) >= 0
}

// cutValue takes a token or a quoted string.
func cutValue(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		value, rest = cutToken(s)
		return value, rest, value != ""
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			if i++; i == len(s) {
				return "", "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}
