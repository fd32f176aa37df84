package attack

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/rest"

	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/network"
)

// Scene is a part of a row that takes more than one request: it is tried as a whole, and tells of each of its names.
type Scene struct {
	Names  []string
	Expect func(m Mode, name int) Outcome
	Needs  func(*Runner) bool                    // nil, or whether the runner can try it
	Run    func(context.Context, *Runner) []Seen // as many as there are names
}

// Seen is how one of them ended.
type Seen struct {
	Outcome Outcome
	Cause   string
}

// cutWithin is how long an open stream may outlive the clearance of who opened it, where anything cuts it.
const cutWithin = 2 * time.Second

// streams has an account that is cleared for what is higher open watches, takes the clearance away, and sees which of them go on.
var streams = Scene{
	Names: []string{"a watch", "the old way to watch", "a watch of one object"},
	Expect: func(m Mode, _ int) Outcome {
		if m == InProcess {
			return Cut
		}
		return Bounded
	},
	Run: func(ctx context.Context, r *Runner) []Seen {
		all, opened := make([]Seen, 3), time.Now()
		ends := make([]<-chan struct{}, 3)
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		for i, path := range []string{inHigh + "/secrets?watch=true", "/api/v1/watch/namespaces/HIGH/secrets", inHigh + "/secrets?watch=true&fieldSelector=metadata.name%3Dweft-attack-secret"} {
			var err error
			if ends[i], err = r.Stage.follow(ctx, path); err != nil {
				return seen(len(all), Failed, err.Error())
			}
		}
		if err := r.Stage.revoke(ctx); err != nil {
			return seen(len(all), Failed, err.Error())
		}
		revoked := time.Now()
		defer func() { _ = r.Stage.clear(context.WithoutCancel(ctx)) }() // it is removed with the stage anyway
		for i := range ends {
			all[i] = r.ended(ctx, ends[i], opened, revoked)
		}
		return all
	},
}

// ended says what came of a stream after a clearance ended.
func (r *Runner) ended(ctx context.Context, end <-chan struct{}, opened, revoked time.Time) Seen {
	const bound = "an API server ends it by --min-request-timeout, after 30 to 60 minutes unless set otherwise, or when its client asked for it to end"
	select {
	case <-end:
		if r.Bound == 0 || time.Since(opened) < r.Bound {
			return Seen{Cut, "cut within 2 s after the clearance ended"}
		}
	case <-ctx.Done():
		return Seen{Failed, ctx.Err().Error()}
	case <-time.After(time.Until(revoked.Add(cutWithin))):
	}
	if r.Bound == 0 {
		return Seen{Bounded, "nothing outside an API server cuts it; " + bound}
	}
	select {
	case <-end:
		return Seen{Bounded, fmt.Sprintf("went on, and ended within the %s that the API server was set to; %s", r.Bound, bound)}
	case <-ctx.Done():
		return Seen{Failed, ctx.Err().Error()}
	case <-time.After(time.Until(revoked.Add(2*r.Bound + cutWithin))): // a server chooses at random up to twice the time
		return Seen{Allowed, "it goes on"}
	}
}

func seen(n int, o Outcome, cause string) []Seen {
	all := make([]Seen, n)
	for i := range all {
		all[i] = Seen{o, cause}
	}
	return all
}

// follow opens a watch as the account that is cleared, and tells when it ends. It waits until the clearance is known.
func (s *Stage) follow(ctx context.Context, path string) (<-chan struct{}, error) {
	config := s.config(&Attempt{As: Raised})
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(config.Host, "/")+s.fill(path), nil)
		if err != nil {
			return nil, err
		}
		response, err := client.Do(request)
		if err == nil && response.StatusCode == http.StatusOK {
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				defer response.Body.Close()
				_, _ = io.Copy(io.Discard, bufio.NewReader(response.Body)) // how it ends does not matter
			}()
			return ended, nil
		}
		said := ""
		if err == nil {
			text, _ := io.ReadAll(io.LimitReader(response.Body, 300))
			said = string(text)
			_ = response.Body.Close()
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil, fmt.Errorf("a watch by an account that is cleared: %s", cmp.Or(said, fmt.Sprint(err)))
		}
	}
}

// faults takes what enforces levels away, and looks at what goes on.
var faults = Scene{
	Names:  []string{"while it is down", "the first answer after that", "what must stay allowed, once it is back"},
	Expect: func(_ Mode, name int) Outcome { return []Outcome{Denied, Denied, Allowed}[name] },
	Needs:  func(r *Runner) bool { return r.Fail != nil },
	Run: func(ctx context.Context, r *Runner) []Seen {
		mend, err := r.Fail(ctx)
		if err != nil {
			return seen(3, Failed, err.Error())
		}
		all := []Seen{r.closed(ctx)}
		if err := mend(ctx); err != nil {
			return append(all, seen(2, Failed, err.Error())...)
		}
		return append(all, r.first(ctx), r.system(ctx))
	},
}

// relays follows the rules of the network from the low namespace, over as many namespaces as there are.
var relays = Scene{
	Names:  []string{"by levels alone", "where every namespace puts every other on its white list", "where the lower ones are isolated"},
	Expect: func(Mode, int) Outcome { return Reported },
	Needs:  func(r *Runner) bool { return r.Model != nil },
	Run: func(_ context.Context, r *Runner) []Seen {
		var names []string
		for _, n := range r.Model.Namespaces {
			names = append(names, n.Name)
		}
		return []Seen{
			r.relay(names, func(string) network.Space { return network.Space{} }),
			r.relay(names, func(string) network.Space { return network.Space{Allow: names} }),
			r.relay(names, func(name string) network.Space { return network.Space{Isolated: name != r.Stage.HighSpace} }),
		}
	},
}

// relay says where one comes from the low namespace.
func (r *Runner) relay(names []string, say func(name string) network.Space) Seen {
	var spaces []network.Space
	for _, name := range names {
		s := say(name)
		s.Name = name
		spaces = append(spaces, s)
	}
	rules := network.NewRules(level.NewSnapshot(r.Model, time.Now()), spaces, nil)
	reached := []string{r.Stage.LowSpace}
	for i := 0; i < len(reached); i++ {
		for _, to := range names {
			if !slices.Contains(reached, to) && rules.Judge(reached[i], to).Allowed {
				reached = append(reached, to)
			}
		}
	}
	if slices.Contains(reached, r.Stage.HighSpace) {
		return Seen{Allowed, "a chain leads there: " + strings.Join(reached, ", ")}
	}
	return Seen{Reported, fmt.Sprintf("the closure over all namespaces: no chain leads there (%s)", rules.Judge(r.Stage.LowSpace, r.Stage.HighSpace).Rule)}
}

var (
	intrusion = write("a write", post, inHigh+"/configmaps", `{"metadata":{"name":"weft-attack"}}`)
	heartbeat = Attempt{Name: "a lease", As: System, Controller: "generic-garbage-collector", Method: get, Path: "/api/v1/namespaces/kube-system/configmaps", Expect: Allowed}
)

// restart is how long what was taken down may take to come back.
const restart = 3 * time.Minute

// closed says whether nothing gets in while what enforces levels is down.
func (r *Runner) closed(ctx context.Context) Seen {
	for range 5 {
		if outcome, cause := r.try(ctx, &intrusion); outcome == Allowed {
			return Seen{Allowed, cause}
		}
	}
	_, cause := r.try(ctx, &intrusion)
	return Seen{Denied, "closed: " + withoutAddresses(cause)}
}

// first is the first real answer after the fault.
func (r *Runner) first(ctx context.Context) Seen {
	for deadline := time.Now().Add(restart); ; time.Sleep(20 * time.Millisecond) {
		outcome, cause := r.try(ctx, &intrusion)
		if outcome != Failed || ctx.Err() != nil || time.Now().After(deadline) {
			return Seen{outcome, cause}
		}
	}
}

// system says whether the components of the cluster work, and then everybody on his own level.
func (r *Runner) system(ctx context.Context) Seen {
	own := allowed("a write of one's own level", Low, post, inLow+"/configmaps", `{"metadata":{"name":"weft-attack"}}`)
	for deadline := time.Now().Add(restart); ; time.Sleep(100 * time.Millisecond) {
		outcome, cause := r.try(ctx, &heartbeat)
		if outcome == Allowed {
			outcome, cause = r.try(ctx, &own)
		}
		if outcome == Allowed || ctx.Err() != nil || time.Now().After(deadline) {
			return Seen{outcome, cause}
		}
	}
}

// withoutAddresses takes out of an error what differs from run to run.
func withoutAddresses(text string) string {
	if i := strings.LastIndex(text, ": "); i >= 0 {
		text = text[i+2:]
	}
	return short(text)
}
