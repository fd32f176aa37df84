package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Server answers for one state folder while it holds the folder's lock.
type Server struct {
	state    string
	lock     *Lock
	listener net.Listener
	http     *http.Server
	stops    chan StopRequest
	served   chan struct{} // closed when the HTTP server has ended

	mu      sync.Mutex
	current []byte        // the newest status, encoded as one line
	changed chan struct{} // closed at the next change
	closed  bool
}

// Listen takes the lock of a state folder and answers on its socket at once, with a status of phase Starting until Publish is called.
// It returns a *HeldError when another supervisor is at work. The folder must have been made by Create.
func Listen(state string) (*Server, error) {
	lock, err := Acquire(state)
	if err != nil {
		return nil, err
	}
	s := &Server{
		state:   state,
		lock:    lock,
		stops:   make(chan StopRequest, 1),
		served:  make(chan struct{}),
		changed: make(chan struct{}),
	}
	s.Publish(Status{Phase: Starting, PID: os.Getpid(), StartedAt: time.Now(), State: state})
	if s.listener, err = listen(state); err != nil {
		return nil, errors.Join(fmt.Errorf("open the control socket: %w", err), lock.Release())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.getStatus)
	mux.HandleFunc("GET /v1/events", s.getEvents)
	mux.HandleFunc("POST /v1/stop", s.postStop)
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	go func() {
		defer close(s.served)
		_ = s.http.Serve(s.listener) // ends by Close
	}()
	return s, nil
}

func listen(state string) (net.Listener, error) {
	path, done, err := socketPath(state)
	if err != nil {
		return nil, err
	}
	defer done()
	// The lock is held, so a socket that is there belongs to nobody. The folder is closed to others, so the mode may follow.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // its name may have been a passing one
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Publish makes a status the current one and tells everybody who follows. The caller may go on changing what the status points to.
func (s *Server) Publish(status Status) {
	status.Version = Version
	line, err := json.Marshal(status)
	if err != nil { // a time outside the years 0 to 9999 is all that JSON cannot say
		line = fmt.Appendf(nil, `{"version":%d,"phase":%q,"error":%q}`, Version, Failed, err.Error())
	}
	line = append(line, '\n')
	s.mu.Lock()
	defer s.mu.Unlock()
	if bytes.Equal(line, s.current) {
		return
	}
	s.current = line
	close(s.changed)
	s.changed = make(chan struct{})
}

// Stops delivers the requests to end the cluster. A request that comes while another is waiting is joined with it.
func (s *Server) Stops() <-chan StopRequest { return s.stops }

// Close ends the streams after they have sent the newest status, removes the socket and gives up the lock.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = s.http.Close()
	}
	<-s.served
	return errors.Join(err, os.Remove(filepath.Join(runDir(s.state), socketName)), s.lock.Release())
}

// newest returns the current status, a channel that is closed at the next change, and whether there will be none.
func (s *Server) newest() (line []byte, changed <-chan struct{}, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current, s.changed, s.closed
}

func (s *Server) getStatus(w http.ResponseWriter, _ *http.Request) {
	line, _, _ := s.newest()
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(line) // the reader has gone
}

func (s *Server) getEvents(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/jsonl")
	var sent []byte
	for {
		line, changed, last := s.newest()
		if !bytes.Equal(line, sent) {
			_ = control.SetWriteDeadline(time.Now().Add(10 * time.Second)) // a reader that stands still is let go
			if _, err := w.Write(line); err != nil {
				return
			}
			if control.Flush() != nil {
				return
			}
			sent = line
		}
		if last {
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

func (s *Server) postStop(w http.ResponseWriter, r *http.Request) {
	var request StopRequest
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4<<10))
	if err == nil && len(body) > 0 {
		err = json.Unmarshal(body, &request)
	}
	if err == nil && request.GraceSeconds < 0 {
		err = errors.New("graceSeconds: must not be negative")
	}
	if err != nil {
		http.Error(w, "stop request: "+err.Error(), http.StatusBadRequest)
		return
	}
	select {
	case s.stops <- request:
	default: // one is waiting
	}
	w.WriteHeader(http.StatusAccepted)
}
