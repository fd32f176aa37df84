// Command webfiles serves a folder of files over HTTP: the whole of an image that weft makes of a static web site. It links nothing but
// the standard library.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "webfiles:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("webfiles", flag.ContinueOnError)
	root := flags.String("root", ".", "folder of the files")
	spa := flags.Bool("spa", false, "answer a page that does not exist with index.html, for applications that choose pages in the browser")
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	listen := flags.String("listen", ":"+port, "address to listen on; the default is the port in the variable PORT, else 8080")
	if err := flags.Parse(args); err != nil {
		return err
	}
	site, err := newSite(*root, *spa)
	if err != nil {
		return err
	}
	defer site.Close()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	fmt.Printf("serving %s at %s\n", *root, l.Addr())
	server := &http.Server{Handler: site, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10}
	ended := make(chan error, 1)
	go func() {
		<-ctx.Done()
		patience, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		ended <- server.Shutdown(patience)
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-ended
}
