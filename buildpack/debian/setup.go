package debian

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // the format of Java's key store demands it
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/weft-dev/weft/buildpack/layer"
)

// UserID is the user and group of applications and buildpacks.
const UserID = 1000

// maxKept bounds a file that setup reads, in bytes.
const maxKept = 1 << 20

const (
	certificateDir = "/usr/share/ca-certificates/"
	passwdMaster   = "/usr/share/base-passwd/passwd.master"
	groupMaster    = "/usr/share/base-passwd/group.master"
	nsswitch       = "/usr/share/libc-bin/nsswitch.conf"
	baseProfile    = "/usr/share/base-files/profile"
)

// keeps says whether setup needs the contents of a file.
func keeps(name string) bool {
	switch name {
	case passwdMaster, groupMaster, nsswitch, baseProfile:
		return true
	}
	return strings.HasPrefix(name, certificateDir)
}

// alternatives are the links that update-alternatives would make, with the programs they may lead to. Missing programs are passed over.
var alternatives = map[string][]string{
	"/usr/bin/awk":      {"/usr/bin/mawk", "/usr/bin/gawk"},
	"/usr/bin/which":    {"/usr/bin/which.debianutils"},
	"/usr/bin/mvn":      {"/usr/share/maven/bin/mvn"},
	"/usr/bin/mvnDebug": {"/usr/share/maven/bin/mvnDebug"},
	"/usr/bin/cc":       {"/usr/bin/gcc"},
	"/usr/bin/c++":      {"/usr/bin/g++"},
	"/usr/bin/pager":    {"/usr/bin/less", "/usr/bin/more"},
}

// setup does what the scripts of packages would have done.
func (u *unpacking) setup() error {
	if err := u.accounts(); err != nil {
		return err
	}
	if data := u.kept[nsswitch]; data != nil {
		if err := u.write("/etc/nsswitch.conf", data); err != nil {
			return err
		}
	}
	if data := u.kept[baseProfile]; data != nil {
		if err := u.write("/etc/profile", data); err != nil {
			return err
		}
	}
	if err := u.certificates(); err != nil {
		return err
	}
	if err := u.java(); err != nil {
		return err
	}
	for _, link := range slices.Sorted(maps.Keys(alternatives)) {
		for _, target := range alternatives[link] {
			if u.seen[target] {
				if err := u.link(link, target); err != nil {
					return err
				}
			}
		}
	}
	return u.write("/var/lib/dpkg/status", []byte(strings.Join(u.status, "\n")))
}

// accounts is what base-passwd's script does, and the user of buildpacks.
func (u *unpacking) accounts() error {
	passwd, group := u.kept[passwdMaster], u.kept[groupMaster]
	if passwd == nil || group == nil {
		return nil
	}
	passwd = append(slices.Clone(passwd), fmt.Sprintf("cnb:x:%d:%d:Cloud Native Buildpacks:/home/cnb:/bin/bash\n", UserID, UserID)...)
	group = append(slices.Clone(group), fmt.Sprintf("cnb:x:%d:\n", UserID)...)
	passwd = bytes.ReplaceAll(passwd, []byte(":*:"), []byte(":x:"))
	group = bytes.ReplaceAll(group, []byte(":*:"), []byte(":x:"))
	if err := u.write("/etc/passwd", passwd); err != nil {
		return err
	}
	return u.write("/etc/group", group)
}

// certificates is what update-ca-certificates does, without the links by hash.
func (u *unpacking) certificates() error {
	bundle := bundleOf(u.kept)
	if bundle == nil {
		return nil
	}
	if err := u.write("/etc/ssl/certs/ca-certificates.crt", bundle); err != nil {
		return err
	}
	// The package openssl would tell OpenSSL where they are.
	if err := u.folder(layer.Parent{Path: "/usr/lib/ssl", Mode: 0o755}); err != nil {
		return err
	}
	return u.link("/usr/lib/ssl/cert.pem", "/etc/ssl/certs/ca-certificates.crt")
}

func bundleOf(files map[string][]byte) []byte {
	var out []byte
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasPrefix(name, certificateDir) && strings.HasSuffix(name, ".crt") {
			out = append(out, bytes.TrimRight(files[name], "\n")...)
			out = append(out, '\n')
		}
	}
	return out
}

// java is what the scripts of ca-certificates-java and of the JVM's packages do: the key store, and links to the programs.
func (u *unpacking) java() error {
	var homes []string
	for name := range u.seen {
		if dir, ok := strings.CutSuffix(name, "/bin/java"); ok && strings.HasPrefix(dir, "/usr/lib/jvm/") {
			homes = append(homes, dir)
		}
	}
	if len(homes) == 0 {
		return nil
	}
	slices.Sort(homes)
	for _, name := range slices.Sorted(maps.Keys(u.seen)) {
		if path.Dir(name) == homes[0]+"/bin" {
			if err := u.link("/usr/bin/"+path.Base(name), name); err != nil {
				return err
			}
		}
	}
	if err := u.link("/usr/lib/jvm/default-java", path.Base(homes[0])); err != nil {
		return err
	}
	bundle := bundleOf(u.kept)
	for _, l := range u.below {
		for _, p := range l.Packages {
			if p.Name != "ca-certificates" {
				continue
			}
			other := &unpacking{ctx: u.ctx, archive: u.archive, lock: u.lock, out: layer.NewWriter(discard{}), seen: map[string]bool{}, kept: map[string][]byte{}}
			if err := other.unpack(p); err != nil {
				return err
			}
			bundle = bundleOf(other.kept)
		}
	}
	return u.write("/etc/ssl/certs/java/cacerts", KeyStore(bundle))
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// KeyStore makes a key store of the form JKS, with Java's usual password "changeit", of the certificates in a PEM bundle.
func KeyStore(bundle []byte) []byte {
	var entries bytes.Buffer
	count := uint32(0)
	text := func(s string) {
		_ = binary.Write(&entries, binary.BigEndian, uint16(len(s)))
		entries.WriteString(s)
	}
	for {
		var block *pem.Block
		if block, bundle = pem.Decode(bundle); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		count++
		_ = binary.Write(&entries, binary.BigEndian, uint32(2)) // a trusted certificate
		text(fmt.Sprintf("ca-%03d", count))
		_ = binary.Write(&entries, binary.BigEndian, uint64(layer.ModTime.UnixMilli()))
		text("X.509")
		_ = binary.Write(&entries, binary.BigEndian, uint32(len(block.Bytes)))
		entries.Write(block.Bytes)
	}
	var out bytes.Buffer
	_ = binary.Write(&out, binary.BigEndian, []uint32{0xFEEDFEED, 2, count})
	out.Write(entries.Bytes())
	h := sha1.New() //nolint:gosec // see above
	for _, unit := range utf16.Encode([]rune("changeit")) {
		_ = binary.Write(h, binary.BigEndian, unit)
	}
	h.Write([]byte("Mighty Aphrodite"))
	h.Write(out.Bytes())
	return h.Sum(out.Bytes())
}
