package levels

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/admission"
	"github.com/weft-dev/weft/level/ceiling"
	"github.com/weft-dev/weft/level/chain"
	"github.com/weft-dev/weft/level/door"
	"github.com/weft-dev/weft/level/feed"
	"github.com/weft-dev/weft/level/rights"
	"github.com/weft-dev/weft/manager/webhook"
)

// Path is where SubjectAccessReviews are taken, from callers with a certificate of the webhook's authority.
const Path = "/authorize"

// Server is a replica of the webhook.
type Server struct {
	Config    *rest.Config // of the cluster, as an account that reads everything and that levels do not bind
	Authority *webhook.Authority
	Hosts     []string // names and addresses under which API servers call it
	Name      string   // of the replica: its Doors are webhook-NAME and admission-NAME
	AuditFile string   // empty for none
	Exempt    []string // users of the installation's own programs
	Log       *slog.Logger
}

// Serve answers on the listener until the context ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	f, err := feed.New(s.Config)
	if err != nil {
		return err
	}
	f.Log, f.Exempt = s.Log, s.Exempt
	held, err := rights.New(s.Config)
	if err != nil {
		return err
	}
	objects, err := dynamic.NewForConfig(s.Config)
	if err != nil {
		return fmt.Errorf("connecting to the cluster: %w", err)
	}
	usage := &admission.Usage{}
	ledger, err := ceiling.NewLedger(s.Config)
	if err != nil {
		return err
	}
	ceilings, err := ceiling.New(s.Config, usage, func() *level.Snapshot { return f.State().Snapshot }, s.Log)
	if err != nil {
		return err
	}
	d, writes := &door.Door{Kind: door.Webhook, State: f.State, Exempt: s.Exempt}, &door.Door{Kind: door.Admission, State: f.State, Exempt: s.Exempt}
	if s.AuditFile != "" {
		if d.Chain, err = chain.Open(s.AuditFile); err != nil {
			return fmt.Errorf("opening the audit records: %w", err)
		}
		writes.Chain = d.Chain
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var running sync.WaitGroup
	running.Go(func() { ceilings.Run(ctx) })
	for _, r := range []*door.Reporter{{Door: d, Name: "webhook-" + s.Name, Objects: objects, Log: s.Log}, {Door: writes, Name: "admission-" + s.Name, Objects: objects, Log: s.Log}} {
		running.Go(func() { r.Run(ctx) })
	}
	running.Go(func() { held.Run(ctx) })
	var feeding error
	running.Go(func() {
		if feeding = f.Run(ctx); feeding != nil {
			stop()
		}
	})
	server := webhook.Server{Authority: s.Authority, Hosts: s.Hosts, Log: s.Log, Paths: map[string]webhook.Path{
		Path: {Handler: Authorize{d}, Client: true}, AdmissionPath: {Handler: admit(writes, held, usage, ledger, s.Log)}}, Ready: func() error {
		state := f.State()
		switch {
		case !state.Known:
			return errors.New("the levels of the cluster are not known yet")
		case state.Stale:
			return errors.New("the levels may be out of date")
		case !held.Known():
			return errors.New("the roles of the cluster are not known yet")
		}
		return nil
	}}
	err = server.Serve(ctx, l)
	stop()
	running.Wait()
	if d.Chain != nil {
		err = errors.Join(err, d.Chain.Close())
	}
	return errors.Join(err, feeding)
}
