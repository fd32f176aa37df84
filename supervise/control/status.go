// Package control is the contract between a cluster's supervisor (weft-node run) and the programs that steer it: the
// shape of its status, and a client and a server that speak JSON over HTTP on a unix socket inside the state folder.
// It must not know what a cluster is made of, nor link Kubernetes.
package control

import "time"

// Version is the version of Status. A reader accepts this version and older ones and refuses a newer one.
const Version = 1

// Phase is where a cluster stands in its life.
type Phase string

// The phases of a cluster, in the order in which they are passed.
const (
	Starting Phase = "starting"
	Ready    Phase = "ready"
	Stopping Phase = "stopping"
	Failed   Phase = "failed"
	Stopped  Phase = "stopped" // only ever said by a client that found no supervisor
)

// Mode is what a cluster can do.
type Mode string

// A cluster either runs pods (ModeNode) or, where root or cgroups are missing, only has the API, the controllers and
// the scheduler (ModeAPI).
const (
	ModeNode Mode = "node"
	ModeAPI  Mode = "api"
)

// Status is a snapshot of a cluster, as its supervisor sees it.
type Status struct {
	Version       int            `json:"version"`
	Phase         Phase          `json:"phase"`
	Error         string         `json:"error,omitempty"` // why Phase is Failed, with what to do
	Mode          Mode           `json:"mode,omitempty"`
	Missing       []string       `json:"missing,omitempty"` // sentences: what is missing for ModeNode and how to get it
	PID           int            `json:"pid,omitempty"`     // the supervisor's
	StartedAt     time.Time      `json:"startedAt,omitzero"`
	Kubernetes    string         `json:"kubernetes,omitempty"` // version, for example v1.37.2
	State         string         `json:"state"`                // absolute path of the state folder
	API           string         `json:"api,omitempty"`        // URL as seen from the host
	Kubeconfig    string         `json:"kubeconfig,omitempty"` // absolute path
	Registry      string         `json:"registry,omitempty"`   // host:port, the same name on the host and on the node
	Containerd    string         `json:"containerd,omitempty"` // socket, absolute path
	Components    []Component    `json:"components"`
	Steps         []Step         `json:"steps"`
	LoadBalancers []LoadBalancer `json:"loadBalancers,omitempty"`
}

// Component is one process or in-process part that the supervisor keeps alive.
type Component struct {
	Name      string    `json:"name"`
	PID       int       `json:"pid,omitempty"`
	State     string    `json:"state"` // starting, running, restarting, stopped, failed
	Restarts  int       `json:"restarts"`
	Since     time.Time `json:"since"`
	LastError string    `json:"lastError,omitempty"`
	Log       string    `json:"log,omitempty"` // absolute path
}

// Step is one thing done during the start, for progress and for measuring.
type Step struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"` // since the start of the supervisor
}

// LoadBalancer is a Service of type LoadBalancer that is answered on the host's loopback.
type LoadBalancer struct {
	Namespace string `json:"namespace"`
	Service   string `json:"service"`
	Port      int    `json:"port"`               // the Service's port
	Protocol  string `json:"protocol,omitempty"` // TCP (or nothing), UDP
	Address   string `json:"address"`            // host:port on the host
	Error     string `json:"error,omitempty"`
}

// StopRequest asks the supervisor to end the cluster.
type StopRequest struct {
	GraceSeconds float64 `json:"graceSeconds"` // the longest that pods may take to end
}
