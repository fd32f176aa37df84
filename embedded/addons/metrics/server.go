package metrics

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/endpoints/openapi"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	"k8s.io/apiserver/pkg/util/compatibility"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/kube-openapi/pkg/common"
	generated "k8s.io/kubernetes/pkg/generated/openapi"
	"k8s.io/metrics/pkg/apis/metrics"
	"k8s.io/metrics/pkg/apis/metrics/install"
)

// Versions are the versions of metrics.k8s.io that are served.
var Versions = []string{"v1", "v1beta1"}

// Server serves the metrics of one node.
type Server struct {
	Config     *restclient.Config // of the cluster's API; its TLS settings are used for the kubelet, too
	Kubeconfig string             // the same as a file: authentication and authorization are delegated by it
	Node       string             // name of the node
	Kubelet    string             // host:port of the kubelet
	Listen     string             // address to serve at
	Cert, Key  string             // files of the serving certificate
	Every      time.Duration      // how often the kubelet is asked
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client, err := metadata.NewForConfig(s.Config)
	if err != nil {
		return err
	}
	factory := metadatainformer.NewSharedInformerFactory(client, 0)
	defer factory.Shutdown()
	defer cancel() // before the factory's shutdown, which waits for it
	podInformer := factory.ForResource(schema.GroupVersionResource{Version: "v1", Resource: "pods"})
	nodeInformer := factory.ForResource(schema.GroupVersionResource{Version: "v1", Resource: "nodes"})
	for _, informer := range []cache.SharedIndexInformer{podInformer.Informer(), nodeInformer.Informer()} {
		if err := informer.SetTransform(onlyLabels); err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	for kind, ok := range factory.WaitForCacheSync(ctx.Done()) {
		if !ok {
			return fmt.Errorf("reading the list of %s: %w", kind.Resource, context.Cause(ctx))
		}
	}
	h := &history{}
	server, err := s.server(map[string]rest.Storage{
		"nodes": &nodes{h, s.Node, nodeInformer.Lister()},
		"pods":  &pods{h, podInformer.Lister()},
	})
	if err != nil {
		return err
	}
	read, err := s.reader()
	if err != nil {
		return err
	}
	go s.measure(ctx, h, read)
	return server.PrepareRun().RunWithContext(ctx)
}

// onlyLabels drops what is not needed of an object's metadata.
func onlyLabels(object any) (any, error) {
	if m, ok := object.(*metav1.PartialObjectMetadata); ok {
		m.ManagedFields, m.Annotations, m.OwnerReferences = nil, nil, nil
	}
	return object, nil
}

// server is an API server that lets the cluster's own say who somebody is and what he may do.
func (s *Server) server(storage map[string]rest.Storage) (*genericapiserver.GenericAPIServer, error) {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	scheme.AddUnversionedTypes(schema.GroupVersion{Version: "v1"}, &metav1.Status{}, &metav1.APIVersions{}, &metav1.APIGroupList{}, &metav1.APIGroup{}, &metav1.APIResourceList{})
	codecs := serializer.NewCodecFactory(scheme)

	config := genericapiserver.NewConfig(codecs)
	config.EffectiveVersion = compatibility.DefaultBuildEffectiveVersion()
	namer := openapi.NewDefinitionNamer(scheme)
	config.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(definitions, namer)
	config.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(definitions, namer)
	config.OpenAPIConfig.Info.Title, config.OpenAPIV3Config.Info.Title = "metrics", "metrics"
	config.EnableProfiling, config.EnableMetrics = false, false
	config.ExternalAddress = s.Listen
	config.LoopbackClientConfig = &restclient.Config{Host: "https://" + s.Listen}
	cert, err := dynamiccertificates.NewDynamicServingContentFromFiles("metrics", s.Cert, s.Key)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", s.Listen)
	if err != nil {
		return nil, err
	}
	config.SecureServing = &genericapiserver.SecureServingInfo{Listener: listener, Cert: cert}
	authentication := genericoptions.NewDelegatingAuthenticationOptions()
	authentication.RemoteKubeConfigFile = s.Kubeconfig
	authorization := genericoptions.NewDelegatingAuthorizationOptions()
	authorization.RemoteKubeConfigFile = s.Kubeconfig
	err = authentication.ApplyTo(&config.Authentication, config.SecureServing, nil)
	if err == nil {
		err = authorization.ApplyTo(&config.Authorization)
	}
	var server *genericapiserver.GenericAPIServer
	if err == nil {
		server, err = config.Complete(nil).New("metrics", genericapiserver.NewEmptyDelegate())
	}
	if err == nil {
		group := genericapiserver.NewDefaultAPIGroupInfo(metrics.GroupName, scheme, runtime.NewParameterCodec(scheme), codecs)
		for _, v := range Versions {
			group.VersionedResourcesStorageMap[v] = storage
		}
		err = server.InstallAPIGroup(&group)
	}
	if err != nil {
		listener.Close()
		return nil, err
	}
	return server, nil
}

// definitions are the schemas of the metrics and of what every API has.
func definitions(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
	all := generated.GetOpenAPIDefinitions(ref)
	maps.DeleteFunc(all, func(name string, _ common.OpenAPIDefinition) bool {
		return !strings.Contains(name, "metrics.pkg.apis.metrics.") && !strings.Contains(name, "k8s.io/metrics/pkg/apis/metrics/") && !strings.Contains(name, "apimachinery")
	})
	return all
}

// reader returns a function that reads the kubelet's measurements.
func (s *Server) reader() (func(context.Context) (map[container]point, error), error) {
	config := restclient.CopyConfig(s.Config)
	config.Timeout = 10 * time.Second
	client, err := restclient.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	url := "https://" + s.Kubelet + "/metrics/resource"
	return func(ctx context.Context) (map[container]point, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s: %s", url, resp.Status)
		}
		return parse(resp.Body, time.Now())
	}, nil
}

// measure asks the kubelet until ctx ends. At the start, and while there is nothing yet, it asks more often.
func (s *Server) measure(ctx context.Context, h *history, read func(context.Context) (map[container]point, error)) {
	failing := false
	for {
		points, err := read(ctx)
		if err == nil {
			h.add(points)
		} else if ctx.Err() == nil && !failing {
			klog.ErrorS(err, "The kubelet's metrics cannot be read; told once until it works again")
		}
		failing = err != nil
		pause := s.Every
		if _, ok := h.node(); !ok {
			pause = min(pause, 2*time.Second)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
