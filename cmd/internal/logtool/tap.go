package logtool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/logging/pipeline/tap"
)

// tapping is what `weft log tap` was asked.
type tapping struct {
	tool           Tool
	socket         string
	pod, container string
	agent          string // the program in the pod
	tag            string
	where          []string
	count, rate    int
}

func (t Tool) tap() *cobra.Command {
	w := &tapping{tool: t}
	c := &cobra.Command{
		Use:   "tap [POINT]",
		Short: "Watch live records at a point of a running pipeline",
		Long: "Tap shows records as they pass a point: behind an input, behind a filter, or before an output, named by its name (tail.0) or alias, with input/, filter/ or output/\n" +
			"before it where that is needed. Without POINT it lists the points. The pipeline does not wait for who watches: records that are not read in time or are above\n" +
			"--rate are left out and counted.\n\n" +
			"An agent shows nothing unless it is started with --tap SOCKET, a file that only its user may open. Tap needs to be that user (or root); for an agent in a pod,\n" +
			"the right to pods/exec, since it runs the agent's program with --tap-read there. A FluentBit sets args: [--config=/fluent-bit/config, --tap=/tmp/tap]. Nothing\n" +
			"listens on a network.",
		Example: `  logagent -c fluent-bit.conf --tap /run/logagent.tap
  weft log tap --socket /run/logagent.tap
  weft log tap output/http.0 --socket /run/logagent.tap --tag 'kube.*' --where level=error -n 10
  weft log tap tail.0 --pod fluent/fluent-bit-x7k2p --socket /tmp/tap -o json`,
		Args: cobra.MaximumNArgs(1),
	}
	f := c.Flags()
	f.StringVar(&w.socket, "socket", "", "the `file` that the agent was given with --tap; with --pod the one in the pod")
	f.StringVar(&w.pod, "pod", "", "ask the agent in this `NAMESPACE/POD`")
	f.StringVarP(&w.container, "container", "c", "", "the `container` of the pod, if it has several")
	f.StringVar(&w.agent, "agent", "/fluent-bit/bin/fluent-bit", "the agent's `program` in the pod")
	f.StringVar(&w.tag, "tag", "", "only records whose tag fits this `pattern`")
	f.StringArrayVar(&w.where, "where", nil, "only records with `KEY=VALUE`; KEY may be $key['inner']; several have to hold all")
	f.IntVarP(&w.count, "count", "n", 0, "end after this `number` of records")
	f.IntVar(&w.rate, "rate", tap.DefaultRate, "at most this `number` of records a second")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if w.socket == "" {
			return output.Advise(output.Usagef("--socket is missing"), "Start the agent with `logagent --tap SOCKET` and give the same SOCKET here; without it an agent shows no records.")
		}
		if t.Print().Format() == output.YAML {
			return output.Usagef("records come without end: there are -o text and -o json, a line each")
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if len(args) == 0 {
			return w.points(ctx)
		}
		return w.watch(ctx, args[0])
	}
	return c
}

// open asks the agent; the query is nil for the points.
func (w *tapping) open(ctx context.Context, query url.Values) (answer io.Reader, done func() error, err error) {
	if w.pod == "" {
		path := "records"
		if query == nil {
			path = "points"
		}
		body, err := tap.Ask(ctx, w.socket, path, query)
		if errors.Is(err, tap.ErrNoAgent) {
			err = output.Advise(err, "An agent shows records when it is started with --tap "+w.socket+"; the socket is for its user only.")
		}
		if err != nil {
			return nil, nil, err
		}
		return body, body.Close, nil
	}
	namespace, pod, ok := strings.Cut(w.pod, "/")
	if !ok {
		return nil, nil, output.Usagef("--pod %q is not NAMESPACE/POD", w.pod)
	}
	args := []string{"exec", "--namespace=" + namespace, pod}
	if w.container != "" {
		args = append(args, "--container="+w.container)
	}
	args = append(args, "--", w.agent, "--tap-read", w.socket)
	if query != nil {
		args = append(args, "--tap-query", query.Encode())
	}
	cmd, err := w.tool.Kubectl(ctx, args...)
	if err != nil {
		return nil, nil, err
	}
	return start(cmd)
}

// start runs kubectl and gives what it prints.
func start(cmd *exec.Cmd) (io.Reader, func() error, error) {
	var told strings.Builder
	cmd.Stderr = &told
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	return out, func() error {
		stopped := out.Close() // nothing more is wanted
		err := cmd.Wait()
		if err != nil && strings.TrimSpace(told.String()) != "" {
			return fmt.Errorf("%s", strings.TrimSpace(told.String()))
		}
		return stopped
	}, nil
}

func (w *tapping) points(ctx context.Context) error {
	answer, done, err := w.open(ctx, nil)
	if err != nil {
		return err
	}
	points := []tap.Point{}
	decoded := json.NewDecoder(answer).Decode(&points)
	if err := errors.Join(done(), decoded); err != nil {
		return err
	}
	return w.tool.Print().Result(points, func(p *output.Page) {
		for _, point := range points {
			p.Line("%s", point)
		}
	})
}

func (w *tapping) watch(ctx context.Context, point string) error {
	query := url.Values{"point": {point}, "rate": {strconv.Itoa(w.rate)}}
	if w.tag != "" {
		query.Set("tag", w.tag)
	}
	if len(w.where) > 0 {
		query["where"] = w.where
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	answer, done, err := w.open(ctx, query)
	if err != nil {
		return err
	}
	shown := 0
	var failed error
	read := tap.Lines(answer, func(l tap.Line) bool {
		if failed = w.show(l); failed != nil {
			return false
		}
		if l.Record != nil {
			shown++
		}
		return w.count == 0 || shown < w.count
	})
	finished := ctx.Err() != nil || w.count > 0 && shown >= w.count
	stop()
	ended := done()
	switch {
	case failed != nil:
		return failed
	case finished:
		return nil
	case ended != nil:
		return ended
	case read != nil:
		return fmt.Errorf("the agent's answer ended: %w", read)
	}
	return errors.New("the agent ended")
}

// show prints one record, or a word about those that were left out.
func (w *tapping) show(l tap.Line) error {
	p := w.tool.Print()
	if l.Record == nil {
		if l.Slow > 0 {
			p.Warn("%d records were left out: they came faster than they were read here", l.Slow)
		}
		if l.Fast > 0 {
			p.Warn("%d records were left out: more than --rate %d a second", l.Fast, w.rate)
		}
		if p.Format() == output.Text {
			return nil
		}
	}
	if p.Format() == output.Text {
		return p.Result(nil, func(page *output.Page) {
			page.Line("%s %s %s %s", page.Paint(output.Faint, l.Time), page.Paint(output.Blue, l.Point), page.Paint(output.Bold, l.Tag), l.Record)
		})
	}
	encoder := json.NewEncoder(w.tool.Stdout) // a line each, as they come
	encoder.SetEscapeHTML(false)
	return encoder.Encode(l)
}
