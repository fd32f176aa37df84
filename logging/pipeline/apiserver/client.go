// Package apiserver asks the API server of Kubernetes, or a kubelet, as agents do: with a token that changes on the disk, and the authority's
// certificate beside it. It is plain HTTP and JSON, so that an agent on every node links no client of Kubernetes. It knows no records.
package apiserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/transport"
)

// Timeout bounds each question but those that Watch asks.
const Timeout = 10 * time.Second

const maxAnswer = 64 << 20

// StatusError is an answer that is not 200.
type StatusError struct {
	Address string
	Status  int
}

func (e *StatusError) Error() string {
	hint := ""
	switch e.Status {
	case http.StatusUnauthorized:
		hint = "; the token is not accepted (Kube_Token_File)"
	case http.StatusForbidden:
		hint = "; the agent's service account has no right to it"
	}
	return fmt.Sprintf("%s: HTTP status %d%s", e.Address, e.Status, hint)
}

// Client asks one API server. It may be used by several goroutines.
type Client struct {
	URL      string // Kube_URL, without a slash at its end
	now      func() time.Time
	short    *http.Client
	long     *http.Client // without a limit of time
	rootsErr error        // told when something is asked: the agent may run outside of a cluster

	tokenFile    string
	tokenCommand []string
	tokenTTL     time.Duration
	mu           sync.Mutex
	token        string
	tokenAt      time.Time
}

// New reads Kube_URL, Kube_CA_File, Kube_CA_Path, Kube_Token_File, Kube_Token_Command, Kube_Token_TTL and tls.*. Faults are in the options.
func New(o *options.Set, now func() time.Time) *Client {
	c := &Client{URL: strings.TrimSuffix(o.String("kube_url"), "/"), now: now, tokenFile: o.String("kube_token_file"),
		tokenCommand: strings.Fields(o.String("kube_token_command")), tokenTTL: o.Duration("kube_token_ttl")}
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		o.Failf("kube_url", "Kube_URL %q is not an address such as https://kubernetes.default.svc", c.URL)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: o.String("tls.vhost"), InsecureSkipVerify: !o.Bool("tls.verify")}
	o.Pass("tls.debug")
	requests := &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: Timeout, ResponseHeaderTimeout: Timeout}
	c.short, c.long = &http.Client{Timeout: Timeout, Transport: requests}, &http.Client{Transport: requests}
	if pool, err := roots(o.String("kube_ca_file"), o.String("kube_ca_path")); err == nil {
		config.RootCAs = pool
	} else if strings.HasPrefix(c.URL, "https:") && !config.InsecureSkipVerify {
		c.rootsErr = err
	}
	if o.Has("tls.verify_hostname") && !o.Bool("tls.verify_hostname") {
		transport.WithoutName(config)
	}
	return c
}

func roots(file, path string) (*x509.CertPool, error) {
	files := []string{file}
	if path != "" {
		more, err := filepath.Glob(filepath.Join(path, "*"))
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	pool := x509.NewCertPool()
	var failed error
	any := false
	for _, f := range files {
		pem, err := os.ReadFile(f)
		if err != nil {
			failed = err
			continue
		}
		any = pool.AppendCertsFromPEM(pem) || any
	}
	if !any {
		return nil, errors.Join(errors.New("no certificate of the API server's authority (Kube_CA_File)"), failed)
	}
	return pool, nil
}

// Get asks an address for JSON, at most 64 MB of it.
func (c *Client) Get(ctx context.Context, address string, into any) error {
	body, err := c.open(ctx, c.short, address)
	if err != nil {
		return err
	}
	defer body.Close()
	return json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(into)
}

// Watch opens an answer that does not end by itself. The caller closes it.
func (c *Client) Watch(ctx context.Context, address string) (io.ReadCloser, error) {
	return c.open(ctx, c.long, address)
}

func (c *Client) open(ctx context.Context, client *http.Client, address string) (io.ReadCloser, error) {
	if c.rootsErr != nil && strings.HasPrefix(address, "https:") {
		return nil, c.rootsErr
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	token, err := c.bearer(ctx)
	if err != nil {
		return nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // the connection is used again
		resp.Body.Close()
		if resp.StatusCode == http.StatusUnauthorized {
			c.forget() // it may have been replaced
		}
		return nil, &StatusError{address, resp.StatusCode}
	}
	return resp.Body, nil
}

func (c *Client) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token = ""
}

// bearer is the token, read anew when it is older than Kube_Token_TTL.
func (c *Client) bearer(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if c.token != "" && now.Sub(c.tokenAt) < c.tokenTTL {
		return c.token, nil
	}
	var data []byte
	var err error
	if len(c.tokenCommand) > 0 {
		limited, cancel := context.WithTimeout(ctx, Timeout)
		defer cancel()
		if data, err = exec.CommandContext(limited, c.tokenCommand[0], c.tokenCommand[1:]...).Output(); err != nil {
			return "", fmt.Errorf("Kube_Token_Command: %w", err)
		}
	} else if data, err = os.ReadFile(c.tokenFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	c.token, c.tokenAt = strings.TrimSpace(string(data)), now
	return c.token, nil
}
