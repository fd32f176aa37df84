//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/weft-dev/weft/registry/server"
)

// Where the registry is: slowly for nodes, at once for those who prepare.
const (
	registryHost = "127.0.0.1:5000"
	prepareHost  = "127.0.0.1:5001"
)

// slowRegistry is a registry behind a throttle.
type slowRegistry struct {
	handler http.Handler
	limiter *rate.Limiter
	latency time.Duration
	sent    atomic.Int64 // bytes of bodies
	began   atomic.Int64 // of the start that is measured, Unix nanoseconds; 0: requests are not printed
	servers []*http.Server
}

func startRegistry(bytesPerSecond float64, latency time.Duration) (*slowRegistry, error) {
	const burst = 64 << 10
	r := &slowRegistry{handler: server.New(server.Config{Storage: server.Memory()}), limiter: rate.NewLimiter(rate.Limit(bytesPerSecond), burst), latency: latency}
	for host, h := range map[string]http.Handler{registryHost: r, prepareHost: r.handler} {
		l, err := net.Listen("tcp", host)
		if err != nil {
			r.close()
			return nil, err
		}
		s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
		r.servers = append(r.servers, s)
		go func() { _ = s.Serve(l) }()
	}
	return r, nil
}

func (r *slowRegistry) close() {
	for _, s := range r.servers {
		_ = s.Close()
	}
}

func (r *slowRegistry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	from := time.Now().UnixNano()
	time.Sleep(r.latency)
	r.handler.ServeHTTP(&slowAnswer{w, r, req.Context()}, req)
	if began := r.began.Load(); began != 0 {
		ms := func(at int64) float64 { return float64(at-began) / 1e6 }
		fmt.Printf("  %7.1f to %7.1f ms %-4s %.100s %s\n", ms(from), ms(time.Now().UnixNano()), req.Method, req.URL, req.Header.Get("Range"))
	}
}

type slowAnswer struct {
	http.ResponseWriter
	registry *slowRegistry
	ctx      context.Context
}

func (a *slowAnswer) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		step := p[:min(len(p), 16<<10)]
		if err := a.registry.limiter.WaitN(a.ctx, len(step)); err != nil {
			return written, err
		}
		n, err := a.ResponseWriter.Write(step)
		a.registry.sent.Add(int64(n))
		written += n
		if err != nil {
			return written, err
		}
		p = p[n:]
	}
	return written, nil
}
