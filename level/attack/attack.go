package attack

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"k8s.io/client-go/rest"

	"github.com/weft-dev/weft/level"
)

// Mode is what enforces levels in the cluster.
type Mode string

// The modes.
const (
	InProcess Mode = "in-process" // in the embedded API server
	Webhook   Mode = "webhook"    // an authorization and an admission webhook
	Managed   Mode = "managed"    // generated admission policies alone
)

// Modes are all modes, in the order of a table's columns.
var Modes = []Mode{InProcess, Webhook, Managed}

// Outcome is how an attempt ends.
type Outcome string

// The outcomes.
const (
	Denied   Outcome = "denied"      // by levels
	Allowed  Outcome = "allowed"     // let through
	NoEffect Outcome = "no effect"   // let through, and of no use
	Reported Outcome = "reported"    // admission does not see it: weft level audit lists the right
	Cut      Outcome = "cut"         // an open stream was ended
	Bounded  Outcome = "bounded"     // an open stream goes on for a time that the API server bounds
	NotTried Outcome = "not tried"   // needs what only a test can do
	Later    Outcome = "later stage" // needs the filtering proxy or approvals
	Failed   Outcome = "failed"      // something else went wrong
)

// Actor is who tries.
type Actor string

// The actors.
const (
	Low    Actor = "low"    // a service account of a low namespace with cluster-admin's rights
	High   Actor = "high"   // one of a high namespace, with the same rights
	System Actor = "system" // a controller in kube-system
	Raised Actor = "raised" // one of the low namespace that is cleared for the high level, with the same rights
	Node   Actor = "node"   // the agent of a node that is there
)

// Attempt is one request.
type Attempt struct {
	Name         string
	As           Actor
	Method, Path string            // LOW, HIGH stand for the two namespaces, NODE for a node on the high level
	Body         string            // JSON
	Type         string            // of the body, if it is not JSON
	Header       map[string]string // further headers
	Controller   string            // of System: the name of the account
	Connects     bool              // opens a stream
	OnlyReads    bool              // is not seen by generated policies
	Missing      bool              // succeeds if it is told that something is not there
	Expect       Outcome
}

// Row is an item of the catalogue.
type Row struct {
	Number   int // 0 for what must stay allowed
	Title    string
	Attempts []Attempt
	Scenes   []Scene
	Later    string // why it cannot be tried yet
}

// Result is what was seen.
type Result struct {
	Number   int     `json:"number,omitempty"`
	Title    string  `json:"title"`
	Attempt  string  `json:"attempt"`
	Expected Outcome `json:"expected"`
	Seen     Outcome `json:"seen"`
	Cause    string  `json:"cause"`
	// Record is what was written down about it, empty if that is not known.
	Record string `json:"record,omitempty"`
}

// OK says whether what was expected was seen.
func (r Result) OK() bool { return r.Expected == r.Seen }

// Expected is the outcome of an attempt in a mode. Admission alone sees neither reads nor impersonation.
func (a *Attempt) Expected(m Mode) Outcome {
	if m == Managed && a.OnlyReads && a.Expect == Denied {
		return Reported
	}
	return a.Expect
}

// Runner runs attempts against a cluster.
type Runner struct {
	Mode  Mode
	Stage *Stage
	// Progress, if set, hears of each result.
	Progress func(Result)
	// Records, if set, tells what was written down of a user since it was last asked; empty if nothing.
	Records func(user string) string
	// Model, if set, is of the cluster with the stage: which namespaces reach which is judged by it.
	Model *level.Model
	// Fail, if set, takes down what enforces levels, and returns what brings it back.
	Fail func(context.Context) (mend func(context.Context) error, err error)
	// Bound, if set, is the --min-request-timeout of the API server: open streams are watched until it has ended them.
	Bound time.Duration
}

// Run tries the whole catalogue. Only an ended context is an error.
func (r *Runner) Run(ctx context.Context) ([]Result, error) {
	var all []Result
	tell := func(one Result) {
		all = append(all, one)
		if r.Progress != nil {
			r.Progress(one)
		}
	}
	for _, row := range Catalogue() {
		if row.Later != "" {
			tell(Result{Number: row.Number, Title: row.Title, Attempt: row.Title, Expected: Later, Seen: Later, Cause: row.Later})
		}
		for i := range row.Scenes {
			r.play(ctx, &row, &row.Scenes[i], tell)
		}
		for i := range row.Attempts {
			a := &row.Attempts[i]
			seen, cause, record := r.attempt(ctx, a)
			if err := ctx.Err(); err != nil {
				return all, err
			}
			expected := a.Expected(r.Mode)
			if expected == Reported && seen == Allowed {
				seen, cause = Reported, "generated policies do not see it; weft level audit lists the right"
			}
			if a.Expect == NoEffect && seen == Allowed {
				seen = NoEffect
			}
			tell(Result{row.Number, row.Title, a.Name, expected, seen, cause, record})
		}
		if err := ctx.Err(); err != nil {
			return all, err
		}
	}
	return all, nil
}

// play tries a scene.
func (r *Runner) play(ctx context.Context, row *Row, s *Scene, tell func(Result)) {
	if s.Needs != nil && !s.Needs(r) {
		for _, name := range s.Names {
			tell(Result{Number: row.Number, Title: row.Title, Attempt: name, Expected: NotTried, Seen: NotTried, Cause: "only the tests of this project do that to a cluster"})
		}
		return
	}
	user := r.Stage.user(&Attempt{As: Raised})
	if r.Records != nil {
		r.Records(user)
	}
	record := ""
	for i, seen := range s.Run(ctx, r) {
		one := Result{Number: row.Number, Title: row.Title, Attempt: s.Names[i], Expected: s.Expect(r.Mode, i), Seen: seen.Outcome, Cause: seen.Cause}
		if seen.Outcome == Cut {
			record = cmp.Or(r.recorded(ctx, user), record) // several are cut at once
			one.Record = record
		}
		tell(one)
	}
}

// kept is how long an API server keeps an answer of the webhook, and does not ask it again (manager/levels).
const kept = 1100 * time.Millisecond

// attempt tries an attempt, and sees what was written down about it.
func (r *Runner) attempt(ctx context.Context, a *Attempt) (o Outcome, cause, record string) {
	user := r.Stage.user(a)
	if r.Records != nil {
		r.Records(user)
	}
	if o, cause = r.try(ctx, a); o != Denied {
		return o, cause, ""
	}
	if record = r.recorded(ctx, user); record == "" && r.Records != nil && r.Mode == Webhook {
		select {
		case <-ctx.Done():
			return o, cause, ""
		case <-time.After(kept):
		}
		o, cause = r.try(ctx, a)
		record = r.recorded(ctx, user)
	}
	return o, cause, record
}

// recorded waits a moment for a record.
func (r *Runner) recorded(ctx context.Context, user string) string {
	if r.Records == nil {
		return ""
	}
	for range 20 {
		if record := r.Records(user); record != "" || ctx.Err() != nil {
			return record
		}
		time.Sleep(20 * time.Millisecond)
	}
	return ""
}

// patience is how long one attempt may take.
const patience = 15 * time.Second

func (r *Runner) try(ctx context.Context, a *Attempt) (Outcome, string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	config := r.Stage.config(a)
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return Failed, err.Error()
	}
	url := strings.TrimSuffix(config.Host, "/") + r.Stage.fill(a.Path)
	switch {
	case a.Method == http.MethodGet, a.Connects:
	case strings.Contains(url, "?"):
		url += "&dryRun=All"
	default:
		url += "?dryRun=All"
	}
	request, err := http.NewRequestWithContext(ctx, a.Method, url, strings.NewReader(r.Stage.fill(a.Body)))
	if err != nil {
		return Failed, err.Error()
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	if a.Type != "" {
		request.Header.Set("Content-Type", a.Type)
	}
	for k, v := range a.Header {
		request.Header.Set(k, r.Stage.fill(v))
	}
	response, err := client.Do(request)
	if err != nil {
		return Failed, err.Error()
	}
	defer response.Body.Close()
	body := make([]byte, 64<<10)
	n, err := io.ReadAtLeast(response.Body, body, 1)
	if err != nil && n == 0 {
		body = nil
	}
	return outcome(response.StatusCode, body[:n], a)
}

func outcome(code int, body []byte, a *Attempt) (Outcome, string) {
	var status struct {
		Message string `json:"message"`
	}
	_ = json.Unmarshal(body, &status) // not every answer is a status
	message := status.Message
	if message == "" && code >= 400 {
		message = string(bytes.TrimSpace(body))
	}
	switch {
	case code < 300:
		return Allowed, fmt.Sprintf("%d", code)
	case strings.Contains(message, "levels:"):
		return Denied, short(message[strings.Index(message, "levels:"):])
	case a.Missing && code == http.StatusNotFound:
		return Allowed, "404: tells that it is not there"
	case a.Connects && (code == http.StatusBadRequest || code >= 500 || code == http.StatusNotFound && strings.Contains(message, "pod")):
		return Allowed, fmt.Sprintf("%d after it was let through: %s", code, short(message)) // no node answers, or it was no upgrade
	}
	return Failed, fmt.Sprintf("%d: %s", code, short(message))
}

func short(s string) string {
	if len(s) > 200 {
		return s[:200] + "..."
	}
	return s
}

// Await waits until levels hold: a door follows the Registry, and an API server its policies, a moment later.
func (r *Runner) Await(ctx context.Context) error {
	// The last of what is made for each mode.
	last := Attempt{As: Low, Method: http.MethodPost, Path: "/api/v1/namespaces/LOW/services", Body: `{"metadata":{"name":"weft-attack"},"spec":{"type":"ExternalName","externalName":"a.HIGH.svc"}}`}
	deadline := time.Now().Add(time.Minute)
	for {
		seen, cause := r.try(ctx, &last)
		if seen == Denied {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("levels do not hold in this cluster a minute after they were set to: a low account makes a Service that leads into a higher namespace (%s)", cause)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Second): // the others were made at once and hold by now
		return nil
	}
}
