package debian

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Limits on packages.
const (
	maxControl  = 16 << 20 // bytes of control.tar, unpacked
	maxUnpacked = 16 << 30 // bytes of data.tar, unpacked
	maxWindow   = 1 << 28  // bytes of memory that a decompressor may want
)

// readDeb reads a binary package (deb(5)): control is called with the control file, then entry with each member of the data archive.
func readDeb(r io.Reader, control func(string) error, entry func(*tar.Header, io.Reader) error) error {
	in := bufio.NewReaderSize(r, 256<<10)
	magic := make([]byte, 8)
	if _, err := io.ReadFull(in, magic); err != nil || string(magic) != "!<arch>\n" {
		return errors.New("not a Debian package: it does not begin as an ar archive")
	}
	var seen []string
	for {
		name, size, err := arHeader(in)
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("the package has no data archive, only %s", strings.Join(seen, ", "))
		}
		if err != nil {
			return err
		}
		seen = append(seen, name)
		body := io.LimitReader(in, size)
		base, ending, _ := strings.Cut(name, ".")
		switch {
		case name == "debian-binary":
			version, err := io.ReadAll(io.LimitReader(body, 16))
			if err != nil || !bytes.HasPrefix(version, []byte("2.")) {
				return fmt.Errorf("the package has format version %q, 2.0 is supported", version)
			}
		case base == "control":
			text, err := readControl(body, ending)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if err := control(text); err != nil {
				return err
			}
		case base == "data":
			tr, done, err := openTar(body, ending, maxUnpacked)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			defer done()
			for {
				h, err := tr.Next()
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				if err := entry(h, tr); err != nil {
					return err
				}
			}
		}
		if _, err := io.Copy(io.Discard, body); err != nil {
			return err
		}
		if size%2 == 1 {
			if _, err := in.Discard(1); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
		}
	}
}

// arHeader reads the header of a member; io.EOF at the end of the archive.
func arHeader(in io.Reader) (name string, size int64, err error) {
	h := make([]byte, 60)
	n, err := io.ReadFull(in, h)
	if n == 0 && errors.Is(err, io.EOF) {
		return "", 0, io.EOF
	}
	if err != nil || string(h[58:]) != "`\n" {
		return "", 0, errors.New("a header of the ar archive is broken")
	}
	size, err = strconv.ParseInt(strings.TrimSpace(string(h[48:58])), 10, 64)
	if err != nil || size < 0 {
		return "", 0, fmt.Errorf("a member of the ar archive has the size %q", h[48:58])
	}
	return strings.TrimSuffix(strings.TrimSpace(string(h[:16])), "/"), size, nil
}

func readControl(r io.Reader, ending string) (string, error) {
	tr, done, err := openTar(r, ending, maxControl)
	if err != nil {
		return "", err
	}
	defer done()
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return "", errors.New("there is no control file")
		}
		if err != nil {
			return "", err
		}
		if strings.TrimPrefix(h.Name, "./") == "control" {
			text, err := io.ReadAll(tr)
			return string(text), err
		}
	}
}

// openTar opens tar, tar.gz, tar.xz, tar.zst or tar.bz2.
func openTar(r io.Reader, ending string, limit int64) (*tar.Reader, func(), error) {
	plain, done, err := decompress(r, strings.TrimPrefix(strings.TrimPrefix(ending, "tar"), "."))
	if err != nil {
		return nil, nil, err
	}
	return tar.NewReader(&limited{plain, limit}), done, nil
}

func decompress(r io.Reader, kind string) (io.Reader, func(), error) {
	switch kind {
	case "":
		return r, func() {}, nil
	case "gz":
		z, err := gzip.NewReader(r)
		return z, func() {}, err
	case "xz":
		z, err := xz.ReaderConfig{DictCap: maxWindow}.NewReader(bufio.NewReaderSize(r, 64<<10))
		return z, func() {}, err
	case "zst":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxWindow))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	case "bz2":
		return bzip2.NewReader(r), func() {}, nil
	}
	return nil, nil, fmt.Errorf("the compression %q is not supported", kind)
}

// limited is an io.LimitedReader that tells when there would be more.
type limited struct {
	r    io.Reader
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errors.New("it unpacks to more than is allowed")
	}
	if int64(len(p)) > l.left {
		p = p[:l.left]
	}
	n, err := l.r.Read(p)
	l.left -= int64(n)
	return n, err
}
