//go:build unix

package lifecycle

import (
	"io/fs"
	"syscall"

	"github.com/weft-dev/weft/buildpack/layer"
)

func ownerOf(info fs.FileInfo) layer.Owner {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return layer.Owner{UID: int(st.Uid), GID: int(st.Gid)}
	}
	return layer.Owner{}
}
