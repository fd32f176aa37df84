// Command bench-log measures how many megabytes of logs a pipeline takes per second of processor time, from files to nowhere, and what
// memory an idle agent needs; and what of the records is lost and doubled when agents are killed, files rotated and outputs refuse. It makes its own input. With -rival it runs another program with Fluent Bit's command line on the same
// configurations, each run of one beside a run of the other.
package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	agent := flag.String("agent", "bin/logagent", "the program to measure")
	rival := flag.String("rival", "", "a program to measure beside it, with Fluent Bit's command line")
	runs := flag.Int("runs", 5, "runs of each case; the median is shown")
	lines := flag.Int("lines", 400_000, "lines of each file")
	only := flag.String("case", "", "measure only cases whose name contains this")
	idle := flag.Duration("idle", 60*time.Second, "how long the idle agent waits before its memory is read; 0 leaves it out")
	tables := flag.String("tables", "speed,loss", "what to measure: speed, loss, or both")
	lossLines := flag.Int("loss-lines", 20_000, "lines of each run of the table of losses")
	flag.Parse()
	var err error
	if strings.Contains(*tables, "speed") {
		err = bench(*agent, *rival, *runs, *lines, *only, *idle)
	}
	if err == nil && strings.Contains(*tables, "loss") {
		err = lossTable(*agent, *rival, *lossLines, *only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-log:", err)
		os.Exit(1)
	}
}

type benchmark struct {
	name   string
	goal   float64 // MB per second of processor time
	input  string  // cri, apache or tenants
	config string
}

const parsers = `[PARSER]
    Name   apache2
    Format regex
    Regex  ^(?<host>[^ ]*) [^ ]* (?<user>[^ ]*) \[(?<time>[^\]]*)\] "(?<method>\S+)(?: +(?<path>[^ ]*) +\S*)?" (?<code>[^ ]*) (?<size>[^ ]*)(?: "(?<referer>[^\"]*)" "(?<agent>.*)")?$
    Time_Key time
    Time_Format %d/%b/%Y:%H:%M:%S %z
[PARSER]
    Name   json
    Format json
[PARSER]
    Name   criregex
    Format regex
    Regex  ^(?<time>[^ ]+) (?<stream>stdout|stderr) (?<logtag>[^ ]*) (?<message>.*)$
    Time_Key    time
    Time_Format %Y-%m-%dT%H:%M:%S.%L%z
`

func cases() []benchmark {
	tail := func(more string) string {
		return "[INPUT]\n    Name tail\n    Path DIR/*.log\n    Read_from_Head true\n    Exit_On_Eof true\n    Tag kube.*\n    Mem_Buf_Limit 64M\n" + more
	}
	null := "[OUTPUT]\n    Name null\n    Match *\n"
	var tenants strings.Builder
	for n := range 100 {
		fmt.Fprintf(&tenants, "[OUTPUT]\n    Name null\n    Match kube.ns%d.*\n", n)
	}
	return []benchmark{
		{"no parser", 300, "cri", tail("") + null},
		{"json", 150, "json", tail("    Parser json\n") + null},
		{"cri", 150, "cri", tail("    Parser criregex\n") + null},
		{"cri, then json", 150, "cri", tail("    Parser criregex\n") + "[FILTER]\n    Name parser\n    Match *\n    Key_Name message\n    Parser json\n    Reserve_Data On\n" + null},
		{"multiline cri", 150, "cri", tail("    multiline.parser cri\n") + null},
		{"grep, modify, record_modifier", 120, "cri", tail("") + "[FILTER]\n    Name grep\n    Match *\n    Regex log stdout\n" +
			"[FILTER]\n    Name modify\n    Match *\n    Add cluster test\n    Rename log message\n" +
			"[FILTER]\n    Name record_modifier\n    Match *\n    Record hostname node1\n" + null},
		{"regex (apache2)", 40, "apache", tail("    Parser apache2\n") + null},
		{"100 tenants, by tag", 200, "tenants", "[INPUT]\n    Name tail\n    Path DIR/*.log\n    Read_from_Head true\n    Exit_On_Eof true\n    Mem_Buf_Limit 64M\n" +
			"    Tag kube.<ns>.<pod>\n    Tag_Regex (?<pod>[^/_]+)_(?<ns>[^_]+)_\n" + tenants.String()},
	}
}

func bench(agent, rival string, runs, lines int, only string, idle time.Duration) error {
	dir, err := os.MkdirTemp("", "bench-log-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := generate(dir, lines); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "parsers.conf"), []byte(parsers), 0o644); err != nil {
		return err
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	fmt.Printf("load at the beginning: %s\n%-32s %8s %8s", strings.Join(strings.Fields(string(load))[:3], " "), "case", "goal", "MB/s")
	if rival != "" {
		fmt.Printf(" %8s %8s", "rival", "ratio")
	}
	fmt.Println()
	for _, c := range cases() {
		if !strings.Contains(c.name, only) {
			continue
		}
		if err := measure(dir, c, agent, rival, runs); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	if idle > 0 && only == "" {
		return measureIdle(dir, agent, idle)
	}
	return nil
}

func measure(dir string, c benchmark, agent, rival string, runs int) error {
	text := "[SERVICE]\n    Flush 0.1\n    Grace 30\n    Log_Level error\n    Parsers_File parsers.conf\n" + strings.ReplaceAll(c.config, "DIR", filepath.Join(dir, c.input))
	file := filepath.Join(dir, "bench.conf")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return err
	}
	size, err := sizeOf(filepath.Join(dir, c.input))
	if err != nil {
		return err
	}
	var ours, theirs []float64
	for range runs {
		used, err := run(agent, file)
		if err != nil {
			return err
		}
		ours = append(ours, float64(size)/1e6/used.Seconds())
		if rival == "" {
			continue
		}
		if used, err = run(rival, file); err != nil {
			return err
		}
		theirs = append(theirs, float64(size)/1e6/used.Seconds())
	}
	fmt.Printf("%-32s %8.0f %8.0f", c.name, c.goal, median(ours))
	if rival != "" {
		fmt.Printf(" %8.0f %8.1f", median(theirs), median(ours)/median(theirs))
	}
	fmt.Println()
	return nil
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

func sizeOf(dir string) (int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	var size int64
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return 0, err
		}
		size += info.Size()
	}
	return size, nil
}

// run gives the processor time, of user and system, that the program took.
func run(program, file string) (time.Duration, error) {
	cmd := exec.Command(program, "-c", file)
	var told bytes.Buffer // Fluent Bit greets there
	cmd.Stderr = &told
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("%w: %s", err, told.String())
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

// measureIdle reads the memory of an agent with ten files that do not grow.
func measureIdle(dir, agent string, wait time.Duration) error {
	files := filepath.Join(dir, "idle")
	if err := os.Mkdir(files, 0o755); err != nil {
		return err
	}
	for n := range 10 {
		if err := os.WriteFile(filepath.Join(files, strconv.Itoa(n)+".log"), []byte("line\n"), 0o644); err != nil {
			return err
		}
	}
	cmd := exec.Command(agent, "-q", "-i", "tail", "-p", "path="+files+"/*.log", "-p", "read_from_head=true", "-p", "db="+filepath.Join(dir, "db"), "-o", "null")
	if err := cmd.Start(); err != nil {
		return err
	}
	time.Sleep(wait)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		return err
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				return err
			}
			fmt.Printf("idle with 10 files, after %v: %.1f MB of memory (goal: at most 30); %v of processor time\n", wait, float64(kb)/1000,
				cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
		}
	}
	return nil
}

// generate writes the input: lines of a container's log with JSON of 186 bytes, the same for 100 namespaces, plain JSON, and an Apache server's log.
func generate(dir string, lines int) error {
	cri := func(n int) string {
		head := fmt.Sprintf(`2024-01-31T12:%02d:%02d.%09dZ stdout F {"level":"info","n":%d,"caller":"server/handler.go:%d","msg":"request served","path":"/api/v1/items/%d","status":%d,"ms":%d.%d,"pad":"`,
			n/60%60, n%60, n%1_000_000_000, n, n%900+1, n%10000, 200+n%5, n%97, n%10)
		return head + strings.Repeat("x", max(0, 186-len(head)-3)) + "\"}\n"
	}
	err := write(filepath.Join(dir, "cri", "pod.log"), lines, cri)
	if err != nil {
		return err
	}
	for n := range 100 {
		if err := write(filepath.Join(dir, "tenants", fmt.Sprintf("pod%d_ns%d_app-0.log", n, n)), lines/100, cri); err != nil {
			return err
		}
	}
	if err := write(filepath.Join(dir, "json", "app.log"), lines, func(n int) string {
		line := cri(n)
		return line[strings.IndexByte(line, '{'):]
	}); err != nil {
		return err
	}
	return write(filepath.Join(dir, "apache", "access.log"), lines, func(n int) string {
		return fmt.Sprintf("192.168.%d.%d - user%d [31/Jan/2024:12:%02d:%02d +0000] \"GET /shop/item/%d?page=%d HTTP/1.1\" %d %d \"http://www.example.com/start.html\" \"Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/115.0\"\n",
			n%256, n/256%256, n%50, n/60%60, n%60, n, n%7, 200+n%5, n%50000)
	})
}

func write(name string, lines int, line func(int) string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(file, 1<<20)
	for n := range lines {
		if _, err := w.WriteString(line(n)); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return file.Close()
}
