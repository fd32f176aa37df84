package control

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

const socketName = "control.sock"

// socketPath returns a name of the socket that is short enough for the kernel, which takes 107 bytes on Linux, however long the name of
// the state folder is. The name is good until close is called.
func socketPath(state string) (path string, close func(), err error) {
	path = filepath.Join(runDir(state), socketName)
	if runtime.GOOS != "linux" || len(path) < 100 {
		return path, func() {}, nil
	}
	dir, err := os.Open(runDir(state))
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), socketName), func() { dir.Close() }, nil
}
