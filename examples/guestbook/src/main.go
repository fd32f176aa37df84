// Command guestbook is a small web service: visitors leave messages in Markdown, which are kept in a file.
//
// PORT is where it listens (default 8080), DATA the folder of its file (default the working directory).
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	port := fallback(os.Getenv("PORT"), "8080")
	if err := serve(ctx, ":"+port, filepath.Join(os.Getenv("DATA"), "messages.jsonl")); err != nil {
		slog.Error("guestbook ends", "error", err)
		os.Exit(1)
	}
}

func fallback(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

// serve answers until ctx ends, and then finishes the requests that it has begun.
func serve(ctx context.Context, address, file string) error {
	book, err := openBook(file)
	if err != nil {
		return err
	}
	defer book.close()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	slog.Info("guestbook listens", "address", listener.Addr().String(), "messages", len(book.list()))
	server := &http.Server{Handler: handler(book), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	slog.Info("guestbook is told to end")
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(limited); err != nil {
		return fmt.Errorf("finish the requests: %w", err)
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
