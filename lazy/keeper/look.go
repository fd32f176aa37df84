package keeper

// Processes are those that guard a folder, 0 where there is none.
type Processes struct{ Keeper, Holder, StandBy int }
