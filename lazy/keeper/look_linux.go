package keeper

import (
	"encoding/json"
	"os"
)

// Look says which processes guard a folder.
func Look(dir string) Processes {
	var p Processes
	h, err := readHolder(dir)
	if err != nil || h == nil {
		return p
	}
	p.Holder = h.PID
	if h.Keeper.lives() {
		p.Keeper = h.Keeper.PID
	}
	var s process
	if b, err := os.ReadFile(standByFile(dir)); err == nil && json.Unmarshal(b, &s) == nil && s.lives() {
		p.StandBy = s.PID
	}
	return p
}
