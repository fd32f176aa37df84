package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
)

func (a *app) logsCommand() *cobra.Command {
	var follow bool
	lines := 100
	c := &cobra.Command{
		Use:   "logs [COMPONENT...]",
		Short: "Show what the cluster's own parts log",
		Long: `Show the newest lines that the parts of the embedded cluster wrote, all of them or those named. They are also there when the
cluster does not run. The logs of pods are read with "weft kubectl logs".`,
		Example: `  weft logs
  weft logs kubelet -n 500
  weft logs -f supervisor containerd`,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			files, _ := a.logFiles()
			return fileNames(files), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if lines < 0 {
				return output.Usagef("-n: must not be negative, got %d", lines)
			}
			if a.options.Format != output.Text {
				return output.Usagef("logs are text: -o %s is not possible", a.options.Format)
			}
			files, err := a.logFiles()
			if err != nil {
				return err
			}
			if files, err = choose(files, args); err != nil {
				return err
			}
			return showLogs(cmd.Context(), a.out, files, lines, follow)
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is written from now on, until Ctrl-C")
	c.Flags().IntVarP(&lines, "lines", "n", lines, "number of newest lines of each part")
	return c
}

// logName is the log of one part.
type logName struct{ name, path string }

func fileNames(files []logName) []string {
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = f.name
	}
	return names
}

func (a *app) logFiles() ([]logName, error) {
	c, err := a.cluster()
	if err != nil {
		return nil, err
	}
	paths, err := filepath.Glob(filepath.Join(escapeGlob(filepath.Dir(c.Log())), "*.log"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, output.Advise(fmt.Errorf("there are no logs in %s", filepath.Dir(c.Log())), "They are written from the first `weft up` on.")
	}
	files := make([]logName, len(paths))
	for i, p := range paths {
		files[i] = logName{strings.TrimSuffix(filepath.Base(p), ".log"), p}
	}
	return files, nil
}

func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

func choose(files []logName, names []string) ([]logName, error) {
	if len(names) == 0 {
		return files, nil
	}
	var chosen []logName
	for _, name := range names {
		i := slices.IndexFunc(files, func(f logName) bool { return f.name == name })
		if i < 0 {
			return nil, output.Usagef("there is no log of %q; there are %s", name, strings.Join(fileNames(files), ", "))
		}
		chosen = append(chosen, files[i])
	}
	return chosen, nil
}

// showLogs writes the newest lines of each file, with the part's name before them when there are several.
func showLogs(ctx context.Context, w io.Writer, files []logName, lines int, follow bool) error {
	width := 0
	for _, f := range files {
		width = max(width, len(f.name))
	}
	readers := make([]*logReader, len(files))
	for i, f := range files {
		readers[i] = &logReader{logName: f}
		if len(files) > 1 {
			readers[i].prefix = fmt.Sprintf("%-*s | ", width, f.name)
		}
		defer readers[i].close()
		if err := readers[i].newest(w, lines); err != nil {
			return err
		}
	}
	if !follow {
		for _, r := range readers {
			if len(r.part) > 0 { // a last line without an end
				if _, err := fmt.Fprintf(w, "%s%s\n", r.prefix, r.part); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for {
		for _, r := range readers {
			if err := r.more(w); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// logReader reads one log and goes on in the next file when the log was put aside.
type logReader struct {
	logName
	prefix string
	file   *os.File
	part   []byte // a line whose end is not written yet
}

func (r *logReader) close() {
	if r.file != nil {
		r.file.Close()
	}
}

// newest writes the last lines.
func (r *logReader) newest(w io.Writer, lines int) error {
	f, err := os.Open(r.path)
	if err != nil {
		return err
	}
	r.file = f
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	begin, err := lastLines(f, end, lines)
	if err != nil {
		return err
	}
	if _, err := f.Seek(begin, io.SeekStart); err != nil {
		return err
	}
	return r.more(w)
}

// lastLines returns the offset where the last n lines of a file begin. It reads from the end, as logs are long.
func lastLines(f io.ReaderAt, end int64, n int) (int64, error) {
	if n == 0 {
		return end, nil
	}
	block := make([]byte, 64<<10)
	for begin := end; begin > 0; {
		size := min(int64(len(block)), begin)
		begin -= size
		if _, err := f.ReadAt(block[:size], begin); err != nil {
			return 0, err
		}
		for i := size - 1; i >= 0; i-- {
			if block[i] != '\n' || begin+i == end-1 { // the very last one only ends the last line
				continue
			}
			if n--; n == 0 {
				return begin + i + 1, nil
			}
		}
	}
	return 0, nil
}

// more writes the lines that were completed since.
func (r *logReader) more(w io.Writer) error {
	for {
		if err := r.copyLines(w); err != nil {
			return err
		}
		current, err := os.Stat(r.path)
		if errors.Is(err, os.ErrNotExist) {
			return nil // it is just being put aside
		}
		if err != nil {
			return err
		}
		old, err := r.file.Stat()
		if err != nil {
			return err
		}
		if os.SameFile(old, current) {
			return nil
		}
		next, err := os.Open(r.path)
		if err != nil {
			return err
		}
		r.file.Close()
		r.file = next
	}
}

func (r *logReader) copyLines(w io.Writer) error {
	in := bufio.NewReader(r.file)
	for {
		line, err := in.ReadBytes('\n')
		r.part = append(r.part, line...)
		if bytes.HasSuffix(r.part, []byte("\n")) || len(r.part) > 1<<20 {
			if _, err := fmt.Fprintf(w, "%s%s", r.prefix, r.part); err != nil {
				return err
			}
			r.part = r.part[:0]
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
