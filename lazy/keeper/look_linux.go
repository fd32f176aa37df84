package keeper

// Look says which processes keep a folder; 0 if there is none.
func Look(dir string) (keeper, holder int) {
	h, err := readHolder(dir)
	if err != nil || h == nil {
		return 0, 0
	}
	if h.Keeper.lives() {
		keeper = h.Keeper.PID
	}
	return keeper, h.PID
}
