package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// serve runs the servers until SIGTERM.
func serve(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	httpAddr := flags.String("http", ":8080", "address of the HTTP server; empty: none")
	tcpAddr := flags.String("tcp", ":8081", "addresses of TCP echo servers, by commas")
	udpAddr := flags.String("udp", ":8082", "addresses of UDP echo servers, by commas")
	ready := flags.Duration("ready-after", 0, "/readyz fails for this long")
	healthy := flags.Duration("healthy-for", 0, "/healthz fails after this time; 0: never")
	drain := flags.Duration("drain", 0, "go on serving this long after SIGTERM")
	if _, err := parse(flags, args, 0, 0); err != nil {
		return err
	}
	s := &server{log: slog.New(slog.NewTextHandler(out, nil)), started: time.Now(), readyAfter: *ready, healthyFor: *healthy}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	failed := make(chan error, 16)
	start := func(address string, run func(context.Context, string) error) {
		if address = strings.TrimSpace(address); address == "" {
			return
		}
		s.running.Go(func() {
			if err := run(life, address); err != nil {
				failed <- err
			}
		})
	}
	start(*httpAddr, s.http)
	for _, address := range strings.Split(*tcpAddr, ",") {
		start(address, s.tcp)
	}
	for _, address := range strings.Split(*udpAddr, ",") {
		start(address, s.udp)
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		s.log.Info("asked to end", "drain", *drain)
		s.draining.Store(true)
		time.Sleep(*drain)
	}
	cancel()
	s.running.Wait()
	return nil
}

type server struct {
	log        *slog.Logger
	started    time.Time
	readyAfter time.Duration
	healthyFor time.Duration
	unhealthy  atomic.Bool
	draining   atomic.Bool
	running    sync.WaitGroup
}

func (s *server) http(ctx context.Context, address string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/", s.index)
	mux.HandleFunc("/healthz", s.healthz)
	mux.HandleFunc("/readyz", s.readyz)
	mux.HandleFunc("POST /unhealthy", func(http.ResponseWriter, *http.Request) { s.unhealthy.Store(true) })
	mux.HandleFunc("/env", func(w http.ResponseWriter, r *http.Request) { _ = env(r.Context(), nil, w) })
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	mux.HandleFunc("/file", file)
	mux.HandleFunc("/burn", burnHandler)
	mux.HandleFunc("/wait", waitHandler)
	mux.HandleFunc("POST /exit", exitHandler)
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	s.log.Info("serving", "http", address)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// index tells who answers and who asked.
func (s *server) index(w http.ResponseWriter, r *http.Request) {
	host, err := os.Hostname()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.log.Info("request", "method", r.Method, "path", r.URL.Path, "from", r.RemoteAddr)
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	fmt.Fprintf(w, "hostname=%s\nclient=%s\nserver=%s\nhost=%s\npath=%s\n", host, r.RemoteAddr, local, r.Host, r.URL.RequestURI())
}

func (s *server) healthz(w http.ResponseWriter, _ *http.Request) {
	if s.unhealthy.Load() || s.healthyFor > 0 && time.Since(s.started) > s.healthyFor {
		http.Error(w, "unhealthy", http.StatusInternalServerError)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (s *server) readyz(w http.ResponseWriter, _ *http.Request) {
	if s.draining.Load() || time.Since(s.started) < s.readyAfter {
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// file reads (GET), writes (PUT) or appends to (POST) the file ?path=.
func file(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("path")
	if !filepath.IsAbs(name) {
		http.Error(w, "path has to be absolute", http.StatusBadRequest)
		return
	}
	if r.Method == http.MethodGet {
		http.ServeFile(w, r, name)
		return
	}
	how := os.O_CREATE | os.O_WRONLY | os.O_TRUNC
	if r.Method == http.MethodPost {
		how = os.O_CREATE | os.O_WRONLY | os.O_APPEND
	}
	out, err := os.OpenFile(name, how, 0o644)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, err = io.Copy(out, r.Body)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// limit reads a duration parameter of at most ten minutes.
func limit(w http.ResponseWriter, r *http.Request, name string) (time.Duration, bool) {
	d, err := time.ParseDuration(r.URL.Query().Get(name))
	if err != nil || d < 0 || d > 10*time.Minute {
		http.Error(w, name+" has to be a duration up to 10m", http.StatusBadRequest)
		return 0, false
	}
	return d, true
}

func burnHandler(w http.ResponseWriter, r *http.Request) {
	if d, ok := limit(w, r, "for"); ok {
		ctx, cancel := context.WithTimeout(r.Context(), d)
		defer cancel()
		spin(ctx, 1)
		fmt.Fprintln(w, "burnt", d)
	}
}

func waitHandler(w http.ResponseWriter, r *http.Request) {
	if d, ok := limit(w, r, "for"); ok {
		select {
		case <-time.After(d):
			fmt.Fprintln(w, "waited", d)
		case <-r.Context().Done():
		}
	}
}

func exitHandler(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.Atoi(r.URL.Query().Get("code"))
	if err != nil || code < 0 || code > 255 {
		http.Error(w, "code has to be 0 to 255", http.StatusBadRequest)
		return
	}
	os.Exit(code)
}

// tcp echoes what comes, and half-closes when the other side has.
func (s *server) tcp(ctx context.Context, address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	s.log.Info("serving", "tcp", address)
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer stop()
			_, _ = io.Copy(conn, conn)
		}()
	}
}

func (s *server) udp(ctx context.Context, address string) error {
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	s.log.Info("serving", "udp", address)
	buffer := make([]byte, 65536)
	for {
		n, from, err := conn.ReadFrom(buffer)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := conn.WriteTo(buffer[:n], from); err != nil {
			s.log.Error("udp echo", "to", from, "error", err)
		}
	}
}
