package leveltool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/level/chain"
	"github.com/weft-dev/weft/level/door"
)

// verified is what is known of a chain that holds.
type verified struct {
	File    string     `json:"file"`
	Records int        `json:"records"`
	First   int64      `json:"first"`
	Head    chain.Head `json:"head"`
	// Told is the door whose word of the chain's end was compared; empty if there was none.
	Told string `json:"told,omitempty"`
}

func (t Tool) records() *cobra.Command {
	var verify bool
	var users, events []string
	var since time.Duration
	var last int
	c := &cobra.Command{
		Use:   "records [FILE]",
		Short: "Show the records of what levels denied, and verify that none is missing or changed",
		Long: "Records shows the chain that a door writes: by default that of the embedded cluster's API server, the older files of FILE before it. Each record holds the hash of\n" +
			"the one before. With --verify only that is told, and the end of the chain is compared with what the door told the cluster, so that records cut off the end are missed\n" +
			"as well. It ends with 1 where the chain does not hold.",
		Example: `  weft level audit records --last 20
  weft level audit records --user alice --since 24h -o json
  weft level audit records --verify`,
		Args: cobra.MaximumNArgs(1),
	}
	c.Flags().BoolVar(&verify, "verify", false, "verify the chain instead of showing it")
	c.Flags().StringArrayVar(&users, "user", nil, "only records of this `user`; can be repeated")
	c.Flags().StringArrayVar(&events, "event", nil, "only records of this `event`: Denied, WouldDeny, Cut, Off, On, Recovered or Lost; can be repeated")
	c.Flags().DurationVar(&since, "since", 0, "only records that are not older than this `time`, such as 24h")
	c.Flags().IntVar(&last, "last", 0, "only this `number` of records, the newest ones; 0 for all")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if last < 0 || since < 0 {
			return output.Usagef("--last and --since must not be negative")
		}
		file, own, err := t.chainFile(args)
		if err != nil {
			return err
		}
		if verify {
			return t.verify(cmd.Context(), file, own)
		}
		now := time.Now()
		all := []chain.Record{}
		_, broken := readChain(file, func() { all = all[:0] }, func(r chain.Record) {
			if among(users, r.User) && among(events, r.Event) && (since == 0 || now.Sub(r.Time) <= since) {
				all = append(all, r)
				if last > 0 && len(all) > 2*last { // what is shown is a bounded part of what may be half a gigabyte
					all = append(all[:0], all[len(all)-last:]...)
				}
			}
		})
		if last > 0 && len(all) > last {
			all = all[len(all)-last:]
		}
		return errors.Join(t.Print().Result(all, func(p *output.Page) { recordsPage(p, all) }), damaged(broken))
	}
	return c
}

// chainFile is the chain that is meant, and whether it is that of the embedded API server.
func (t Tool) chainFile(args []string) (file string, own bool, err error) {
	if len(args) == 1 {
		file = args[0]
	} else if t.Records == nil {
		return "", false, output.Advise(output.Usagef("no file is given"), "Name the file of records.")
	} else if file, err = t.Records(); err != nil {
		return "", false, err
	}
	if _, err := os.Stat(file); err != nil {
		return "", false, output.Advise(fmt.Errorf("there are no records: %w", err), "Name the file that a door writes; the embedded cluster's is in its state folder.")
	}
	return file, len(args) == 0, nil
}

func among(all []string, one string) bool {
	for _, s := range all {
		if s == one {
			return true
		}
	}
	return len(all) == 0
}

// readChain reads a chain that may be written meanwhile: a record that is half there, or a file that was exchanged, is whole a moment later.
func readChain(file string, begin func(), each func(chain.Record)) (head chain.Head, err error) {
	for try := range 3 {
		if try > 0 {
			time.Sleep(100 * time.Millisecond)
		}
		begin()
		if head, err = chain.Verify(file, each); err == nil {
			break
		}
	}
	return head, err
}

func damaged(err error) error {
	if d := (*chain.Damage)(nil); errors.As(err, &d) {
		return output.Advise(err, "Somebody, or a fault of the disk, changed the records from there on. What comes before holds. Keep the files, and move them away to begin a new chain.")
	}
	return err
}

func (t Tool) verify(ctx context.Context, file string, own bool) error {
	told := map[string]chain.Head{} // before the file is read, which only grows
	if own {
		told = t.told(ctx)
	}
	v := verified{File: file}
	hashes := map[int64]string{}
	var before int64
	head, err := readChain(file, func() { v.Records, before = 0, 0; clear(hashes) }, func(r chain.Record) {
		if v.Records++; v.Records == 1 {
			v.First = r.Sequence
		}
		for _, h := range told {
			if h.Sequence == r.Sequence-1 {
				hashes[h.Sequence] = r.Previous
			}
		}
		before = r.Sequence
	})
	if err != nil {
		return damaged(err)
	}
	v.Head = head
	hashes[before] = head.Hash
	for name, h := range told {
		switch {
		case h.Sequence == 0:
			continue
		case h.Sequence > head.Sequence:
			return output.Advise(fmt.Errorf("%s: it ends with record %d, but the door %s told of record %d: records were cut off the end", file, head.Sequence, name, h.Sequence), "Somebody took records away. Keep the files.")
		case h.Sequence >= v.First && hashes[h.Sequence] != h.Hash:
			return output.Advise(fmt.Errorf("%s: record %d is not the one that the door %s told of: the chain was written anew", file, h.Sequence, name), "Somebody exchanged the records. Keep the files.")
		}
		v.Told = name
	}
	if own && v.Told == "" {
		t.Print().Warn("the end of the chain could not be compared with what a door told: records cut off the end would not be missed")
	}
	return t.Print().Result(v, func(p *output.Page) {
		p.Line("%s: %d records, %d to %d, none changed or missing between them", p.Paint(output.Green, "holds"), v.Records, v.First, v.Head.Sequence)
		p.Line("  last record %s", cmp.Or(v.Head.Hash, "-"))
		if v.Told != "" {
			p.Line("  the door %s told the cluster of it", v.Told)
		}
	})
}

// told is the end of the chain of the embedded API server, as its door told the cluster. A cluster that does not answer tells nothing.
func (t Tool) told(ctx context.Context) map[string]chain.Head {
	all := map[string]chain.Head{}
	d, err := t.doors(ctx)
	if err != nil {
		return all
	}
	reports, err := d.reports(ctx)
	if err != nil {
		t.Print().Warn("%v", err)
		return all
	}
	for _, r := range reports {
		if r.Report.Kind == string(door.Authorizer) && r.Report.Audit != nil {
			all[r.Name] = chain.Head{Sequence: r.Report.Audit.Sequence, Hash: r.Report.Audit.Hash}
		}
	}
	return all
}

func recordsPage(p *output.Page, all []chain.Record) {
	if len(all) == 0 {
		p.Line("no records")
		return
	}
	rows := [][]output.Cell{}
	for _, r := range all {
		what := r.Resource
		if r.Group != "" {
			what += "." + r.Group
		}
		if r.Subresource != "" {
			what += "/" + r.Subresource
		}
		if r.Name != "" {
			what += " " + r.Name
		}
		where := cmp.Or(r.Namespace, "-")
		if r.Resource == "" {
			where = "-"
		}
		text := strings.TrimSpace(r.Cause + " " + r.Detail)
		row := output.Row(fmt.Sprint(r.Sequence), r.Time.UTC().Format(time.RFC3339), r.Event, cmp.Or(r.User, "-"), strings.TrimSpace(r.Verb+" "+what), where, text)
		switch r.Event {
		case "Denied", "Cut", "Lost":
			row[2].Colour = output.Red
		}
		rows = append(rows, row)
	}
	p.Table([]string{"NUMBER", "TIME", "EVENT", "USER", "REQUEST", "NAMESPACE", "WHY"}, rows)
}
