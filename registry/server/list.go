package server

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// pageLimit is the greatest number of entries in one answer; the client finds the next page in the Link header.
const pageLimit = 10000

// page cuts sorted names as the parameters n and last ask and says where the next page is.
func page(w http.ResponseWriter, r *request, names []string) ([]string, error) {
	q := r.URL.Query()
	if last := q.Get("last"); last != "" {
		names = names[sort.Search(len(names), func(i int) bool { return names[i] > last }):]
	}
	n := pageLimit
	if text := q.Get("n"); text != "" {
		asked, err := strconv.Atoi(text)
		if err != nil || asked < 0 {
			return nil, &Error{Status: http.StatusBadRequest, Code: "PAGINATION_NUMBER_INVALID", Message: "n must be a number of entries", Detail: text}
		}
		n = min(n, asked)
	}
	if len(names) <= n {
		return names, nil
	}
	names = names[:n]
	if n > 0 {
		q.Set("n", strconv.Itoa(n))
		q.Set("last", names[n-1])
		next := url.URL{Path: r.URL.Path, RawQuery: q.Encode()}
		w.Header().Set("Link", "<"+next.String()+`>; rel="next"`)
	}
	return names, nil
}

func (s *Server) tags(w http.ResponseWriter, r *request) error {
	var names []string
	err := s.storage.Update(r.Context(), func(tx Tx) (err error) {
		if names, err = tx.Names(r.repository + "/_tags"); err != nil || len(names) > 0 {
			return err
		}
		known, err := tx.Names(r.repository + "/_manifests")
		if err == nil && len(known) == 0 {
			return &Error{Status: http.StatusNotFound, Code: "NAME_UNKNOWN", Message: "repository unknown to this registry", Detail: map[string]string{"name": r.repository}}
		}
		return err
	})
	if err != nil {
		return err
	}
	if names, err = page(w, r, names); err != nil {
		return err
	}
	return writeJSON(w, "application/json", map[string]any{"name": r.repository, "tags": append([]string{}, names...)})
}

func (s *Server) catalog(w http.ResponseWriter, r *request) error {
	names, err := s.repositories(r)
	if err != nil {
		return err
	}
	if names, err = page(w, r, names); err != nil {
		return err
	}
	return writeJSON(w, "application/json", map[string]any{"repositories": append([]string{}, names...)})
}

func (s *Server) repositories(r *request) ([]string, error) {
	seen := map[string]bool{}
	err := s.storage.Update(r.Context(), func(tx Tx) error {
		return tx.Walk(r.Context(), func(name string) error {
			if repository, _, ok := strings.Cut(name, "/_manifests/"); ok {
				seen[repository] = true
			}
			return nil
		})
	})
	names := make([]string, 0, len(seen))
	for name := range seen {
		names = append(names, name)
	}
	sort.Strings(names)
	return names, err
}

// referrers lists the manifests whose subject is the given one: distribution-spec, "Listing referrers".
func (s *Server) referrers(w http.ResponseWriter, r *request) error {
	subject, err := parseDigest(r.object)
	if err != nil {
		return err
	}
	filter := r.URL.Query().Get("artifactType")
	found := map[string]ocispec.Descriptor{}
	var names []string
	err = s.storage.Update(r.Context(), func(tx Tx) error {
		all, err := tx.Names(referrerFolder(r.repository, subject))
		for _, name := range all {
			data, e := readManifestData(tx, r.repository, digest.Digest(name))
			if errors.Is(e, fs.ErrNotExist) {
				continue
			}
			if e != nil {
				return e
			}
			if filter == "" || data.Descriptor.ArtifactType == filter {
				found[name] = data.Descriptor
				names = append(names, name)
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	if names, err = page(w, r, names); err != nil {
		return err
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	for _, name := range names {
		index.Manifests = append(index.Manifests, found[name])
	}
	if filter != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	return writeJSON(w, ocispec.MediaTypeImageIndex, index)
}

func writeJSON(w http.ResponseWriter, contentType string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, err = w.Write(body)
	return ignoreDisconnect(err)
}
