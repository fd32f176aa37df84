package record

import "bytes"

// Distinct is a map in which each key stands once: of several pairs with the same key the last one counts, as in Fluent Bit's JSON. A map without such pairs
// is given as it is.
func Distinct(value []byte) []byte {
	var room [48][]byte
	keys := room[:0]
	again := false
	for f := FieldsOf(value); f.Next(); {
		for _, k := range keys {
			if len(k) == len(f.Key) && f.Key != nil && bytes.Equal(k, f.Key) {
				again = true
			}
		}
		keys = append(keys, f.Key)
	}
	if !again {
		return value
	}
	out, n, at := []byte{0x80}, 0, 0
	for f := FieldsOf(value); f.Next(); at++ {
		later := false
		for _, k := range keys[at+1:] {
			later = later || f.Key != nil && bytes.Equal(k, f.Key)
		}
		if !later {
			out = append(out, f.Raw...)
			n++
		}
	}
	return CloseMap(out, 0, n)
}
