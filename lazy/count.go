package lazy

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
)

// counted is what a process did for an image since it began to serve the folder. Others read it from counts.json.
type counted struct {
	Fetched   int64    `json:"fetchedBytes"`    // as they are stored
	Prefetch  int64    `json:"prefetchedBytes"` // of Fetched: because of what was learned
	Read      int64    `json:"readBytes"`       // of devices that were not complete then, each counted once
	Events    int64    `json:"events"`          // how often readers had to wait
	Failed    int64    `json:"failedReads"`
	Unguarded []string `json:"unguarded,omitempty"`       // mounts of which reads may have seen zeros or, through FUSE, have failed
	Untold    []string `json:"untold,omitempty"`          // of these, those that no process has told the user of the folder of
	Asked     int64    `json:"askedReads,omitempty"`      // that came through FUSE
	Through   int64    `json:"filesReadBehind,omitempty"` // files that FUSE let the kernel read itself
}

// countsVersion is the version of counts.
const countsVersion = 1

// counts is the file counts.json.
type counts struct {
	Version int                `json:"version"`
	Mode    Mode               `json:"mode"`
	Reason  string             `json:"reason,omitempty"` // why it is not the first choice
	Images  map[string]counted `json:"images"`
}

func (s *Service) countsFile() string { return filepath.Join(s.root, "counts.json") }

// recall takes from an earlier process which mounts were unguarded: what uses them has not been started again since.
func (s *Service) recall(im *Image, c counted) {
	gone := func(target string) bool {
		return !slices.ContainsFunc(im.record.Mounts, func(m mount) bool { return m.Target == target })
	}
	im.unguarded = slices.DeleteFunc(c.Unguarded, gone)
	im.untold = slices.DeleteFunc(c.Untold, gone)
}

// saveCounts tells others what was done. It is not flushed, and may be lost when the machine stops, which has no mounts then.
func (s *Service) saveCounts() error {
	c := counts{countsVersion, s.Mode(), s.reason, map[string]counted{}}
	for _, im := range s.Images() {
		st := im.Stats()
		c.Images[im.id] = counted{st.Fetched, st.Prefetch, st.Read, st.Events, st.Failed, st.Unguarded, im.untoldMounts(), st.Asked, st.Through}
	}
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.countsFile()+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(s.countsFile()+".new", s.countsFile())
}

// readCounts reads what a process did. What cannot be read, or is of another version, counts as nothing.
func (s *Service) readCounts() counts {
	b, err := os.ReadFile(s.countsFile())
	if err != nil {
		return counts{}
	}
	var c counts
	if err := json.Unmarshal(b, &c); err != nil || c.Version != countsVersion {
		return counts{}
	}
	return c
}
