package snapshotterd

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/weft-dev/weft/lazy"
	"github.com/weft-dev/weft/lazy/keeper"
)

// standBy is the program that fills what is mounted while this process is away: this one, which stands by, with its arguments and environment. It starts
// guard if the keeper has ended, too.
func (f flags) standBy(guard []string) (args, env []string, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	if f.keeperMounts != "" { // it lives there, as the keeper does
		if self, err = keeper.Install(self, f.programs(), "lazyd-"); err != nil {
			return nil, nil, fmt.Errorf("--keeper-mounts: %w", err)
		}
	}
	args = append(append([]string{self}, f.verb...), "--follow")
	for i := 0; i < len(guard); i++ {
		if guard[i] == "--mounts" { // it is there already
			i++
			continue
		}
		args = append(args, "--keeper-program="+guard[i])
	}
	for _, a := range [][2]string{
		{"root", f.root}, {"mode", f.mode}, {"log-level", f.level}, {"store", f.store}, {"registry-hosts", f.hosts}, {"limit", strconv.FormatInt(f.limit, 10)},
		{"read-ahead", strconv.Itoa(f.readAhead)}, {"attempts", strconv.Itoa(f.attempts)}, {"timeout", f.timeout.String()},
	} {
		if a[1] != "" {
			args = append(args, "--"+a[0]+"="+a[1])
		}
	}
	return args, environment(os.Environ()), nil
}

// programs is the folder of programs that outlive the place of this one.
func (f flags) programs() string { return filepath.Join(f.root, "bin") }

// passed are the names of what a stand-by gets of this process's environment: what says how registries are reached, and where programs are.
var passed = []string{"PATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "GODEBUG", "GOMEMLIMIT"}

func environment(all []string) []string {
	var list []string
	for _, e := range all {
		name, _, _ := strings.Cut(e, "=")
		for _, p := range passed {
			if strings.EqualFold(name, p) {
				list = append(list, e)
			}
		}
	}
	return list
}

// follow stands by until the snapshotter has ended, fills what it has mounted, and ends when it is back. It mounts nothing, and learns nothing of a start.
func follow(ctx context.Context, f flags, out io.Writer) error {
	o, log, err := f.options(out)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	o.Follow, o.Background, o.Learn, o.Share, o.Retire = true, false, -1, false, cancel
	service, err := lazy.Open(ctx, o)
	if ctx.Err() != nil {
		if err == nil {
			err = service.Close()
		} else {
			err = nil
		}
		return err
	}
	if err != nil {
		return err
	}
	log.Info("the snapshotter has ended: what it has mounted is filled here until it is back")
	began := time.Now()
	<-ctx.Done()
	log.Info("the snapshotter is back", "after", time.Since(began))
	return service.Close()
}
