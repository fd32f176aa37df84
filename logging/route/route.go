// Package route says how the records of namespaces are told apart by their tags, at a cost that does not grow with the number of namespaces: each
// namespace has an input of its own, whose tags begin with the namespace's prefix. It knows patterns of tags and of files, and
// neither resources nor configurations.
package route

import (
	"crypto/md5"
	"encoding/hex"
	"path"
	"regexp"
	"strings"
)

// Prefix is what the tags of a namespace's records begin with, as Fluent Operator makes it: 32 hexadecimal digits.
func Prefix(namespace string) string {
	sum := md5.Sum([]byte(namespace))
	return hex.EncodeToString(sum[:])
}

// anyPrefix matches the prefix of any namespace, with its point, or nothing.
const anyPrefix = `(?:[0-9a-f]{32}\.)?`

// OnlyTenants matches the tags of all namespaces' records that match a pattern with * without their prefix.
func OnlyTenants(pattern string) string {
	return `^[0-9a-f]{32}\.` + expression(pattern) + "$"
}

// WithTenants is a regular expression for the tags that match a pattern with *, with the prefix of a namespace before them or without.
func WithTenants(pattern string) string {
	return "^" + anyPrefix + expression(pattern) + "$"
}

// RegexWithTenants does the same for a regular expression. One that is not tied to the beginning of the tag matches with a prefix as it is.
func RegexWithTenants(pattern string) string {
	rest, tied := strings.CutPrefix(pattern, "^")
	if !tied {
		return pattern
	}
	return "^" + anyPrefix + "(?:" + rest + ")"
}

func expression(pattern string) string {
	parts := strings.Split(pattern, "*")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return strings.Join(parts, ".*")
}

// Files is the pattern for those of the container log files that a pattern names (POD_NAMESPACE_CONTAINER-ID.log) that belong to a namespace. ok is
// false if that cannot be told: the pattern itself looks at more than the beginning and the end of the name.
func Files(pattern, namespace string) (files string, ok bool) {
	folder, name := path.Split(pattern)
	head, tail, found := strings.Cut(name, "*")
	if !found || strings.ContainsAny(head+tail, "*?[]_") || strings.ContainsAny(folder, "*?[]") {
		return "", false
	}
	return folder + head + "*_" + namespace + "_*" + tail, true
}

// Excluded is the pattern of all container log files of a namespace.
func Excluded(namespace string) string { return "*_" + namespace + "_*" }

// Overlap tells whether two patterns with * have a text in common.
func Overlap(a, b string) bool { return overlap(a, b, 0) }

func overlap(a, b string, depth int) bool {
	for a != "" && b != "" && a[0] != '*' && b[0] != '*' {
		if a[0] != b[0] {
			return false
		}
		a, b = a[1:], b[1:]
	}
	switch {
	case depth > 64:
		return true
	case a == "" && b == "":
		return true
	case a == "":
		return strings.Trim(b, "*") == ""
	case b == "":
		return strings.Trim(a, "*") == ""
	case a[0] == '*':
		return overlap(a[1:], b, depth+1) || overlap(a, b[1:], depth+1)
	default:
		return overlap(b, a, depth+1)
	}
}
