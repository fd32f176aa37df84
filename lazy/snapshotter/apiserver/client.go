package apiserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Client asks one API server. It is safe for use by several goroutines.
type Client struct {
	base   *url.URL
	header func() (string, error) // of Authorization
	http   *http.Client
}

// Server is the address of the API server.
func (c *Client) Server() string { return c.base.Redacted() }

// Close ends connections that nothing uses.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// patience bounds a request that is no watch.
const patience = 30 * time.Second

// maxAnswer is the greatest answer that is read, in bytes. Lists come in pages: a Secret has at most 1 MiB.
const (
	maxAnswer = 128 << 20
	page      = "50"
)

// Error is an answer of the API server that is no success.
type Error struct {
	Code    int    // of HTTP
	Message string // the server's own
}

func (e *Error) Error() string {
	return fmt.Sprintf("the API server answers %d: %s", e.Code, e.Message)
}

// get asks for a document and decodes it.
func (c *Client) get(ctx context.Context, path string, query url.Values, into any) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resp, err := c.do(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into); err != nil {
		return unreadable(err)
	}
	return nil
}

// unreadable is an error of a decoder, without what it decoded.
func unreadable(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	if errors.As(err, &syntax) || errors.As(err, &kind) {
		return errors.New("the API server's answer is not readable")
	}
	return fmt.Errorf("the API server's answer: %w", err)
}

// post sends a document.
func (c *Client) post(ctx context.Context, path string, document any) error {
	b, err := json.Marshal(document)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resp, err := c.do(ctx, http.MethodPost, path, nil, bytes.NewReader(b))
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// do sends a request. What comes back is a success.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Response, error) {
	u := c.base.JoinPath(path)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "weft-snapshotter")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	authorization, err := c.header()
	if err != nil {
		return nil, err
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var status struct {
		Message string `json:"message"`
	}
	if err := json.Unmarshal(b, &status); err != nil || status.Message == "" {
		status.Message = http.StatusText(resp.StatusCode)
	}
	return nil, &Error{resp.StatusCode, oneLine(status.Message)}
}

// oneLine keeps what a server says from breaking a log.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	return s[:min(len(s), 500)]
}

// gone says that a watch cannot go on from where it was, and everything has to be listed again.
func gone(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == http.StatusGone
}
