package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Limits of lists: a registry could go on for ever.
const (
	listPages = 1000
	listLimit = 16 << 20 // bytes of one page
)

// Tags lists all tags of a repository in the registry's order. fs.ErrNotExist if there is no such repository.
func (c *Client) Tags(ctx context.Context, repo Repository) ([]string, error) {
	var all []string
	err := c.resolve(ctx, repo, func(h Host) error {
		all = nil
		return c.pages(ctx, h, repo, "/"+repo.Name+"/tags/list", "", func(body []byte, _ http.Header) error {
			var page struct {
				Tags []string `json:"tags"`
			}
			if err := json.Unmarshal(body, &page); err != nil {
				return fmt.Errorf("the list of tags of %s is not the JSON document that is expected: %w", repo, err)
			}
			for _, t := range page.Tags {
				if isTag(t) {
					all = append(all, t)
				}
			}
			return nil
		})
	})
	return all, err
}

// Repositories lists a registry's repositories, where it has such a list (the catalog of distribution).
func (c *Client) Repositories(ctx context.Context, host string) ([]string, error) {
	var all []string
	h, err := c.pushHost(ctx, Repository{Host: host})
	if err != nil {
		return nil, err
	}
	err = c.pages(ctx, h, Repository{Host: host}, "/_catalog", "", func(body []byte, _ http.Header) error {
		var page struct {
			Repositories []string `json:"repositories"`
		}
		if err := json.Unmarshal(body, &page); err != nil {
			return fmt.Errorf("the list of repositories of %s is not the JSON document that is expected: %w", host, err)
		}
		for _, r := range page.Repositories {
			if repositoryPattern.MatchString(r) {
				all = append(all, r)
			}
		}
		return nil
	})
	return all, err
}

// pages gets a list page by page, as its Link headers lead (RFC 8288), on the same host only.
func (c *Client) pages(ctx context.Context, h Host, repo Repository, path, query string, take func([]byte, http.Header) error) error {
	seen := map[string]bool{}
	for range listPages {
		resp, err := c.do(ctx, request{host: h, repo: repo, method: http.MethodGet, path: path, query: query, accept: []int{http.StatusOK}})
		if err != nil {
			return err
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, listLimit+1))
		resp.Body.Close()
		if err != nil {
			return err
		}
		if len(body) > listLimit {
			return fmt.Errorf("list of %s: %w: more than %d bytes", repo, ErrTooLarge, listLimit)
		}
		if err := take(body, resp.Header); err != nil {
			return permanent(err)
		}
		next := nextLink(resp.Header)
		if next == "" {
			return nil
		}
		u, err := resp.Request.URL.Parse(next)
		if err != nil || u.Host != resp.Request.URL.Host || u.Scheme != resp.Request.URL.Scheme {
			return permanent(fmt.Errorf("list of %s: the next page is at %q, which is another host or no URL", repo, printable(next, 200)))
		}
		path, query = u.String(), ""
		if seen[path] {
			return permanent(fmt.Errorf("list of %s: the pages lead in a circle", repo))
		}
		seen[path] = true
	}
	return fmt.Errorf("list of %s: %w: more than %d pages", repo, ErrTooLarge, listPages)
}

// nextLink is the target of the Link header with rel="next".
func nextLink(h http.Header) string {
	for _, line := range h.Values("Link") {
		for rest := line; ; {
			_, after, ok := strings.Cut(rest, "<")
			if !ok {
				break
			}
			target, params, ok := strings.Cut(after, ">")
			if !ok {
				break
			}
			mine, _, _ := strings.Cut(params, ",")
			if strings.Contains(strings.ReplaceAll(mine, " ", ""), `rel="next"`) || strings.Contains(strings.ReplaceAll(mine, " ", ""), "rel=next") {
				return target
			}
			rest = params
		}
	}
	return ""
}

// Referrers lists the manifests whose subject is d, of one artifact type or with "" of all. Where the registry does not
// list them itself, the list under the tag ALG-HEX is read (distribution-spec, "Referrers tag schema").
func (c *Client) Referrers(ctx context.Context, repo Repository, d digest.Digest, artifactType string) ([]ocispec.Descriptor, error) {
	var all []ocispec.Descriptor
	err := c.pull(ctx, repo, func(h Host) error {
		all = nil
		query := ""
		if artifactType != "" {
			query = url.Values{"artifactType": {artifactType}}.Encode()
		}
		err := c.pages(ctx, h, repo, "/"+repo.Name+"/referrers/"+string(d), query, func(body []byte, _ http.Header) error {
			page, err := parseReferrers(body)
			all = append(all, page...)
			return err
		})
		var e *Error
		if errors.As(err, &e) && (e.Status == http.StatusNotFound || e.Status == http.StatusMethodNotAllowed || e.Status == http.StatusBadRequest) {
			all, _, err = c.referrersTag(ctx, h, repo, d)
		}
		return err
	})
	if artifactType != "" { // a registry may leave the filter to the client
		all = slices.DeleteFunc(all, func(desc ocispec.Descriptor) bool { return desc.ArtifactType != artifactType })
	}
	return all, err
}

func parseReferrers(body []byte) ([]ocispec.Descriptor, error) {
	var index ocispec.Index
	if err := json.Unmarshal(body, &index); err != nil {
		return nil, fmt.Errorf("the list of referrers is not the JSON document that is expected: %w", err)
	}
	for i, desc := range index.Manifests {
		if err := desc.Digest.Validate(); err != nil {
			return nil, fmt.Errorf("referrer %d: %q is not a digest: %w", i, printable(string(desc.Digest), 100), err)
		}
		if desc.Size < 0 {
			return nil, fmt.Errorf("referrer %d: size is %d", i, desc.Size)
		}
	}
	return index.Manifests, nil
}

// ReferrersTag is the tag under which clients keep the list of what refers to d where the registry does not.
func ReferrersTag(d digest.Digest) string {
	algorithm, hex := d.Algorithm().String(), d.Encoded()
	return algorithm[:min(32, len(algorithm))] + "-" + hex[:min(64, len(hex))]
}

func (c *Client) referrersTag(ctx context.Context, h Host, repo Repository, d digest.Digest) ([]ocispec.Descriptor, ocispec.Index, error) {
	var index ocispec.Index
	_, body, err := c.getManifest(ctx, h, repo.WithTag(ReferrersTag(d)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, index, nil
	}
	if err != nil {
		return nil, index, err
	}
	list, err := parseReferrers(body)
	if err != nil {
		return nil, index, err
	}
	return list, index, json.Unmarshal(body, &index)
}

// addReferrer adds a pushed manifest that has a subject to the list under the subject's tag.
func (c *Client) addReferrer(ctx context.Context, repo Repository, desc ocispec.Descriptor, body []byte) error {
	var m struct {
		ArtifactType string              `json:"artifactType"`
		Config       *ocispec.Descriptor `json:"config"`
		Subject      *ocispec.Descriptor `json:"subject"`
		Annotations  map[string]string   `json:"annotations"`
	}
	if err := json.Unmarshal(body, &m); err != nil || m.Subject == nil {
		return nil // no manifest with a subject
	}
	if err := m.Subject.Digest.Validate(); err != nil {
		return fmt.Errorf("the subject's digest %q: %w", printable(string(m.Subject.Digest), 100), err)
	}
	desc.ArtifactType, desc.Annotations = m.ArtifactType, m.Annotations
	if desc.ArtifactType == "" && m.Config != nil {
		desc.ArtifactType = m.Config.MediaType
	}
	h, err := c.pushHost(ctx, repo)
	if err != nil {
		return err
	}
	list, index, err := c.referrersTag(ctx, h, repo, m.Subject.Digest)
	if err != nil {
		return fmt.Errorf("reading the list of referrers: %w", err)
	}
	if slices.ContainsFunc(list, func(d ocispec.Descriptor) bool { return d.Digest == desc.Digest }) {
		return nil
	}
	index.Manifests = append(list, desc)
	return c.putReferrers(ctx, repo, m.Subject.Digest, index)
}

// putReferrers writes the list under a subject's tag.
func (c *Client) putReferrers(ctx context.Context, repo Repository, subject digest.Digest, index ocispec.Index) error {
	index.Versioned, index.MediaType = specs.Versioned{SchemaVersion: 2}, ocispec.MediaTypeImageIndex
	if index.Manifests == nil {
		index.Manifests = []ocispec.Descriptor{} // the field must be there
	}
	updated, err := json.Marshal(index)
	if err != nil {
		return err
	}
	_, err = c.PutManifest(ctx, repo.WithTag(ReferrersTag(subject)), ocispec.MediaTypeImageIndex, updated)
	return err
}

// subjectOf is the digest that a manifest refers to where the client keeps the list of referrers, else "".
func (c *Client) subjectOf(ctx context.Context, ref Reference) (digest.Digest, error) {
	h, err := c.pushHost(ctx, ref.Repository)
	if err != nil {
		return "", err
	}
	_, body, err := c.getManifest(ctx, h, ref)
	if err != nil {
		return "", err
	}
	var m struct {
		Subject *ocispec.Descriptor `json:"subject"`
	}
	if json.Unmarshal(body, &m) != nil || m.Subject == nil || m.Subject.Digest.Validate() != nil {
		return "", nil
	}
	return m.Subject.Digest, nil
}

// removeReferrer takes a deleted manifest from the list under its subject's tag, if there is one. An empty list is deleted.
func (c *Client) removeReferrer(ctx context.Context, repo Repository, subject, deleted digest.Digest) error {
	h, err := c.pushHost(ctx, repo)
	if err != nil {
		return err
	}
	list, index, err := c.referrersTag(ctx, h, repo, subject)
	if err != nil {
		return fmt.Errorf("reading the list of referrers: %w", err)
	}
	kept := slices.DeleteFunc(slices.Clone(list), func(d ocispec.Descriptor) bool { return d.Digest == deleted })
	if len(kept) == len(list) {
		return nil
	}
	if len(kept) == 0 {
		err := c.delete(ctx, repo, manifestPath(repo.WithTag(ReferrersTag(subject))))
		var refused *Error
		if errors.As(err, &refused) && refused.Status == http.StatusMethodNotAllowed { // tags cannot be deleted there
			return c.putReferrers(ctx, repo, subject, ocispec.Index{Annotations: index.Annotations})
		}
		return err
	}
	index.Manifests = kept
	return c.putReferrers(ctx, repo, subject, index)
}
