package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// trouble is one thing that goes wrong while lines are written.
type trouble struct {
	name    string
	service string // options of the service and of the input
	input   string
	during  func(r *loss)
}

func troubles() []trouble {
	disk := "    storage.path DIR/storage\n"
	fs := "    storage.type filesystem\n"
	kill := func(r *loss) {
		for n := range 5 {
			time.Sleep(700 * time.Millisecond)
			r.stop(syscall.SIGKILL)
			if n%2 == 1 { // lines come while nobody reads
				time.Sleep(200 * time.Millisecond)
			}
			r.start()
		}
	}
	refuse := func(fault int32) func(*loss) {
		return func(r *loss) {
			time.Sleep(500 * time.Millisecond)
			r.sink.fault.Store(fault)
			time.Sleep(3 * time.Second)
			r.sink.fault.Store(0)
		}
	}
	refusedAndKilled := func(r *loss) {
		time.Sleep(500 * time.Millisecond)
		r.sink.fault.Store(http.StatusServiceUnavailable)
		time.Sleep(time.Second)
		r.stop(syscall.SIGKILL)
		r.start()
		time.Sleep(time.Second)
		r.sink.fault.Store(0)
	}
	restart := func(r *loss) {
		for range 3 {
			time.Sleep(900 * time.Millisecond)
			r.stop(syscall.SIGTERM)
			r.start()
		}
	}
	rotate := func(r *loss) {
		for range 20 {
			time.Sleep(150 * time.Millisecond)
			r.rotate.Store(true)
		}
	}
	return []trouble{
		{"nothing", "", "", func(*loss) {}},
		{"kill -9, 5 times", "", "", kill},
		{"kill -9, 5 times, chunks on disk", disk, fs, kill},
		{"rotation, 20 times", "", "", rotate},
		{"output answers 503 for 3 s", "", "", refuse(http.StatusServiceUnavailable)},
		{"output resets for 3 s", "", "", refuse(resets)},
		{"503, and kill -9 meanwhile", "", "", refusedAndKilled},
		{"503, and kill -9, chunks on disk", disk, fs, refusedAndKilled},
		{"SIGTERM and start, 3 times", "", "", restart},
	}
}

const resets = -1

// counter is a server that counts lines.
type counter struct {
	*httptest.Server
	fault atomic.Int32 // a status, or resets
	mu    sync.Mutex
	seen  map[string]int
}

var number = regexp.MustCompile(`line \d+ `)

func newCounter() *counter {
	c := &counter{seen: map[string]int{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		switch fault := c.fault.Load(); {
		case fault == resets:
			if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
				if tcp, ok := conn.(*net.TCPConn); ok {
					_ = tcp.SetLinger(0) // at worst it ends in another way
				}
				conn.Close()
			}
			return
		case fault != 0 || err != nil:
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, found := range number.FindAllString(string(body), -1) {
			c.seen[found]++
		}
	}))
	return c
}

func (c *counter) count() (lines, doubled int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.seen {
		if n > 1 {
			doubled++
		}
	}
	return len(c.seen), doubled
}

// loss is one run of one program through one trouble.
type loss struct {
	program, config, dir string
	sink                 *counter
	cmd                  *exec.Cmd
	rotate               atomic.Bool
	err                  error
}

func (r *loss) start() {
	r.cmd = exec.Command(r.program, "-q", "-c", r.config)
	if err := r.cmd.Start(); err != nil {
		r.err = err
	}
}

func (r *loss) stop(how syscall.Signal) {
	if r.err != nil {
		return
	}
	_ = r.cmd.Process.Signal(how) // it may have ended
	_ = r.cmd.Wait()              // killed is no success, and that is meant
}

const lossConfig = `[SERVICE]
    Flush 0.2
    Grace 5
    scheduler.base 1
    scheduler.cap 2
SERVICE
[INPUT]
    Name tail
    Path DIR/*.log
    Tag t
    DB DIR/positions.db
    Read_from_Head on
    Refresh_Interval 1
    Rotate_Wait 5
INPUT
[OUTPUT]
    Name http
    Match *
    Host 127.0.0.1
    Port PORT
    format json_lines
    Retry_Limit no_limits
`

// measureLoss runs a program through a trouble: so many lines are written meanwhile, and counted where they should arrive.
func measureLoss(program string, t trouble, lines int) (arrived, doubled int, err error) {
	dir, err := os.MkdirTemp("", "bench-log-loss-")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(dir)
	r := &loss{program: program, dir: dir, config: filepath.Join(dir, "loss.conf"), sink: newCounter()}
	defer r.sink.Close()
	port := r.sink.URL[strings.LastIndexByte(r.sink.URL, ':')+1:]
	text := strings.NewReplacer("SERVICE\n[", t.service+"[", "INPUT\n[", t.input+"[", "PORT", port).Replace(lossConfig)
	if err := os.WriteFile(r.config, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o644); err != nil {
		return 0, 0, err
	}
	r.start()
	wrote := make(chan error, 1)
	go func() { wrote <- r.write(lines) }()
	t.during(r)
	if err := <-wrote; err != nil || r.err != nil {
		r.stop(syscall.SIGKILL)
		return 0, 0, errors.Join(err, r.err)
	}
	r.settle(lines)
	r.stop(syscall.SIGTERM)
	arrived, doubled = r.sink.count()
	return arrived, doubled, nil
}

// write appends lines in small pieces, and begins a new file when it is told to.
func (r *loss) write(lines int) error {
	name := filepath.Join(r.dir, "app.log")
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { file.Close() }()
	for n := 0; n < lines; {
		if r.rotate.CompareAndSwap(true, false) {
			// The old file keeps a name that the pattern takes, as with logrotate's nocompress and a pattern for all of them.
			if err := os.Rename(name, fmt.Sprintf("%s.%d.log", name, n)); err != nil {
				return err
			}
			file.Close()
			if file, err = os.Create(name); err != nil {
				return err
			}
		}
		w := bufio.NewWriter(file)
		for range 25 {
			fmt.Fprintf(w, "line %d %s\n", n, strings.Repeat("x", n%150))
			n++
		}
		if err := w.Flush(); err != nil {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// settle waits until all lines have come, or none for a while.
func (r *loss) settle(lines int) {
	const patience = 15 * time.Second
	last, since := -1, time.Now()
	for time.Since(since) < patience {
		n, _ := r.sink.count()
		if n >= lines {
			time.Sleep(2 * time.Second) // what comes twice may come late
			return
		}
		if n != last {
			last, since = n, time.Now()
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// lossTable prints what each program loses and doubles.
func lossTable(agent, rival string, lines int, only string) error {
	fmt.Printf("\n%-36s %-8s %8s %8s %6s %8s\n", "records under trouble", "", "in", "out", "lost", "doubled")
	for _, t := range troubles() {
		if !strings.Contains(t.name, only) {
			continue
		}
		for _, p := range [][2]string{{"ours", agent}, {"rival", rival}} {
			if p[1] == "" {
				continue
			}
			arrived, doubled, err := measureLoss(p[1], t, lines)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", t.name, p[0], err)
			}
			fmt.Printf("%-36s %-8s %8d %8d %6d %8d\n", t.name, p[0], lines, arrived, lines-arrived, doubled)
		}
	}
	return nil
}
