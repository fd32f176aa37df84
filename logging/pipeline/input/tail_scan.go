package input

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// scan looks for files that are to be followed and are not yet.
func (t *tail) scan() {
	listed := map[string]bool{}
	for _, name := range t.names() {
		listed[name] = true
		t.follow(name)
	}
	for _, f := range t.files {
		f.unlisted = t.hooks.Files != nil && !listed[f.name]
	}
	t.started = true
}

// names are the files that are to be followed.
func (t *tail) names() []string {
	if t.hooks.Files != nil {
		return t.hooks.Files()
	}
	var all []string
	for _, pattern := range t.paths {
		names, err := filepath.Glob(pattern)
		if err != nil {
			continue // the pattern was checked
		}
		slices.Sort(names)
		if len(names) == 0 && !t.started {
			t.host.Log.Warn("no file matches yet", "path", pattern)
		}
		for _, name := range names {
			if !t.excluded(name) {
				all = append(all, name)
			}
		}
	}
	return all
}

// compact forgets the positions of files that are gone.
func (t *tail) compact() {
	if t.hooks.Compact <= 0 {
		return
	}
	t.store.DeleteWhere(func(key string, p Position) bool {
		if t.files[key] != nil {
			return false
		}
		info, err := os.Stat(p.Name)
		return err != nil || fileKey(info) != strings.SplitN(key, " ", 2)[0]
	})
}

func (t *tail) excluded(name string) bool {
	return slices.ContainsFunc(t.exclude, func(pattern string) bool {
		ok, err := filepath.Match(pattern, name)
		if ok && err == nil {
			return true
		}
		ok, err = filepath.Match(pattern, filepath.Base(name))
		return ok && err == nil
	})
}

// follow begins with a file, unless it is followed already.
func (t *tail) follow(name string) {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	if t.ignoreOlder > 0 && t.host.Now().Sub(info.ModTime()) > t.ignoreOlder {
		return
	}
	key := fileKey(info)
	if t.compareName {
		key += " " + name
	}
	if f := t.files[key]; f != nil {
		if f.name != name && f.moved {
			f.rename(name) // the tag stays: the lines are those of the same source
		}
		return
	}
	file, err := os.Open(name)
	if err != nil {
		if !t.hooks.DeniedOnce || !t.denied[name] {
			t.host.Log.Error("the file cannot be read", "file", name, "error", err)
		}
		t.denied[name] = t.hooks.DeniedOnce
		return
	}
	opened, err := file.Stat()
	if err != nil || fileKey(opened) != fileKey(info) {
		file.Close() // exchanged just now: the next scan sees the new one
		return
	}
	tag, err := t.tagOf(name)
	if err != nil {
		t.host.Log.Error("the file is left out", "error", err)
		file.Close()
		return
	}
	f := &tailed{key: key, name: name, tag: tag, file: file, dirty: true, watch: -1, store: t.store, progress: t.progress}
	t.begin(f, opened)
	t.files[key] = f
	if t.watch != nil {
		if f.watch, err = t.watch.addFile(name); err != nil {
			t.host.Log.Warn("the file is looked at at intervals", "file", name, "error", err)
			f.watch = -1
		}
	}
	t.host.Log.Info("the file is followed", "file", name, "offset", f.offset)
}

// begin says where reading begins.
func (t *tail) begin(f *tailed, info os.FileInfo) {
	if p, ok := t.store.Get(f.key); ok {
		if p.Offset <= info.Size() && f.sameHead(p) {
			f.offset = p.Offset
		} else {
			t.host.Log.Info("another file than the one whose position is known: read from its head", "file", f.name)
		}
	} else if !t.fromHead && (!t.started || !t.newFromHead) {
		f.offset = info.Size()
	}
	f.committed = f.offset
	f.stream = t.lines.newStream(t, f)
	f.remember()
}

// tagOf makes the tag of a file: the * of the section's tag is the path with dots, <name> a group of Tag_Regex.
func (t *tail) tagOf(name string) (string, error) {
	if t.tagRegex != nil {
		return t.tagFromRegex(name)
	}
	before, after, star := strings.Cut(t.tag, "*")
	if !star {
		return t.tag, nil
	}
	tag := strings.TrimLeft(before+name+after, `/\:`)
	return strings.NewReplacer("/", ".", `\`, ".", ":", ".", "*", "", " ", "").Replace(tag), nil
}

func (t *tail) tagFromRegex(name string) (string, error) {
	found, err := t.tagRegex.Find([]byte(name), nil)
	if err != nil || found == nil {
		return "", fmt.Errorf("Tag_Regex does not match the file %s", name)
	}
	groups := map[string]string{}
	for i, n := range t.tagRegex.Names() {
		if n != "" && found[2*i] >= 0 {
			groups[n] = name[found[2*i]:found[2*i+1]]
		}
	}
	var b strings.Builder
	rest := t.tag
	for {
		before, after, ok := strings.Cut(rest, "<")
		b.WriteString(before)
		if !ok {
			return b.String(), nil
		}
		key, tail, ok := strings.Cut(after, ">")
		if !ok {
			return "", fmt.Errorf("the tag %q has < without >", t.tag)
		}
		if v := groups[key]; v != "" {
			b.WriteString(v)
		} else {
			b.WriteByte('_')
		}
		rest = tail
	}
}

// check finds rotated, truncated, exchanged and removed files, and those whose watch was lost.
func (t *tail) check() {
	now := t.host.Now()
	scan := false
	for key, f := range t.files {
		info, err := f.file.Stat()
		if err != nil {
			t.host.Log.Error("the file cannot be looked at", "file", f.name, "error", err)
			t.drop(key, f)
			continue
		}
		if info.Size() != f.seen {
			f.dirty = true
		}
		current, err := os.Stat(f.name)
		away := err != nil || fileKey(current) != fileKey(info)
		switch {
		case away && f.rotated.IsZero():
			f.rotated, f.dirty, scan = now, true, true
		case away && now.Before(f.rotated): // the clock jumped back
			f.rotated = now
		case away && now.Sub(f.rotated) >= t.rotateWait && !f.dirty && f.stream.idle():
			if t.stillMatched(key) {
				continue
			}
			if f.settled() {
				t.drop(key, f)
			}
		case !away && f.unlisted && f.rotated.IsZero():
			f.rotated = now
		case !away && f.unlisted:
			if now.Sub(f.rotated) >= t.rotateWait && !f.dirty && f.stream.idle() && f.settled() {
				t.leave(key, f)
				continue
			}
		case !away:
			f.rotated = time.Time{}
		}
		if t.ignoreActive && t.ignoreOlder > 0 && !f.dirty && now.Sub(info.ModTime()) > t.ignoreOlder && f.settled() {
			t.host.Log.Debug("the file is too old", "file", f.name)
			t.leave(key, f)
			continue
		}
		f.remember()
	}
	if scan {
		t.scan()
	}
}

// stillMatched finds a renamed file under its new name; it is then followed under that one.
func (t *tail) stillMatched(key string) bool {
	f := t.files[key]
	for _, name := range t.names() {
		if info, err := os.Stat(name); err == nil && fileKey(info) == strings.SplitN(key, " ", 2)[0] {
			f.name, f.rotated, f.moved = name, time.Time{}, false
			return true
		}
	}
	return false
}

// leave ends with a file that is there; its position stays.
func (t *tail) leave(key string, f *tailed) {
	f.close()
	t.unwatch(f)
	delete(t.files, key)
	if t.hooks.Pace != nil {
		t.hooks.Pace.Left(f.name)
	}
}

// drop ends with a file that is gone for good.
func (t *tail) drop(key string, f *tailed) {
	t.host.Log.Info("the file is not followed any more", "file", f.name)
	t.store.Delete(key)
	t.unwatch(f)
	f.file.Close()
	delete(t.files, key)
	if t.hooks.Pace != nil {
		t.hooks.Pace.Left(f.name)
	}
}

func (t *tail) unwatch(f *tailed) {
	if t.watch != nil && f.watch >= 0 {
		t.watch.remove(f.watch)
	}
}

// watchFolders notices new files at once where the folder of a pattern is a plain name.
func (t *tail) watchFolders() {
	folders := slices.Clone(t.hooks.Folders)
	for _, pattern := range t.paths {
		if dir := filepath.Dir(pattern); !strings.ContainsAny(dir, "*?[") {
			folders = append(folders, dir)
		}
	}
	for _, dir := range folders {
		if err := t.watch.addFolder(dir); err != nil {
			t.host.Log.Debug("new files are found at Refresh_Interval only", "folder", dir, "error", err)
		}
	}
}
