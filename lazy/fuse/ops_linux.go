package fuse

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/image/erofs"
	"github.com/weft-dev/weft/image/tree"
)

// do does what a request asks for and appends the answer. Errors that are none of the system's count as EIO.
func (v *Server) do(ctx context.Context, r *request, out *[]byte) error {
	switch r.op {
	case opInit:
		return v.init(r, out)
	case opDestroy, opReleasedir, opAccess:
		return nil
	case opRelease:
		if err := r.need(8); err != nil {
			return err
		}
		if !r.again {
			v.released(r, ne.Uint64(r.body))
		}
		return nil
	case opStatfs:
		v.statfs(out)
		return nil
	case opRead:
		return v.readFile(ctx, &r.where, out)
	}
	if done, err := v.probed(r, out); done {
		return err
	}
	in, err := v.inode(r.node)
	if err != nil {
		return err
	}
	switch r.op {
	case opLookup:
		return v.lookup(r, in, out)
	case opGetattr:
		*out = ne.AppendUint64(*out, forever)
		*out = ne.AppendUint64(*out, 0)
		*out = appendAttr(*out, in, v.block)
		return nil
	case opReadlink:
		target, err := in.Target()
		*out = append(*out, target...)
		return err
	case opOpen:
		return v.open(r, in, out)
	case opOpendir:
		if v.flags.Load()&flagNoOpendir != 0 {
			return unix.ENOSYS // then the kernel asks no more, and keeps what it knows
		}
		*out = ne.AppendUint64(*out, 0)
		*out = ne.AppendUint64(*out, openKeepCache|openCacheDir)
		return nil
	case opReaddir, opReaddirplus:
		return v.readdir(r, in, out)
	case opGetxattr, opListxattr:
		return v.xattr(r, in, out)
	case opLseek:
		return v.seek(r, in, out)
	}
	return unix.ENOSYS
}

// init agrees with the kernel on what both know.
func (v *Server) init(r *request, out *[]byte) error {
	if err := r.need(16); err != nil {
		return err
	}
	major, minor, ahead, flags := ne.Uint32(r.body), ne.Uint32(r.body[4:]), ne.Uint32(r.body[8:]), uint64(ne.Uint32(r.body[12:]))
	if major != protocolMajor || minor < protocolMinor {
		v.options.Log.Error("the kernel's FUSE is too old", "version", fmt.Sprintf("%d.%d", major, minor), "needed", fmt.Sprintf("%d.%d", protocolMajor, protocolMinor))
		return unix.EPROTO
	}
	if flags&flagInitExt != 0 && len(r.body) >= 20 {
		flags |= uint64(ne.Uint32(r.body[16:])) << 32
	}
	wanted, depth := uint64(wantedFlags), uint32(0)
	if v.options.Behind != nil && flags&flagPassthrough != 0 {
		// One file system may lie behind, and an overlay above.
		wanted, depth = wanted|flagPassthrough, 1
	}
	flags &= wanted
	b := *out
	for _, n := range []uint32{protocolMajor, min(minor, ourMinor), ahead, uint32(flags)} {
		b = ne.AppendUint32(b, n)
	}
	b = ne.AppendUint16(b, 128) // how many requests nobody waits for, as read-ahead, may be under way
	b = ne.AppendUint16(b, 96)
	b = ne.AppendUint32(b, maxWrite)
	b = ne.AppendUint32(b, 1) // nanoseconds
	b = ne.AppendUint16(b, maxPages)
	b = ne.AppendUint16(b, 0)
	b = ne.AppendUint32(b, uint32(flags>>32))
	b = ne.AppendUint32(b, depth)
	*out = append(b, make([]byte, 24)...)
	v.flags.Store(flags)
	v.session.begin(flags)
	return nil
}

// id is the kernel's number of an inode, and inode the inode of such a number.
func (v *Server) id(nid uint64) uint64 {
	if nid == v.root {
		return rootID
	}
	return nid + 2
}

func (v *Server) inode(id uint64) (*erofs.Inode, error) {
	switch id {
	case 0:
		return nil, unix.ESTALE
	case rootID:
		return v.options.Image.Inode(v.root)
	}
	return v.options.Image.Inode(id - 2)
}

func (v *Server) statfs(out *[]byte) {
	im := v.options.Image
	blocks := uint64(im.Super.Blocks)
	for _, d := range im.Slots {
		blocks += uint64(d.Blocks)
	}
	for _, n := range []uint64{blocks, 0, 0, im.Super.Inodes, 0} {
		*out = ne.AppendUint64(*out, n)
	}
	for _, n := range []uint32{v.block, 255, v.block, 0} {
		*out = ne.AppendUint32(*out, n)
	}
	*out = append(*out, make([]byte, 24)...)
}

// lookup finds a name in a folder. That there is none the kernel may keep, too.
func (v *Server) lookup(r *request, in *erofs.Inode, out *[]byte) error {
	name, err := r.name(0)
	if err != nil {
		return err
	}
	child, found := in, true
	switch {
	case name == ".": // who comes by a file handle
	case uint32(in.Mode)&tree.TypeMask != tree.Dir:
		return unix.ENOTDIR
	case len(name) > 255:
		return unix.ENAMETOOLONG
	default:
		if child, found, err = in.Lookup(name); err != nil {
			return err
		}
	}
	if !found {
		for _, n := range []uint64{0, 0, forever, 0, 0} {
			*out = ne.AppendUint64(*out, n)
		}
		*out = append(*out, make([]byte, attrSize)...)
		return nil
	}
	*out = appendEntry(*out, v.id(child.NID), child, v.block)
	return nil
}

// readdir lists a folder from a place on, which is the number of a block and in it that of an entry.
func (v *Server) readdir(r *request, in *erofs.Inode, out *[]byte) error {
	if err := r.need(20); err != nil {
		return err
	}
	if uint32(in.Mode)&tree.TypeMask != tree.Dir {
		return unix.ENOTDIR
	}
	from, room := ne.Uint64(r.body[8:]), outHeaderSize+int(min(ne.Uint32(r.body[16:]), maxPages*4096))
	for block := int64(min(from>>16, math.MaxInt32)); block < in.DirBlocks(); block, from = block+1, uint64(block+1)<<16 {
		entries, err := in.DirBlock(block)
		if err != nil {
			return err
		}
		for i := int(from & 0xffff); i < len(entries); i++ {
			full, err := v.entry(r.op == opReaddirplus, entries[i], uint64(block)<<16+uint64(i)+1, room, out)
			if full || err != nil {
				return err
			}
		}
	}
	return nil
}

// entry appends an entry of a folder, unless there is no room for it.
func (v *Server) entry(plus bool, d erofs.Dirent, next uint64, room int, out *[]byte) (full bool, err error) {
	need := direntLen(len(d.Name))
	if plus {
		need += entrySize
	}
	if len(*out)+need > room {
		return true, nil
	}
	switch {
	case plus && (d.Name == "." || d.Name == ".."):
		*out = append(*out, make([]byte, entrySize)...)
	case plus:
		in, err := v.options.Image.Inode(d.NID)
		if err != nil {
			return false, err
		}
		*out = appendEntry(*out, v.id(d.NID), in, v.block)
	}
	*out = appendDirent(*out, d, next)
	return false, nil
}

// xattr gives the value of an extended attribute or the list of their names, or how long that is.
func (v *Server) xattr(r *request, in *erofs.Inode, out *[]byte) error {
	if err := r.need(8); err != nil {
		return err
	}
	list, err := in.Xattrs()
	if err != nil {
		return err
	}
	var value []byte
	if r.op == opGetxattr {
		name, err := r.name(8)
		if err != nil {
			return err
		}
		found := false
		for _, x := range list {
			if x.Name == name {
				value, found = x.Value, true
			}
		}
		if !found {
			return unix.ENODATA
		}
	} else {
		for _, x := range list {
			if !strings.HasPrefix(x.Name, "trusted.") || r.trusted() {
				value = append(append(value, x.Name...), 0)
			}
		}
	}
	switch room := ne.Uint32(r.body); {
	case room == 0:
		*out = ne.AppendUint32(*out, uint32(len(value)))
		*out = ne.AppendUint32(*out, 0)
	case int(room) < len(value):
		return unix.ERANGE
	default:
		*out = append(*out, value...)
	}
	return nil
}

// trusted says whether who asks may see the names of trusted attributes, which needs CAP_SYS_ADMIN.
func (r *request) trusted() bool {
	caps, err := strconv.ParseUint(strings.TrimSpace(statusOf(r.pid)["CapEff"]), 16, 64)
	return err == nil && caps>>unix.CAP_SYS_ADMIN&1 == 1
}

// statusOf is /proc/PID/status.
func statusOf(pid uint32) map[string]string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if k, value, ok := strings.Cut(line, ":"); ok {
			fields[k] = value
		}
	}
	return fields
}

// interrupt lets a read fail whose reader is being killed. A signal that does not kill interrupts no read of a file.
func (v *Server) interrupt(r *request) {
	if r.need(8) != nil {
		return
	}
	unique := ne.Uint64(r.body)
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for missed := 0; missed < 3; {
		v.mu.Lock()
		w, ok := v.waits[unique]
		v.mu.Unlock()
		if !ok {
			missed++
		} else if dying(w.pid) {
			w.cancel()
			return
		}
		select {
		case <-t.C:
		case <-v.ctx.Done():
			return
		}
	}
}

// dying says whether SIGKILL waits for a thread to see it.
func dying(pid uint32) bool {
	s := statusOf(pid)
	for _, k := range []string{"SigPnd", "ShdPnd"} {
		if set, err := strconv.ParseUint(strings.TrimSpace(s[k]), 16, 64); err == nil && set>>(unix.SIGKILL-1)&1 == 1 {
			return true
		}
	}
	return false
}

// where is what a request reads.
type where struct {
	in           *erofs.Inode
	off          int64
	n            int
	all, missing []erofs.Extent
}

// where finds what a request reads: in which parts it lies, and which of them are missing.
func (v *Server) where(r *request) (w where, err error) {
	if err := r.need(24); err != nil {
		return w, err
	}
	if w.in, err = v.inode(r.node); err != nil {
		return w, err
	}
	if uint32(w.in.Mode)&tree.TypeMask != tree.Regular {
		return w, unix.EINVAL
	}
	off, n := ne.Uint64(r.body[8:]), uint64(min(ne.Uint32(r.body[16:]), maxPages*4096))
	if off >= w.in.Size {
		return w, nil
	}
	w.off, w.n = int64(off), int(min(n, w.in.Size-off))
	w.all, err = w.in.Extents(w.off, int64(w.n))
	w.missing = v.missing(w.all)
	return w, err
}

func (v *Server) missing(all []erofs.Extent) []erofs.Extent {
	var list []erofs.Extent
	for _, e := range all {
		if e.Device > erofs.Metadata && !v.options.Content.Present(e.Device, e.Offset, e.Size) {
			list = append(list, e)
		}
	}
	return list
}

// readFile reads content: all of what was asked for, or the kernel would believe that the file ends there.
func (v *Server) readFile(ctx context.Context, w *where, out *[]byte) error {
	v.reads.Add(1)
	if cap(*out) < outHeaderSize+w.n {
		*out = append(make([]byte, 0, outHeaderSize+w.n), *out...)
	}
	*out = (*out)[:outHeaderSize+w.n]
	p := (*out)[outHeaderSize:]
	if w.n > 0 && len(w.all) == 0 { // it lies in the metadata
		_, err := w.in.ReadAt(p, w.off)
		return hide(err)
	}
	if len(w.missing) > 0 {
		v.waited.Add(1)
	}
	return v.extents(ctx, w.in, p, w.off, w.all, len(w.missing) > 1)
}

// extents reads the parts of a file to their places in p, which begins at off: at once if they have to be waited for.
func (v *Server) extents(ctx context.Context, in *erofs.Inode, p []byte, off int64, all []erofs.Extent, wait bool) error {
	failures := make([]error, len(all))
	var group sync.WaitGroup
	for i, e := range all {
		part := p[e.At-off:][:e.Size]
		one := func() {
			switch e.Device {
			case erofs.Hole:
				clear(part)
			case erofs.Metadata:
				_, failures[i] = in.ReadAt(part, e.At)
			default:
				failures[i] = v.options.Content.ReadAt(ctx, e.Device, part, e.Offset)
			}
		}
		if wait && e.Device > erofs.Metadata {
			group.Go(one)
		} else {
			one()
		}
	}
	group.Wait()
	err := errors.Join(failures...)
	if err != nil && ctx.Err() != nil && v.ctx.Err() == nil {
		return unix.EINTR // its reader is being killed
	}
	if err != nil && v.ctx.Err() != nil {
		return context.Canceled
	}
	return hide(err)
}

// hide makes an error one that has no number of the system: what a source says is not what a file says.
func hide(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(err.Error())
}

// seek finds the next data or hole.
func (v *Server) seek(r *request, in *erofs.Inode, out *[]byte) error {
	if err := r.need(20); err != nil {
		return err
	}
	off, whence := ne.Uint64(r.body[8:]), ne.Uint32(r.body[16:])
	if whence != unix.SEEK_DATA && whence != unix.SEEK_HOLE {
		return unix.EINVAL
	}
	if off >= size(in) {
		return unix.ENXIO
	}
	at := int64(off)
	if in.Layout == erofs.LayoutChunks {
		all, err := in.Extents(at, int64(in.Size)-at)
		if err != nil {
			return err
		}
		for _, e := range all {
			if (e.Device == erofs.Hole) == (whence == unix.SEEK_HOLE) {
				*out = ne.AppendUint64(*out, uint64(e.At))
				return nil
			}
		}
		if whence == unix.SEEK_DATA {
			return unix.ENXIO
		}
	}
	if whence == unix.SEEK_HOLE {
		at = int64(in.Size)
	}
	*out = ne.AppendUint64(*out, uint64(at))
	return nil
}
