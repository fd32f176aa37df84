package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// manifestData is what a manifest's record keeps, so that lists and collections need not parse manifests again.
type manifestData struct {
	Descriptor ocispec.Descriptor `json:"descriptor"`
	Subject    digest.Digest      `json:"subject,omitempty"`
	Manifests  []digest.Digest    `json:"manifests,omitempty"` // an index's
	Blobs      []digest.Digest    `json:"blobs,omitempty"`     // config and layers
}

func manifestUnknown(reference string) error {
	return &Error{Status: http.StatusNotFound, Code: "MANIFEST_UNKNOWN", Message: "manifest unknown", Detail: map[string]string{"reference": reference}}
}

// resolve finds the manifest of a tag or digest.
func resolve(tx Tx, r *request) (digest.Digest, error) {
	if isTag(r.object) {
		rec, err := tx.Record(tagRecord(r.repository, r.object))
		if errors.Is(err, fs.ErrNotExist) {
			return "", manifestUnknown(r.object)
		}
		if err != nil {
			return "", err
		}
		if len(rec.Digests) != 1 {
			return "", fmt.Errorf("the record of tag %s:%s is damaged", r.repository, r.object)
		}
		return rec.Digests[0], nil
	}
	return parseDigest(r.object)
}

func readManifestData(tx Tx, repository string, d digest.Digest) (manifestData, error) {
	var data manifestData
	rec, err := tx.Record(manifestRecord(repository, d))
	if err != nil {
		return data, err
	}
	if err := json.Unmarshal(rec.Data, &data); err != nil {
		return data, fmt.Errorf("the record of manifest %s@%s is damaged: %w", repository, d, err)
	}
	return data, nil
}

// getManifest answers GET and HEAD.
func (s *Server) getManifest(w http.ResponseWriter, r *request) error {
	var data manifestData
	var f Content
	err := s.storage.Update(r.Context(), func(tx Tx) error {
		d, err := resolve(tx, r)
		if err != nil {
			return err
		}
		if data, err = readManifestData(tx, r.repository, d); err == nil {
			err = touch(tx, manifestRecord(r.repository, d), s.now())
		}
		if err == nil {
			f, err = s.storage.Open(r.Context(), d)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return manifestUnknown(r.object)
		}
		return err
	})
	if err != nil {
		return err
	}
	defer f.Close()
	desc := data.Descriptor
	body, err := io.ReadAll(io.LimitReader(f, desc.Size+1))
	if err != nil {
		return err
	}
	if desc.Digest.Algorithm().FromBytes(body) != desc.Digest {
		return fmt.Errorf("manifest %s was damaged on the disk: push it again", desc.Digest)
	}
	h := w.Header()
	h.Set("Content-Type", desc.MediaType)
	h.Set("Docker-Content-Digest", string(desc.Digest))
	h.Set("Etag", `"`+string(desc.Digest)+`"`)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodHead {
		return nil
	}
	_, err = w.Write(body)
	return ignoreDisconnect(err)
}

// putManifest takes a manifest whose blobs the repository has.
func (s *Server) putManifest(w http.ResponseWriter, r *request) error {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, s.manifestLimit))
	if err != nil {
		return err
	}
	tag := ""
	d := digest.FromBytes(body)
	if isTag(r.object) {
		tag = r.object
	} else if want, err := parseDigest(r.object); err != nil {
		return &Error{Status: http.StatusBadRequest, Code: "MANIFEST_INVALID", Message: "expected a tag ([a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}) or a digest", Detail: r.object}
	} else if d = want.Algorithm().FromBytes(body); d != want {
		return fmt.Errorf("%w: the manifest is %s, not %s", ErrDigest, d, want)
	}
	data, err := parseManifest(body, r.Header.Get("Content-Type"), d)
	if err != nil {
		return &Error{Status: http.StatusBadRequest, Code: "MANIFEST_INVALID", Message: err.Error()}
	}
	tags, err := tagsOf(r, tag)
	if err != nil {
		return err
	}
	if err := s.storeManifest(r.Context(), r.repository, tags, body, data); err != nil {
		return err
	}
	if tag == "" && len(tags) > 0 {
		w.Header()["Oci-Tag"] = []string{strings.Join(tags, ", ")}
	}
	if data.Subject != "" {
		w.Header().Set("OCI-Subject", string(data.Subject))
	}
	w.Header().Set("Location", "/v2/"+r.repository+"/manifests/"+string(d))
	w.Header().Set("Docker-Content-Digest", string(d))
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
	return nil
}

// tagsOf are the tags that a push sets: the one in its path, or those in the parameter tag of a push by digest.
func tagsOf(r *request, tag string) ([]string, error) {
	if tag != "" {
		return []string{tag}, nil
	}
	tags := r.URL.Query()["tag"]
	for _, t := range tags {
		if !isTag(t) {
			return nil, &Error{Status: http.StatusBadRequest, Code: "MANIFEST_INVALID", Message: "the parameter tag is not a tag ([a-zA-Z0-9_][a-zA-Z0-9._-]{0,127})", Detail: t}
		}
	}
	return tags, nil
}

func (s *Server) storeManifest(ctx context.Context, repository string, tags []string, body []byte, data manifestData) error {
	d := data.Descriptor.Digest
	up, err := s.storage.Create(ctx, newUpload(repository))
	if err != nil {
		return err
	}
	if _, err = io.Copy(up, bytes.NewReader(body)); err == nil {
		err = up.Commit(ctx, d)
	}
	if err != nil {
		return errors.Join(err, up.Discard())
	}
	record, err := json.Marshal(data)
	if err != nil {
		return err
	}
	return s.storage.Update(ctx, func(tx Tx) error {
		if _, err := tx.Blob(d); err != nil {
			return err
		}
		if err := checkChildren(tx, repository, data); err != nil {
			return err
		}
		if err := tx.Put(Record{Name: manifestRecord(repository, d), Digests: []digest.Digest{d}, Data: record}); err != nil {
			return err
		}
		if data.Subject != "" {
			if err := tx.Put(Record{Name: referrerFolder(repository, data.Subject) + "/" + string(d)}); err != nil {
				return err
			}
		}
		for _, tag := range tags {
			if err := tx.Put(Record{Name: tagRecord(repository, tag), Digests: []digest.Digest{d}}); err != nil {
				return err
			}
		}
		return nil
	})
}

// checkChildren refuses a manifest that names what the repository does not have: nobody could pull it.
func checkChildren(tx Tx, repository string, data manifestData) error {
	for _, d := range data.Blobs {
		if _, err := tx.Record(blobRecord(repository, d)); errors.Is(err, fs.ErrNotExist) {
			return &Error{Status: http.StatusNotFound, Code: "MANIFEST_BLOB_UNKNOWN", Message: "the manifest names a blob that was not pushed: push blobs first", Detail: map[string]string{"digest": string(d)}}
		} else if err != nil {
			return err
		}
	}
	for _, d := range data.Manifests {
		if _, err := tx.Record(manifestRecord(repository, d)); errors.Is(err, fs.ErrNotExist) {
			return &Error{Status: http.StatusNotFound, Code: "MANIFEST_UNKNOWN", Message: "the index names a manifest that was not pushed: push it first", Detail: map[string]string{"digest": string(d)}}
		} else if err != nil {
			return err
		}
	}
	return nil
}

// Media types of Docker's image manifest version 2, schema 2.
const (
	dockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	dockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// anyManifest has the fields of image manifests and indexes that a registry looks at (image-spec, manifest.md and
// image-index.md).
type anyManifest struct {
	SchemaVersion int                  `json:"schemaVersion"`
	MediaType     string               `json:"mediaType"`
	ArtifactType  string               `json:"artifactType"`
	Config        *ocispec.Descriptor  `json:"config"`
	Layers        []ocispec.Descriptor `json:"layers"`
	Manifests     []ocispec.Descriptor `json:"manifests"`
	Subject       *ocispec.Descriptor  `json:"subject"`
	Annotations   map[string]string    `json:"annotations"`
}

// parseManifest reads a pushed manifest. Other formats than images and indexes are kept as they are.
func parseManifest(body []byte, contentType string, d digest.Digest) (manifestData, error) {
	var m anyManifest
	if err := json.Unmarshal(body, &m); err != nil {
		return manifestData{}, fmt.Errorf("the manifest is not JSON of the expected form: %w", err)
	}
	mediaType := m.MediaType
	if contentType != "" {
		t, _, err := mime.ParseMediaType(contentType)
		if err != nil {
			return manifestData{}, fmt.Errorf("Content-Type %q: %w", contentType, err)
		}
		if mediaType != "" && t != mediaType {
			return manifestData{}, fmt.Errorf("Content-Type is %q, the manifest's mediaType is %q: they must agree", t, mediaType)
		}
		mediaType = t
	}
	if mediaType == "" {
		return manifestData{}, errors.New("the manifest has no mediaType and the request no Content-Type: one must say what it is")
	}
	data := manifestData{Descriptor: ocispec.Descriptor{
		MediaType: mediaType, Digest: d, Size: int64(len(body)), ArtifactType: m.ArtifactType, Annotations: m.Annotations,
	}}
	return data, data.collect(m)
}

// collect checks the descriptors and notes what the manifest needs.
func (data *manifestData) collect(m anyManifest) error {
	check := func(field string, desc ocispec.Descriptor) error {
		if err := desc.Digest.Validate(); err != nil {
			return fmt.Errorf("%s.digest %q: expected a digest like sha256:HEX: %w", field, string(desc.Digest), err)
		}
		if desc.Size < 0 {
			return fmt.Errorf("%s.size is %d: expected bytes", field, desc.Size)
		}
		return nil
	}
	if m.Subject != nil {
		if err := check("subject", *m.Subject); err != nil {
			return err
		}
		data.Subject = m.Subject.Digest
	}
	switch data.Descriptor.MediaType {
	case ocispec.MediaTypeImageManifest, dockerManifest:
		if m.Config == nil {
			return errors.New("config is missing: an image manifest needs one")
		}
		if err := check("config", *m.Config); err != nil {
			return err
		}
		if data.Descriptor.ArtifactType == "" {
			data.Descriptor.ArtifactType = m.Config.MediaType // distribution-spec, "Listing referrers"
		}
		data.Blobs = append(data.Blobs, m.Config.Digest)
		for i, l := range m.Layers {
			if err := check(fmt.Sprintf("layers[%d]", i), l); err != nil {
				return err
			}
			if len(l.URLs) == 0 { // those with URLs lie elsewhere
				data.Blobs = append(data.Blobs, l.Digest)
			}
		}
	case ocispec.MediaTypeImageIndex, dockerManifestList:
		for i, l := range m.Manifests {
			if err := check(fmt.Sprintf("manifests[%d]", i), l); err != nil {
				return err
			}
			data.Manifests = append(data.Manifests, l.Digest)
		}
	}
	return nil
}

// deleteManifest deletes a tag, or a manifest with the tags that lead to it.
func (s *Server) deleteManifest(w http.ResponseWriter, r *request) error {
	err := s.storage.Exclusive(r.Context(), func(tx Tx) error {
		if isTag(r.object) {
			return tx.Delete(tagRecord(r.repository, r.object))
		}
		d, err := parseDigest(r.object)
		if err != nil {
			return err
		}
		return dropManifest(tx, r.repository, d)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return manifestUnknown(r.object)
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func dropManifest(tx Tx, repository string, d digest.Digest) error {
	data, err := readManifestData(tx, repository, d)
	if err != nil {
		return err
	}
	tags, err := tx.Names(repository + "/_tags")
	if err != nil {
		return err
	}
	for _, tag := range tags {
		rec, err := tx.Record(tagRecord(repository, tag))
		if err == nil && len(rec.Digests) == 1 && rec.Digests[0] == d {
			err = tx.Delete(rec.Name)
		}
		if err != nil {
			return err
		}
	}
	if data.Subject != "" {
		if err := tx.Delete(referrerFolder(repository, data.Subject) + "/" + string(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return tx.Delete(manifestRecord(repository, d))
}
