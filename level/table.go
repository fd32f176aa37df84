package level

import "hash/maphash"

const shards = 256

// table is a map from names that is copied piecemeal: with copies one of its shards, so that a single change of many thousands is cheap.
// The zero value is empty. A table that was handed out is never changed.
type table[V any] struct {
	seed   maphash.Seed
	shards [shards]map[string]V
	size   int
}

func newTable[V any]() *table[V] { return &table[V]{seed: maphash.MakeSeed()} }

func (t *table[V]) shard(name string) int { return int(maphash.String(t.seed, name) % shards) }

func (t *table[V]) get(name string) (V, bool) {
	v, ok := t.shards[t.shard(name)][name]
	return v, ok
}

// put is for a table that nobody else has yet.
func (t *table[V]) put(name string, v V) {
	m := &t.shards[t.shard(name)]
	if *m == nil {
		*m = map[string]V{}
	}
	if _, known := (*m)[name]; !known {
		t.size++
	}
	(*m)[name] = v
}

// with returns a table in which a name stands for v, or for nothing if v is nil.
func (t *table[V]) with(name string, v *V) *table[V] {
	next := *t
	i := t.shard(name)
	m := make(map[string]V, len(t.shards[i])+1)
	for k, old := range t.shards[i] {
		if k != name {
			m[k] = old
		}
	}
	next.size += len(m) - len(t.shards[i])
	if v != nil {
		m[name] = *v
		next.size++
	}
	next.shards[i] = m
	return &next
}

func (t *table[V]) all(yield func(string, V) bool) {
	for _, m := range t.shards {
		for k, v := range m {
			if !yield(k, v) {
				return
			}
		}
	}
}
