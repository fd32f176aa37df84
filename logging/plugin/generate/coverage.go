package main

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"

	"github.com/weft-dev/weft/logging/plugin"
)

// counts are how many options of a plugin there are, and how many of them resources can say.
type counts struct {
	engine, operator, here int
	without                []string // options that only a customPlugin can set
}

func count(all []*plugin.Option) counts {
	var c counts
	keys, bare, said := map[string]bool{}, []string{}, map[string]bool{}
	for _, o := range all {
		if o.Field != "" {
			c.here++
			if !o.New {
				c.operator++
			}
		}
		if key := strings.ToLower(o.Key); key != "" && o.Group == "" && !o.Refused {
			keys[key] = true
			if o.Field == "" {
				bare = append(bare, key)
			} else {
				said[key] = true
			}
		}
	}
	for _, key := range bare {
		if !said[key] {
			c.without = append(c.without, key)
		}
	}
	c.engine = len(keys)
	return c
}

func (c *counts) add(other counts) {
	c.engine, c.operator, c.here = c.engine+other.engine, c.operator+other.operator, c.here+other.here
	c.without = append(c.without, other.without...)
}

// coverage writes how much of each plugin resources can say.
func coverage(files map[string][]byte) {
	var b bytes.Buffer
	b.WriteString("# What resources can say\n\n    weft log plugins output/es\n\n" +
		"How many options each plugin has in the engine, how many fields Fluent Operator's resources have for them, and how many those of Weft. Options that all plugins of a kind\n" +
		"share stand once, at the end. Each field and option with its type and default: [logging-plugins.md](logging-plugins.md). This page is made from the plugin\n" +
		"table by `go generate ./logging/plugin`.\n")
	for _, e := range engines() {
		fmt.Fprintf(&b, "\n## %s\n\n| plugin | field in resources | options of the engine | fields, Fluent Operator | fields, here | only by customPlugin |\n|---|---|---|---|---|---|\n",
			map[string]string{"fluentbit": "Fluent Bit", "fluentd": "Fluentd"}[e.table.Engine])
		var sum counts
		bare := map[string]int{}
		row := func(name, field string, c counts) {
			sum.add(c)
			fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %s |\n", name, cmp.Or(field, "-"), c.engine, c.operator, c.here, strings.Join(c.without, ", "))
		}
		for _, p := range e.table.Plugins {
			if p.Field == "" && p.Kind != "service" && p.Kind != "multiline_parser" {
				bare[p.Kind]++
				continue
			}
			row(p.Kind+" "+p.Name, p.Field, count(p.Options))
		}
		for _, name := range []string{"input", "filter", "output", "tls", "net", "buffer", "inject", "format", "parse", "transport", "security", "server"} {
			if g := e.table.Groups[name]; g != nil {
				row("all: "+name, "", count(g.Options))
			}
		}
		fmt.Fprintf(&b, "| **together** | | **%d** | **%d** | **%d** | %d options |\n", sum.engine, sum.operator, sum.here, len(sum.without))
		for _, kind := range []string{"input", "filter", "output", "processor", "parser", "custom"} {
			if bare[kind] > 0 {
				fmt.Fprintf(&b, "\n%d plugins of the kind %s have no field; a customPlugin names them.\n", bare[kind], kind)
			}
		}
	}
	files["docs/logging-fields.md"] = b.Bytes()
}
