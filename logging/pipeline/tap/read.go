package tap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// ErrNoAgent says that nobody answers at a socket.
var ErrNoAgent = errors.New("no agent answers")

// Ask asks an agent at a socket: path is points or records, with a query as Handler reads it. The answer is to be closed.
func Ask(ctx context.Context, socket, path string, query url.Values) (io.ReadCloser, error) {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/"+path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		var plain *url.Error // without the URL, which is none of the user's
		if errors.As(err, &plain) {
			err = plain.Err
		}
		return nil, fmt.Errorf("%w at %s: %w", ErrNoAgent, socket, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		why, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		if err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%s", strings.TrimSpace(string(why)))
	}
	return resp.Body, nil
}

// Lines calls each with every line of an answer until it says false, the answer ends or is none.
func Lines(answer io.Reader, each func(Line) bool) error {
	for d := json.NewDecoder(answer); ; {
		var l Line
		if err := d.Decode(&l); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if !each(l) {
			return nil
		}
	}
}
