package lint

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/weft-dev/weft/logging/config"
)

// Each archive is a configuration and what is found in it.
func TestFile(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatal("no test data", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			f, err := config.Parse(a.Files[0].Name, a.Files[0].Data, config.Options{})
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			for _, finding := range File(f) {
				fmt.Fprintf(&b, "%s %s: %v\n", finding.Severity, finding.Reason, finding)
			}
			if want := string(a.Files[1].Data); b.String() != want {
				t.Errorf("got\n%swant\n%s", b.String(), want)
			}
		})
	}
}

func TestExplodes(t *testing.T) {
	for expression, want := range map[string]bool{
		`^(a+)+$`: true, `^(\w+\s?)*$`: true, `^(a|aa)+$`: true, `^([a-z]+)*\d$`: true, `^x(.*)*y$`: true,
		`^(\w+\s)*$`: false, `^[^ ]* [^ ]* [^ ]*$`: false, `^(?<a>.*)$`: false, `(a+)+`: false, `^([^,]*,)*$`: false, `^(.*,)*$`: true,
		// Sets inside of sets: what they hold decides.
		`^([a[bc]]+)+$`: true, `^([a-z&&[^b-z]]+a)*$`: true, `^([[:alpha:]&&[^,]]*,)*$`: false, `^(\h++:)*$`: false, `^([\h&&[a-f]]+x?)*$`: true,
		`^(?<host>[^ ]*) [^ ]* (?<user>[^ ]*) \[(?<time>[^\]]*)\] "(?<method>\S+)(?: +(?<path>[^ ]*) +\S*)?" (?<code>[^ ]*) (?<size>[^ ]*)(?: "(?<referer>[^\"]*)" "(?<agent>.*)")?$`: false,
		`^(?<time>[^ ]+) (?<stream>stdout|stderr) (?<logtag>[^ ]*) (?<log>.*)$`:                                                                                                       false,
	} {
		if got := explodes(perl(expression)) != ""; got != want {
			t.Errorf("%s: %v", expression, got)
		}
	}
}

// FuzzRegex: no expression makes the check itself run away or panic.
func FuzzRegex(f *testing.F) {
	for _, s := range []string{`^(a+)+$`, `(?<a>\h++)`, `[[:alpha:]]`, `[a[b&&[^c]]]`, `[[]]`, `(`, `\`, `[`, `((((((((((a*)*)*)*)*)*)*)*)*)*`, `a{1000}{1000}`, `(?=a)b`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, expression string) {
		c := &checker{}
		c.regex(&config.Section{}, config.Position{}, expression)
	})
}
