package lazy

import (
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/weft-dev/weft/lazy/cache"
	"github.com/weft-dev/weft/lazy/keeper"
)

// View is what a folder's state says, whoever serves it.
type View struct {
	Root     string      `json:"root"`
	Served   bool        `json:"served"`           // by a process that fills what is read
	Server   int         `json:"server"`           // that process; 0: none, or it is of an older version
	StandsIn bool        `json:"standsIn"`         // it stood by before, and the one that served the folder then has ended
	Mode     Mode        `json:"mode,omitempty"`   // of the process that serves the folder, or served it last
	Reason   string      `json:"reason,omitempty"` // why that is not the first choice
	Keeper   int         `json:"keeper"`           // process; 0: none
	Holder   int         `json:"holder"`           // likewise
	StandBy  int         `json:"standBy"`          // likewise: it serves the folder as soon as the present process has ended
	Images   []ImageView `json:"images"`
	Cached   []Cached    `json:"cached"`
}

// ImageView is an image in a View. Of images that are being filled the disk may know a little less than is present, and the counters are up to 5 s old.
type ImageView struct {
	ID       string   `json:"id"`
	Names    []string `json:"names"`
	Bytes    int64    `json:"bytes"`
	Present  int64    `json:"present"`
	Devices  int      `json:"devices"`
	Complete int      `json:"completeDevices"`
	Learned  bool     `json:"learned"`
	Mounts   []string `json:"mounts"`
	counted           // by the process that serves the folder, or served it last
}

// Look reads the state of a folder without changing anything; fs.ErrNotExist if there is none.
func Look(root string, log *slog.Logger) (*View, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(root, "format.json")); err != nil {
		return nil, fmt.Errorf("there is no state of lazy images in %s: %w", root, fs.ErrNotExist)
	}
	s := &Service{root: root, log: log, images: map[string]*Image{}}
	if s.cache, err = cache.Open(root); err != nil {
		return nil, err
	}
	records, err := s.records()
	if err != nil {
		return nil, err
	}
	for id, r := range records {
		s.images[id] = &Image{service: s, id: id, record: r}
	}
	v := &View{Root: root, Images: []ImageView{}}
	if v.Cached, err = s.Cached(); err != nil {
		return nil, err
	}
	known := map[string]cache.Info{}
	for _, c := range v.Cached {
		known[c.Key] = c.Info
	}
	counts := s.readCounts()
	for _, im := range s.Images() {
		i := im.view(known)
		i.counted = counts.Images[im.id]
		v.Images = append(v.Images, i)
	}
	v.Mode, v.Reason = counts.Mode, counts.Reason
	var guards keeper.Processes
	v.Served, guards = served(root)
	v.Keeper, v.Holder, v.StandBy = guards.Keeper, guards.Holder, guards.StandBy
	if v.Served {
		by := signed(root)
		v.Server, v.StandsIn = by.PID, by.StandsIn
	}
	return v, nil
}

func (im *Image) view(known map[string]cache.Info) ImageView {
	v := ImageView{ID: im.id, Names: slices.Clone(im.record.Names), Bytes: im.record.Bytes, Devices: len(im.record.Devices), Mounts: []string{}}
	for i, k := range im.record.Devices {
		info := known[k]
		if im.record.Stored[i] != "" {
			info.Present, info.Complete = info.Space, true
		}
		v.Present += info.Present
		if info.Complete {
			v.Complete++
		}
	}
	for _, m := range im.record.Mounts {
		v.Mounts = append(v.Mounts, m.Target)
	}
	_, err := os.Stat(im.service.traceFile(im.id))
	v.Learned = err == nil
	return v
}
