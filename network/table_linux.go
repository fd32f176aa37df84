package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Table is one nftables table of family inet in one network namespace. All writes are one transaction each: the kernel
// takes all of it or nothing. Its methods may be called concurrently.
type Table struct {
	name  string
	netns int

	mu  sync.Mutex
	own []uint32 // netlink ports of our latest transactions, to know our own notifications
}

// OpenTable returns the table of that name in the network namespace that the file descriptor refers to (0: the
// caller's). The descriptor must stay open as long as the table is used. Nothing is written yet.
func OpenTable(name string, netns int) (*Table, error) {
	c := Config{Table: name}
	if err := c.validate(); err != nil {
		return nil, err
	}
	return &Table{name: name, netns: netns}, nil
}

// bufferBytes is enough for the largest transaction and its acknowledgements; needs CAP_NET_ADMIN, as nftables does.
const bufferBytes = 64 << 20

func (t *Table) dial() (*nftables.Conn, error) {
	return nftables.New(nftables.WithNetNSFd(t.netns), nftables.WithSockOptions(func(c *netlink.Conn) error {
		port, err := netlinkPort(c)
		if err != nil {
			return err
		}
		t.mu.Lock()
		t.own = append(t.own, port)
		if len(t.own) > 16 {
			t.own = slices.Delete(t.own, 0, len(t.own)-16)
		}
		t.mu.Unlock()
		return errors.Join(c.SetWriteBuffer(bufferBytes), c.SetReadBuffer(bufferBytes))
	}))
}

// netlinkPort is the socket's address, which the kernel puts into the notifications of what it did.
func netlinkPort(c *netlink.Conn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var name unix.Sockaddr
	var nameErr error
	if err := raw.Control(func(fd uintptr) { name, nameErr = unix.Getsockname(int(fd)) }); err != nil {
		return 0, err
	}
	if nl, ok := name.(*unix.SockaddrNetlink); ok {
		return nl.Pid, nil
	}
	return 0, nameErr
}

func (t *Table) ours(port uint32) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Contains(t.own, port)
}

func (t *Table) table() *nftables.Table {
	return &nftables.Table{Name: t.name, Family: nftables.TableFamilyINet}
}

// Exists reports whether the kernel has the table; false also if it cannot be asked.
func (t *Table) Exists() bool {
	conn, err := t.dial()
	if err != nil {
		return false
	}
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	return err == nil && slices.ContainsFunc(tables, func(o *nftables.Table) bool { return o.Name == t.name })
}

// Replace makes the table exactly what the ruleset says, whatever it held before.
func (t *Table) Replace(r *Ruleset) error {
	return t.transact(func(b *batch) error {
		b.conn.AddTable(b.table) // so that there is one to delete
		b.conn.DelTable(b.table)
		b.conn.AddTable(b.table)
		return b.change(&Changes{AddSets: r.Sets, AddChains: r.Chains})
	})
}

// Apply turns the state before the changes into the state after them. It fails without effect if the table is not in
// the state before; then Replace is due.
func (t *Table) Apply(c *Changes) error {
	if c.Empty() {
		return nil
	}
	return t.transact(func(b *batch) error { return b.change(c) })
}

// Delete removes the table; that it is not there is no error.
func (t *Table) Delete() error {
	return t.transact(func(b *batch) error {
		b.conn.AddTable(b.table)
		b.conn.DelTable(b.table)
		return nil
	})
}

func (t *Table) transact(fill func(*batch) error) error {
	conn, err := t.dial()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	b := &batch{conn: conn, table: t.table(), sets: map[string]*nftables.Set{}}
	if err := fill(b); err != nil {
		return fmt.Errorf("nftables table %s: %w", t.name, err)
	}
	if err := conn.Flush(); err != nil {
		if errors.Is(err, os.ErrPermission) {
			return fmt.Errorf("nftables table %s: %w (CAP_NET_ADMIN in the network namespace is needed)", t.name, err)
		}
		return fmt.Errorf("nftables table %s: %w", t.name, err)
	}
	return nil
}

// batch is a transaction being filled.
type batch struct {
	conn  *nftables.Conn
	table *nftables.Table
	sets  map[string]*nftables.Set // made in this transaction
}

// change orders the steps so that nothing is used before it exists or removed while it is used.
func (b *batch) change(c *Changes) error {
	for _, s := range c.AddSets {
		set := b.kernelSet(s)
		if err := b.conn.AddSet(set, nil); err != nil {
			return err
		}
		b.sets[s.Name] = set
	}
	for _, ch := range c.AddChains {
		b.conn.AddChain(b.kernelChain(ch))
	}
	for _, ch := range c.ReplaceChains {
		b.conn.FlushChain(b.kernelChain(ch))
	}
	for _, s := range c.DeleteElements {
		if err := b.elements(s, b.conn.SetDeleteElements); err != nil {
			return err
		}
	}
	for _, sets := range [][]Set{c.AddSets, c.AddElements} {
		for _, s := range sets {
			if err := b.elements(s, b.conn.SetAddElements); err != nil {
				return err
			}
		}
	}
	for _, chains := range [][]Chain{c.AddChains, c.ReplaceChains} {
		for _, ch := range chains {
			for _, r := range ch.Rules {
				b.conn.AddRule(b.kernelRule(ch, r))
			}
		}
	}
	for _, name := range c.DeleteChains {
		b.conn.FlushChain(&nftables.Chain{Name: name, Table: b.table})
	}
	for _, name := range c.DeleteChains {
		b.conn.DelChain(&nftables.Chain{Name: name, Table: b.table})
	}
	for _, s := range c.DeleteSets {
		b.conn.DelSet(b.kernelSet(s))
	}
	return nil
}

// elementsPerMessage keeps a message's nested attribute below 64 KiB for the largest element.
const elementsPerMessage = 400

func (b *batch) elements(s Set, write func(*nftables.Set, []nftables.SetElement) error) error {
	set := b.sets[s.Name]
	if set == nil {
		set = b.kernelSet(s)
	}
	for part := range slices.Chunk(s.Elements, elementsPerMessage) {
		var list []nftables.SetElement
		for _, e := range part {
			list = append(list, s.Kind.kernelElements(e)...)
		}
		if err := write(set, list); err != nil {
			return err
		}
	}
	return nil
}

// kernelElements is the element as the kernel stores it: rbtree intervals are two elements, the second one past the end.
func (k SetKind) kernelElements(e Element) []nftables.SetElement {
	out := nftables.SetElement{Key: []byte(e.Key)}
	switch k {
	case Blocks4, Blocks6:
		list := []nftables.SetElement{out}
		if next := successor(e.End); next != "" {
			list = append(list, nftables.SetElement{Key: []byte(next), IntervalEnd: true})
		}
		return list
	case Ports:
		out.KeyEnd = []byte(e.End)
	case Classes4, Classes6:
		out.VerdictData = &expr.Verdict{Kind: expr.VerdictAccept}
		if e.Chain != "" {
			out.VerdictData = &expr.Verdict{Kind: expr.VerdictGoto, Chain: e.Chain}
		}
	}
	return []nftables.SetElement{out}
}

// successor is the next key; empty after the last.
func successor(key string) string {
	b := []byte(key)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i]++; b[i] != 0 {
			return string(b)
		}
	}
	return ""
}

func (b *batch) kernelSet(s Set) *nftables.Set {
	out := &nftables.Set{Table: b.table, Name: s.Name, IsMap: s.Kind.isMap(), KeyByteOrder: binaryutil.BigEndian}
	switch s.Kind {
	case Addresses4:
		out.KeyType = nftables.TypeIPAddr
	case Addresses6:
		out.KeyType = nftables.TypeIP6Addr
	case Blocks4:
		out.KeyType, out.Interval = nftables.TypeIPAddr, true
	case Blocks6:
		out.KeyType, out.Interval = nftables.TypeIP6Addr, true
	case Ports:
		out.KeyType = nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)
		out.Interval, out.Concatenation = true, true
	case AddressPorts4:
		out.KeyType, out.Concatenation = nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService), true
	case AddressPorts6:
		out.KeyType, out.Concatenation = nftables.MustConcatSetType(nftables.TypeIP6Addr, nftables.TypeInetProto, nftables.TypeInetService), true
	case Pairs4:
		out.KeyType, out.Concatenation = nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeIPAddr), true
	case Pairs6:
		out.KeyType, out.Concatenation = nftables.MustConcatSetType(nftables.TypeIP6Addr, nftables.TypeIP6Addr), true
	case Classes4:
		out.KeyType, out.DataType = nftables.TypeIPAddr, nftables.TypeVerdict
	case Classes6:
		out.KeyType, out.DataType = nftables.TypeIP6Addr, nftables.TypeVerdict
	case Messages:
		out.KeyType = nftables.TypeICMP6Type
	}
	return out
}

func (b *batch) kernelChain(c Chain) *nftables.Chain {
	out := &nftables.Chain{Name: c.Name, Table: b.table}
	if c.Hook == NoHook {
		return out
	}
	out.Type = nftables.ChainTypeFilter
	out.Hooknum = nftables.ChainHookForward
	if c.Hook == Input {
		out.Hooknum = nftables.ChainHookInput
	}
	priority, accept := nftables.ChainPriority(c.Priority), nftables.ChainPolicyAccept
	out.Priority, out.Policy = &priority, &accept
	return out
}

func (b *batch) kernelRule(c Chain, r Rule) *nftables.Rule {
	var list []expr.Any
	switch r.Family {
	case 4:
		list = append(list, family(unix.NFPROTO_IPV4)...)
	case 6:
		list = append(list, family(unix.NFPROTO_IPV6)...)
	}
	for _, cond := range r.Conditions {
		list = append(list, b.condition(r, cond)...)
	}
	switch r.Action {
	case Accept:
		list = append(list, &expr.Verdict{Kind: expr.VerdictAccept})
	case Drop:
		list = append(list, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop})
	case Jump:
		list = append(list, &expr.Verdict{Kind: expr.VerdictJump, Chain: r.Target})
	case Goto:
		list = append(list, &expr.Verdict{Kind: expr.VerdictGoto, Chain: r.Target})
	case ClassifySource, ClassifyTarget:
		load := loader{family: r.Family}
		load.address(r.Action == ClassifySource)
		list = append(list, append(load.list, &expr.Lookup{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_VERDICT,
			IsDestRegSet: true, SetName: r.Target, SetID: b.setID(r.Target)})...)
	}
	out := &nftables.Rule{Table: b.table, Chain: &nftables.Chain{Name: c.Name, Table: b.table}, Exprs: list}
	if r.Comment != "" {
		out.UserData = userdata.AppendString(nil, userdata.TypeComment, r.Comment)
	}
	return out
}

func (b *batch) setID(name string) uint32 {
	if s := b.sets[name]; s != nil {
		return s.ID
	}
	return 0
}

func family(proto byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: unix.NFT_REG_1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: []byte{proto}},
	}
}

// loader loads what a test compares into consecutive 4-byte registers, as nft(8) does: the first is NFT_REG_1 (which is
// NFT_REG32_00), the following ones NFT_REG32_01 and so on.
type loader struct {
	family byte
	list   []expr.Any
	words  uint32
}

func (l *loader) register() uint32 {
	if l.words == 0 {
		return unix.NFT_REG_1
	}
	return unix.NFT_REG32_00 + l.words
}

// address loads the source or target address. Offsets: RFC 791 section 3.1, RFC 8200 section 3.
func (l *loader) address(source bool) {
	offset, size := uint32(16), uint32(4)
	if source {
		offset = 12
	}
	if l.family == 6 {
		offset, size = 24, 16
		if source {
			offset = 8
		}
	}
	l.list = append(l.list, &expr.Payload{DestRegister: l.register(), Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size})
	l.words += size / 4
}

// port loads protocol and destination port, which has the same place in TCP, UDP and SCTP.
func (l *loader) port() {
	l.list = append(l.list, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: l.register()})
	l.words++
	l.list = append(l.list, &expr.Payload{DestRegister: l.register(), Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2})
	l.words++
}

func (b *batch) condition(r Rule, c Condition) []expr.Any {
	l := loader{family: r.Family}
	switch c.Test {
	case Established:
		return established()
	case NeighbourDiscovery:
		l.list = []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: unix.NFT_REG_1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: []byte{byte(ICMPv6)}},
			&expr.Payload{DestRegister: unix.NFT_REG_1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		}
	case SourceIn:
		l.address(true)
	case TargetIn:
		l.address(false)
	case PairIn:
		l.address(true)
		l.address(false)
	case PortIn:
		l.port()
	case TargetPortIn:
		l.address(false)
		l.port()
	}
	return append(l.list, &expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: c.Set, SetID: b.setID(c.Set)})
}

func established() []expr.Any {
	mask := binary.NativeEndian.AppendUint32(nil, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: unix.NFT_REG_1},
		&expr.Bitwise{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: unix.NFT_REG_1, Data: make([]byte, 4)},
	}
}
