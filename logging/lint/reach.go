package lint

import (
	"fmt"
	"strings"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/route"
)

// reach tells of filters and outputs that no record can reach, since no input or rewriting filter makes a tag that they match.
func (c *checker) reach(sections []*config.Section) {
	var tags []string // patterns in which * stands for anything
	count := map[string]int{}
	inputs := 0
	for _, s := range sections {
		if s.Kind == config.Input {
			name := strings.ToLower(s.Plugin())
			tags = append(tags, inputTags(s, name, count[name])...)
			count[name]++
			inputs++
		}
	}
	if inputs == 0 { // a piece of a configuration
		return
	}
	for _, s := range sections {
		if s.Kind != config.Filter {
			continue
		}
		switch strings.ToLower(s.Plugin()) {
		case "rewrite_tag":
			for _, rule := range s.Values("rule") {
				if parts := strings.Fields(rule); len(parts) == 4 {
					tags = append(tags, newTag(parts[2], tags)...)
				}
			}
		case "log_to_metrics":
			tags = append(tags, s.Value("tag"))
		}
	}
	for _, s := range sections {
		if s.Kind != config.Filter && s.Kind != config.Output {
			continue
		}
		p, ok := s.Get("match")
		if !ok || s.Value("match_regex") != "" || strings.Contains(p.Value, "${") {
			continue
		}
		reachable := false
		for _, tag := range tags {
			reachable = reachable || route.Overlap(p.Value, tag)
		}
		if !reachable {
			c.warn(s, at(p), "Unreachable", "no record reaches this %s: no tag matches %q; tags are %s", s.Kind, p.Value, strings.Join(some(tags), ", "))
		}
	}
}

func some(tags []string) []string {
	if len(tags) > 6 {
		return append(tags[:6:6], "...")
	}
	return tags
}

// inputTags are the tags that an input gives.
func inputTags(s *config.Section, name string, number int) []string {
	tag := s.Value("tag")
	switch name {
	case "forward":
		if tag == "" {
			return []string{"*"}
		}
	case "http", "opentelemetry", "splunk", "elasticsearch":
		return []string{"*"}
	}
	if tag == "" {
		return []string{fmt.Sprintf("%s.%d", name, number)}
	}
	if prefix := s.Value("tag_prefix"); prefix != "" {
		return []string{prefix + "*"}
	}
	return []string{wild(tag, "<", ">")}
}

// wild makes * of everything between two marks, and of variables.
func wild(tag, from, to string) string {
	for _, m := range [][2]string{{from, to}, {"${", "}"}} {
		for {
			start := strings.Index(tag, m[0])
			if start < 0 {
				break
			}
			end := strings.Index(tag[start:], m[1])
			if end < 0 {
				break
			}
			tag = tag[:start] + "*" + tag[start+end+len(m[1]):]
		}
	}
	return tag
}

// newTag is what a rewriting rule makes: $TAG is any of the tags so far, everything else with a $ is unknown.
func newTag(rule string, tags []string) []string {
	if !strings.Contains(rule, "$TAG") || strings.Contains(rule, "$TAG[") || len(tags) > 200 {
		if i := strings.IndexByte(rule, '$'); i >= 0 {
			return []string{rule[:i] + "*"}
		}
		return []string{rule}
	}
	var all []string
	for _, tag := range tags {
		made := strings.ReplaceAll(rule, "$TAG", tag)
		if i := strings.IndexByte(made, '$'); i >= 0 {
			made = made[:i] + "*"
		}
		all = append(all, made)
	}
	return all
}
