package registry

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
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of Docker's image manifest version 2, schema 2.
const (
	MediaTypeDockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
)

var acceptManifests = []string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, MediaTypeDockerManifest, MediaTypeDockerManifestList, "*/*;q=0.1"}

// IsIndex says whether a media type is that of a list of manifests.
func IsIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == MediaTypeDockerManifestList
}

func manifestPath(r Reference) string { return "/" + r.Name + "/manifests/" + r.identifier() }

// Manifest gets a manifest and its descriptor. The bytes match the digest, which is the reference's if it has one.
// fs.ErrNotExist if there is none.
func (c *Client) Manifest(ctx context.Context, ref Reference) (ocispec.Descriptor, []byte, error) {
	var desc ocispec.Descriptor
	var body []byte
	err := c.manifestHosts(ctx, ref, func(h Host) (err error) {
		desc, body, err = c.getManifest(ctx, h, ref)
		return err
	})
	return desc, body, err
}

// manifestHosts are those that may answer: a tag needs a host that may resolve.
func (c *Client) manifestHosts(ctx context.Context, ref Reference, do func(Host) error) error {
	if ref.Digest == "" {
		return c.resolve(ctx, ref.Repository, do)
	}
	return c.pull(ctx, ref.Repository, do)
}

func (c *Client) getManifest(ctx context.Context, h Host, ref Reference) (ocispec.Descriptor, []byte, error) {
	a := attempts{retry: c.options.Retry}
	for {
		desc, body, err := c.getManifestOnce(ctx, h, ref)
		if err == nil {
			return desc, body, nil
		}
		if err := a.pause(ctx, err); err != nil {
			return ocispec.Descriptor{}, nil, err
		}
	}
}

func (c *Client) getManifestOnce(ctx context.Context, h Host, ref Reference) (ocispec.Descriptor, []byte, error) {
	var none ocispec.Descriptor
	resp, err := c.do(ctx, request{host: h, repo: ref.Repository, method: http.MethodGet, path: manifestPath(ref),
		header: http.Header{"Accept": acceptManifests}, accept: []int{http.StatusOK}, once: true})
	if err != nil {
		return none, nil, err
	}
	defer resp.Body.Close()
	if resp.ContentLength > c.options.ManifestLimit {
		return none, nil, fmt.Errorf("manifest %s: %w: %d bytes, at most %d", ref, ErrTooLarge, resp.ContentLength, c.options.ManifestLimit)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, c.options.ManifestLimit+1))
	if err != nil {
		return none, nil, fmt.Errorf("manifest %s: %w", ref, err)
	}
	if int64(len(body)) > c.options.ManifestLimit {
		return none, nil, fmt.Errorf("manifest %s: %w: more than %d bytes", ref, ErrTooLarge, c.options.ManifestLimit)
	}
	d := ref.Digest
	if d == "" {
		d = digest.SHA256.FromBytes(nil)
		if said := digest.Digest(resp.Header.Get("Docker-Content-Digest")); said.Validate() == nil {
			d = said
		}
	}
	got := d.Algorithm().FromBytes(body)
	if ref.Digest != "" && got != ref.Digest {
		return none, nil, fmt.Errorf("manifest %s from %s: %w: it is %s", ref, h.Name, ErrDigest, got)
	}
	mediaType, err := manifestType(body, resp.Header.Get("Content-Type"))
	if err != nil {
		return none, nil, permanent(fmt.Errorf("manifest %s from %s: %w", ref, h.Name, err))
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: got, Size: int64(len(body))}, body, nil
}

// manifestType says what a manifest is: by its own mediaType, else by what the registry says, else by its fields.
func manifestType(body []byte, contentType string) (string, error) {
	var m struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     string          `json:"mediaType"`
		Manifests     json.RawMessage `json:"manifests"`
		Layers        json.RawMessage `json:"layers"`
		Config        json.RawMessage `json:"config"`
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return "", fmt.Errorf("it is not a manifest but %s", describe(contentType))
	}
	if m.SchemaVersion == 1 {
		return "", errors.New("it is in Docker's format of schema version 1, which has been given up: push the image again with a newer tool")
	}
	// image-spec, "mediaType": a document that is both would be read differently by different programs.
	if m.Manifests != nil && (m.Layers != nil || m.Config != nil) {
		return "", errors.New("it has manifests and also layers or config: it must be either an index or an image")
	}
	if m.MediaType != "" {
		return m.MediaType, nil
	}
	if t, _, err := mime.ParseMediaType(contentType); err == nil && strings.HasPrefix(t, "application/vnd.") {
		return t, nil
	}
	if m.Manifests != nil {
		return ocispec.MediaTypeImageIndex, nil
	}
	return ocispec.MediaTypeImageManifest, nil
}

func describe(contentType string) string {
	if contentType == "" {
		return "something else"
	}
	return printable(contentType, 80)
}

// Resolve says what a reference leads to without getting it. fs.ErrNotExist if there is nothing.
func (c *Client) Resolve(ctx context.Context, ref Reference) (ocispec.Descriptor, error) {
	var desc ocispec.Descriptor
	err := c.manifestHosts(ctx, ref, func(h Host) error {
		resp, err := c.do(ctx, request{host: h, repo: ref.Repository, method: http.MethodHead, path: manifestPath(ref),
			header: http.Header{"Accept": acceptManifests}, accept: []int{http.StatusOK}})
		if err == nil {
			defer resp.Body.Close()
			d := digest.Digest(resp.Header.Get("Docker-Content-Digest"))
			if d.Validate() == nil && resp.ContentLength >= 0 && (ref.Digest == "" || d == ref.Digest) {
				t, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
				desc = ocispec.Descriptor{MediaType: t, Digest: d, Size: resp.ContentLength}
				return nil
			}
		} else if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrUnauthorized) {
			return err
		}
		desc, _, err = c.getManifest(ctx, h, ref) // the registry answers HEAD with less than it should
		return err
	})
	return desc, err
}

// PutManifest pushes a manifest under a tag or its digest. Its blobs must be there already. If it has a subject and the
// registry does not list referrers itself, the list is kept under a tag, as distribution-spec ("Pushing manifests with
// subject") asks of clients.
func (c *Client) PutManifest(ctx context.Context, ref Reference, mediaType string, body []byte) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(body), Size: int64(len(body))}
	if ref.Digest != "" && ref.Tag == "" {
		if desc.Digest = ref.Digest.Algorithm().FromBytes(body); desc.Digest != ref.Digest {
			return desc, fmt.Errorf("pushing %s: %w: the manifest is %s", ref, ErrDigest, desc.Digest)
		}
	}
	h, err := c.pushHost(ctx, ref.Repository)
	if err != nil {
		return desc, err
	}
	ref.Digest = ""
	if ref.Tag == "" {
		ref.Digest = desc.Digest
	}
	resp, err := c.do(ctx, request{host: h, repo: ref.Repository, method: http.MethodPut, path: manifestPath(ref), push: true,
		header: http.Header{"Content-Type": {mediaType}}, body: bytesBody(body), length: int64(len(body)),
		accept: []int{http.StatusCreated, http.StatusOK, http.StatusAccepted}})
	if err != nil {
		return desc, fmt.Errorf("pushing %s: %w", ref, err)
	}
	if err := drain(resp); err != nil {
		return desc, err
	}
	if said := digest.Digest(resp.Header.Get("Docker-Content-Digest")); said.Validate() == nil && said.Algorithm() == desc.Digest.Algorithm() && said != desc.Digest {
		return desc, fmt.Errorf("pushing %s: %w: the registry stored %s instead of %s", ref, ErrDigest, said, desc.Digest)
	}
	if resp.Header.Get("OCI-Subject") != "" {
		return desc, nil
	}
	return desc, c.addReferrer(ctx, ref.Repository, desc, body)
}

func bytesBody(b []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

// Delete deletes a tag, or with a digest the manifest. fs.ErrNotExist if there is none. A manifest that has a subject is taken from the
// list under the subject's tag, where the registry does not list referrers itself (distribution-spec, "Deleting manifests").
func (c *Client) Delete(ctx context.Context, ref Reference) error {
	subject := digest.Digest("")
	if ref.Digest != "" && ref.Tag == "" {
		var err error
		if subject, err = c.subjectOf(ctx, ref); err != nil {
			return err
		}
	}
	if err := c.delete(ctx, ref.Repository, manifestPath(ref)); err != nil || subject == "" {
		return err
	}
	return c.removeReferrer(ctx, ref.Repository, subject, ref.Digest)
}

// DeleteBlob deletes a blob from a repository. fs.ErrNotExist if it is not there.
func (c *Client) DeleteBlob(ctx context.Context, repo Repository, d digest.Digest) error {
	return c.delete(ctx, repo, "/"+repo.Name+"/blobs/"+string(d))
}

func (c *Client) delete(ctx context.Context, repo Repository, path string) error {
	h, err := c.pushHost(ctx, repo)
	if err != nil {
		return err
	}
	resp, err := c.do(ctx, request{host: h, repo: repo, method: http.MethodDelete, path: path, accept: []int{http.StatusAccepted, http.StatusOK, http.StatusNoContent}})
	if err != nil {
		return err
	}
	return drain(resp)
}
