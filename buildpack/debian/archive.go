package debian

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
)

// Archive fetches from mirrors. What was fetched is kept in Cache by its digest and verified before it is used.
type Archive struct {
	Cache  string           // folder
	Client *http.Client     // nil: one that heeds the proxy variables
	Root   string           // where apt's keys lie; "" is "/"
	Now    func() time.Time // nil: the clock
	Note   func(string)     // told what is fetched, may be nil
}

// Attempts on a mirror, and how many downloads run at once.
const (
	attempts  = 4
	downloads = 12
)

// defaultClient keeps as many connections as are used at once.
var defaultClient = &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: downloads,
	ResponseHeaderTimeout: time.Minute, IdleConnTimeout: time.Minute}}

func (a *Archive) root() string {
	if a.Root == "" {
		return "/"
	}
	return a.Root
}

func (a *Archive) now() time.Time {
	if a.Now == nil {
		return time.Now()
	}
	return a.Now()
}

func (a *Archive) note(format string, args ...any) {
	if a.Note != nil {
		a.Note(fmt.Sprintf(format, args...))
	}
}

// get reads a small file that has no digest of its own.
func (a *Archive) get(ctx context.Context, url string, limit int64) ([]byte, error) {
	var data []byte
	err := a.try(ctx, url, func(body io.Reader) error {
		var err error
		data, err = io.ReadAll(io.LimitReader(body, limit+1))
		if err == nil && int64(len(data)) > limit {
			err = fmt.Errorf("it is longer than %d bytes", limit)
		}
		return err
	})
	return data, err
}

// permanent is an error that another attempt cannot mend.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// try makes a request until it succeeds.
func (a *Archive) try(ctx context.Context, url string, read func(io.Reader) error) error {
	client := a.Client
	if client == nil {
		client = defaultClient
	}
	for attempt := 1; ; attempt++ {
		err := once(ctx, client, url, read)
		if err == nil {
			return nil
		}
		var p permanent
		if errors.As(err, &p) || attempt == attempts || ctx.Err() != nil {
			return fmt.Errorf("fetch %s: %w", url, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(attempt) * 200 * time.Millisecond):
		}
	}
}

func once(ctx context.Context, client *http.Client, url string, read func(io.Reader) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return permanent{err}
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		err := fmt.Errorf("the mirror answers %s", resp.Status)
		if resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests {
			return permanent{err}
		}
		return err
	}
	return read(resp.Body)
}

// fetch gives the path of a file with the digest (hexadecimal SHA-256) and size, from the cache or the URL.
func (a *Archive) fetch(ctx context.Context, url, digest string, size int64) (string, error) {
	at := filepath.Join(a.Cache, digest[:2], digest)
	if info, err := os.Stat(at); err == nil && info.Size() == size {
		return at, nil
	}
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return "", err
	}
	a.note("%s", url)
	return at, a.try(ctx, url, func(body io.Reader) error {
		f, err := os.CreateTemp(filepath.Dir(at), ".new-")
		if err != nil {
			return permanent{err}
		}
		defer os.Remove(f.Name())
		h := sha256.New()
		n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(body, size+1))
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		if got := fmt.Sprintf("%x", h.Sum(nil)); n != size || got != digest {
			return fmt.Errorf("its content is not what the archive's index promises: %d bytes with SHA-256 %s, expected %d bytes with %s", n, got, size, digest)
		}
		return os.Rename(f.Name(), at)
	})
}

// fetchAll brings the packages of a lock into the cache.
func (a *Archive) fetchAll(ctx context.Context, packages []Locked) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(downloads)
	for _, p := range packages {
		g.Go(func() error {
			_, err := a.fetch(ctx, p.URL, p.SHA256, p.Size)
			if err != nil && !errors.Is(err, context.Canceled) {
				return fmt.Errorf("the package %s %s: %w", p.Name, p.Version, err)
			}
			return err
		})
	}
	return g.Wait()
}

// open opens a package that is in the cache, and verifies it once more while it is read: done must be called after the last byte.
func (a *Archive) open(p Locked) (r io.Reader, done func() error, err error) {
	f, err := os.Open(filepath.Join(a.Cache, p.SHA256[:2], p.SHA256))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("the package %s is not in the cache", p.Name)
	}
	if err != nil {
		return nil, nil, err
	}
	h := sha256.New()
	tee := io.TeeReader(f, h)
	return tee, func() error {
		defer f.Close()
		if _, err := io.Copy(io.Discard, tee); err != nil {
			return err
		}
		if got := fmt.Sprintf("%x", h.Sum(nil)); got != p.SHA256 {
			return fmt.Errorf("the package %s in the cache has been changed: remove %s", p.Name, f.Name())
		}
		return nil
	}, nil
}
