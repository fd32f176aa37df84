package server

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"
)

// Records of a repository. A blob and a manifest belong to the repositories they were pushed or mounted to.
func blobRecord(repository string, d digest.Digest) string {
	return repository + "/_blobs/" + string(d)
}

func manifestRecord(repository string, d digest.Digest) string {
	return repository + "/_manifests/" + string(d)
}

func tagRecord(repository, tag string) string { return repository + "/_tags/" + tag }

func referrerFolder(repository string, subject digest.Digest) string {
	return repository + "/_referrers/" + string(subject)
}

// touchAfter is how old a record's last use must be before it is noted again: noting it costs a write.
const touchAfter = time.Minute

func parseDigest(s string) (digest.Digest, error) {
	d, err := digest.Parse(s)
	if err != nil {
		return "", &Error{Status: http.StatusBadRequest, Code: "DIGEST_INVALID", Message: "expected a digest like sha256:HEX: " + err.Error(), Detail: s}
	}
	return d, nil
}

func blobUnknown(d digest.Digest) error {
	return &Error{Status: http.StatusNotFound, Code: "BLOB_UNKNOWN", Message: "blob unknown to this repository", Detail: map[string]string{"digest": string(d)}}
}

// getBlob answers GET and HEAD; ranges and conditions are net/http's.
func (s *Server) getBlob(w http.ResponseWriter, r *request) error {
	d, err := parseDigest(r.object)
	if err != nil {
		return err
	}
	if err := s.use(r.Context(), blobRecord(r.repository, d)); errors.Is(err, fs.ErrNotExist) {
		// A manifest may be read as a blob, too: clients that copy by descriptor do.
		err = s.use(r.Context(), manifestRecord(r.repository, d))
		if errors.Is(err, fs.ErrNotExist) {
			return blobUnknown(d)
		}
		if err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	f, err := s.storage.Open(r.Context(), d)
	if errors.Is(err, fs.ErrNotExist) {
		return blobUnknown(d)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Docker-Content-Digest", string(d))
	h.Set("Etag", `"`+string(d)+`"`)
	h.Set("Cache-Control", "max-age=31536000, immutable")
	http.ServeContent(w, r.Request, "", time.Time{}, f)
	return nil
}

// use notes that a record is in use, so that a collection leaves it alone for its grace period: a client that finds a
// blob present relies on it in the push that follows.
func (s *Server) use(ctx context.Context, name string) error {
	return s.storage.Update(ctx, func(tx Tx) error { return touch(tx, name, s.now()) })
}

func touch(tx Tx, name string, now time.Time) error {
	rec, err := tx.Record(name)
	if err != nil {
		return err
	}
	if now.Sub(rec.Used) > touchAfter {
		return tx.Touch(name)
	}
	return nil
}

func (s *Server) deleteBlob(w http.ResponseWriter, r *request) error {
	d, err := parseDigest(r.object)
	if err != nil {
		return err
	}
	err = s.storage.Exclusive(r.Context(), func(tx Tx) error { return tx.Delete(blobRecord(r.repository, d)) })
	if errors.Is(err, fs.ErrNotExist) {
		return blobUnknown(d)
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
