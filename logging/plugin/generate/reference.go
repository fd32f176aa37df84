package main

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"

	"github.com/weft-dev/weft/logging/plugin"
)

// reference writes the documentation of every option.
func reference(files map[string][]byte) {
	var b bytes.Buffer
	b.WriteString("# Plugins and their options\n\n    weft log plugins output/es\n\n" +
		"This page is made from the plugin table by `go generate ./logging/plugin`. *Field* is the name in resources (a dash: only a customPlugin can set it), *new* marks\n" +
		"fields that Fluent Operator does not have, *since* the version of Fluent Bit that brought the option (nothing: 2.1 or earlier), *refused* a field that is\n" +
		"accepted and left out because the engine knows no such option.\n")
	for _, e := range engines() {
		fmt.Fprintf(&b, "\n## %s\n", map[string]string{"fluentbit": "Fluent Bit", "fluentd": "Fluentd"}[e.table.Engine])
		for _, name := range []string{"input", "filter", "output", "tls", "net", "buffer", "inject", "format", "parse", "transport", "security", "server"} {
			if g := e.table.Groups[name]; g != nil {
				fmt.Fprintf(&b, "\n### Common: %s\n\n", name)
				options(&b, g.Options)
			}
		}
		for _, p := range e.table.Plugins {
			fmt.Fprintf(&b, "\n### %s %s\n\n", p.Kind, p.Name)
			fmt.Fprintf(&b, "In resources: %s.", cmp.Or(p.Field, "customPlugin"))
			if len(p.Groups) > 0 {
				fmt.Fprintf(&b, " Shared options: %s.", strings.Join(p.Groups, ", "))
			}
			b.WriteString("\n")
			if len(p.Options) > 0 {
				b.WriteString("\n")
				options(&b, p.Options)
			}
		}
	}
	files["docs/logging-plugins.md"] = b.Bytes()
}

func options(b *bytes.Buffer, all []*plugin.Option) {
	b.WriteString("| field | option | type | default | notes |\n|---|---|---|---|---|\n")
	for _, o := range all {
		var notes []string
		note := func(on bool, text string) {
			if on {
				notes = append(notes, text)
			}
		}
		note(o.Required, "required")
		note(o.Needed, "required by the engine")
		note(o.Sensitive, "secret")
		note(o.New, "new")
		note(o.Refused, "refused")
		note(o.Since != "", "since "+o.Since)
		note(len(o.Enum) > 0, strings.Join(o.Enum, ", "))
		key := cmp.Or(o.Key, o.Group)
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", cmp.Or(o.Field, "-"), code(key), o.Type, code(o.Default), strings.Join(notes, "; "))
	}
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + strings.ReplaceAll(text, "|", `\|`) + "`"
}
