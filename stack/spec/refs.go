package spec

import (
	"fmt"
	"net/url"
	"strings"
)

// PathPrefix begins a text that stands for an attribute of another resource: $kusion_path.ID.ATTRIBUTE.
const PathPrefix = "$kusion_path."

// PathTo is the text that stands for an attribute of a resource.
func PathTo(id, attribute string) string { return PathPrefix + id + "." + attribute }

// ImplicitRef takes a text that stands for an attribute apart. Ids may hold dots, so that the longest one of known is meant;
// ok is false for a text that is none.
func ImplicitRef(text string, known func(id string) bool) (id string, path []string, ok bool, err error) {
	rest, ok := strings.CutPrefix(text, PathPrefix)
	if !ok {
		return "", nil, false, nil
	}
	for end := len(rest); end > 0; end = strings.LastIndexByte(rest[:end], '.') {
		if !known(rest[:end]) {
			continue
		}
		if end == len(rest) {
			return "", nil, true, fmt.Errorf("the reference %s names a resource and no attribute of it", text)
		}
		return rest[:end], strings.Split(rest[end+1:], "."), true, nil
	}
	return "", nil, true, fmt.Errorf("the reference %s leads to a resource that is not there", text)
}

// SecretPrefix begins a text that stands for a secret of the store: ref://NAME/PROPERTY?version=V.
const SecretPrefix = "ref://"

// maxReference is the length of a reference to a secret, in bytes.
const maxReference = 4096

// SecretRef is a reference to a secret of the store.
type SecretRef struct {
	Name     string // of the secret; may hold slashes
	Property string // of the secret; "" stands for all of it
	Version  string
}

// IsSecretRef says whether a text stands for a secret.
func IsSecretRef(text string) bool { return strings.HasPrefix(text, SecretPrefix) }

// ParseSecretRef takes a reference apart: the last part of the path is the property, host and the rest are the name.
func ParseSecretRef(text string) (SecretRef, error) {
	var ref SecretRef
	if len(text) > maxReference {
		return ref, fmt.Errorf("a reference to a secret may have %d bytes, this one has %d", maxReference, len(text))
	}
	u, err := url.Parse(text)
	if err != nil {
		return ref, fmt.Errorf("the reference to a secret %q cannot be read: %w", text, err)
	}
	if u.Scheme != "ref" || u.Host == "" {
		return ref, fmt.Errorf("%q is no reference to a secret; expected ref://NAME/PROPERTY?version=V", text)
	}
	ref.Name, ref.Version = u.Host, u.Query().Get("version")
	if path := strings.TrimPrefix(u.Path, "/"); path != "" {
		i := strings.LastIndexByte(path, '/')
		if i >= 0 {
			ref.Name += "/" + path[:i]
		}
		ref.Property = path[i+1:]
	}
	return ref, nil
}

// String is the reference as it is written.
func (r SecretRef) String() string {
	host, rest, nested := strings.Cut(r.Name, "/")
	u := url.URL{Scheme: "ref", Host: host}
	if nested {
		u.Path = "/" + rest
	}
	if nested || r.Property != "" {
		u.Path += "/" + r.Property
	}
	if r.Version != "" {
		u.RawQuery = url.Values{"version": {r.Version}}.Encode()
	}
	return u.String()
}
