package network

import (
	"strings"
	"testing"
	"time"
)

// The nft program, reading the text form, must make the very table that netlink makes.
func TestTableEqualsText(t *testing.T) {
	byText, byNetlink := newNetns(t), newNetns(t)
	r := everyFormCompiler(t).Ruleset()
	byText.nft(t, r.String(), "-f", "-")
	table, err := OpenTable("weft-test", byNetlink.fd())
	if err != nil {
		t.Fatal(err)
	}
	if err := table.Replace(r); err != nil {
		t.Fatal(err)
	}
	want, got := byText.nft(t, "", "list", "ruleset"), byNetlink.nft(t, "", "list", "ruleset")
	if want != got {
		t.Errorf("netlink made\n%s\nthe text form makes\n%s", got, want)
	}
	if !strings.Contains(got, "ingress rule 0") {
		t.Errorf("rules carry no comment:\n%s", got)
	}
}

// Random steps, applied as changes, leave the kernel with the table that the compiler wants.
func TestKernelFollowsChanges(t *testing.T) {
	n := newNetns(t)
	table, err := OpenTable(testConfig.Table, n.fd())
	must(t, err)
	for seed := range uint64(6) {
		g := newGenerator(seed)
		c := newTestCompiler(t)
		must(t, table.Replace(c.Ruleset()))
		c.Changes()
		m := newModel()
		for i := range 40 {
			for range 1 + g.IntN(4) {
				m.step(g, c)
			}
			changes := c.Changes()
			if err := table.Apply(changes); err != nil {
				t.Fatalf("seed %d step %d: %v\n%+v", seed, i, err, changes)
			}
			if d, err := table.Check(c.Ruleset()); err != nil || d != "" {
				t.Fatalf("seed %d step %d: %s %v", seed, i, d, err)
			}
		}
	}
}

// Whatever another program does to the table is noticed, told apart from our own changes, and repaired.
func TestForeignChangesAreSeen(t *testing.T) {
	n := newNetns(t)
	c := everyFormCompiler(t)
	table, err := OpenTable("weft-test", n.fd())
	must(t, err)
	must(t, table.Replace(c.Ruleset()))
	c.Changes()
	changed := make(chan struct{}, 100)
	must(t, table.Watch(t.Context(), func() { changed <- struct{}{} }))
	for _, command := range []string{
		"flush ruleset", "delete table inet weft-test", "flush table inet weft-test", "flush chain inet weft-test ingress/x/web",
		"flush map inet weft-test ingress-class4", "add element inet weft-test ports/b7b89615e8aed130 { 6 . 22 }",
		"add rule inet weft-test ingress/x/web accept", "insert rule inet weft-test guard-ingress accept",
	} {
		c.SetPod(Pod{Namespace: "y", Name: "a", Labels: map[string]string{"pod": command[:5]}, IPs: addrs(17)})
		must(t, table.Apply(c.Changes())) // a change of our own in between
		n.nft(t, "add table inet another\n"+command+"\n", "-f", "-")
		select {
		case <-changed:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s was not noticed", command)
		}
		difference, err := table.Check(c.Ruleset())
		must(t, err)
		if difference == "" {
			t.Errorf("%s: no difference found", command)
		}
		must(t, table.Replace(c.Ruleset()))
		if difference, err = table.Check(c.Ruleset()); err != nil || difference != "" {
			t.Fatalf("after the repair: %s %v", difference, err)
		}
		for len(changed) > 0 {
			<-changed
		}
	}
	n.nft(t, "add table inet another\nadd table ip weft-test\n", "-f", "-")
	must(t, table.Delete())
	must(t, table.Delete())
	select {
	case <-changed:
		t.Error("our own deletion or another program's table was taken for a foreign change")
	case <-time.After(100 * time.Millisecond):
	}
}

func TestApplyFailsWhole(t *testing.T) {
	n := newNetns(t)
	c := everyFormCompiler(t)
	table, err := OpenTable("weft-test", n.fd())
	must(t, err)
	must(t, table.Replace(c.Ruleset()))
	c.Changes()
	n.nft(t, "flush ruleset\n", "-f", "-")
	c.SetPod(Pod{Namespace: "y", Name: "new", Labels: map[string]string{"pod": "b"}, IPs: addrs(40)})
	if err := table.Apply(c.Changes()); err == nil || !strings.Contains(err.Error(), "nftables table weft-test") {
		t.Errorf("changes to a table that is gone: %v", err)
	}
	if out := n.nft(t, "", "list", "ruleset"); strings.TrimSpace(out) != "" {
		t.Errorf("part of a failed transaction stayed:\n%s", out)
	}
}
