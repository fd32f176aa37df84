package output

import "golang.org/x/term"

// terminal is the screen behind standard error.
type terminal struct{ fd int }

// size returns columns and rows, and what is usual where the terminal does not tell.
func (t *terminal) size() (width, height int) {
	width, height, err := term.GetSize(t.fd)
	if err != nil || width < 10 || height < 3 {
		return 80, 24
	}
	return width, height
}
