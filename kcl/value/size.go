package value

// TextSize is about how many bytes v takes when it is written. Values share
// their parts, so that a small one may have a text without end: TextSize gives
// up and answers more than limit when there is that much.
func TextSize(v Value, limit int) int {
	switch v := v.(type) {
	case Str:
		return len(v) + 2
	case *List:
		n := 2
		for _, item := range v.Items {
			if n > limit {
				break
			}
			n += 2 + TextSize(item, limit-n)
		}
		return n
	case *Dict:
		n := 2
		for i := range v.entries {
			if n > limit {
				break
			}
			n += 4 + len(v.entries[i].Key) + TextSize(v.entries[i].Value, limit-n)
		}
		return n
	case *Schema:
		return TextSize(v.Config, limit)
	}
	return 8
}
