package filter

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// recordModifier adds fixed fields and removes keys.
type recordModifier struct {
	records []pair
	remove  []string
	allow   []string
	uuid    string
}

func newRecordModifier(o *options.Set, _ Host) Filter {
	m := &recordModifier{uuid: o.String("uuid_key")}
	for _, p := range o.All("record") {
		key, value := quotedPair(o, p)
		m.records = append(m.records, pair{[]byte(key), text(key), text(value)})
	}
	list := func(keys ...string) []string {
		var all []string
		for _, key := range keys {
			for _, p := range o.All(key) {
				all = append(all, strings.TrimSpace(p.Value))
			}
		}
		return all
	}
	m.remove = list("remove_key")
	m.allow = list("allowlist_key", "whitelist_key")
	if len(m.remove) > 0 && len(m.allow) > 0 {
		o.Failf("remove_key", "Remove_key and Allowlist_key cannot be used together")
	}
	return m
}

func (m *recordModifier) Apply(_ context.Context, dst []byte, b flow.Batch) ([]byte, error) {
	return mapEvents(dst, b.Data, func(p *pairs, _ *record.Event) bool {
		changed := len(m.records) > 0 || m.uuid != ""
		switch {
		case len(m.remove) > 0:
			changed = p.remove(func(x *pair) bool { return named(m.remove, x.key) }) || changed
		case len(m.allow) > 0:
			changed = p.remove(func(x *pair) bool { return !named(m.allow, x.key) }) || changed
		}
		p.all = append(p.all, m.records...)
		if m.uuid != "" {
			p.all = append(p.all, pair{[]byte(m.uuid), text(m.uuid), text(newUUID())})
		}
		return changed
	})
}

// named tells whether a key is in the list, in any case of letters; a name with a star at its end stands for what begins with it.
func named(list []string, key []byte) bool {
	return key != nil && slices.ContainsFunc(list, func(name string) bool {
		before, star := strings.CutSuffix(name, "*")
		return strings.EqualFold(string(key), before) || star && len(key) >= len(before) && strings.EqualFold(string(key[:len(before)]), before)
	})
}

// newUUID is a random UUID (RFC 9562, version 4).
func newUUID() string {
	var u [16]byte
	rand.Read(u[:])
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
