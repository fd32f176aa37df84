//go:build linux

// Command weft-import loads image archives into a node's containerd and
// unpacks them, so that pods start from them without a registry.
//
//	weft-import -address /path/to/containerd.sock [-pin] ARCHIVE...
//
// An archive is an OCI image layout in a tar file, or what `docker save`
// writes; "-" reads one from standard input. What is complete already is not
// written again. The names of the images are printed, one a line.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
)

// Labels by which containerd's CRI plugin knows an image as its own, and one
// that the kubelet must never collect (internal/cri/labels in containerd).
const (
	labelManaged = "io.cri-containerd.image"
	labelPinned  = "io.cri-containerd.pinned"
)

type options struct {
	address     string
	namespace   string
	snapshotter string
	pin         bool
	timeout     time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.address, "address", "", "containerd's socket (required)")
	flag.StringVar(&o.namespace, "namespace", "k8s.io", "containerd namespace; Kubernetes uses k8s.io")
	flag.StringVar(&o.snapshotter, "snapshotter", "overlayfs", "snapshotter that unpacks the images")
	flag.BoolVar(&o.pin, "pin", false, "keep the images for ever: the kubelet does not collect pinned ones")
	flag.DurationVar(&o.timeout, "timeout", 2*time.Minute, "give up after this time")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: weft-import -address SOCKET [flags] ARCHIVE...")
		flag.PrintDefaults()
	}
	flag.Parse()
	if o.address == "" || flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	if err := run(ctx, o, flag.Args(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "weft-import:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, archives []string, out io.Writer) error {
	client, err := containerd.New(o.address, containerd.WithDefaultNamespace(o.namespace))
	if err != nil {
		return fmt.Errorf("connect to %s: %w", o.address, err)
	}
	defer client.Close()
	ctx = namespaces.WithNamespace(ctx, o.namespace)
	for _, name := range archives {
		if err := importArchive(ctx, client, o, name, out); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func importArchive(ctx context.Context, client *containerd.Client, o options, name string, out io.Writer) error {
	reader := io.Reader(os.Stdin)
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return errors.Unwrap(err)
		}
		defer file.Close()
		reader = file
	}
	labels := map[string]string{labelManaged: "managed"}
	if o.pin {
		labels[labelPinned] = "pinned"
	}
	// The lease keeps the content from being collected until it is unpacked.
	ctx, done, err := client.WithLease(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = done(context.WithoutCancel(ctx)) }()
	list, err := client.Import(ctx, reader, containerd.WithImageLabels(labels))
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	if len(list) == 0 {
		return errors.New("the archive names no image for this machine")
	}
	for _, entry := range list {
		image := containerd.NewImage(client, entry)
		if err := image.Unpack(ctx, o.snapshotter); err != nil {
			return fmt.Errorf("unpack %s: %w", entry.Name, err)
		}
		if _, err := fmt.Fprintln(out, entry.Name); err != nil {
			return err
		}
	}
	return nil
}
