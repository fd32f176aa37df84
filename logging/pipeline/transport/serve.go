package transport

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"
)

// maxConnections bounds the connections of one listener; more have to wait.
const maxConnections = 4096

// Serve accepts connections until ctx ends and handles each in a goroutine. It returns when all are done: their contexts end with ctx, and their
// connections are closed then.
func Serve(ctx context.Context, l net.Listener, log *slog.Logger, handle func(ctx context.Context, conn net.Conn)) error {
	var handlers sync.WaitGroup
	slots := make(chan struct{}, maxConnections)
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer handlers.Wait()
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := l.Accept()
		if err != nil {
			<-slots
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			log.Error("a connection was not accepted", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		handlers.Go(func() {
			defer func() { <-slots }()
			ended := context.AfterFunc(ctx, func() { conn.Close() })
			defer ended()
			defer conn.Close()
			handle(ctx, conn)
		})
	}
}
