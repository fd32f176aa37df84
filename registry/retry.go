package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Retry says how long to go on when a registry is busy or a connection breaks.
type Retry struct {
	Attempts int           // in a row without progress; 0 means 6
	Min, Max time.Duration // of the pause, doubled from one attempt to the next; 0 means 200 ms and 10 s
	MaxAfter time.Duration // a Retry-After beyond this is an error; 0 means 2 minutes
}

func (r Retry) withDefaults() Retry {
	if r.Attempts == 0 {
		r.Attempts = 6
	}
	if r.Min == 0 {
		r.Min = 200 * time.Millisecond
	}
	if r.Max == 0 {
		r.Max = 10 * time.Second
	}
	if r.MaxAfter == 0 {
		r.MaxAfter = 2 * time.Minute
	}
	return r
}

// attempts counts failures in a row.
type attempts struct {
	retry  Retry
	failed int
}

// progress forgets the failures so far.
func (a *attempts) progress() { a.failed = 0 }

// pause waits before another attempt, or returns err if there should be none.
func (a *attempts) pause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if a.failed++; a.failed >= a.retry.Attempts || !transient(err) {
		return err
	}
	d := min(a.retry.Max, a.retry.Min<<(a.failed-1))
	d = d/2 + rand.N(d/2+1)
	var e *Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		if e.RetryAfter > a.retry.MaxAfter {
			return err
		}
		d = e.RetryAfter
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// transient says whether the same request may succeed a moment later.
func transient(err error) bool {
	var e *Error
	if errors.As(err, &e) {
		switch e.Status {
		case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusInternalServerError,
			http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true
		}
		return false
	}
	var permanent *permanentError
	var unknown x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var verification *tls.CertificateVerificationError
	var dns *net.DNSError
	switch {
	case errors.As(err, &permanent), errors.Is(err, ErrTooLarge), errors.Is(err, ErrDigest), errors.Is(err, context.Canceled), errors.Is(err, ErrNoRanges),
		errors.Is(err, ErrUploadLost):
		return false
	case errors.As(err, &unknown), errors.As(err, &hostname), errors.As(err, &invalid), errors.As(err, &record), errors.As(err, &verification):
		return false
	case errors.As(err, &dns):
		return !dns.IsNotFound
	}
	return true
}

// permanentError marks an error that no other attempt can mend.
type permanentError struct{ error }

func (e *permanentError) Unwrap() error { return e.error }

func permanent(err error) error { return &permanentError{err} }

// retryAfter reads Retry-After (RFC 9110, section 10.2.3): seconds or a date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(text); err == nil && t.After(now) {
		return t.Sub(now)
	}
	return 0
}
