package lazy

import (
	"testing"

	"github.com/weft-dev/weft/lazy/cache"
)

// TestWithBeside widens what was asked for by what was read on both sides of it, up to a bound, and not beyond the device.
func TestWithBeside(t *testing.T) {
	read := cache.NewBits(1000)
	read.Set(8, 22)
	read.Set(30, 31)
	read.Set(100, 1000)
	for _, c := range []struct{ first, end, from, to int64 }{
		{10, 20, 8, 22}, {8, 22, 8, 22}, {30, 31, 30, 31}, {0, 8, 0, 22}, {40, 50, 40, 50}, {500, 501, 500 - beside, 501 + beside}, {900, 1000, 900 - beside, 1000},
	} {
		if from, to := withBeside(read, 1000, c.first, c.end); from != c.from || to != c.to {
			t.Errorf("from %d to %d: from %d to %d, want %d to %d", c.first, c.end, from, to, c.from, c.to)
		}
	}
}
