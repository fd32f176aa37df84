package registry

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"
)

// isTag holds a tag to the specification. A count in the pattern would take as long to compile as all else in this package, in each program.
func isTag(s string) bool { return len(s) <= 128 && tagCharacters.MatchString(s) }

// DockerHub is the host that a reference without one means.
const DockerHub = name.DefaultRegistry // index.docker.io

// Repository is a repository of a registry.
type Repository struct {
	Host string // host or host:port
	Name string // for example library/alpine
}

// Reference names a manifest: by tag, by digest, or by both, in which case the digest decides.
type Reference struct {
	Repository
	Tag    string
	Digest digest.Digest
}

// The grammar of distribution-spec ("Pulling manifests") and of the host as Docker's reference package reads it.
var (
	repositoryPattern = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagCharacters     = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]*$`)
	hostPattern       = regexp.MustCompile(`^([a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?$`)
)

// ParseReference reads [HOST/]NAME[:TAG][@DIGEST] with Docker's rules: the first part is a host if it has a dot or a
// colon or is localhost; without a host it is Docker Hub; without tag and digest the tag is latest. The prefixes oci://
// and docker:// are accepted.
func ParseReference(s string) (Reference, error) {
	r, err := parse(s)
	if err == nil && r.Tag == "" && r.Digest == "" {
		r.Tag = "latest"
	}
	return r, err
}

// ParseRepository reads [HOST/]NAME, without tag and digest.
func ParseRepository(s string) (Repository, error) {
	r, err := parse(s)
	if err == nil && (r.Tag != "" || r.Digest != "") {
		err = badReference(s, "expected a repository without tag and digest")
	}
	return r.Repository, err
}

func badReference(s, why string) error {
	return fmt.Errorf("%q is not an image reference like registry.example.com/team/app:v1: %s", s, why)
}

func parse(s string) (Reference, error) {
	rest := strings.TrimPrefix(strings.TrimPrefix(s, "docker://"), "oci://")
	var r Reference
	if before, after, ok := strings.Cut(rest, "@"); ok {
		d, err := digest.Parse(after)
		if err != nil {
			return Reference{}, badReference(s, fmt.Sprintf("after @ a digest like sha256:HEX is expected (%v)", err))
		}
		rest, r.Digest = before, d
	}
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		rest, r.Tag = rest[:i], rest[i+1:]
		if !isTag(r.Tag) {
			return Reference{}, badReference(s, fmt.Sprintf("the tag %q must be letters, digits and _.- (at most 128, not beginning with . or -)", r.Tag))
		}
	}
	r.Host, r.Name = DockerHub, rest
	if first, after, ok := strings.Cut(rest, "/"); ok && (strings.ContainsAny(first, ".:") || first == "localhost" || strings.ToLower(first) != first) {
		r.Host, r.Name = first, after
	}
	if !hostPattern.MatchString(r.Host) {
		return Reference{}, badReference(s, fmt.Sprintf("%q is not a host or host:port", r.Host))
	}
	if r.Host == "docker.io" || r.Host == "registry-1.docker.io" {
		r.Host = DockerHub
	}
	if r.Host == DockerHub && !strings.Contains(r.Name, "/") {
		r.Name = "library/" + r.Name
	}
	if !repositoryPattern.MatchString(r.Name) || len(r.Name) > 255 {
		return Reference{}, badReference(s, fmt.Sprintf("the name %q must be lower-case words joined by . _ __ - and /, at most 255 characters", r.Name))
	}
	return r, nil
}

// String is HOST/NAME.
func (r Repository) String() string { return r.Host + "/" + r.Name }

// String is the whole reference; ParseReference reads it back.
func (r Reference) String() string {
	s := r.Repository.String()
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + string(r.Digest)
	}
	return s
}

// WithTag is the reference of a tag in the repository.
func (r Repository) WithTag(tag string) Reference { return Reference{Repository: r, Tag: tag} }

// WithDigest is the reference of a digest in the repository.
func (r Repository) WithDigest(d digest.Digest) Reference {
	return Reference{Repository: r, Digest: d}
}

// identifier is what a manifest's path ends with.
func (r Reference) identifier() string {
	if r.Digest != "" {
		return string(r.Digest)
	}
	if r.Tag != "" {
		return r.Tag
	}
	return "latest"
}

// RegistryStr is the host; with String it makes a Repository an authn.Resource.
func (r Repository) RegistryStr() string { return r.Host }

// IsLoopback says whether host (or host:port) can only be this machine. Such registries are spoken to without TLS.
func IsLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
