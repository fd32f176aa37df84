package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/weft-dev/weft/registry/server"
	"github.com/weft-dev/weft/store"
	"github.com/weft-dev/weft/supervise/control"
)

// openRegistryPort takes a port on the host's loopback for the registry and remembers it.
func (c *cluster) openRegistryPort() (net.Listener, error) {
	listener, port, err := listenLoopback(0, c.id.RegistryPort, defaultRegistryPort)
	if err != nil {
		return nil, fmt.Errorf("opening a port for the registry: %w", err)
	}
	c.id.RegistryPort = port
	if !slices.Contains(c.id.RegistryPorts, port) {
		c.id.RegistryPorts = append(c.id.RegistryPorts, port)
	}
	return listener, nil
}

// startRegistry serves the state folder's store on the host's loopback and, under every name that it ever had, inside the
// node's namespace: an image has the same name for who pushes it and for the node that pulls it.
func (c *cluster) startRegistry(listeners ...net.Listener) error {
	content, err := store.Open(c.state.Data("store"))
	if err != nil {
		return fmt.Errorf("opening the registry's store: %w", err)
	}
	logFile, err := openAppend(c.state.Log("registry"))
	if err != nil {
		return err
	}
	if c.ns != nil {
		for _, port := range c.id.RegistryPorts {
			l, err := c.ns.Listen(fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				return fmt.Errorf("opening the registry's port in the node's namespace: %w", err)
			}
			listeners = append(listeners, l)
		}
	}
	handler := server.New(server.Config{Storage: content.Registry(), Logger: slog.New(slog.NewTextHandler(logFile, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	// Blobs may take long, so only the header has a limit in time.
	httpServer := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	for _, l := range listeners {
		go func() {
			if err := httpServer.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				c.board.update(func(s *control.Status) { s.Error = fmt.Sprintf("the registry at %s stopped: %v", l.Addr(), err) })
			}
		}()
	}
	c.closers = append(c.closers, func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if httpServer.Shutdown(ctx) != nil {
			httpServer.Close()
		}
		logFile.Close()
	})
	c.board.update(func(s *control.Status) { s.Registry = fmt.Sprintf("127.0.0.1:%d", c.id.RegistryPort) })
	return nil
}
