package journal

import (
	"bytes"
	"fmt"
	"io"

	"github.com/ulikunitz/xz"
)

// unxz decodes a field of an older journal.
func unxz(b []byte) ([]byte, error) {
	config := xz.ReaderConfig{DictCap: 8 << 20}
	r, err := config.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	out, err := io.ReadAll(io.LimitReader(r, maxObject+1))
	if err != nil || len(out) > maxObject {
		return nil, fmt.Errorf("%w: a compressed field: %w", ErrDamaged, err)
	}
	return out, nil
}
