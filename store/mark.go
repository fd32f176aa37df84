package store

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"os"
	"syscall"
)

// Mark sums up what a folder looks like from outside, which changes when what is in it does; see markOf.
func Mark(root string) (string, error) {
	m, err := markOf(root)
	return m.Mark, err
}

// markOf sums up what a folder looks like from outside: names, modes, owners, sizes, times and inodes of all that is in it, but no
// contents. Change times are left out: a file may lie in several layers, and each further name of it changes them.
func markOf(root string) (markFile, error) {
	m := marker{hash: sha256.New(), file: markFile{Version: layerVersion}}
	info, err := os.Lstat(root)
	if err != nil {
		return m.file, err
	}
	if err := m.add(root, "", info); err != nil {
		return m.file, err
	}
	m.file.Mark = fmt.Sprintf("%x", m.hash.Sum(nil))
	return m.file, nil
}

type marker struct {
	hash hash.Hash
	buf  []byte
	file markFile
}

func (m *marker) add(path, name string, info os.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: the system does not say what it looks like", path)
	}
	b := append(m.buf[:0], name...)
	b = append(b, 0)
	for _, n := range []uint64{uint64(info.Mode()), uint64(info.ModTime().UnixNano()), st.Ino, uint64(st.Uid)<<32 | uint64(st.Gid)} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	if !info.IsDir() { // what a folder's own size says differs between file systems
		b = binary.LittleEndian.AppendUint64(b, uint64(info.Size()))
		m.file.Size += info.Size()
	}
	m.file.Files++
	m.buf = b
	m.hash.Write(b)
	if !info.IsDir() {
		return nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		if err := m.add(path+"/"+e.Name(), e.Name(), info); err != nil {
			return err
		}
	}
	m.hash.Write([]byte{0, 0})
	return nil
}
