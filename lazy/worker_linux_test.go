package lazy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/registry"
)

// workerMain is a worker of its own process: it takes over what an earlier one had mounted, or prepares and mounts the image of its arguments.
func workerMain(mode Mode, root, ref, target string) error {
	ctx := context.Background()
	o, err := workerOptions(mode, root)
	if err != nil {
		return err
	}
	o.Retire = func() { os.Exit(3) }
	if f := strings.Fields(os.Getenv("WEFT_TEST_CREDENTIALS")); len(f) == 3 {
		o.Registry.Keychain = registry.Explicit(map[string]authn.AuthConfig{f[0]: {Username: f[1], Password: f[2]}})
	}
	s, err := Open(ctx, o)
	if err != nil {
		return err
	}
	if err := s.Restore(ctx); err != nil {
		return err
	}
	if len(s.Images()) == 0 {
		im, err := s.Prepare(ctx, Request{Reference: ref})
		if err != nil {
			return err
		}
		if err := im.Mount(ctx, target, MountOptions{}); err != nil {
			return err
		}
	}
	for _, im := range s.Images() {
		if un := im.Stats().Unguarded; len(un) > 0 {
			return fmt.Errorf("mounts were unguarded: %v", un)
		}
	}
	fmt.Println("ready")
	select {}
}

// workerOptions are those of a worker and of its stand-by. What is filled goes to a log beside the folder.
func workerOptions(mode Mode, root string) (Options, error) {
	log, err := os.OpenFile(root+".log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return Options{}, err
	}
	o := Options{Root: root, Mode: mode, ReadAhead: -1, Learn: -1, Logger: slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Registry: registry.Options{PlainHTTP: strings.Fields(os.Getenv("WEFT_TEST_PLAIN_HTTP"))}}
	if os.Getenv("WEFT_TEST_STAND_BY") != "" {
		self, err := os.Executable()
		if err != nil {
			return o, err
		}
		o.StandBy, o.Environment = []string{self, "follower", string(mode), root}, []string{"WEFT_TEST_STAND_BY=1"}
	}
	return o, nil
}

// followerMain is a stand-by of its own process.
func followerMain(mode Mode, root string) error {
	o, err := workerOptions(mode, root)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	o.Follow, o.Retire = true, cancel
	s, err := Open(ctx, o)
	if err != nil {
		return err
	}
	<-ctx.Done()
	return s.Close()
}

// startWorker starts a worker and returns when it is ready, or has ended.
func startWorker(t testing.TB, mode Mode, root, ref, target string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "worker", string(mode), root, ref, target)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var line [16]byte
	if n, err := out.Read(line[:]); err != nil || !bytes.HasPrefix(line[:n], []byte("ready")) {
		t.Fatalf("the worker is not ready: %v %v", err, cmd.Wait())
	}
	return cmd
}

// kill ends a process as nothing else does.
func kill(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
}

// processes are keeper and holder of a folder.
func processes(t testing.TB, root string) (keeperPID, holderPID int) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "run", "holder.json"))
	if err != nil {
		t.Fatal(err)
	}
	var h struct {
		PID    int
		Keeper struct{ PID int }
	}
	if err := json.Unmarshal(b, &h); err != nil {
		t.Fatal(err)
	}
	return h.Keeper.PID, h.PID
}

// endKeepers ends what a test's folder has left: they start each other again, so all of them are looked for until there is none.
func endKeepers(t testing.TB, root string) {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		entries, err := os.ReadDir("/proc")
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, e := range entries {
			pid, err := strconv.Atoi(e.Name())
			if err != nil {
				continue
			}
			line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
			args := strings.Split(string(line), "\x00")
			if err != nil || len(args) < 3 || (args[1] != "keeper" || args[2] != filepath.Join(root, "run")) && (args[1] != "follower" || args[3] != root) {
				continue
			}
			found = true
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		if !found {
			return
		}
	}
	t.Errorf("processes of %s do not end", root)
}
