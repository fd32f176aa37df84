package network

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
)

// SetKind is the type of a set's or map's key and value.
type SetKind uint8

// The kinds of sets in the table. 4 and 6 say the family of the addresses.
const (
	// Addresses4 and Addresses6 hold single addresses (hash).
	Addresses4 SetKind = iota
	Addresses6
	// Blocks4 and Blocks6 hold address ranges (interval).
	Blocks4
	Blocks6
	// Ports holds protocol . port range (concatenated interval).
	Ports
	// AddressPorts4 and AddressPorts6 hold address . protocol . port (hash), for named ports.
	AddressPorts4
	AddressPorts6
	// Pairs4 and Pairs6 hold address . address (hash).
	Pairs4
	Pairs6
	// Classes4 and Classes6 map an address to the chain that judges it.
	Classes4
	Classes6
	// Messages holds ICMPv6 message types.
	Messages
)

// v6 reports whether the kind's addresses are IPv6; ok is false for kinds without addresses.
func (k SetKind) v6() (v6, ok bool) {
	switch k {
	case Addresses4, Blocks4, AddressPorts4, Pairs4, Classes4:
		return false, true
	case Addresses6, Blocks6, AddressPorts6, Pairs6, Classes6:
		return true, true
	}
	return false, false
}

func (k SetKind) isMap() bool { return k == Classes4 || k == Classes6 }

// nftType is the set's declaration in the syntax of nft(8).
func (k SetKind) nftType() string {
	switch k {
	case Addresses4:
		return "type ipv4_addr"
	case Addresses6:
		return "type ipv6_addr"
	case Blocks4:
		return "type ipv4_addr; flags interval"
	case Blocks6:
		return "type ipv6_addr; flags interval"
	case Ports:
		return "type inet_proto . inet_service; flags interval"
	case AddressPorts4:
		return "type ipv4_addr . inet_proto . inet_service"
	case AddressPorts6:
		return "type ipv6_addr . inet_proto . inet_service"
	case Pairs4:
		return "type ipv4_addr . ipv4_addr"
	case Pairs6:
		return "type ipv6_addr . ipv6_addr"
	case Classes4:
		return "type ipv4_addr : verdict"
	case Classes6:
		return "type ipv6_addr : verdict"
	}
	return "type icmpv6_type"
}

// Element is one element of a set or map. Elements are equal if all fields are.
type Element struct {
	// Key is the key as the kernel wants it: fields in network byte order, each padded to 4 bytes.
	Key string
	// End is the last key of a range, inclusive; empty for a single key.
	End string
	// Chain is the value in a map: the chain to go to, or empty to accept.
	Chain string
}

func addressKey(a netip.Addr) string { return string(a.AsSlice()) }

func portKey(p Protocol, port uint16) string {
	return string([]byte{byte(p), 0, 0, 0, byte(port >> 8), byte(port), 0, 0})
}

// Set is a named set or map.
type Set struct {
	Name     string
	Kind     SetKind
	Elements []Element // sorted by Key
}

// Test is one condition of a rule.
type Test uint8

// The conditions of rules. "Set" is the set named beside the condition.
const (
	// Established: the packet belongs or is related to a known connection.
	Established Test = iota
	// NeighbourDiscovery: an ICMPv6 message whose type is in Set.
	NeighbourDiscovery
	// SourceIn, TargetIn: the address is in Set.
	SourceIn
	TargetIn
	// PairIn: source . target is in Set.
	PairIn
	// PortIn: protocol . target port is in Set.
	PortIn
	// TargetPortIn: target . protocol . target port is in Set.
	TargetPortIn
)

// Condition is a test with the set it uses.
type Condition struct {
	Test Test
	Set  string
}

// Action is what a rule does when all its conditions hold.
type Action uint8

// Accept ends this base chain (the next one still sees the packet); Drop ends everything; Jump returns, Goto does not; ClassifySource and
// ClassifyTarget continue where the map says that the packet's address belongs, or with the next rule if it is not there.
const (
	Accept Action = iota
	Drop
	Jump
	Goto
	ClassifySource
	ClassifyTarget
)

// Rule is one rule of a chain.
type Rule struct {
	// Family is 4 or 6 if the rule is for one family, else 0.
	Family     uint8
	Conditions []Condition
	Action     Action
	// Target is the chain of Jump and Goto or the map of a Classify action.
	Target  string
	Comment string
}

func (r Rule) equal(o Rule) bool {
	return r.Family == o.Family && r.Action == o.Action && r.Target == o.Target && r.Comment == o.Comment &&
		slices.Equal(r.Conditions, o.Conditions)
}

// Hook is where a base chain is attached.
type Hook uint8

// NoHook is a chain that only others jump to. Forward sees packets between pods and from elsewhere; Input sees packets to the node.
const (
	NoHook Hook = iota
	Forward
	Input
)

// Chain is a list of rules.
type Chain struct {
	Name string
	Hook Hook
	// Priority orders base chains of one hook (nftables priorities; 0 is "filter").
	Priority int32
	Rules    []Rule
}

// Ruleset is the complete wanted content of a table, sorted by name.
type Ruleset struct {
	Table  string
	Sets   []Set
	Chains []Chain
}

// Changes is what turns one state of the table into the next.
type Changes struct {
	Table string
	// AddSets come with all their elements.
	AddSets []Set
	// AddElements and DeleteElements name sets that exist before and after.
	AddElements, DeleteElements []Set
	DeleteSets                  []Set
	// AddChains come with all their rules; ReplaceChains lose the old ones.
	AddChains, ReplaceChains []Chain
	DeleteChains             []string
}

// Empty reports whether there is nothing to do.
func (c *Changes) Empty() bool { return c.Size() == 0 }

// Size is the number of elements, rules, chains and sets touched.
func (c *Changes) Size() int {
	n := len(c.AddSets) + len(c.DeleteSets) + len(c.AddChains) + len(c.ReplaceChains) + len(c.DeleteChains)
	for _, sets := range [][]Set{c.AddSets, c.AddElements, c.DeleteElements} {
		for _, s := range sets {
			n += len(s.Elements)
		}
	}
	for _, chains := range [][]Chain{c.AddChains, c.ReplaceChains} {
		for _, ch := range chains {
			n += len(ch.Rules)
		}
	}
	return n
}

// WriteTo writes the table in the syntax of nft(8); "nft -f" of it gives the table that Table.Replace makes.
func (r *Ruleset) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", r.Table)
	for _, s := range r.Sets {
		word := "set"
		if s.Kind.isMap() {
			word = "map"
		}
		fmt.Fprintf(&b, "\t%s %s {\n\t\t%s\n", word, s.Name, s.Kind.nftType())
		if len(s.Elements) > 0 {
			parts := make([]string, len(s.Elements))
			for i, e := range s.Elements {
				parts[i] = s.Kind.text(e)
			}
			fmt.Fprintf(&b, "\t\telements = { %s }\n", strings.Join(parts, ", "))
		}
		b.WriteString("\t}\n")
	}
	for _, c := range r.Chains {
		fmt.Fprintf(&b, "\tchain %s {\n", c.Name)
		switch c.Hook {
		case Forward:
			fmt.Fprintf(&b, "\t\ttype filter hook forward priority %d; policy accept;\n", c.Priority)
		case Input:
			fmt.Fprintf(&b, "\t\ttype filter hook input priority %d; policy accept;\n", c.Priority)
		}
		for _, rule := range c.Rules {
			fmt.Fprintf(&b, "\t\t%s\n", rule)
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

func (r *Ruleset) String() string {
	var b strings.Builder
	_, _ = r.WriteTo(&b) // a Builder does not fail
	return b.String()
}

// text is the element in the syntax of nft(8).
func (k SetKind) text(e Element) string {
	key := k.fields(e.Key)
	if e.End != "" {
		end := k.fields(e.End)
		for i := range key {
			if key[i] != end[i] {
				key[i] += "-" + end[i]
			}
		}
	}
	out := strings.Join(key, " . ")
	switch {
	case k.isMap() && e.Chain == "":
		out += " : accept"
	case k.isMap():
		out += " : goto " + e.Chain
	}
	return out
}

func (k SetKind) fields(key string) []string {
	if k == Messages {
		return []string{fmt.Sprint(key[0])}
	}
	var out []string
	width := 4
	if v6, _ := k.v6(); v6 {
		width = 16
	}
	address := func() {
		a, _ := netip.AddrFromSlice([]byte(key[:width]))
		out, key = append(out, a.String()), key[width:]
	}
	if k != Ports {
		address()
	}
	if k == Pairs4 || k == Pairs6 {
		address()
	}
	if k == Ports || k == AddressPorts4 || k == AddressPorts6 {
		out = append(out, fmt.Sprint(key[0]), fmt.Sprint(binary.BigEndian.Uint16([]byte(key[4:6]))))
	}
	return out
}

func (r Rule) String() string {
	ip := "ip"
	if r.Family == 6 {
		ip = "ip6"
	}
	var parts []string
	if r.Family == 4 {
		parts = append(parts, "meta nfproto ipv4")
	} else if r.Family == 6 {
		parts = append(parts, "meta nfproto ipv6")
	}
	for _, c := range r.Conditions {
		switch c.Test {
		case Established:
			parts = append(parts, "ct state established,related")
		case NeighbourDiscovery:
			parts = append(parts, "meta l4proto ipv6-icmp icmpv6 type @"+c.Set)
		case SourceIn:
			parts = append(parts, ip+" saddr @"+c.Set)
		case TargetIn:
			parts = append(parts, ip+" daddr @"+c.Set)
		case PairIn:
			parts = append(parts, fmt.Sprintf("%s saddr . %s daddr @%s", ip, ip, c.Set))
		case PortIn:
			parts = append(parts, "meta l4proto . th dport @"+c.Set)
		case TargetPortIn:
			parts = append(parts, ip+" daddr . meta l4proto . th dport @"+c.Set)
		}
	}
	switch r.Action {
	case Accept:
		parts = append(parts, "accept")
	case Drop:
		parts = append(parts, "counter drop")
	case Jump:
		parts = append(parts, "jump "+r.Target)
	case Goto:
		parts = append(parts, "goto "+r.Target)
	case ClassifySource:
		parts = append(parts, ip+" saddr vmap @"+r.Target)
	case ClassifyTarget:
		parts = append(parts, ip+" daddr vmap @"+r.Target)
	}
	if r.Comment != "" {
		parts = append(parts, fmt.Sprintf("comment %q", r.Comment))
	}
	return strings.Join(parts, " ")
}

func sortElements(list []Element) {
	slices.SortFunc(list, func(a, b Element) int { return cmp.Compare(a.Key, b.Key) })
}
