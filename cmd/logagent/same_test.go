package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

// The cases of testdata/same say what Fluent Bit makes of configurations, and logagent makes the same of them. Each file is run as one
// configuration by one process:
//
//	-- in.log --          any files that the configuration reads
//	-- common --          sections that all cases share, such as parsers
//	-- input --           the input of each case; without it the lines of in.log, as JSON with the key time
//	-- case NAME --       filters and outputs for the records with the tag NAME; without outputs a file
//	-- send NAME --       bytes for an input of the case's own that listens on the port INPUTPORT
//	-- want NAME --       what comes out of Fluent Bit
//	-- here NAME --       what comes out of logagent, if that differs; why, the head of the file says
//
// NAME in a section stands for the case, DIR for the folder, PORT for a server of the case's own that tells what it was sent. The output stdout can be in
// a file with one case only.
//
// With UPSTREAM_FLUENT_BIT=PROGRAM Fluent Bit runs them too, and with UPDATE=want its answers become what is wanted; with UPDATE=here
// those of logagent are written beside them where they differ.

// sameFile is one file of cases.
type sameFile struct {
	name    string
	archive *txtar.Archive
	parts   map[string]string
	cases   []string
}

func readSame(t *testing.T, name string) *sameFile {
	t.Helper()
	a, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	f := &sameFile{name: name, archive: a, parts: map[string]string{}}
	for _, part := range a.Files {
		f.parts[part.Name] = string(part.Data)
		if c, ok := strings.CutPrefix(part.Name, "case "); ok {
			f.cases = append(f.cases, c)
		}
	}
	return f
}

const sameInput = `[INPUT]
    Name tail
    Path DIR/in.log
    Tag NAME
    Parser in_json
    Read_from_Head on
`

const sameService = `[SERVICE]
    Flush 0.2
    Grace 1
    Log_Level error
    json.escape_unicode off
    Parsers_File DIR/parsers.conf
[PARSER]
    Name in_json
    Format json
    Time_Key time
    Time_Format %s.%L
`

// recorder is a server of one case.
type recorder interface {
	port() string
	told() string
}

// sameRun is the cases of one file in a folder, ready to be run by a program.
type sameRun struct {
	dir     string
	conf    string
	servers map[string]recorder
	senders []sender
	stdout  lockedBuffer
}

// sender is what a case sends to its input over TCP.
type sender struct{ port, data string }

// send connects when the input listens.
func (s sender) send(ctx context.Context) {
	for ctx.Err() == nil {
		conn, err := net.Dial("tcp", "127.0.0.1:"+s.port)
		if err != nil {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		_, _ = io.WriteString(conn, s.data) // what does not arrive is missed
		_ = conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, conn)
		conn.Close()
		return
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func (f *sameFile) prepare(t *testing.T) *sameRun {
	t.Helper()
	r := &sameRun{dir: t.TempDir(), servers: map[string]recorder{}}
	put := func(name, text string) {
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(strings.ReplaceAll(text, "DIR", r.dir)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range f.parts {
		if !strings.Contains(name, " ") && name != "common" && name != "input" {
			put(name, text)
		}
	}
	service, parsers, _ := strings.Cut(sameService, "[PARSER]")
	var conf strings.Builder
	conf.WriteString(service)
	// Parsers must stand in a file of their own.
	for _, section := range sections(f.parts["common"]) {
		if head := strings.ToUpper(section); strings.HasPrefix(head, "[PARSER]") || strings.HasPrefix(head, "[MULTILINE_PARSER]") {
			parsers += section
		} else {
			conf.WriteString(section)
		}
	}
	put("parsers.conf", "[PARSER]"+parsers)
	for _, name := range f.cases {
		text := f.parts["case "+name]
		var input string
		switch own, ok := f.parts["input"]; {
		case strings.Contains(text, "[INPUT]"):
		case ok:
			input = own
		default:
			input = sameInput
		}
		if !strings.Contains(text, "[OUTPUT]") {
			text += "[OUTPUT]\n    Name file\n    Match_Regex ^NAME($|\\.)\n    Path DIR\n    File NAME.out\n"
		}
		port := ""
		if strings.Contains(strings.ReplaceAll(text, "INPUTPORT", ""), "PORT") {
			s := newRecorder(t, text)
			r.servers[name], port = s, s.port()
		}
		if data, ok := f.parts["send "+name]; ok {
			r.senders = append(r.senders, sender{freePort(t), data})
			text = strings.ReplaceAll(text, "INPUTPORT", r.senders[len(r.senders)-1].port)
		}
		conf.WriteString(strings.NewReplacer("NAME", name, "PORT", port).Replace(input + text))
	}
	put("run.conf", conf.String())
	r.conf = filepath.Join(r.dir, "run.conf")
	return r
}

// sections are the sections of a classic configuration, each with its lines.
func sections(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "[") || len(all) == 0 {
			all = append(all, "")
		}
		all[len(all)-1] += line
	}
	return all
}

// got is what came out of a case so far.
func (r *sameRun) got(name string) string {
	text := ""
	if s := r.servers[name]; s != nil {
		text = s.told()
	} else if data, err := os.ReadFile(filepath.Join(r.dir, name+".out")); err == nil {
		text = string(data)
	} else if folder, err := os.ReadDir(filepath.Join(r.dir, name)); err == nil {
		for _, e := range folder {
			text += readTree(filepath.Join(r.dir, name), e)
		}
	} else {
		text = r.stdout.String()
	}
	text = clientPort.ReplaceAllString(strings.ReplaceAll(text, r.dir, "DIR"), "127.0.0.1:CLIENT")
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text
}

var clientPort = regexp.MustCompile(`127\.0\.0\.1:\d+`)

func readTree(dir string, e os.DirEntry) string {
	name := filepath.Join(dir, e.Name())
	if !e.IsDir() {
		data, _ := os.ReadFile(name)
		return "== " + e.Name() + "\n" + string(data)
	}
	text := ""
	inner, _ := os.ReadDir(name)
	for _, i := range inner {
		text += strings.ReplaceAll(readTree(name, i), "== ", "== "+e.Name()+"/")
	}
	return text
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// run lets a program run until the cases say that they have all, or for so long.
func (r *sameRun) run(t *testing.T, cmd *exec.Cmd, limit time.Duration, done func() bool) {
	t.Helper()
	cmd.Dir = r.dir
	cmd.Stdout = &r.stdout
	var faults lockedBuffer
	cmd.Stderr = &faults
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	for _, s := range r.senders {
		go s.send(ctx)
	}
	deadline := time.After(limit)
	for {
		select {
		case err := <-ended:
			t.Logf("the program ended early: %v\n%s", err, faults.String())
			return
		case <-deadline:
			t.Logf("the program said:\n%s", faults.String())
		case <-time.After(20 * time.Millisecond):
			if !done() {
				continue
			}
		}
		break
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		_ = cmd.Process.Kill()
		<-ended
	}
}

// compare runs the cases and tells what differs from what is wanted.
func (f *sameFile) compare(t *testing.T, cmd func(args ...string) *exec.Cmd, limit time.Duration, want func(name string) string) {
	t.Helper()
	r := f.prepare(t)
	r.run(t, cmd("-c", r.conf), limit, func() bool {
		for _, name := range f.cases {
			if r.got(name) != want(name) {
				return false
			}
		}
		return true
	})
	for _, name := range f.cases {
		if got := r.got(name); got != want(name) {
			t.Errorf("%s: got:\n%s\nwant:\n%s", name, got, want(name))
		}
	}
}

func (f *sameFile) here(name string) string {
	if text, ok := f.parts["here "+name]; ok {
		return text
	}
	return f.parts["want "+name]
}

func TestSameAsFluentBit(t *testing.T) {
	files, err := filepath.Glob("testdata/same/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			t.Parallel()
			f := readSame(t, name)
			if os.Getenv("UPDATE") == "here" {
				f.update(t, agentCommand, true)
				return
			}
			f.compare(t, agentCommand, 2*time.Minute, f.here)
		})
	}
}

// Fluent Bit itself gives what the cases say of it.
func TestUpstreamFluentBit(t *testing.T) {
	program := os.Getenv("UPSTREAM_FLUENT_BIT")
	if program == "" {
		t.Skip("UPSTREAM_FLUENT_BIT names no program")
	}
	files, err := filepath.Glob("testdata/same/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	command := func(args ...string) *exec.Cmd { return exec.Command(program, append([]string{"-q"}, args...)...) }
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			f := readSame(t, name)
			if os.Getenv("UPDATE") == "want" {
				f.update(t, command, false)
				return
			}
			f.compare(t, command, 20*time.Second, func(name string) string { return f.parts["want "+name] })
		})
	}
}

// update writes what the program answers, as what is wanted or as what logagent does instead.
func (f *sameFile) update(t *testing.T, cmd func(args ...string) *exec.Cmd, here bool) {
	r := f.prepare(t)
	last, since, begin := "", time.Now(), time.Now()
	r.run(t, cmd("-c", r.conf), time.Minute, func() bool {
		now := ""
		for _, name := range f.cases {
			now += r.got(name)
		}
		if now != last {
			last, since = now, time.Now()
		}
		return time.Since(begin) > 6*time.Second && time.Since(since) > 3*time.Second
	})
	out := &txtar.Archive{Comment: f.archive.Comment}
	for _, part := range f.archive.Files {
		kind, name, _ := strings.Cut(part.Name, " ")
		if kind != "here" && kind != "want" {
			out.Files = append(out.Files, part)
		}
		if kind != "case" {
			continue
		}
		want, mine := r.got(name), f.parts["here "+name]
		if here {
			want, mine = f.parts["want "+name], want
		}
		out.Files = append(out.Files, txtar.File{Name: "want " + name, Data: []byte(want)})
		if _, had := f.parts["here "+name]; mine != want && (here || had) {
			out.Files = append(out.Files, txtar.File{Name: "here " + name, Data: []byte(mine)})
		}
	}
	if err := os.WriteFile(f.name, txtar.Format(out), 0o644); err != nil {
		t.Fatal(err)
	}
}
