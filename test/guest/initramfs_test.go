//go:build linux

package guest

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// archive writes a cpio archive in the kernel's "new ASCII" format
// (Documentation/driver-api/early-userspace/buffer-format.rst).
type archive struct {
	out   bytes.Buffer
	inode int
}

func (a *archive) add(name string, mode uint32, content []byte) {
	a.inode++
	header := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	a.out.WriteString(header + name + "\x00")
	a.pad()
	a.out.Write(content)
	a.pad()
}

func (a *archive) pad() {
	for a.out.Len()%4 != 0 {
		a.out.WriteByte(0)
	}
}

func (a *archive) directory(name string)            { a.add(name, 0o040755, nil) }
func (a *archive) program(name string, text []byte) { a.add(name, 0o100755, text) }
func (a *archive) file(name string, text []byte)    { a.add(name, 0o100644, text) }
func (a *archive) link(name, target string)         { a.add(name, 0o120777, []byte(target)) }
func (a *archive) bytes() []byte                    { a.add("TRAILER!!!", 0, nil); return a.out.Bytes() }

// modules are what the guest's kernel needs beyond its core: the emulator's
// devices, the host's files, and what a node uses.
var modules = []string{
	"crc32c_generic", "fuse", "virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_net", "af_packet",
	"bridge", "br_netfilter", "veth", "tun", "dummy", "nf_conntrack", "nf_nat",
	"nf_tables", "nft_compat", "nft_chain_nat", "nft_ct", "nft_masq", "nft_nat", "nft_redir", "nft_reject_inet", "nft_fib_inet",
	"nft_limit", "nft_log", "nft_numgen", "nft_hash", "nft_objref",
	"xt_comment", "xt_conntrack", "xt_mark", "xt_MASQUERADE", "xt_addrtype", "xt_multiport", "xt_nat", "xt_statistic", "xt_nfacct",
}

// initramfs builds the guest's first file system: busybox, the modules in the
// order in which they are loaded, the script that mounts the rest, and the
// command that it goes on with.
func initramfs(kernel kernel, script, command string) ([]byte, error) {
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return nil, fmt.Errorf("install busybox-static: %w", err)
	}
	files, err := kernel.modules()
	if err != nil {
		return nil, err
	}
	var a archive
	for _, name := range []string{"bin", "dev", "proc", "sys", "host", "memory", "root", "modules"} {
		a.directory(name)
	}
	a.program("bin/busybox", busybox)
	a.link("bin/sh", "busybox")
	a.program("init", []byte(script))
	a.file("command", []byte(command))
	var order []string
	loaded := map[string]bool{}
	for _, name := range modules {
		if err := kernel.load(&a, files, name, loaded, &order); err != nil {
			return nil, err
		}
	}
	a.file("modules/order", []byte(strings.Join(order, "\n")+"\n"))
	return a.bytes(), nil
}

// kernel is an unpacked kernel package.
type kernel struct {
	image   string // boot/vmlinuz-VERSION
	folder  string // lib/modules/VERSION
	version string
}

// findKernel looks for the newest kernel in the folder of an unpacked package.
func findKernel(folder string) (kernel, error) {
	images, err := filepath.Glob(filepath.Join(folder, "boot/vmlinuz-*"))
	if err != nil || len(images) == 0 {
		return kernel{}, fmt.Errorf("no boot/vmlinuz-* in %s", folder)
	}
	image := images[len(images)-1]
	version := strings.TrimPrefix(filepath.Base(image), "vmlinuz-")
	k := kernel{image: image, version: version, folder: filepath.Join(folder, "lib/modules", version)}
	if _, err := os.Stat(k.folder); err != nil {
		return kernel{}, err
	}
	return k, nil
}

// modules lists the kernel's module files by name.
func (k kernel) modules() (map[string]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(k.folder, func(path string, entry fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(entry.Name(), ".ko"); err == nil && ok {
			files[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	return files, err
}

// load adds a module after those it depends on. A module that this kernel does
// not have is built in, or missed later by what needs it.
func (k kernel) load(a *archive, files map[string]string, name string, loaded map[string]bool, order *[]string) error {
	name = strings.ReplaceAll(name, "-", "_")
	file, ok := files[name]
	if !ok || loaded[name] {
		return nil
	}
	loaded[name] = true
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	needs, err := dependencies(content)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for _, need := range needs {
		if err := k.load(a, files, need, loaded, order); err != nil {
			return err
		}
	}
	a.file("modules/"+name+".ko", content)
	*order = append(*order, name)
	return nil
}

// dependencies reads the names that a module's .modinfo section gives.
func dependencies(module []byte) ([]string, error) {
	object, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil, err
	}
	section := object.Section(".modinfo")
	if section == nil {
		return nil, errors.New("no .modinfo section")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for entry := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(entry, "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
