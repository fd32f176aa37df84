package server

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// An upload's name begins with a hash of its repository, so that it is valid only there.
func newUpload(repository string) string { return uploadPrefix(repository) + rand.Text() }

func uploadPrefix(repository string) string {
	sum := sha256.Sum256([]byte(repository))
	return hex.EncodeToString(sum[:6])
}

var uploadPattern = regexp.MustCompile(`^[0-9a-f]{12}[A-Z2-7]{26}$`)

func uploadUnknown(name string) error {
	return &Error{Status: http.StatusNotFound, Code: "BLOB_UPLOAD_UNKNOWN", Message: "no such upload: it was finished, cancelled or has expired; begin again", Detail: name}
}

// startUpload begins an upload, mounts a blob of another repository, or takes a whole blob in one request.
func (s *Server) startUpload(w http.ResponseWriter, r *request) error {
	q := r.URL.Query()
	if mount := q.Get("mount"); mount != "" {
		d, err := parseDigest(mount)
		if err != nil {
			return err
		}
		mounted, err := s.mount(r.Context(), r.repository, d, q.Get("from"))
		if err != nil {
			return err
		}
		if mounted {
			created(w, r.repository, d)
			return nil
		}
	}
	if q.Get("digest") != "" {
		return s.wholeUpload(w, r)
	}
	name := newUpload(r.repository)
	up, err := s.storage.Create(r.Context(), name)
	if err != nil {
		return err
	}
	if err := up.Close(); err != nil {
		return err
	}
	r.object = name
	progress(w, r, 0)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// mount lets the repository have a blob that the other repository has; without from, that any repository has.
func (s *Server) mount(ctx context.Context, repository string, d digest.Digest, from string) (bool, error) {
	if from != "" && !namePattern.MatchString(from) {
		return false, nil
	}
	mounted := false
	err := s.storage.Update(ctx, func(tx Tx) error {
		if from != "" {
			if _, err := tx.Record(blobRecord(from, d)); err != nil {
				return err
			}
		}
		if _, err := tx.Blob(d); err != nil {
			return err
		}
		mounted = true
		return tx.Put(Record{Name: blobRecord(repository, d), Digests: []digest.Digest{d}})
	})
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return mounted, err
}

func (s *Server) wholeUpload(w http.ResponseWriter, r *request) error {
	d, err := parseDigest(r.URL.Query().Get("digest"))
	if err != nil {
		return err
	}
	up, err := s.storage.Create(r.Context(), newUpload(r.repository))
	if err != nil {
		return err
	}
	if err := s.receive(up, r); err != nil {
		return errors.Join(err, up.Discard())
	}
	return s.commit(w, r, up, d)
}

// receive appends the body to the upload. Content-Length, where it is given, is enforced by net/http.
func (s *Server) receive(up Upload, r *request) error {
	body := r.Body
	if s.blobLimit > 0 {
		body = http.MaxBytesReader(nil, r.Body, max(0, s.blobLimit-up.Size()))
	}
	_, err := io.CopyBuffer(struct{ io.Writer }{up}, struct{ io.Reader }{body}, make([]byte, 128<<10))
	return err
}

// commit verifies and publishes the upload and gives the blob to the repository. A blob whose content is not what its
// digest says is dropped: nothing could be added to make it right.
func (s *Server) commit(w http.ResponseWriter, r *request, up Upload, d digest.Digest) error {
	if err := up.Commit(r.Context(), d); err != nil {
		return errors.Join(err, up.Discard())
	}
	err := s.storage.Update(r.Context(), func(tx Tx) error {
		if _, err := tx.Blob(d); err != nil {
			return err
		}
		return tx.Put(Record{Name: blobRecord(r.repository, d), Digests: []digest.Digest{d}})
	})
	if err != nil {
		return err
	}
	created(w, r.repository, d)
	return nil
}

func created(w http.ResponseWriter, repository string, d digest.Digest) {
	w.Header().Set("Location", "/v2/"+repository+"/blobs/"+string(d))
	w.Header().Set("Docker-Content-Digest", string(d))
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
}

// progress tells where to send more and how much is there.
func progress(w http.ResponseWriter, r *request, size int64) {
	w.Header().Set("Location", "/v2/"+r.repository+"/blobs/uploads/"+r.object)
	w.Header().Set("Docker-Upload-Uuid", r.object)
	w.Header().Set("Range", "0-"+strconv.FormatInt(max(0, size-1), 10))
}

func (s *Server) resume(r *request) (Upload, error) {
	if !uploadPattern.MatchString(r.object) || !strings.HasPrefix(r.object, uploadPrefix(r.repository)) {
		return nil, uploadUnknown(r.object)
	}
	up, err := s.storage.Resume(r.Context(), r.object)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, uploadUnknown(r.object)
	}
	return up, err
}

// busyFor is how long a request waits for another one to let go of its upload: one that asks for the status, or whose client has gone.
const busyFor = time.Second

// resumeSoon is resume for requests that write. It does not end with the client: what that has sent is kept, and the client asks how much it is.
func (s *Server) resumeSoon(r *request) (Upload, error) {
	for end := time.Now().Add(busyFor); ; time.Sleep(5 * time.Millisecond) {
		up, err := s.resume(r)
		if !errors.Is(err, ErrBusy) || time.Now().After(end) {
			return up, err
		}
	}
}

func (s *Server) uploadStatus(w http.ResponseWriter, r *request) error {
	up, err := s.resume(r)
	if err != nil {
		return err
	}
	size := up.Size()
	if err := up.Close(); err != nil {
		return err
	}
	progress(w, r, size)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// patchUpload appends a chunk, or, without Content-Range, a stream.
func (s *Server) patchUpload(w http.ResponseWriter, r *request) error {
	up, err := s.resumeSoon(r)
	if err != nil {
		return err
	}
	if err := checkRange(r, up.Size()); err != nil {
		return errors.Join(err, up.Close())
	}
	err = s.receive(up, r) // what came before a cut connection stays, the client asks for the status and goes on
	size := up.Size()
	if e := up.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	progress(w, r, size)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (s *Server) finishUpload(w http.ResponseWriter, r *request) error {
	d, err := parseDigest(r.URL.Query().Get("digest"))
	if err != nil {
		return err
	}
	up, err := s.resumeSoon(r)
	if err != nil {
		return err
	}
	if err := checkRange(r, up.Size()); err != nil {
		return errors.Join(err, up.Close())
	}
	if err := s.receive(up, r); err != nil {
		return errors.Join(err, up.Close())
	}
	return s.commit(w, r, up, d)
}

func (s *Server) cancelUpload(w http.ResponseWriter, r *request) error {
	up, err := s.resumeSoon(r)
	if err != nil {
		return err
	}
	if err := up.Discard(); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// checkRange compares a chunk's Content-Range with what is there. Chunks must come in order: distribution-spec,
// "Pushing a blob in chunks".
func checkRange(r *request, size int64) error {
	header := r.Header.Get("Content-Range")
	if header == "" {
		return nil
	}
	start, end, err := parseContentRange(header)
	if err != nil {
		return &Error{Status: http.StatusBadRequest, Code: "BLOB_UPLOAD_INVALID", Message: err.Error()}
	}
	if r.ContentLength >= 0 && r.ContentLength != end-start+1 {
		return &Error{Status: http.StatusBadRequest, Code: "SIZE_INVALID",
			Message: fmt.Sprintf("Content-Range %s is %d bytes, Content-Length says %d", header, end-start+1, r.ContentLength)}
	}
	if start == size {
		return nil
	}
	return &Error{Status: http.StatusRequestedRangeNotSatisfiable, Code: "BLOB_UPLOAD_INVALID",
		Message: fmt.Sprintf("the chunk begins at byte %d, the upload has %d bytes: send the chunks in order", start, size),
		header: http.Header{
			"Location": {"/v2/" + r.repository + "/blobs/uploads/" + r.object},
			"Range":    {"0-" + strconv.FormatInt(max(0, size-1), 10)},
		}}
}

var contentRangePattern = regexp.MustCompile(`^(?:bytes[ =])?([0-9]{1,18})-([0-9]{1,18})(?:/(?:[0-9]{1,18}|\*))?$`)

// parseContentRange reads the range of a chunk: START-END, both inclusive. Some clients write it as in RFC 9110,
// "bytes START-END/TOTAL".
func parseContentRange(header string) (start, end int64, err error) {
	m := contentRangePattern.FindStringSubmatch(header)
	if m == nil {
		return 0, 0, fmt.Errorf("Content-Range %q: expected START-END in bytes, for example 0-1023", header)
	}
	start, _ = strconv.ParseInt(m[1], 10, 64) // 18 digits fit
	end, _ = strconv.ParseInt(m[2], 10, 64)
	if end < start {
		return 0, 0, fmt.Errorf("Content-Range %q: it ends before it begins", header)
	}
	return start, end, nil
}
