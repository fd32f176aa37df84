package regex

import (
	"fmt"
	"strings"
	"testing"

	"github.com/dlclark/regexp2"
)

const apache2 = `^(?<host>[^ ]*) [^ ]* (?<user>[^ ]*) \[(?<time>[^\]]*)\] "(?<method>\S+)(?: +(?<path>[^ ]*) +\S*)?" (?<code>[^ ]*) (?<size>[^ ]*)(?: "(?<referer>[^\"]*)" "(?<agent>.*)")?$`
const apacheLine = `192.168.2.20 - frank [28/Jul/2006:10:27:10 -0300] "GET /cgi-bin/try/ HTTP/1.0" 200 3395 "http://www.example.com/start.html" "Mozilla/4.08 [en] (Win98; I ;Nav)"`

func groups(t *testing.T, r *Regexp, text string) string {
	t.Helper()
	found, err := r.Find([]byte(text), nil)
	if err != nil {
		return err.Error()
	}
	if found == nil {
		return "no"
	}
	var all []string
	for i := 0; i < len(found); i += 2 {
		if found[i] < 0 {
			all = append(all, "-")
			continue
		}
		all = append(all, text[found[i]:found[i+1]])
	}
	return strings.Join(all, "|")
}

func TestFind(t *testing.T) {
	for _, c := range []struct{ expression, text, want string }{
		{`abc`, "xxabcx", "abc"},
		{`^b`, "a\nb", "b"},
		{`a$`, "a\nb", "a"},
		{`\Ab`, "a\nb", "no"},
		{`a.c`, "a\nc", "no"},
		{`(?m)a.c`, "a\nc", "a\nc"},
		{`/A(b)/i`, "xaB", "aB|B"},
		{`(?<x>a)(b)`, "ab", "ab|a"},
		{`(a|ab)(c|bcd)(d*)`, "abcd", "abcd|a|bcd|"},
		{`(a*)*`, "aab", "aa|"},
		{`(a|b)*c`, "ababc", "ababc|b"},
		{`x*?y`, "xxxy", "xxxy"},
		{`<(.*?)>`, "<a><b>", "<a>|a"},
		{`<(.*)>`, "<a><b>", "<a><b>|a><b"},
		{`(?>a*)ab`, "aaab", "no"},
		{`a*+a`, "aaa", "no"},
		{`(?=ab)a`, "ab", "a"},
		{`a(?!b).`, "abac", "ac"},
		{`(\w+) \1`, "hello hello", "hello hello|hello"},
		{`(?<q>['"])(.*?)\k<q>`, `say "it's"`, `"it's"|"`},
		{`\h+`, "zzbeefzz", "beef"},
		{`[[:alpha:]&&[^a-f]]+`, "abcxyz", "xyz"},
		{`[^ ]+`, "größe klein", "größe"},
		{`^.$`, "ß", "ß"},
		{`^.{2}$`, "ßü", "ßü"},
		{`[а-я]+`, "abc где", "где"},
		{`\bfoo\b`, "a foo b", "foo"},
		{`a{2,3}`, "aaaa", "aaa"},
		{`a{2,3}?`, "aaaa", "aa"},
		{`(?:ab){2}`, "xababab", "abab"},
		{`a{,2}b`, "aaab", "aab"},
		{`a{`, "a{", "a{"},
		{`(?<=a)b`, "cab", "b"},
		{`(?<!a)b`, "abb", "b"},
		{`\d+(?<rest>.*)`, "12ab", "12ab|ab"},
		{`(?i:A)b`, "ab", "ab"},
		{`(?i)ab|CD`, "cd", "cd"},
		{`a(?#comment)b`, "ab", "ab"},
		{"(?x) a b # comment\n c", "abc", "abc"},
		{`\x41\u0042`, "AB", "AB"},
		{`\p{Lu}+`, "abÄÖc", "ÄÖ"},
		{`()`, "a", "|"},
		{`|a`, "a", ""},
		{`(?<a>x)?(?<b>y)`, "y", "y|-|y"},
		{apache2, apacheLine, apacheLine + `|192.168.2.20|frank|28/Jul/2006:10:27:10 -0300|GET|/cgi-bin/try/|200|3395|http://www.example.com/start.html|Mozilla/4.08 [en] (Win98; I ;Nav)`},
		{`^(?<time>[^ ]+) (?<stream>stdout|stderr) (?<logtag>[^ ]*) (?<message>.*)$`, "2024-01-01T00:00:00.1Z stderr F a b c",
			"2024-01-01T00:00:00.1Z stderr F a b c|2024-01-01T00:00:00.1Z|stderr|F|a b c"},
	} {
		r, err := Compile(c.expression)
		if err != nil {
			t.Errorf("%s: %v", c.expression, err)
			continue
		}
		if got := groups(t, r, c.text); got != c.want {
			t.Errorf("%s on %q: %s, want %s", c.expression, c.text, got, c.want)
		}
	}
}

func TestBadExpressions(t *testing.T) {
	for _, e := range []string{`(`, `)`, `[`, `[b-a]`, `*a`, `\`, `(?<a`, `(?z)`, `[[:none:]]`, `\p{None}`, `(?<=`, `a{3,2}`, `a{5000}`, `[a`,
		strings.Repeat("(", 1000) + strings.Repeat(")", 1000), strings.Repeat("a", maxExpression+1)} {
		if _, err := Compile(e); err == nil {
			t.Errorf("%.20q compiles", e)
		}
	}
}

// An expression that explodes ends with an error and not with a busy processor.
func TestExplodingExpressionEnds(t *testing.T) {
	for _, e := range []string{`^(a|a)*$`, `^(a+)+$`} {
		r, err := Compile(e)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Find([]byte(strings.Repeat("a", 40)+"!"), nil); err != ErrLimit {
			t.Errorf("%s: %v, want %v", e, err, ErrLimit)
		}
	}
}

// FuzzSame compares with another engine on what both spell alike.
func FuzzSame(f *testing.F) {
	for _, s := range []string{`a(b|c)*d`, `^x+?[^y]*$`, `(a?){3}b`, `(?:a|ab)(?:c|bcd)d*`, `(?i)ab+`, `\d{2,4}-\w*`, `(a*)+b`} {
		f.Add(s, "abcd abd xx aab 1234-x")
	}
	f.Fuzz(func(t *testing.T, expression, text string) {
		if len(expression) > 40 || len(text) > 60 {
			return
		}
		for _, c := range expression + text {
			if c > 126 || c < 10 {
				return
			}
		}
		r, err := Compile(expression)
		if err != nil || r.slow != nil {
			return
		}
		if strings.ContainsAny(expression, "{&\\#<[:'/-") || strings.Contains(expression, "(?") || strings.Contains(expression, "++") || strings.Contains(expression, "*+") || strings.Contains(expression, "?+") || strings.Contains(expression, "??") {
			r.Match([]byte(text))
			return
		}
		other, err := regexp2.Compile(expression, regexp2.Multiline)
		if err != nil {
			return
		}
		other.MatchTimeout = slowTimeout
		found, err := r.Find([]byte(text), nil)
		if err != nil {
			return
		}
		m, err := other.FindStringMatch(text)
		if err != nil {
			return
		}
		got, want := "no", "no"
		if found != nil {
			got = fmt.Sprint(found[0], found[1])
		}
		if m != nil {
			want = fmt.Sprint(m.Index, m.Index+m.Length)
		}
		if got != want {
			t.Errorf("%q on %q: %s, want %s", expression, text, got, want)
		}
	})
}

func BenchmarkApache2(b *testing.B) {
	r, err := Compile(apache2)
	if err != nil {
		b.Fatal(err)
	}
	line := []byte(apacheLine)
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	var into []int
	for b.Loop() {
		if into, err = r.Find(line, into[:0]); into == nil || err != nil {
			b.Fatal("no match")
		}
	}
}
