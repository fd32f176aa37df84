package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Check compares the table in the kernel with the ruleset. It returns a description of the first difference, empty if
// there is none.
func (t *Table) Check(r *Ruleset) (string, error) {
	conn, err := t.dial()
	if err != nil {
		return "", fmt.Errorf("nftables: %w", err)
	}
	difference, err := t.check(conn, r)
	if err != nil {
		return "", fmt.Errorf("reading nftables table %s: %w", t.name, err)
	}
	return difference, nil
}

func (t *Table) check(conn *nftables.Conn, r *Ruleset) (string, error) {
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return "", err
	}
	if !slices.ContainsFunc(tables, func(o *nftables.Table) bool { return o.Name == t.name }) {
		return "the table is gone", nil
	}
	sets, err := conn.GetSets(t.table())
	if err != nil {
		return "", err
	}
	byName := map[string]*nftables.Set{}
	for _, s := range sets {
		byName[s.Name] = s
	}
	if len(byName) != len(r.Sets) {
		return fmt.Sprintf("%d sets instead of %d", len(byName), len(r.Sets)), nil
	}
	for _, want := range r.Sets {
		set := byName[want.Name]
		if set == nil {
			return fmt.Sprintf("set %s is gone", want.Name), nil
		}
		have, err := conn.GetSetElements(set)
		if err != nil {
			return "", err
		}
		if d := elementDifference(want, have); d != "" {
			return d, nil
		}
	}
	return t.checkChains(conn, r)
}

func elementDifference(want Set, have []nftables.SetElement) string {
	type key struct {
		key, end string
		last     bool
	}
	left := map[key]bool{}
	for _, e := range want.Elements {
		for _, k := range want.Kind.kernelElements(e) {
			left[key{string(k.Key), string(k.KeyEnd), k.IntervalEnd}] = true
		}
	}
	n := len(left)
	for _, e := range have {
		k := key{string(e.Key), string(e.KeyEnd), e.IntervalEnd}
		if !left[k] {
			return fmt.Sprintf("set %s has an element too many", want.Name)
		}
		delete(left, k)
	}
	if len(left) > 0 {
		return fmt.Sprintf("set %s lacks %d of %d elements", want.Name, len(left), n)
	}
	return ""
}

func (t *Table) checkChains(conn *nftables.Conn, r *Ruleset) (string, error) {
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return "", err
	}
	have := map[string]bool{}
	for _, ch := range chains {
		if ch.Table.Name == t.name {
			have[ch.Name] = true
		}
	}
	if len(have) != len(r.Chains) {
		return fmt.Sprintf("%d chains instead of %d", len(have), len(r.Chains)), nil
	}
	b := &batch{conn: conn, table: t.table()}
	for _, want := range r.Chains {
		if !have[want.Name] {
			return fmt.Sprintf("chain %s is gone", want.Name), nil
		}
		rules, err := conn.GetRules(t.table(), &nftables.Chain{Name: want.Name, Table: t.table()})
		if err != nil {
			return "", err
		}
		if len(rules) != len(want.Rules) {
			return fmt.Sprintf("chain %s has %d rules instead of %d", want.Name, len(rules), len(want.Rules)), nil
		}
		for i, rule := range rules {
			if len(rule.Exprs) != len(b.kernelRule(want, want.Rules[i]).Exprs) {
				return fmt.Sprintf("rule %d of chain %s is another one", i, want.Name), nil
			}
		}
	}
	return "", nil
}

// Watch calls changed whenever another program touches the table (nft flush ruleset, for example), until the context
// ends. It returns once it listens; calls may come from another goroutine, and one call may stand for many events.
func (t *Table) Watch(ctx context.Context, changed func()) error {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: t.netns})
	if err != nil {
		return fmt.Errorf("nftables notifications: %w", err)
	}
	if err := errors.Join(conn.SetReadBuffer(8<<20), conn.JoinGroup(unix.NFNLGRP_NFTABLES)); err != nil {
		conn.Close()
		return fmt.Errorf("nftables notifications: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // ends Receive
	go func() {
		defer conn.Close()
		defer stop()
		for ctx.Err() == nil {
			messages, err := conn.Receive()
			switch {
			case errors.Is(err, unix.ENOBUFS):
				changed() // events were lost; who knows
			case err != nil && ctx.Err() == nil && !errors.Is(err, os.ErrDeadlineExceeded):
				changed()
				return
			}
			if slices.ContainsFunc(messages, t.foreign) {
				changed()
			}
		}
	}()
	return nil
}

// foreign reports whether the notification is about our table and not about a transaction of our own.
func (t *Table) foreign(m netlink.Message) bool {
	kind := int(m.Header.Type) & 0xff
	if int(m.Header.Type)>>8 != unix.NFNL_SUBSYS_NFTABLES || kind == unix.NFT_MSG_NEWGEN || len(m.Data) < 4 || t.ours(m.Header.PID) {
		return false
	}
	if m.Data[0] != unix.NFPROTO_INET {
		return false
	}
	ad, err := netlink.NewAttributeDecoder(m.Data[4:])
	if err != nil {
		return false
	}
	ad.ByteOrder = binary.BigEndian
	for ad.Next() {
		// The table's name is attribute 1 of tables, chains, rules, sets and set elements alike.
		if ad.Type() == 1 {
			return ad.String() == t.name
		}
	}
	return false
}

// Count counts packets and bytes since the table was last replaced.
type Count struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// Drops is what the table has dropped.
type Drops struct {
	// Ingress and Egress were denied by policies, Unknown came from or went to an address of the pod range without a pod.
	Ingress Count `json:"ingress"`
	Egress  Count `json:"egress"`
	Unknown Count `json:"unknown"`
}

// Drops reads the counters.
func (t *Table) Drops() (Drops, error) {
	var out Drops
	conn, err := t.dial()
	if err != nil {
		return out, fmt.Errorf("nftables: %w", err)
	}
	for name, count := range map[string]*Count{deniedChain(Ingress): &out.Ingress, deniedChain(Egress): &out.Egress, unknownChain: &out.Unknown} {
		rules, err := conn.GetRules(t.table(), &nftables.Chain{Name: name, Table: t.table()})
		if err != nil {
			return out, fmt.Errorf("reading nftables table %s: %w", t.name, err)
		}
		for _, rule := range rules {
			for _, e := range rule.Exprs {
				if c, ok := e.(*expr.Counter); ok {
					count.Packets, count.Bytes = count.Packets+c.Packets, count.Bytes+c.Bytes
				}
			}
		}
	}
	return out, nil
}
