// Command certificates is what weft/ca-certificates puts into images as exec.d/bindings: before the application starts it adds the
// certificates of bindings to those that the image trusts, and points the usual programs to all of them. It needs no shell and no C library in the
// image, and links nothing but the standard library. What it gives the launcher is TOML on descriptor 3 (buildpack.md, "exec.d").
package main

import (
	"bytes"
	"cmp"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxFile is the greatest size of a file in a binding, in bytes; all certificates of Debian are 220 kB.
const maxFile = 8 << 20

// variables name the file with certificates for OpenSSL and Go, Node.js, pip and Python's requests.
var variables = []string{"SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "PIP_CERT", "REQUESTS_CA_BUNDLE"}

func main() {
	out := os.NewFile(3, "exec.d")
	if err := run(os.Getenv, out); err != nil {
		fmt.Fprintln(os.Stderr, "ca-certificates:", err)
		os.Exit(1)
	}
}

// run writes a file with the image's certificates and those of all bindings, and tells where it is. Without bindings it does nothing.
func run(getenv func(string) string, out io.Writer) error {
	own, err := certificates(cmp.Or(getenv("SERVICE_BINDING_ROOT"), "/platform/bindings"))
	if err != nil || len(own) == 0 {
		return err
	}
	image, err := os.ReadFile(cmp.Or(getenv("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt"))
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	f, err := os.CreateTemp(cmp.Or(getenv("TMPDIR"), "/tmp"), "ca-certificates-")
	if err != nil {
		return fmt.Errorf("the certificates of bindings need a folder that can be written; TMPDIR may name one: %w", err)
	}
	_, err = f.Write(slices.Concat(image, own))
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	for _, name := range variables {
		if err == nil {
			_, err = fmt.Fprintf(out, "%s = %q\n", name, f.Name())
		}
	}
	return err
}

// certificates gives those of all bindings of the type ca-certificates below a folder (servicebinding.io, "Workload Projection"), each after
// an empty line.
func certificates(root string) ([]byte, error) {
	types, err := filepath.Glob(filepath.Join(root, "*", "type"))
	if err != nil {
		return nil, err
	}
	var all bytes.Buffer
	for _, file := range types {
		kind, err := read(file)
		if err != nil {
			return nil, err
		}
		if strings.TrimSpace(string(kind)) != "ca-certificates" {
			continue
		}
		entries, err := os.ReadDir(filepath.Dir(file))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			// Kubernetes keeps the versions of a Secret below names that begin with a point.
			if name := e.Name(); name == "type" || name == "provider" || strings.HasPrefix(name, ".") {
				continue
			}
			name := filepath.Join(filepath.Dir(file), e.Name())
			text, err := read(name)
			if err == nil {
				err = check(name, text)
			}
			if err != nil {
				return nil, err
			}
			all.WriteByte('\n')
			all.Write(text)
		}
	}
	return all.Bytes(), nil
}

// check makes sure that a file has certificates, and nothing that must not be shown to others.
func check(name string, text []byte) error {
	found := false
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		found = found || strings.HasSuffix(block.Type, "CERTIFICATE")
	}
	switch {
	case bytes.Contains(text, []byte("PRIVATE KEY-----")):
		return fmt.Errorf("%s has a private key; a binding of the type ca-certificates has certificates only", name)
	case !found:
		return fmt.Errorf("%s is no certificate in the form PEM: it has no line -----BEGIN CERTIFICATE-----, or what follows is damaged", name)
	}
	return nil
}

func read(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s has more than %d MiB; certificates are small", name, maxFile>>20)
	}
	return text, err
}
