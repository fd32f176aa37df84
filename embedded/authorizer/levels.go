package authorizer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/admission"
	"github.com/weft-dev/weft/level/ceiling"
	"github.com/weft-dev/weft/level/chain"
	"github.com/weft-dev/weft/level/door"
	"github.com/weft-dev/weft/level/feed"
	"github.com/weft-dev/weft/level/rights"
)

// offEvery is how often the file is looked for that opens the door.
const offEvery = 200 * time.Millisecond

// Levels is everything that levels need in the process of an API server.
type Levels struct {
	Door    *door.Door // of requests
	Writes  *door.Door // of what is written
	Streams *Streams
	Feed    *feed.Feed

	usage     *admission.Usage
	ceilings  *ceiling.Keeper
	rights    *rights.Rights
	offFile   string
	reporters []door.Reporter
}

// NewLevels prepares levels for the server that loopback reaches with rights above all authorizers. Until Run knows the levels the door denies.
// The door is open while offFile is there: who can write that holds the machine anyway. auditFile takes the chain of audit records. exempt are
// the users of the installation's own programs.
func NewLevels(loopback *rest.Config, offFile, auditFile string, exempt []string, log *slog.Logger) (*Levels, error) {
	f, err := feed.New(loopback)
	if err != nil {
		return nil, err
	}
	objects, err := dynamic.NewForConfig(loopback)
	if err != nil {
		return nil, fmt.Errorf("connecting to the cluster: %w", err)
	}
	held, err := rights.New(loopback)
	if err != nil {
		return nil, err
	}
	records, err := chain.Open(auditFile)
	if err != nil {
		return nil, fmt.Errorf("opening the audit records of levels: %w", err)
	}
	usage := &admission.Usage{}
	ceilings, err := ceiling.New(loopback, usage, func() *level.Snapshot { return f.State().Snapshot }, log)
	if err != nil {
		return nil, err
	}
	l := &Levels{Feed: f, usage: usage, ceilings: ceilings, rights: held, offFile: offFile, Door: &door.Door{Kind: door.Authorizer, State: f.State, Chain: records, Exempt: exempt},
		Writes: &door.Door{Kind: door.Admission, State: f.State, Chain: records, Exempt: exempt}}
	l.Streams = NewStreams(l.Door)
	f.Log, f.Exempt = log, exempt
	f.Changed = func(*feed.State) { l.Streams.Check() }
	l.reporters = []door.Reporter{{Door: l.Door, Name: "authorizer", Objects: objects, Log: log}, {Door: l.Writes, Name: "admission", Objects: objects, Log: log}}
	return l, l.look()
}

// Judge judges what is written by the same levels. While nothing is known of levels it lets everything through: the authorizer, which stands in
// front of it, has then denied whatever may not go on.
func (l *Levels) Judge() *admission.Judge {
	return &admission.Judge{
		Snapshot: func() *level.Snapshot { return l.Feed.State().Snapshot },
		Off: func() bool {
			s := l.Feed.State()
			return l.Door.Off() || s.Snapshot == nil && !s.Stale
		},
		Setting:  func() api.DoorSetting { return l.Feed.State().Doors.Admission },
		Usage:    l.usage,
		Remember: l.Writes.RememberWrite,
		Rules:    l.rights.Rules,
		Bound:    l.rights.Bound,
	}
}

// look opens or closes the door as the file says.
func (l *Levels) look() error {
	_, err := os.Stat(l.offFile)
	switch {
	case err == nil:
		l.Door.SetOff(true)
		l.Writes.SetOff(true)
	case errors.Is(err, fs.ErrNotExist):
		l.Writes.SetOff(false)
		if l.Door.Off() {
			l.Door.SetOff(false)
			l.Streams.Check()
		}
	default:
		return err // it stays as it is
	}
	return nil
}

// Run follows the cluster until the context ends.
func (l *Levels) Run(ctx context.Context) error {
	var running sync.WaitGroup
	running.Go(func() { l.ceilings.Run(ctx) })
	running.Go(func() { l.rights.Run(ctx) })
	for i := range l.reporters {
		running.Go(func() { l.reporters[i].Run(ctx) })
	}
	running.Go(func() {
		ticker := time.NewTicker(offEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if err := l.look(); err != nil {
				l.reporters[0].Log.Error("looking whether levels are off", "error", err)
			}
		}
	})
	err := l.Feed.Run(ctx)
	running.Wait()
	return errors.Join(err, l.Door.Chain.Close())
}
