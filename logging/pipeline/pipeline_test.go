package pipeline_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline"
)

// running is an engine that runs until stop is called or the test ends.
type running struct {
	engine *pipeline.Engine
	stop   func() error
}

// start runs a classic configuration; DIR stands for a folder of the test.
func start(t *testing.T, dir, text string, o pipeline.Options) *running {
	t.Helper()
	engine := build(t, dir, text, o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx) }()
	stopped := false
	r := &running{engine: engine}
	r.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(2 * time.Minute):
			t.Fatal("the pipeline does not end")
			return nil
		}
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func build(t *testing.T, dir, text string, o pipeline.Options) *pipeline.Engine {
	t.Helper()
	engine, err := tryBuild(dir, text, o)
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

func tryBuild(dir, text string, o pipeline.Options) (*pipeline.Engine, error) {
	text = strings.ReplaceAll(text, "DIR", dir)
	if !strings.Contains(text, "[SERVICE]") {
		text = "[SERVICE]\n    Flush 0.05\n    Grace 10\n" + text
	}
	file, err := config.Parse(filepath.Join(dir, "test.conf"), []byte(text), config.Options{Parsers: true})
	if err != nil {
		return nil, err
	}
	return pipeline.New(file, o)
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func appendTo(t *testing.T, name, text string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func read(name string) string {
	data, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	return string(data)
}

// await waits until the file holds what is wanted.
func await(t *testing.T, name, want string) {
	t.Helper()
	awaitThat(t, func() string { return read(name) }, want)
}

func awaitThat(t *testing.T, get func() string, want string) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		got := get()
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got:\n%s\nwant:\n%s", got, want)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

const tailToFile = `[INPUT]
    Name tail
    Path DIR/*.log
    Tag t
    Read_from_Head true
    Refresh_Interval 1
    Rotate_Wait 1
    watcher_interval 0.1
[OUTPUT]
    Name file
    Match *
    Path DIR
    File out
    Format plain
`

func TestTailToFile(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.log"), "one\r\ntwo\nthr")
	start(t, dir, tailToFile, pipeline.Options{})
	out := filepath.Join(dir, "out")
	await(t, out, "{\"log\":\"one\"}\n{\"log\":\"two\"}\n")
	appendTo(t, filepath.Join(dir, "a.log"), "ee\n")
	write(t, filepath.Join(dir, "b.log"), "other\n")
	awaitThat(t, func() string { return fmt.Sprint(strings.Count(read(out), "three"), strings.Count(read(out), "other")) }, "1 1")
}

func TestTailRotation(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "a.log")
	write(t, log, "1\n")
	start(t, dir, tailToFile, pipeline.Options{})
	out := filepath.Join(dir, "out")
	await(t, out, "{\"log\":\"1\"}\n")
	// Renamed away: the last lines of the old file and all of the new one arrive.
	if err := os.Rename(log, log+".1"); err != nil {
		t.Fatal(err)
	}
	appendTo(t, log+".1", "2\n")
	write(t, log, "3\nlonger\n")
	awaitThat(t, func() string { return fmt.Sprint(len(strings.Fields(read(out)))) }, "4")
	// Truncated: what is written anew arrives. It is shorter than what was there, else nobody could tell who did not look in between.
	if err := os.Truncate(log, 0); err != nil {
		t.Fatal(err)
	}
	appendTo(t, log, "4\n")
	awaitThat(t, func() string { return fmt.Sprint(strings.Count(read(out), `"4"`)) }, "1")
	// Deleted and made anew.
	if err := os.Remove(log); err != nil {
		t.Fatal(err)
	}
	write(t, log, "5\n")
	awaitThat(t, func() string { return fmt.Sprint(strings.Count(read(out), `"5"`)) }, "1")
	for _, n := range []string{"1", "2", "3"} {
		if c := strings.Count(read(out), `"`+n+`"`); c != 1 {
			t.Errorf("line %s arrived %d times", n, c)
		}
	}
}

func TestTailGoesOnFromItsDatabase(t *testing.T) {
	dir := t.TempDir()
	log, out := filepath.Join(dir, "a.log"), filepath.Join(dir, "out")
	conf := strings.Replace(tailToFile, "    Tag t\n", "    Tag t\n    DB DIR/positions\n", 1)
	write(t, log, "1\n")
	first := start(t, dir, conf, pipeline.Options{})
	await(t, out, "{\"log\":\"1\"}\n")
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	appendTo(t, log, "2\n")
	second := start(t, dir, conf, pipeline.Options{})
	await(t, out, "{\"log\":\"1\"}\n{\"log\":\"2\"}\n")
	if err := second.stop(); err != nil {
		t.Fatal(err)
	}
	// Another content under the same inode, no shorter than before, is read from its head.
	write(t, log, "x\ny\n")
	start(t, dir, conf, pipeline.Options{})
	await(t, out, "{\"log\":\"1\"}\n{\"log\":\"2\"}\n{\"log\":\"x\"}\n{\"log\":\"y\"}\n")
}

// Positions are on the disk soon after records are safe, however rarely files are looked at: what is killed then brings little again.
func TestPositionsAreSavedSoon(t *testing.T) {
	dir := t.TempDir()
	conf := strings.Replace(tailToFile, "    Tag t\n", "    Tag t\n    DB DIR/positions\n", 1)
	start(t, dir, strings.Replace(conf, "watcher_interval 0.1", "watcher_interval 3600", 1), pipeline.Options{})
	log := filepath.Join(dir, "a.log")
	for n := 1; n <= 3; n++ {
		appendTo(t, log, "123456789\n")
		awaitThat(t, func() string {
			return fmt.Sprint(strings.Contains(read(filepath.Join(dir, "positions")), fmt.Sprintf(`"offset":%d,`, 10*n)))
		}, "true")
	}
}

func TestForeignDatabaseIsNotOverwritten(t *testing.T) {
	for _, content := range []string{"SQLite format 3\x00...", "mine", "weft positions 1\n{", "weft positions 1\n{\"a\":{\"offset\":-1}}"} {
		dir := t.TempDir()
		db := filepath.Join(dir, "positions")
		write(t, db, content)
		engine := build(t, dir, strings.Replace(tailToFile, "    Tag t\n", "    Tag t\n    DB DIR/positions\n", 1), pipeline.Options{})
		if err := engine.Run(t.Context()); err == nil || !strings.Contains(err.Error(), db) {
			t.Errorf("%q: %v, want an error with the name", content, err)
		}
		if read(db) != content {
			t.Errorf("%q was changed to %q", content, read(db))
		}
	}
}

func TestLongLines(t *testing.T) {
	long := strings.Repeat("x", 40_000)
	for option, want := range map[string]string{
		"Skip_Long_Lines":     "{\"log\":\"a\"}\n{\"log\":\"b\"}\n",
		"truncate_long_lines": "{\"log\":\"a\"}\n{\"log\":\"" + strings.Repeat("x", 32767) + "\"}\n{\"log\":\"b\"}\n",
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "a.log"), "a\n"+long+"\nb\n")
		start(t, dir, strings.Replace(tailToFile, "    Tag t\n", "    Tag t\n    "+option+" on\n", 1), pipeline.Options{})
		await(t, filepath.Join(dir, "out"), want)
	}
	// A line of 10 MB arrives if the limit allows it, and so do bytes that are no text.
	dir := t.TempDir()
	long = strings.Repeat("y", 10<<20)
	write(t, filepath.Join(dir, "a.log"), long+"\n\xff\x00\xfe\nend\n")
	start(t, dir, strings.Replace(tailToFile, "    Tag t\n", "    Tag t\n    Buffer_Max_Size 16M\n", 1), pipeline.Options{})
	await(t, filepath.Join(dir, "out"), "{\"log\":\""+long+"\"}\n{\"log\":\"\uFFFD\\u0000\uFFFD\"}\n{\"log\":\"end\"}\n")
}

func TestRefusedByName(t *testing.T) {
	for text, want := range map[string]string{
		"[INPUT]\n    Name nosuch\n":                                                           `test.conf:2:10: there is no input "nosuch"`,
		"[INPUT]\n    Name mqtt\n":                                                             `test.conf:2:10: the input "mqtt" is not built into logagent`,
		"[INPUT]\n    Name dummy\n[OUTPUT]\n    Name s3\n    Match *\n":                        `test.conf:4:10: the output "s3" is not built into logagent`,
		"[INPUT]\n    Name dummy\n    Rat 5\n":                                                 `test.conf:3:9: dummy has no option "Rat"`,
		"[INPUT]\n    Name dummy\n    Rate x\n":                                                `test.conf:3:10: Rate: "x" is not a whole number`,
		"[INPUT]\n    Name dummy\n    Rate 1\n    Rate 2\n":                                    `test.conf:4:10: Rate is set twice`,
		"[INPUT]\n    Name dummy\n    Dummy {\n":                                               `test.conf:3:11: dummy must be a JSON object`,
		"[INPUT]\n    Name tail\n":                                                             `tail needs the option Path`,
		"[INPUT]\n    Name tail\n    Path x\n    Parser p\n":                                   `test.conf:4:12: there is no parser "p"`,
		"[INPUT]\n    Name tail\n    Path x\n    unicode.encoding UTF-16\n":                    `the option "unicode.encoding" of tail is not built into logagent yet`,
		"[INPUT]\n    Name dummy\n    storage.type filesystem\n":                               `test.conf:3:18: storage.type filesystem needs storage.path`,
		"[OUTPUT]\n    Name null\n    Match *\n":                                               `the configuration has no input`,
		"[INPUT]\n    Name dummy\n[PARSER]\n    Name p\n    Format regex\n    Regex (?<a>\n":   `test.conf:6:11: regular expression`,
		"[INPUT]\n    Name dummy\n[PARSER]\n    Name p\n    Format json\n    Time_Format %Q\n": `test.conf:6:17: the time format "%Q"`,
	} {
		_, err := tryBuild(t.TempDir(), "[SERVICE]\n"+text, pipeline.Options{})
		// The section that is put before moves lines by one.
		if err == nil || !strings.Contains(moved(err.Error()), want) {
			t.Errorf("%q: %v\nwant %s", text, err, want)
		}
	}
}

// moved takes one from each line number.
func moved(text string) string {
	for n := 2; n < 12; n++ {
		text = strings.ReplaceAll(text, fmt.Sprintf("test.conf:%d:", n), fmt.Sprintf("test.conf:%d:", n-1))
	}
	return text
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, tag string
		want         bool
	}{
		{"*", "a.b", true}, {"a.*", "a.b", true}, {"a.*", "b.a", false}, {"*.log", "x.log", true}, {"*.log", "x.log.1", false}, {"a", "a", true}, {"a", "ab", false},
		{"a*c", "abc", true}, {"a*c", "abd", false}, {"kube.*.x.*", "kube.ns.x.pod", true}, {"a**b", "axb", true}, {"", "", true},
	} {
		if got := pipeline.Match(c.pattern, c.tag); got != c.want {
			t.Errorf("%q takes %q: %v", c.pattern, c.tag, got)
		}
	}
}

// A storage that takes nothing holds the input up, and loses nothing.
func TestStorageThatFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "storage"), 0o700); err != nil {
		t.Fatal(err)
	}
	obstacle := filepath.Join(dir, "storage", "tail.0") // a file where the input's folder should be
	write(t, obstacle, "")
	write(t, filepath.Join(dir, "a.log"), "1\n2\n")
	log := &logged{}
	start(t, dir, "[SERVICE]\n    Flush 0.05\n    storage.path DIR/storage\n"+strings.Replace(tailToFile, "    Tag t\n", "    Tag t\n    storage.type filesystem\n", 1), log.options())
	awaitThat(t, func() string { return fmt.Sprint(strings.Contains(log.String(), "the storage takes nothing")) }, "true")
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	await(t, filepath.Join(dir, "out"), "{\"log\":\"1\"}\n{\"log\":\"2\"}\n")
}
