package stdlib

import (
	"fmt"

	"github.com/weft-dev/weft/kcl/value"
)

// each lists what a loop over v with one variable visits: the characters of a
// string, the items of a list, the keys of a configuration.
func each(v value.Value) ([]value.Value, error) {
	switch v := v.(type) {
	case value.Str:
		items := make([]value.Value, 0, len(v))
		for _, r := range string(v) {
			items = append(items, value.Str(string(r)))
		}
		return items, nil
	case *value.List:
		return v.Items, nil
	case *value.Dict, *value.Schema:
		entries := value.ConfigOf(v).Entries()
		items := make([]value.Value, len(entries))
		for i := range entries {
			items[i] = value.Str(entries[i].Key)
		}
		return items, nil
	}
	return nil, fmt.Errorf("'%s' object is not iterable", value.TypeName(v))
}
