package fluentd

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/input"
)

// tree makes files with a line each, named after them.
func tree(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, n := range names {
		name := filepath.Join(dir, n)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, name, []byte(n+"\n"))
	}
	return dir
}

func TestGlob(t *testing.T) {
	dir := tree(t, "a.log", "b.log", "b.txt", ".hidden.log", "sub/c.log", "sub/deep/d.log", ".sub/e.log", "x[1].log")
	if err := os.Symlink(dir, dir+"/sub/back"); err != nil {
		t.Fatal(err)
	}
	for pattern, want := range map[string]string{
		"*.log":               "a.log b.log x[1].log",
		".*.log":              ".hidden.log",
		"{a,b}.log":           "a.log b.log",
		"{a,{b,c}}.{log,txt}": "a.log b.log b.txt",
		"?.txt":               "b.txt",
		"[ab].log":            "a.log b.log",
		`x\[1\].log`:          "x[1].log",
		"**/*.log":            "a.log b.log sub/c.log sub/deep/d.log x[1].log",
		"sub/**/*.log":        "sub/c.log sub/deep/d.log",
		"**/deep/*":           "sub/deep/d.log",
		"*/c.log":             "sub/c.log",
		"none/*.log":          "",
		"[":                   "",
	} {
		var got []string
		for _, name := range glob(dir + "/" + pattern) {
			got = append(got, strings.TrimPrefix(name, dir+"/"))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, want %q", pattern, got, want)
		}
	}
}

func FuzzGlob(f *testing.F) {
	f.Add("/**/{a,b}/*")
	f.Add("{{,},{{")
	f.Add("[a-]/\\")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, pattern string) {
		if strings.Contains(pattern, "..") {
			return
		}
		for _, name := range glob(dir + "/" + pattern) {
			if !strings.HasPrefix(name, dir) {
				t.Errorf("%q gives %q", pattern, name)
			}
		}
	})
}

// Which files a path, with the time and patterns in it, means.
func TestTailFiles(t *testing.T) {
	dir := tree(t, "app.2026-01-02.log", "app.2026-01-01.log", "app.2026-01-03.log", "b,c.log", "x[1].log", "x1.log", "old.log", "sub/d.log")
	old := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if err := os.Chtimes(dir+"/old.log", old, old); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 2, 22, 0, 0, 0, time.UTC)
	for options, want := range map[string]string{
		"path DIR/app.%Y-%m-%d.log\npath_timezone UTC":                                   "app.2026-01-02.log",
		"path DIR/app.%Y-%m-%d.log\npath_timezone +0900":                                 "app.2026-01-03.log",
		"path DIR/app.*.log\nexclude_path [\"DIR/app.%Y-%m-%d.log\"]\npath_timezone UTC": "app.2026-01-01.log app.2026-01-03.log",
		"path DIR/app.*.log\nexclude_path [\"DIR/*-0[12].log\"]":                         "app.2026-01-03.log",
		"path DIR/app.*.log\nexclude_path [\"app.2026-01-01.log\"]":                      "app.2026-01-01.log app.2026-01-02.log app.2026-01-03.log",
		"path DIR/b,c.log": "b c.log",
		"path DIR/b,c.log;DIR/x1.log\npath_delimiter ;":               "b,c.log x1.log",
		"path DIR/x[1].log":                                           "x[1].log",
		"path DIR/x[1].log\nglob_policy extended":                     "x1.log",
		"path DIR/{x1,old}.log\npath_delimiter ;\nglob_policy always": "old.log x1.log",
		"path DIR/**/d.log":                                           "sub/d.log",
		"path DIR/o*.log\nlimit_recently_modified 1h":                 "",
		"path DIR/old.log\nlimit_recently_modified 1h":                "old.log",
	} {
		if strings.Contains(options, "limit") {
			now = time.Now()
		}
		text := strings.ReplaceAll(options, "DIR", dir)
		x := &trial{}
		o := x.options(nil)
		o.Now = func() time.Time { return now }
		b := &builder{options: o}
		c := file(t, "<source>\n@type tail\ntag a\n"+text+"\n</source>")
		b.logger = nil
		p := testPart(t, c.Sections[0], "input", "tail")
		var got []string
		for _, name := range newTailFiles(b, p).list() {
			got = append(got, strings.TrimPrefix(name, dir+"/"))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, want %q", options, got, want)
		}
		now = time.Date(2026, 1, 2, 22, 0, 0, 0, time.UTC)
	}
}

// A file whose name has passed is read to its end and left, and the next one is read from its head.
func TestTailFollowsTheTime(t *testing.T) {
	dir := t.TempDir()
	var at safeTime
	at.set(time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC))
	writeFile(t, dir+"/2026-01-02.log", []byte("one\n"))
	x := &trial{ended: make(chan error, 1)}
	o := x.options(nil)
	o.Now = at.now
	e, err := New(file(t, "<source>\n@type tail\npath "+dir+"/%Y-%m-%d.log\npath_timezone UTC\npos_file "+dir+"/pos\ntag t\nread_from_head true\nrefresh_interval 0.1s\nrotate_wait 0s\n"+
		"pos_file_compaction_interval 0.1s\n<parse>\n@type none\n</parse>\n</source>\n<match t>\n@type stdout\n</match>"), o)
	if err != nil {
		t.Fatal(err)
	}
	x.run(t, e)
	await(t, "the first day", func() bool { return strings.Contains(x.out.String(), "one") })
	writeFile(t, dir+"/2026-01-03.log", []byte("two\n"))
	f, err := os.OpenFile(dir+"/2026-01-02.log", os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at.set(time.Date(2026, 1, 3, 0, 0, 1, 0, time.UTC))
	fmt.Fprintln(f, "late")
	await(t, "the next day", func() bool {
		return strings.Contains(x.out.String(), "two") && strings.Contains(x.out.String(), "late")
	})
	at.set(time.Date(2026, 1, 3, 0, 1, 0, 0, time.UTC))
	open := func() (n int) {
		links, _ := filepath.Glob("/proc/self/fd/*")
		for _, l := range links {
			if to, err := os.Readlink(l); err == nil && strings.HasPrefix(to, dir+"/2026-01-02.log") {
				n++
			}
		}
		return n
	}
	await(t, "the end of the first day's file", func() bool { return open() == 1 }) // the test's own
	if err := os.Remove(dir + "/2026-01-02.log"); err != nil {
		t.Fatal(err)
	}
	await(t, "its position being forgotten", func() bool {
		data, err := os.ReadFile(dir + "/pos")
		return err == nil && !strings.Contains(string(data), "2026-01-02") && strings.Contains(string(data), "2026-01-03")
	})
	x.end(t)
	if got := lines(x.out.String()); len(got) != 3 {
		t.Errorf("got %q", got)
	}
}

// Lines of a group, and bytes of a file, are read no faster than asked for; nothing is lost.
func TestTailPace(t *testing.T) {
	p := func(text string) *tailPace {
		made := newTailPace(testPart(t, file(t, "<source>\n@type tail\ntag a\npath /x\n"+text+"\n</source>").Sections[0], "input", "tail"))
		if made == nil {
			t.Fatal("nothing is bounded")
		}
		return made
	}
	now := time.Unix(1000, 0)
	id := strings.Repeat("a", 64)
	web, web2, db, other := "/var/log/containers/web-1_shop_app-"+id+".log", "/var/log/containers/web-2_shop_app-"+id+".log", "/var/log/containers/db-1_shop_app-"+id+".log", "/var/log/x.log"
	g := p("<group>\nrate_period 5s\n<rule>\nmatch {\"namespace\":\"/shop/\"}\nlimit 100\n</rule>\n<rule>\nmatch {\"namespace\":\"/shop/\",\"podname\":\"/^web/\"}\nlimit 10\n</rule>\n<rule>\nmatch {\"podname\":\"/^no/\"}\nlimit 0\n</rule>\n</group>")
	if got := []int{g.Allow(web, now), g.Allow(db, now), g.Allow(other, now), g.Allow(strings.NewReplacer("web", "no", "shop", "other").Replace(web), now)}; !slices.Equal(got, []int{10, 100, -1, 0}) {
		t.Errorf("got %v", got)
	}
	g.Took(web, 4, 40, now)
	if got := g.Allow(web2, now); got != 5 { // the share of two
		t.Errorf("got %d", got)
	}
	if got := g.Allow(web, now); got != 1 {
		t.Errorf("got %d", got)
	}
	g.Took(web, 1, 10, now)
	if g.Allow(web, now.Add(4*time.Second)) != 0 || g.Allow(web, now.Add(5*time.Second)) != 5 {
		t.Error("the period does not end when it should")
	}
	if g.Left(web2); g.Allow(web, now.Add(6*time.Second)) != 10 {
		t.Error("a file that is gone has a share")
	}
	if g.Allow(web, now.Add(-time.Hour)) != 10 {
		t.Error("a clock that jumps back holds lines up")
	}
	b := p("read_bytes_limit_per_second 64k")
	if b.Allow(web, now) != -1 {
		t.Error("the first bytes wait")
	}
	b.Took(web, 1, 3*64<<10, now)
	if b.Allow(web, now.Add(2900*time.Millisecond)) != 0 || b.Allow(web, now.Add(3*time.Second)) != -1 || b.Allow(db, now) != -1 {
		t.Error("three seconds' bytes do not take three seconds")
	}

	dir := t.TempDir()
	writeFile(t, dir+"/a.log", []byte(strings.Repeat("line\n", 25)))
	var at safeTime
	at.set(now)
	x := &trial{ended: make(chan error, 1)}
	o := x.options(nil)
	o.Now = at.now
	e, err := New(file(t, "<source>\n@type tail\npath "+dir+"/*.log\ntag t\nread_from_head true\n<group>\npattern /(?<name>[a-z]+)\\.log$/\nrate_period 2s\n<rule>\nmatch {\"name\":\"/a/\"}\nlimit 10\n</rule>\n</group>\n"+
		"<parse>\n@type none\n</parse>\n</source>\n<match t>\n@type stdout\n</match>"), o)
	if err != nil {
		t.Fatal(err)
	}
	x.run(t, e)
	for period, want := range []int{10, 20, 25} {
		at.set(now.Add(time.Duration(period) * 2 * time.Second))
		await(t, fmt.Sprint("period ", period), func() bool { return strings.Count(x.out.String(), "line") >= want })
		if n := strings.Count(x.out.String(), "line"); n > want {
			t.Errorf("%d lines had come in period %d, want %d", n, period, want)
		}
	}
}

func TestTailRefusals(t *testing.T) {
	for options, want := range map[string]string{
		"path /x\nfollow_inodes true":                             "follow_inodes needs pos_file",
		"path /x\npath_delimiter /":                               "path_delimiter must not be",
		"path /x\nglob_policy always":                             "set another path_delimiter",
		"path /{a,b}*;/c\npath_delimiter ;\nglob_policy extended": "needs glob_policy always",
		"path /x\npath_timezone Nowhere/City":                     "path_timezone",
		"path /[*":                                                `the pattern "/[*" is not valid`,
		"path ,":                                                  "tail needs the option path",
		"path /x\nenable_watch_timer false\nenable_stat_watcher false":        "must be true",
		"path /x\nencoding Shift_JIS":                                         "encoding SHIFT_JIS is not built into logagent",
		"path /x\n<group>\n</group>":                                          "<group> needs a <rule>",
		"path /x\n<group>\n<rule>\nlimit -2\n</rule>\n</group>":               "limit must be -1",
		"path /x\n<group>\n<rule>\nmatch {\"no\":\"/x/\"}\n</rule>\n</group>": `the pattern of the group has no part "no"`,
		"path /x\n<group>\npattern /(/\n<rule>\n</rule>\n</group>":            "pattern: ",
	} {
		x := &trial{}
		_, err := New(file(t, "<source>\n@type tail\ntag a\n"+options+"\n<parse>\n@type none\n</parse>\n</source>"), x.options(nil))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "fluent.conf:") {
			t.Errorf("%s: %v\nwant %s", options, err, want)
		}
	}
	same := "<source>\n@type tail\ntag a\npath /x\npos_file /tmp/p\n<parse>\n@type none\n</parse>\n</source>\n"
	x := &trial{}
	if _, err := New(file(t, same+same), x.options(nil)); err == nil || !strings.Contains(err.Error(), "tail.0 at fluent.conf:1:1 has the same pos_file") {
		t.Errorf("%v", err)
	}
}

var _ input.TailPace = (*tailPace)(nil)
