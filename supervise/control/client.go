package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// ErrNotRunning says that no supervisor answers for a state folder.
var ErrNotRunning = errors.New("the cluster is not running")

// maxLine bounds one status, in bytes.
const maxLine = 4 << 20

// Client asks the supervisor of one state folder.
type Client struct {
	state string
	http  http.Client
}

// NewClient returns a client. It does not connect yet.
func NewClient(state string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		path, done, err := socketPath(state)
		if err != nil {
			return nil, err
		}
		defer done()
		return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", path)
	}
	return &Client{state, http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Status returns the newest status. Without a supervisor the error is ErrNotRunning.
func (c *Client) Status(ctx context.Context) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	body, err := c.do(ctx, http.MethodGet, "/v1/status", nil, http.StatusOK)
	if err != nil {
		return Status{}, err
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, maxLine))
	if err != nil {
		return Status{}, fmt.Errorf("read the cluster's status: %w", err)
	}
	return decode(b)
}

// Events yields the current status and then each change. It ends without an error when the supervisor ends.
func (c *Client) Events(ctx context.Context) iter.Seq2[Status, error] {
	return func(yield func(Status, error) bool) {
		body, err := c.do(ctx, http.MethodGet, "/v1/events", nil, http.StatusOK)
		if err != nil {
			yield(Status{}, err)
			return
		}
		defer body.Close()
		lines := bufio.NewScanner(body)
		lines.Buffer(nil, maxLine)
		for lines.Scan() {
			s, err := decode(lines.Bytes())
			if !yield(s, err) || err != nil {
				return
			}
		}
		if ctx.Err() != nil {
			yield(Status{}, context.Cause(ctx))
			return
		}
		// A supervisor that was killed cuts the stream, which is an end as well.
		if err := lines.Err(); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
			yield(Status{}, fmt.Errorf("follow the cluster's status: %w", err))
		}
	}
}

// Stop asks the supervisor to end the cluster and returns when it has been told. Without a supervisor the error is ErrNotRunning.
func (c *Client) Stop(ctx context.Context, request StopRequest) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	b, err := json.Marshal(request)
	if err != nil {
		return err
	}
	body, err := c.do(ctx, http.MethodPost, "/v1/stop", bytes.NewReader(b), http.StatusAccepted)
	if err != nil {
		return err
	}
	return body.Close()
}

func (c *Client) do(ctx context.Context, method, path string, body io.Reader, want int) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://supervisor"+path, body)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF): // it ended before it answered
		return nil, ErrNotRunning
	case err != nil:
		return nil, fmt.Errorf("ask the cluster's supervisor: %w", errors.Unwrap(err))
	}
	if response.StatusCode != want {
		defer response.Body.Close()
		b, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10))
		return nil, fmt.Errorf("the cluster's supervisor answered %s: %s", response.Status, strings.TrimSpace(string(b)))
	}
	return response.Body, nil
}

func decode(b []byte) (Status, error) {
	var s Status
	if err := json.Unmarshal(b, &s); err != nil {
		return Status{}, fmt.Errorf("the cluster's status cannot be read: %w", err)
	}
	if s.Version > Version {
		return Status{}, fmt.Errorf("the cluster's supervisor speaks version %d, made by a newer weft; this one reads up to version %d: use the newer weft", s.Version, Version)
	}
	return s, nil
}
