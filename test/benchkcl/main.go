// Command benchkcl compares the program kcl with CUE and Jsonnet on equivalent
// configurations, whole processes with start and output. It is a module of its
// own so that the other languages are no dependencies of weft.
//
//	go run . -kcl ../../bin/kcl [-n 10] [-k8s FOLDER]
//
// Each figure is the median of n runs: CPU time (user and system) and the
// greatest resident memory of the process.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"cuelang.org/go/cue/cuecontext"
	"cuelang.org/go/encoding/yaml"
	"github.com/google/go-jsonnet"
)

func main() {
	program := flag.String("kcl", "", "the program kcl")
	n := flag.Int("n", 10, "runs of each case")
	k8s := flag.String("k8s", "", "folder of the KCL package k8s, for the cases with Deployments")
	flag.Parse()
	if err := run(*program, *n, *k8s, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(program string, n int, k8s string, args []string) error {
	if len(args) == 2 { // a child: LANGUAGE FILE
		return evaluate(args[0], args[1], os.Stdout)
	}
	if program == "" {
		return fmt.Errorf("usage: benchkcl -kcl PROGRAM [-n RUNS] [-k8s FOLDER]")
	}
	dir, err := os.MkdirTemp("", "benchkcl-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	fmt.Println("| case | kcl | CUE | Jsonnet |")
	fmt.Println("| --- | --- | --- | --- |")
	for _, c := range cases(k8s) {
		row := "| " + c.name
		for _, language := range []string{"kcl", "cue", "jsonnet"} {
			text := c.text[language]
			if text == "" {
				row += " | "
				continue
			}
			file := filepath.Join(dir, c.file+"."+map[string]string{"kcl": "k", "cue": "cue", "jsonnet": "jsonnet"}[language])
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				return err
			}
			command := []string{self, language, file}
			if language == "kcl" {
				command = append([]string{program, "run", file}, c.flags...)
			}
			cpu, memory, err := measure(command, n)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", c.name, language, err)
			}
			row += fmt.Sprintf(" | %.1f ms, %d MB", float64(cpu.Microseconds())/1000, memory>>10)
		}
		fmt.Println(row + " |")
	}
	return nil
}

// measure is the median CPU time and the greatest memory, in KiB, of n runs.
func measure(command []string, n int) (time.Duration, int64, error) {
	var times []time.Duration
	var memory int64
	for range n {
		cmd := exec.Command(command[0], command[1:]...)
		var errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = io.Discard, &errs
		if err := cmd.Run(); err != nil {
			return 0, 0, fmt.Errorf("%w: %s", err, errs.String())
		}
		times = append(times, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
		if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
			memory = max(memory, int64(usage.Maxrss))
		}
	}
	slices.Sort(times)
	return times[len(times)/2], memory, nil
}

// evaluate runs a program of one of the other languages and prints YAML or JSON.
func evaluate(language, file string, out io.Writer) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	switch language {
	case "cue":
		v := cuecontext.New().CompileBytes(text)
		if err := v.Err(); err != nil {
			return err
		}
		data, err := yaml.Encode(v)
		if err != nil {
			return err
		}
		_, err = out.Write(data)
		return err
	case "jsonnet":
		data, err := jsonnet.MakeVM().EvaluateAnonymousSnippet(file, string(text))
		if err != nil {
			return err
		}
		_, err = io.WriteString(out, data)
		return err
	}
	return fmt.Errorf("unknown language %q", language)
}
