package stdlib

import (
	"crypto/md5"  //nolint:gosec // offered by the language, not used for security here
	"crypto/sha1" //nolint:gosec // likewise
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/zeebo/blake3"
	"golang.org/x/text/encoding/htmlindex"

	"github.com/weft-dev/weft/kcl/value"
)

var cryptoFunctions = map[string]function{
	"md5": digest("md5", md5.New), "sha1": digest("sha1", sha1.New),
	"sha224": digest("sha224", sha256.New224), "sha256": digest("sha256", sha256.New),
	"sha384": digest("sha384", sha512.New384), "sha512": digest("sha512", sha512.New),
	"blake3":     digest("blake3", newBlake3),
	"filesha256": fileDigest("filesha256", sha256.New), "filesha512": fileDigest("filesha512", sha512.New),
	"fileblake3": fileDigest("fileblake3", newBlake3),
	"uuid":       uuid,
}

func newBlake3() hash.Hash { return blake3.New() }

func digest(fn string, newHash func() hash.Hash) function {
	return func(c *value.Call) (value.Value, error) {
		a := read(c)
		s := a.str(0, "value", missing(fn, "value"))
		if a.err != nil {
			return nil, a.err
		}
		data := []byte(s)
		if name, ok := a.optional(1, "encoding"); ok {
			var err error
			if data, err = encodeText(s, name); err != nil {
				return nil, err
			}
		}
		h := newHash()
		h.Write(data)
		return value.Str(hex.EncodeToString(h.Sum(nil))), nil
	}
}

// encodeText turns s into the bytes of the encoding that the WHATWG knows by name.
func encodeText(s, name string) ([]byte, error) {
	label := strings.ReplaceAll(strings.ToLower(name), " ", "-")
	if label == "utf-8" || label == "utf8" {
		return []byte(s), nil
	}
	e, err := htmlindex.Get(label)
	if err != nil {
		return nil, fmt.Errorf("unknown encoding %s", label)
	}
	data, err := e.NewEncoder().Bytes([]byte(s))
	if err != nil {
		return nil, fmt.Errorf("encoding errors occurred while encoding to %s", label)
	}
	return data, nil
}

func fileDigest(fn string, newHash func() hash.Hash) function {
	return func(c *value.Call) (value.Value, error) {
		a := read(c)
		path := a.str(0, "filepath", missing(fn, "filepath"))
		if a.err != nil {
			return nil, a.err
		}
		files, err := readable(c, fn)
		if err != nil {
			return nil, err
		}
		data, err := files.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("failed to access file '%s': %s", path, osError(err))
		}
		h := newHash()
		h.Write(data)
		return value.Str(hex.EncodeToString(h.Sum(nil))), nil
	}
}

// uuid is a random UUID (version 4) from the host's source of randomness.
func uuid(c *value.Call) (value.Value, error) {
	if c.Host == nil || c.Host.Random == nil {
		return nil, errors.New("uuid() needs a source of randomness, which this run has not")
	}
	var b [16]byte
	if _, err := io.ReadFull(c.Host.Random, b[:]); err != nil {
		return nil, fmt.Errorf("uuid(): %w", err)
	}
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return value.Str(fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])), nil
}
