//go:build linux

// Command runc-no-seccomp stands in for runc where runc could only be built
// without system call filters. Such a runc refuses every container that has a
// filter, so this program removes the filter from the container's
// configuration, says so in the log, and becomes the real program, runc-core,
// which lies beside it.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	fmt.Fprintln(os.Stderr, "runc:", run(os.Args))
	os.Exit(1)
}

// run becomes the real runc. It returns only where that fails, with the reason.
func run(args []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	command := parse(args[1:])
	if command.name == "create" || command.name == "run" {
		removed, err := removeFilter(filepath.Join(command.bundle, "config.json"))
		if err != nil {
			return err
		}
		if removed {
			warn(command.log)
		}
	}
	core := filepath.Join(filepath.Dir(self), "runc-core")
	err = syscall.Exec(core, append([]string{core}, args[1:]...), os.Environ())
	return fmt.Errorf("%s: %w", core, err)
}

// command is what matters here of runc's arguments.
type command struct {
	name   string
	bundle string
	log    string
}

// globals are runc's flags before the command that take a value.
var globals = map[string]bool{"log": true, "log-format": true, "root": true, "criu": true, "rootless": true}

func parse(args []string) command {
	c := command{bundle: "."}
	for i := 0; i < len(args); i++ {
		name, value, hasValue := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		isFlag := strings.HasPrefix(args[i], "-")
		if !isFlag {
			if c.name == "" {
				c.name = args[i]
			}
			continue
		}
		takesValue := c.name == "" && globals[name] || name == "bundle" || name == "b"
		if takesValue && !hasValue && i+1 < len(args) {
			i++
			value = args[i]
		}
		switch name {
		case "bundle", "b":
			c.bundle = value
		case "log":
			c.log = value
		}
	}
	return c
}

// removeFilter takes linux.seccomp out of the configuration and keeps
// everything else byte for byte.
func removeFilter(file string) (removed bool, err error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return false, err
	}
	var spec, linux map[string]json.RawMessage
	if err := json.Unmarshal(content, &spec); err != nil {
		return false, fmt.Errorf("%s: %w", file, err)
	}
	if len(spec["linux"]) == 0 {
		return false, nil
	}
	if err := json.Unmarshal(spec["linux"], &linux); err != nil {
		return false, fmt.Errorf("%s: linux: %w", file, err)
	}
	if _, ok := linux["seccomp"]; !ok {
		return false, nil
	}
	delete(linux, "seccomp")
	if spec["linux"], err = json.Marshal(linux); err != nil {
		return false, err
	}
	if content, err = json.Marshal(spec); err != nil {
		return false, err
	}
	return true, os.WriteFile(file, content, 0o600)
}

// warn adds a line to runc's log, or to standard error without one.
func warn(log string) {
	line, err := json.Marshal(map[string]string{
		"level": "warning",
		"msg":   "the container runs without its system call filter: this runc was built without libseccomp",
		"time":  time.Now().UTC().Format(time.RFC3339),
	})
	if err != nil {
		return
	}
	out := os.Stderr
	if log != "" {
		file, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				fmt.Fprintln(os.Stderr, "runc:", err)
			}
			return
		}
		defer file.Close()
		out = file
	}
	_, _ = fmt.Fprintln(out, string(line))
}
