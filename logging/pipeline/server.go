package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weft-dev/weft/logging/config"
)

// Version is the version of Fluent Bit whose configurations and interfaces these are.
const Version = "5.1.1"

// server is the monitoring interface, with the paths and answers of Fluent Bit.
type server struct {
	http *http.Server
	done chan struct{}
}

func (s *server) close() {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
	<-s.done
}

// serve begins to listen, if the service section says so.
func (e *Engine) serve() (*server, error) {
	if !e.service.httpServer {
		return nil, nil
	}
	address := net.JoinHostPort(e.service.httpListen, strconv.Itoa(e.service.httpPort))
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("http_server: %w", err)
	}
	s := &server{done: make(chan struct{}), http: &http.Server{Handler: e.Handler(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: 60 * time.Second, IdleTimeout: 60 * time.Second, MaxHeaderBytes: 64 << 10}}
	go func() {
		defer close(s.done)
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			e.log.Error("the monitoring server stopped", "error", err)
		}
	}()
	e.log.Info("monitoring is served", "address", listener.Addr())
	return s, nil
}

// Handler answers as Fluent Bit's monitoring server does.
func (e *Engine) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", e.about)
	mux.HandleFunc("GET /api/v1/uptime", e.uptime)
	mux.HandleFunc("GET /api/v1/plugins", e.plugins)
	mux.HandleFunc("GET /api/v1/metrics", e.metricsV1)
	mux.HandleFunc("GET /api/v1/metrics/prometheus", e.prometheusV1)
	mux.HandleFunc("GET /api/v1/storage", e.storageV1)
	mux.HandleFunc("GET /api/v1/health", e.healthV1)
	mux.HandleFunc("GET /api/v2/health", e.healthV1)
	mux.HandleFunc("GET /api/v2/metrics", e.prometheusV2)
	mux.HandleFunc("GET /api/v2/metrics/prometheus", e.prometheusV2)
	mux.HandleFunc("GET /metrics", e.prometheusV2)
	mux.HandleFunc("/api/v2/reload", e.reload)
	return mux
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return // the client has gone
	}
}

func (e *Engine) about(w http.ResponseWriter, _ *http.Request) {
	revision := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		revision = info.Main.Version
	}
	answer(w, http.StatusOK, map[string]any{"fluent-bit": map[string]any{"version": Version, "edition": "Weft", "revision": revision, "flags": []string{}}})
}

func (e *Engine) uptime(w http.ResponseWriter, _ *http.Request) {
	s := int(e.now().Sub(e.began).Seconds())
	answer(w, http.StatusOK, map[string]any{"uptime_sec": s, "uptime_hr": fmt.Sprintf("Fluent Bit has been running:  %d day, %d hours, %d minutes and %d seconds",
		s/86400, s/3600%24, s/60%60, s%60)})
}

func (e *Engine) plugins(w http.ResponseWriter, _ *http.Request) {
	names := map[string][]string{"inputs": {}, "filters": {}, "outputs": {}}
	for _, in := range e.parts() {
		names["inputs"] = append(names["inputs"], in.plugin)
	}
	for _, f := range e.filters {
		names["filters"] = append(names["filters"], f.plugin)
	}
	for _, o := range e.outputs {
		names["outputs"] = append(names["outputs"], o.plugin)
	}
	if e.fluentd != nil {
		for _, p := range e.fluentd.Parts() {
			if group, ok := map[string]string{config.Input: "inputs", config.Filter: "filters", config.Output: "outputs"}[p.Kind]; ok {
				names[group] = append(names[group], p.Plugin)
			}
		}
	}
	answer(w, http.StatusOK, names)
}

func (e *Engine) healthV1(w http.ResponseWriter, _ *http.Request) {
	if e.service.healthCheck && !e.health.ok(e) {
		http.Error(w, "error", http.StatusInternalServerError)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (e *Engine) reload(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		answer(w, http.StatusOK, map[string]any{"hot_reload_count": e.service.reloads})
	case http.MethodPost, http.MethodPut:
		if e.service.reload == nil {
			answer(w, http.StatusBadRequest, map[string]any{"reload": "not enabled", "status": -1})
			return
		}
		if err := e.service.reload(); err != nil {
			answer(w, http.StatusBadRequest, map[string]any{"reload": "invalid configuration", "status": -2, "error": err.Error()})
			return
		}
		answer(w, http.StatusOK, map[string]any{"reload": "done", "status": 0})
	default:
		w.Header().Set("Allow", "GET, POST, PUT")
		http.Error(w, "write GET for the number of reloads, or POST to reload", http.StatusMethodNotAllowed)
	}
}

// parts are the inputs, emitters included.
func (e *Engine) parts() []*inputPart {
	e.hidden.Lock()
	defer e.hidden.Unlock()
	return e.inputs
}

// health remembers the counts of failures at the beginning of the present period.
type health struct {
	mu              sync.Mutex
	from            time.Time
	errors, retries int64
}

func (h *health) start(e *Engine, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.from = now
}

// sample begins a new period when the old one is over.
func (h *health) sample(e *Engine, now time.Time) {
	if !e.service.healthCheck {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Sub(h.from) >= e.service.hcPeriod || now.Before(h.from) {
		h.errors, h.retries = h.count(e)
		h.from = now
	}
}

func (h *health) count(e *Engine) (errors, retries int64) {
	for _, o := range e.outputs {
		errors += o.errors.Load()
		retries += o.retriesFailed.Load()
	}
	if e.fluentd != nil {
		for _, p := range e.fluentd.Parts() {
			if p.Kind == config.Output {
				errors, retries = errors+p.Errors, retries+p.RetriesFailed
			}
		}
	}
	return errors, retries
}

func (h *health) ok(e *Engine) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	errors, retries := h.count(e)
	return errors-h.errors <= int64(e.service.hcErrors) && retries-h.retries <= int64(e.service.hcRetry)
}

func label(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}
