package kcl_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weft-dev/weft/kcl"
	"github.com/weft-dev/weft/kcl/diskcache"
	"github.com/weft-dev/weft/kcl/hostfs"
)

const deployment = `%s{
    apiVersion = "apps/v1"
    kind = "Deployment"
    metadata = {name = "app-${i}", labels = {app = "app-${i}"}}
    spec = {
        replicas = 2
        selector = {matchLabels = {app = "app-${i}"}}
        template = {
            metadata = {labels = {app = "app-${i}"}}
            spec = {
                containers = [{
                    name = "main"
                    image = "nginx:1.27"
                    ports = [{containerPort = 80}]
                    resources = {limits = {cpu = "1", memory = "256Mi"}}
                }]
            }
        }
    }
}`

// program is a list of n Deployments, of the schema or as plain dicts.
func program(n int, schema bool) string {
	if !schema {
		return fmt.Sprintf("items = [%s for i in range(%d)]\n", fmt.Sprintf(deployment, ""), n)
	}
	return fmt.Sprintf("import k8s.api.apps.v1 as apps\n\nitems = [%s for i in range(%d)]\n", fmt.Sprintf(deployment, "apps.Deployment "), n)
}

// k8s is the folder of the KCL package k8s 1.31, which is not part of this
// repository.
func k8s(b *testing.B) string {
	dir := os.Getenv("K8S")
	if dir == "" {
		b.Skip("needs K8S, the folder of the KCL package k8s")
	}
	return dir
}

func options(code, k8s string) kcl.Options {
	return kcl.Options{
		WorkDir: "/", Files: []string{"main.k"}, Code: map[string]string{"main.k": code},
		FileSystem: hostfs.FS{}, Externals: map[string]string{"k8s": k8s}, Root: "/",
	}
}

func run(b *testing.B, o kcl.Options) {
	b.Helper()
	r, err := kcl.Run(context.Background(), o)
	if err != nil {
		b.Fatal(err)
	}
	if len(r.YAML()) == 0 {
		b.Fatal("no output")
	}
}

// BenchmarkDeployments is 500 Deployments in one list, of a schema of package
// k8s and as plain dicts, with a warm cache.
func BenchmarkDeployments(b *testing.B) {
	for _, schema := range []bool{true, false} {
		b.Run(fmt.Sprintf("schema=%v", schema), func(b *testing.B) {
			dir := ""
			if schema {
				dir = k8s(b)
			}
			o := options(program(500, schema), dir)
			o.Cache = &kcl.Cache{}
			run(b, o)
			start := cpuTime()
			b.ResetTimer()
			for range b.N {
				run(b, o)
			}
			b.ReportMetric(float64((cpuTime()-start).Microseconds())/1000/float64(b.N), "cpu-ms/op")
		})
	}
}

// fresh names the variable by which the test's program is told to be a fresh
// process: the folder of a cache, or "none".
const fresh = "KCL_BENCH_FRESH"

// TestMain makes the program one library call when it is started so.
func TestMain(m *testing.M) {
	cache := os.Getenv(fresh)
	if cache == "" {
		os.Exit(m.Run())
	}
	o := options(program(1, true), os.Getenv("K8S"))
	debug.SetGCPercent(400)
	start := cpuTime()
	if cache != "none" {
		dir, err := diskcache.Open(cache, 0)
		if err != nil {
			panic(err)
		}
		o.Cache = &kcl.Cache{Store: dir, Build: "benchmark"}
	}
	r, err := kcl.Run(context.Background(), o)
	if err != nil {
		panic(err)
	}
	text := r.YAML()
	fmt.Println((cpuTime() - start).Microseconds(), len(text))
	os.Exit(0)
}

// cpuTime is the time that the process spent, user and system.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFreshProcess is one Deployment by a library call in a fresh process,
// without and with the cache of checked packages on disk. The figure is the
// median CPU time of the call.
func BenchmarkFreshProcess(b *testing.B) {
	dir := k8s(b)
	for _, cache := range []string{"none", filepath.Join(b.TempDir(), "cache")} {
		b.Run("cache="+filepath.Base(cache), func(b *testing.B) {
			var times []int
			for i := range b.N + 1 {
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), fresh+"="+cache, "K8S="+dir)
				out, err := cmd.CombinedOutput()
				if err != nil {
					b.Fatalf("%v: %s", err, out)
				}
				us, err := strconv.Atoi(strings.Fields(string(out))[0])
				if err != nil {
					b.Fatal(err)
				}
				if i > 0 { // the first fills the cache
					times = append(times, us)
				}
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2])/1000, "cpu-ms")
		})
	}
}
