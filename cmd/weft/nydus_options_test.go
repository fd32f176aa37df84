package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func nydusNames() map[string]*cobra.Command {
	list := map[string]*cobra.Command{}
	for _, name := range []string{"nydus-image", "nydusify"} {
		list[name] = names[name].command(&app{getenv: func(string) string { return "" }})
	}
	return list
}

// nydusTable is the table of options of one name for docs/image.md.
func nydusTable(root *cobra.Command) string {
	type option struct{ name, text string }
	verbs := map[option][]string{}
	add := func(verb string) func(*pflag.Flag) {
		return func(f *pflag.Flag) {
			if f.Hidden || f.Name == "help" || f.Name == "quiet" || f.Name == "version" {
				return
			}
			name := "`--" + f.Name + "`"
			if f.Shorthand != "" {
				name += ", `-" + f.Shorthand + "`"
			}
			text := strings.ReplaceAll(f.Usage, "`", "")
			d, refused := f.DefValue, strings.HasPrefix(text, "refused")
			if d != "" && d != "false" && d != "0" && !refused && !strings.Contains(text, "default") && !strings.HasPrefix(d, "linux/") {
				text += " (default " + d + ")"
			}
			o := option{name, strings.ReplaceAll(text, "|", "\\|")}
			verbs[o] = append(verbs[o], verb)
		}
	}
	for _, c := range root.Commands() {
		if !c.Hidden {
			c.Flags().VisitAll(add(c.Name()))
		}
	}
	root.PersistentFlags().VisitAll(add("all"))
	names := map[string][]string{} // by what stands behind them
	for o, of := range verbs {
		slices.Sort(of)
		rest := strings.Join(of, ", ") + " | " + o.text
		names[rest] = append(names[rest], o.name)
	}
	var rows []string
	for rest, list := range names {
		slices.Sort(list)
		rows = append(rows, "| "+strings.Join(list, ", ")+" | "+rest+" |")
	}
	slices.Sort(rows)
	return "| " + root.Name() + " | verbs | here |\n|---|---|---|\n" + strings.Join(rows, "\n") + "\n"
}

// TestNydusOptionsAreTold compares the tables in docs/image.md with the options that there are; UPDATE=1 writes them.
func TestNydusOptionsAreTold(t *testing.T) {
	const file = "../../docs/image.md"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for name, root := range nydusNames() {
		have := regexp.MustCompile(`(?m)^\| ` + name + ` \| verbs .*\n(\|.*\n)+`).FindString(page)
		want := nydusTable(root)
		if have == want {
			continue
		}
		if os.Getenv("UPDATE") == "" || have == "" {
			t.Errorf("%s tells other options of %s than there are: run with UPDATE=1\n%s", file, name, want)
			continue
		}
		page = strings.Replace(page, have, want, 1)
	}
	if page != string(b) {
		if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUpstreamNydusOptions looks for every option of the answered verbs that a checkout of dragonflyoss/nydus has, and for the verbs themselves.
func TestUpstreamNydusOptions(t *testing.T) {
	dir := os.Getenv("UPSTREAM_NYDUS")
	if dir == "" {
		t.Skip("UPSTREAM_NYDUS is not set: a checkout of dragonflyoss/nydus")
	}
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	count := 0
	compare := func(tool, verb string, options []string) {
		c, _, err := nydusNames()[tool].Find([]string{verb})
		if err != nil || c.Name() != verb {
			t.Errorf("%s does not know %s", tool, verb)
			return
		}
		if c.Hidden {
			return // it is refused
		}
		for _, o := range options {
			f := c.Flags().Lookup(o)
			if len(o) == 1 {
				f = c.Flags().ShorthandLookup(o)
			}
			if count++; f == nil {
				t.Errorf("%s %s does not know --%s", tool, verb, o)
			}
		}
	}
	rust := read("src/bin/nydus-image/main.rs")
	shared := map[string]string{}
	for _, m := range regexp.MustCompile(`let (arg_\w+) = Arg::new\("([\w-]+)"\)`).FindAllStringSubmatch(rust, -1) {
		shared[m[1]] = m[2]
	}
	option := regexp.MustCompile(`\.(?:long|alias)\("([\w-]+)"\)|\.arg\(\s*(arg_\w+)|\.short\('(\w)'\)`)
	for _, part := range strings.Split(rust, `App::new("`)[2:] {
		verb, body, _ := strings.Cut(part, `"`)
		body, _, _ = strings.Cut(body, "fn init_log")
		if verb == "generate" {
			continue
		}
		var options []string
		for _, m := range option.FindAllStringSubmatch(body, -1) {
			options = append(options, m[1]+shared[m[2]]+m[3])
		}
		compare("nydus-image", verb, options)
	}
	commands := regexp.MustCompile(`(?m)^\t\t\tName: +"(\w+)",`)
	nydusify, _, _ := strings.Cut(read("contrib/nydusify/cmd/nydusify.go"), "func getGlobalFlags")
	at := commands.FindAllStringSubmatchIndex(nydusify, -1)
	flag := regexp.MustCompile(`(?m)^\t{5}Name: +"([\w-]+)"|&cli\.\w+\{\s*Name: +"([\w-]+)"|^\t{5}Aliases: +\[\]string\{"([\w-]+)"`)
	for i, m := range at {
		end := len(nydusify)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		body, _, _ := strings.Cut(nydusify[m[1]:end], "Action: ")
		var options []string
		for _, f := range flag.FindAllStringSubmatch(body, -1) {
			options = append(options, f[1]+f[2]+f[3])
		}
		compare("nydusify", nydusify[m[2]:m[3]], options)
	}
	if count < 100 {
		t.Errorf("only %d options were found", count)
	}
}
