package plan

import (
	"math"
	"strconv"
	"strings"
)

// appendFloat writes f as Rust's ryu does: the shortest digits that read back
// the same, plain between 1e-5 and 1e16 and with an exponent elsewhere.
func appendFloat(b []byte, f float64) []byte {
	if f == 0 {
		if math.Signbit(f) {
			return append(b, "-0.0"...)
		}
		return append(b, "0.0"...)
	}
	var room [32]byte
	s := string(strconv.AppendFloat(room[:0], f, 'e', -1, 64))
	mantissa, exp, _ := strings.Cut(s, "e")
	point, _ := strconv.Atoi(exp)
	point++ // digits before the decimal point
	if point > -5 && point <= 16 {
		start := len(b)
		b = strconv.AppendFloat(b, f, 'f', -1, 64)
		if !strings.Contains(string(b[start:]), ".") {
			b = append(b, ".0"...)
		}
		return b
	}
	b = append(b, mantissa...)
	b = append(b, 'e')
	return strconv.AppendInt(b, int64(point-1), 10)
}
