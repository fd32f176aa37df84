package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sort"
	"strings"
	"syscall"
	"time"
)

// target holds the flags that all clients share.
type target struct {
	timeout time.Duration
	retry   time.Duration
	four    bool
	six     bool
	source  string
}

func (t *target) flags(name string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.DurationVar(&t.timeout, "timeout", 5*time.Second, "time for one attempt")
	flags.DurationVar(&t.retry, "retry", 0, "try again for this long until it works")
	flags.BoolVar(&t.four, "4", false, "IPv4 only")
	flags.BoolVar(&t.six, "6", false, "IPv6 only")
	flags.StringVar(&t.source, "source", "", "source address")
	return flags
}

func (t *target) dial(ctx context.Context, network, address string) (net.Conn, error) {
	network = strings.TrimRight(network, "46")
	switch {
	case t.four:
		network += "4"
	case t.six:
		network += "6"
	}
	dialer := net.Dialer{Timeout: t.timeout}
	if t.source != "" {
		ip := net.ParseIP(t.source)
		if ip == nil {
			return nil, fmt.Errorf("%w: -source %q is not an address", errUsage, t.source)
		}
		dialer.LocalAddr = &net.TCPAddr{IP: ip}
		if strings.HasPrefix(network, "udp") {
			dialer.LocalAddr = &net.UDPAddr{IP: ip}
		}
	}
	return dialer.DialContext(ctx, network, address)
}

// attempts calls try until it works or the retry time is over.
func (t *target) attempts(ctx context.Context, try func(context.Context) error) error {
	end := time.Now().Add(t.retry)
	for {
		attempt, cancel := context.WithTimeout(ctx, t.timeout)
		err := try(attempt)
		cancel()
		if err == nil || errors.Is(err, errUsage) || !time.Now().Before(end) || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

func get(ctx context.Context, args []string, out io.Writer) error {
	var t target
	flags := t.flags("get")
	method := flags.String("method", http.MethodGet, "HTTP method")
	body := flags.String("body", "", "request body")
	header := flags.String("header", "", "one header, NAME: VALUE")
	status := flags.Bool("status", false, "print the status code first")
	rest, err := parse(flags, args, 1, 1)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: t.dial, DisableKeepAlives: true}}
	return t.attempts(ctx, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, *method, rest[0], strings.NewReader(*body))
		if err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		if name, value, ok := strings.Cut(*header, ":"); ok {
			request.Header.Set(name, strings.TrimSpace(value))
			if strings.EqualFold(name, "host") {
				request.Host = strings.TrimSpace(value)
			}
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if *status {
			fmt.Fprintln(out, response.StatusCode)
		}
		if _, err := io.Copy(out, response.Body); err != nil {
			return err
		}
		if response.StatusCode >= 400 && !*status {
			return fmt.Errorf("status %s", response.Status)
		}
		return nil
	})
}

func tcpClient(ctx context.Context, args []string, out io.Writer) error {
	var t target
	rest, err := parse(t.flags("tcp"), args, 1, 2)
	if err != nil {
		return err
	}
	return t.attempts(ctx, func(ctx context.Context) error {
		conn, err := t.dial(ctx, "tcp", rest[0])
		if err != nil {
			return err
		}
		defer conn.Close()
		if len(rest) == 1 {
			_, err := fmt.Fprintln(out, "connected to", conn.RemoteAddr())
			return err
		}
		return exchange(ctx, conn, rest[1], out)
	})
}

func udpClient(ctx context.Context, args []string, out io.Writer) error {
	var t target
	rest, err := parse(t.flags("udp"), args, 2, 2)
	if err != nil {
		return err
	}
	return t.attempts(ctx, func(ctx context.Context) error {
		conn, err := t.dial(ctx, "udp", rest[0])
		if err != nil {
			return err
		}
		defer conn.Close()
		return exchange(ctx, conn, rest[1], out)
	})
}

// exchange sends a message and prints what comes back, at most its length.
func exchange(ctx context.Context, conn net.Conn, message string, out io.Writer) error {
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(conn, message); err != nil {
		return err
	}
	answer := make([]byte, len(message))
	if _, err := io.ReadFull(conn, answer); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, string(answer))
	return err
}

func resolve(ctx context.Context, args []string, out io.Writer) error {
	var t target
	rest, err := parse(t.flags("resolve"), args, 1, 1)
	if err != nil {
		return err
	}
	return t.attempts(ctx, func(ctx context.Context) error {
		family := "ip"
		switch {
		case t.four:
			family = "ip4"
		case t.six:
			family = "ip6"
		}
		list, err := net.DefaultResolver.LookupIP(ctx, family, rest[0])
		if err != nil {
			return err
		}
		names := make([]string, len(list))
		for i, ip := range list {
			names[i] = ip.String()
		}
		sort.Strings(names)
		_, err = fmt.Fprintln(out, strings.Join(names, "\n"))
		return err
	})
}

// reason begins with a word that tests can tell apart.
func reason(err error) string {
	var dns *net.DNSError
	var timeout net.Error
	kind := "failed"
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		kind = "not found"
	case errors.Is(err, syscall.ECONNREFUSED):
		kind = "refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		kind = "unreachable"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		kind = "timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		kind = "closed"
	}
	return fmt.Sprintf("%s: %v", kind, err)
}
