package value

// Op is the operator with which an entry of a configuration is merged.
type Op uint8

// The merge operators.
const (
	Union    Op = iota // ":"
	Override           // "="
	Insert             // "+="
)

// String is the operator as it is written.
func (o Op) String() string { return [...]string{":", "=", "+="}[o] }

// NoIndex is the Index of an entry without one.
const NoIndex = -1 << 31

// Entry is a key of a configuration with its value and how it merges.
type Entry struct {
	Key   string
	Value Value
	Op    Op
	// Index is the list position of `key[i]: v`, else NoIndex.
	Index  int32
	Origin *Origin
}

// Dict is an ordered configuration. The zero value is empty and usable.
type Dict struct {
	entries []Entry
	index   map[string]int32
	// Potential is the runtime type of the schema that the dict was made for.
	Potential string
}

// indexFrom is the size from which a dict keeps a hash index.
const indexFrom = 9

// NewDict makes an empty dict with room for n entries.
func NewDict(n int) *Dict { return &Dict{entries: make([]Entry, 0, n)} }

// Len is the number of entries.
func (d *Dict) Len() int { return len(d.entries) }

// Entries are the entries in order. The caller must not change them.
func (d *Dict) Entries() []Entry { return d.entries }

// At is the entry at position i, for reading or, by the owner, for writing.
func (d *Dict) At(i int) *Entry { return &d.entries[i] }

// Find is the position of key, or -1.
func (d *Dict) Find(key string) int {
	if d.index != nil {
		if i, ok := d.index[key]; ok {
			return int(i)
		}
		return -1
	}
	for i := range d.entries {
		if d.entries[i].Key == key {
			return i
		}
	}
	return -1
}

// Get is the value of key.
func (d *Dict) Get(key string) (Value, bool) {
	if i := d.Find(key); i >= 0 {
		return d.entries[i].Value, true
	}
	return Undefined, false
}

// Has reports whether key is present.
func (d *Dict) Has(key string) bool { return d.Find(key) >= 0 }

// Keys are the keys in order.
func (d *Dict) Keys() []string {
	keys := make([]string, len(d.entries))
	for i := range d.entries {
		keys[i] = d.entries[i].Key
	}
	return keys
}

// Set gives key a value and the operator Union, at its place if it is there
// already (then its operator stays) and else at the end.
func (d *Dict) Set(key string, v Value) {
	if i := d.Find(key); i >= 0 {
		d.entries[i].Value = v
		return
	}
	d.Put(Entry{Key: key, Value: v, Index: NoIndex})
}

// Put replaces the entry of the same key or appends it.
func (d *Dict) Put(e Entry) {
	if i := d.Find(e.Key); i >= 0 {
		d.entries[i] = e
		return
	}
	d.entries = append(d.entries, e)
	if d.index != nil {
		d.index[e.Key] = int32(len(d.entries) - 1)
	} else if len(d.entries) >= indexFrom {
		d.reindex()
	}
}

func (d *Dict) reindex() {
	d.index = nil
	if len(d.entries) < indexFrom {
		return
	}
	d.index = make(map[string]int32, cap(d.entries))
	for i := range d.entries {
		d.index[d.entries[i].Key] = int32(i)
	}
}

// Delete removes key and keeps the order of the rest.
func (d *Dict) Delete(key string) bool {
	i := d.Find(key)
	if i < 0 {
		return false
	}
	d.entries = append(d.entries[:i], d.entries[i+1:]...)
	d.reindex()
	return true
}

// Clone copies the dict but not its values.
func (d *Dict) Clone() *Dict {
	c := &Dict{entries: make([]Entry, len(d.entries), len(d.entries)+2), Potential: d.Potential}
	copy(c.entries, d.entries)
	if d.index != nil {
		c.reindex()
	}
	return c
}
