package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"

	k8sadmission "k8s.io/apiserver/pkg/admission"
	k8sauthorizer "k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/rest"

	"github.com/weft-dev/weft/embedded/admission"
	"github.com/weft-dev/weft/embedded/authorizer"
	"github.com/weft-dev/weft/embedded/controlplane"
)

// ServerConfig is what the supervisor tells the control plane's process, as JSON in a file.
type ServerConfig struct {
	State               string
	Advertise           string
	NodeListen          string // address to listen on besides the inherited listener; empty for none
	Endpoints           bool
	ServiceCIDR         []string
	Fsync               bool
	AuthorizationConfig string
	AdmissionManifests  string
	ExtraArgs           []string
}

// Inherited file descriptors of the control plane's process.
const (
	listenerFD = 3 // the host's listener for the API
	readyFD    = 4 // written to and closed once the API answers
)

// RunServer runs the control plane in this process as the file says.
func RunServer(ctx context.Context, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var sc ServerConfig
	if err := json.Unmarshal(data, &sc); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	host, err := inheritedListener(listenerFD)
	if err != nil {
		return err
	}
	listeners := []net.Listener{host}
	if sc.NodeListen != "" {
		node, err := net.Listen("tcp", sc.NodeListen)
		if err != nil {
			return err
		}
		// The first listener is the one that the server itself and its controllers call.
		listeners = []net.Listener{node, host}
	}
	s := State{Dir: sc.State}
	cfg := controlplane.Config{
		Data:                s.Data("etcd"),
		Run:                 s.Run(),
		PKI:                 s.PKI(),
		Listeners:           listeners,
		Components:          s.Components(),
		Advertise:           net.ParseIP(sc.Advertise),
		Endpoints:           sc.Endpoints,
		ServiceCIDR:         sc.ServiceCIDR,
		Fsync:               sc.Fsync,
		Plugins:             s.Data("volume-plugins"),
		AuthorizationConfig: sc.AuthorizationConfig,
		AdmissionManifests:  sc.AdmissionManifests,
		ExtraArgs:           sc.ExtraArgs,
		Guard:               func(loopback *rest.Config) (*controlplane.Guard, error) { return guard(s, loopback) },
	}
	return controlplane.Run(ctx, cfg, func(*rest.Config) { signalReady(readyFD) })
}

// guard puts levels in front of the API server. They deny nothing until the cluster has a Registry.
func guard(s State, loopback *rest.Config) (*controlplane.Guard, error) {
	l, err := authorizer.NewLevels(loopback, s.LevelsOff(), s.LevelsAudit(), []string{agentUser, dnsUser, supervisorUser}, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return nil, err
	}
	return &controlplane.Guard{
		Authorizer: func(next k8sauthorizer.Authorizer) k8sauthorizer.Authorizer {
			return authorizer.New(l.Door, l.Feed.Known(), next)
		},
		Admission:     func(next k8sadmission.Interface) k8sadmission.Interface { return admission.New(next, l.Judge()) },
		Authenticator: l.Streams.Authenticator, Outer: l.Streams.Outer, Inner: l.Streams.Inner, Run: l.Run,
	}, nil
}

func inheritedListener(fd uintptr) (net.Listener, error) {
	f := os.NewFile(fd, "listener")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("descriptor %s is not a listener: this command is started by `weft-node run`", strconv.Itoa(int(fd)))
	}
	return l, nil
}

func signalReady(fd uintptr) {
	f := os.NewFile(fd, "ready")
	fmt.Fprintln(f, "ready") // the supervisor may have gone: then nobody waits for this
	f.Close()
}
