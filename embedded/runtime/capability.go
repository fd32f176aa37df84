package runtime

import (
	"fmt"
	"strconv"
	"strings"
)

// capSysResource is CAP_SYS_RESOURCE (capabilities(7)).
const capSysResource = 24

// MayLowerOOMScore tells from the text of /proc/self/status whether the
// process may give negative out-of-memory scores. Where it may not,
// Containerd.RestrictOOMScore has to be set, or no pod starts.
func MayLowerOOMScore(status string) (bool, error) {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, "CapEff:"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(rest), 16, 64)
			if err != nil {
				return false, fmt.Errorf("effective capabilities: %w", err)
			}
			return set&(1<<capSysResource) != 0, nil
		}
	}
	return false, fmt.Errorf("the process status has no line CapEff")
}
