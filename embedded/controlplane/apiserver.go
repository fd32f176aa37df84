package controlplane

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	aggregator "k8s.io/kube-aggregator/pkg/apiserver"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"

	"github.com/weft-dev/weft/embedded/pki"
)

// apiServerArgs are the flags of kube-apiserver for cfg.
func apiServerArgs(cfg Config) ([]string, error) {
	p := cfg.PKI
	args := []string{
		"--etcd-servers=unix://" + etcdSocket,
		"--advertise-address=" + cfg.Advertise.String(),
		"--secure-port=6443",
		"--allow-privileged=true",
		"--client-ca-file=" + p.Cert("ca"),
		"--tls-cert-file=" + p.Cert("apiserver"),
		"--tls-private-key-file=" + p.Key("apiserver"),
		"--enable-admission-plugins=NodeRestriction",
		"--kubelet-client-certificate=" + p.Cert("apiserver-kubelet-client"),
		"--kubelet-client-key=" + p.Key("apiserver-kubelet-client"),
		"--kubelet-certificate-authority=" + p.Cert("ca"),
		// A node is called by its address: its name is in nobody's DNS.
		"--kubelet-preferred-address-types=InternalIP",
		"--proxy-client-cert-file=" + p.Cert("front-proxy-client"),
		"--proxy-client-key-file=" + p.Key("front-proxy-client"),
		"--requestheader-client-ca-file=" + p.Cert("front-proxy-ca"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--enable-aggregator-routing=true",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + filepath.Join(p.Path, serviceAccountKey+".pub"),
		"--service-account-signing-key-file=" + p.Key(serviceAccountKey),
		"--service-cluster-ip-range=" + strings.Join(cfg.ServiceCIDR, ","),
		"--profiling=false",
	}
	if cfg.AuthorizationConfig != "" {
		args = append(args, "--authorization-config="+cfg.AuthorizationConfig)
	} else {
		args = append(args, "--authorization-mode=Node,RBAC")
	}
	if !cfg.Endpoints {
		args = append(args, "--endpoint-reconciler-type=none")
	}
	if cfg.AdmissionManifests != "" {
		file, err := writeAdmissionConfig(cfg)
		if err != nil {
			return nil, err
		}
		args = append(args, "--admission-control-config-file="+file)
	}
	return append(args, cfg.ExtraArgs...), nil
}

// staticPlugins are the admission plugins that read manifests from a folder, each with the kind of its configuration.
var staticPlugins = map[string]string{
	"ValidatingAdmissionPolicy":  "ValidatingAdmissionPolicyConfiguration",
	"MutatingAdmissionPolicy":    "MutatingAdmissionPolicyConfiguration",
	"ValidatingAdmissionWebhook": "WebhookAdmissionConfiguration",
	"MutatingAdmissionWebhook":   "WebhookAdmissionConfiguration",
}

// writeAdmissionConfig points each admission plugin that can read static manifests to the folder of its name. The server
// follows later changes of the files by itself.
func writeAdmissionConfig(cfg Config) (string, error) {
	entries, err := os.ReadDir(cfg.AdmissionManifests)
	if err != nil {
		return "", fmt.Errorf("static admission: %w", err)
	}
	var b strings.Builder
	b.WriteString("apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n")
	for _, e := range entries {
		kind, ok := staticPlugins[e.Name()]
		if !ok || !e.IsDir() {
			return "", fmt.Errorf("static admission: %s holds %q, expected only folders named %s", cfg.AdmissionManifests, e.Name(),
				strings.Join(slices.Sorted(maps.Keys(staticPlugins)), ", "))
		}
		fmt.Fprintf(&b, "- name: %s\n  configuration:\n    apiVersion: apiserver.config.k8s.io/v1\n    kind: %s\n    staticManifestsDir: %q\n",
			e.Name(), kind, filepath.Join(cfg.AdmissionManifests, e.Name()))
	}
	file := filepath.Join(cfg.Run, "admission.yaml")
	return file, pki.WriteFile(file, []byte(b.String()), 0o600)
}

// newAPIServerOptions parses and completes the options. Feature gates take effect later, once for the whole process.
func newAPIServerOptions(cfg Config) (*options.ServerRunOptions, error) {
	args, err := apiServerArgs(cfg)
	if err != nil {
		return nil, err
	}
	s := options.NewServerRunOptions()
	if err := parse("kube-apiserver", s.Flags(), args); err != nil {
		return nil, err
	}
	s.SecureServing.Listener = newMergedListener(cfg.Listeners)
	return s, nil
}

// apiServer is a server that is ready to run.
type apiServer struct {
	run      func(context.Context) error
	guard    func(context.Context) error // may be nil
	loopback *rest.Config
}

// newAPIServer builds the chain of aggregator, API server and extension server.
func newAPIServer(ctx context.Context, cfg Config, s *options.ServerRunOptions) (*apiServer, error) {
	completedOptions, err := s.Complete(ctx)
	if err != nil {
		return nil, err
	}
	if errs := completedOptions.Validate(); len(errs) != 0 {
		return nil, fmt.Errorf("flags of the API server: %w", utilerrors.NewAggregate(errs))
	}
	if completedOptions.InformerName == nil {
		if completedOptions.InformerName, err = cache.NewInformerName("kube-apiserver"); err != nil {
			return nil, err
		}
	}
	config, err := app.NewConfig(completedOptions)
	if err != nil {
		return nil, err
	}
	guard := &Guard{}
	if cfg.Guard != nil {
		if guard, err = cfg.Guard(config.KubeAPIs.ControlPlane.Generic.LoopbackClientConfig); err != nil {
			return nil, err
		}
	}
	standInFront(config, guard)
	filter(&config.Aggregator.GenericConfig.Config, guard)
	if err := replaceBootstrapHooks(config.KubeAPIs.ControlPlane.Generic); err != nil {
		return nil, err
	}
	completed, err := config.Complete()
	if err != nil {
		return nil, err
	}
	var server *aggregator.APIAggregator
	if server, err = app.CreateServerChain(completed); err != nil {
		return nil, err
	}
	prepared, err := server.PrepareRun()
	if err != nil {
		return nil, err
	}
	return &apiServer{run: prepared.Run, guard: guard.Run, loopback: server.GenericAPIServer.LoopbackClientConfig}, nil
}

// filter puts a guard around the filters of the server that takes all requests; it hands them to the others without filters of their own.
func filter(generic *genericapiserver.Config, guard *Guard) {
	if guard.Authenticator != nil {
		generic.Authentication.Authenticator = guard.Authenticator(generic.Authentication.Authenticator)
	}
	build := generic.BuildHandlerChainFunc
	generic.BuildHandlerChainFunc = func(handler http.Handler, c *genericapiserver.Config) http.Handler {
		if guard.Inner != nil {
			handler = guard.Inner(c.LongRunningFunc, handler)
		}
		if handler = build(handler, c); guard.Outer != nil {
			handler = guard.Outer(handler)
		}
		return handler
	}
}

// standInFront puts the authorizer and the admission door of a guard in front of those of all servers in the chain.
func standInFront(config *app.Config, guard *Guard) {
	for _, generic := range []*genericapiserver.Config{
		config.KubeAPIs.ControlPlane.Generic,
		&config.ApiExtensions.GenericConfig.Config,
		&config.Aggregator.GenericConfig.Config,
	} {
		if guard.Authorizer != nil {
			generic.Authorization.Authorizer = guard.Authorizer(generic.Authorization.Authorizer)
		}
		if guard.Admission != nil {
			generic.AdmissionControl = guard.Admission(generic.AdmissionControl)
		}
	}
}
