package debian

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/weft-dev/weft/buildpack/layer"
)

// recipe is the version of what content and setup write: the same lock and recipe give the same bytes.
const recipe = 1

// left out of layers: what nobody reads in a container. Licences stay.
var leftOut = []string{"/usr/share/man/", "/usr/share/info/", "/usr/share/locale/", "/usr/share/lintian/", "/usr/share/bug/", "/usr/share/doc-base/",
	"/usr/share/menu/", "/usr/share/icons/", "/var/cache/", "/usr/share/bash-completion/", "/usr/share/zsh/"}

// merged are the folders of the root that are links to those below /usr.
var merged = []string{"bin", "lib", "sbin"}

// unpacking is a layer under way.
type unpacking struct {
	ctx     context.Context
	archive *Archive
	lock    *Lock
	layer   Layer
	below   []Layer
	out     *layer.Writer
	seen    map[string]bool   // paths that the layer has
	kept    map[string][]byte // contents that setup needs
	status  []string          // of dpkg, by package
}

// Content gives the layer of a name as a tar stream. Its packages must have been fetched.
func (a *Archive) Content(ctx context.Context, lock *Lock, name string) (layer.Content, error) {
	stack, err := lock.stack(name)
	if err != nil {
		return nil, err
	}
	return func(w io.Writer) error {
		u := &unpacking{ctx: ctx, archive: a, lock: lock, layer: stack[len(stack)-1], below: stack[:len(stack)-1], out: layer.NewWriter(w),
			seen: map[string]bool{}, kept: map[string][]byte{}}
		if err := u.all(); err != nil {
			return err
		}
		return u.out.Close()
	}, nil
}

func (u *unpacking) all() error {
	if len(u.below) == 0 {
		if err := u.skeleton(); err != nil {
			return err
		}
	}
	for _, l := range u.below {
		for _, p := range l.Packages {
			if err := u.control(p); err != nil {
				return fmt.Errorf("the package %s: %w", p.Name, err)
			}
		}
	}
	for _, p := range u.layer.Packages {
		if err := u.ctx.Err(); err != nil {
			return err
		}
		if err := u.unpack(p); err != nil {
			return fmt.Errorf("the package %s: %w", p.Name, err)
		}
	}
	return u.setup()
}

// skeleton writes the folders that no package has.
func (u *unpacking) skeleton() error {
	for _, p := range []layer.Parent{{Path: "/usr", Mode: 0o755}, {Path: "/tmp", Mode: 0o777 | fs.ModeSticky}, {Path: "/home", Mode: 0o755},
		{Path: "/home/cnb", Mode: 0o755, Owner: layer.Owner{UID: UserID, GID: UserID}}} {
		if err := u.folder(p); err != nil {
			return err
		}
	}
	links := merged
	if u.lock.Arch == "amd64" {
		links = append(slices.Clone(merged), "lib64")
	}
	for _, name := range links {
		if err := u.folder(layer.Parent{Path: "/usr/" + name, Mode: 0o755}); err != nil {
			return err
		}
		if err := u.link("/"+name, "usr/"+name); err != nil {
			return err
		}
	}
	return nil
}

// place is where a member of a package goes: what lies in /bin goes to /usr/bin. "" means that it is left out.
func place(name string) (string, error) {
	if slices.Contains(strings.Split(name, "/"), "..") || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("the member %q leads out of the package", name)
	}
	p := path.Clean("/" + name)
	first, rest, below := strings.Cut(p[1:], "/")
	if slices.Contains(merged, first) || first == "lib64" || first == "lib32" || first == "libx32" {
		if !below {
			return "", nil // the folder itself, or the link
		}
		p = "/usr/" + first + "/" + rest
	}
	if p == "/" {
		return "", nil
	}
	if below, ok := strings.CutPrefix(p, "/usr/share/doc/"); ok { // PACKAGE, PACKAGE/copyright, and nothing else
		if parts := strings.Split(below, "/"); len(parts) > 2 || len(parts) == 2 && parts[1] != "copyright" {
			return "", nil
		}
	}
	for _, prefix := range leftOut {
		if strings.HasPrefix(p+"/", prefix) {
			return "", nil
		}
	}
	return p, nil
}

func (u *unpacking) unpack(p Locked) error {
	r, done, err := u.archive.open(p)
	if err != nil {
		return err
	}
	if err := readDeb(r, u.note, u.entry); err != nil {
		return errors.Join(err, done())
	}
	return done()
}

// errEnough ends the reading of a package whose control file is all that is wanted.
var errEnough = errors.New("enough")

func (u *unpacking) control(p Locked) error {
	r, done, err := u.archive.open(p)
	if err != nil {
		return err
	}
	err = readDeb(r, func(text string) error {
		if err := u.note(text); err != nil {
			return err
		}
		return errEnough
	}, nil)
	if errors.Is(err, errEnough) {
		err = nil
	}
	return errors.Join(err, done())
}

// note keeps a control file for dpkg's status.
func (u *unpacking) note(control string) error {
	text := strings.TrimSpace(control)
	first, rest, _ := strings.Cut(text, "\n")
	if !strings.HasPrefix(first, "Package:") {
		return fmt.Errorf("its control file begins with %.40q", first)
	}
	u.status = append(u.status, first+"\nStatus: install ok installed\n"+rest+"\n")
	return nil
}

func (u *unpacking) entry(h *tar.Header, r io.Reader) error {
	at, err := place(h.Name)
	if err != nil || at == "" {
		return err
	}
	mode, owner := h.FileInfo().Mode()&^(fs.ModeSetuid|fs.ModeSetgid), layer.Owner{UID: h.Uid, GID: h.Gid}
	if h.Typeflag == tar.TypeDir {
		return u.folder(layer.Parent{Path: at, Mode: mode, Owner: owner})
	}
	if u.seen[at] {
		return nil // the first package that has it wins
	}
	u.seen[at] = true
	switch h.Typeflag {
	case tar.TypeReg:
		if keeps(at) {
			data, err := io.ReadAll(io.LimitReader(r, maxKept))
			if err != nil {
				return err
			}
			u.kept[at] = data
			return u.out.File(at, mode, owner, int64(len(data)), bytes.NewReader(data))
		}
		return u.out.File(at, mode, owner, h.Size, r)
	case tar.TypeSymlink:
		return u.out.Link(at, h.Linkname, owner)
	case tar.TypeLink:
		to, err := place(h.Linkname)
		if err != nil {
			return err
		}
		if to == "" || !u.seen[to] {
			return fmt.Errorf("the member %q is a link to %q, which is not before it", h.Name, h.Linkname)
		}
		return u.out.HardLink(at, to, mode, owner)
	}
	return fmt.Errorf("the member %q is of type %q, which is not supported", h.Name, h.Typeflag)
}

func (u *unpacking) folder(p layer.Parent) error {
	if u.seen[p.Path] {
		return nil
	}
	u.seen[p.Path] = true
	return u.out.Folder(p)
}

func (u *unpacking) link(name, target string) error {
	if u.seen[name] {
		return nil
	}
	u.seen[name] = true
	return u.out.Link(name, target, layer.Owner{})
}

// write writes a file and the folders above it.
func (u *unpacking) write(name string, data []byte) error {
	dir := ""
	for part := range strings.SplitSeq(path.Dir(name)[1:], "/") {
		dir += "/" + part
		if err := u.folder(layer.Parent{Path: dir, Mode: 0o755}); err != nil {
			return err
		}
	}
	if u.seen[name] {
		return nil
	}
	u.seen[name] = true
	return u.out.File(name, 0o644, layer.Owner{}, int64(len(data)), bytes.NewReader(data))
}
