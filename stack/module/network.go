package module

import (
	"fmt"
	"strings"

	"github.com/weft-dev/weft/stack/config"
	"github.com/weft-dev/weft/stack/spec"
)

// networkPort is a port that an application serves.
type networkPort struct {
	port, target int64
	protocol     string
	public       bool
}

// network makes Services for an application's ports, an Ingress and its class.
func network(r *Request) (*Response, error) {
	if r.Dev == nil {
		return nil, nil
	}
	reader, dev, platform := r.nodes()
	var private, public []networkPort
	dev.Field("ports").Items(func(_ int, v config.Node) {
		p := networkPort{port: readPort(v.Required("port")), protocol: readProtocol(v.Field("protocol")), public: v.Field("public").Bool()}
		p.target = p.port
		if v.Field("targetPort").Is() && v.Field("targetPort").Int() != 0 {
			p.target = readPort(v.Field("targetPort"))
		}
		if p.public {
			public = append(public, p)
		} else {
			private = append(private, p)
		}
	})
	if len(private)+len(public) > 0 && r.Workload == nil {
		dev.Field("ports").Fail("need a workload that serves them")
	}
	var resources []spec.Resource
	if len(private) > 0 {
		resources = append(resources, networkService(r, reader, private, "private", "ClusterIP", nil, nil))
	}
	if len(public) > 0 {
		balancer := platform.Field("port")
		checkBalancer(balancer)
		resources = append(resources, networkService(r, reader, public, "public", "LoadBalancer", balancer.Field("labels").TextMap(), balancer.Field("annotations").TextMap()))
	}
	if n := dev.Field("ingress"); n.Is() {
		resources = append(resources, ingress(r, n, append(private, public...)))
	}
	if n := dev.Field("ingressClass"); n.Is() {
		resources = append(resources, ingressClass(r, n))
	}
	if err := reader.Err(); err != nil {
		return nil, err
	}
	return &Response{Resources: at(dev.Place(), resources...)}, nil
}

// checkBalancer checks what the platform says about the load balancers of public ports. Upstream knows two clouds and refuses public
// ports of a workspace that names neither; here they are served by whatever serves load balancers in the cluster.
func checkBalancer(n config.Node) {
	if !n.Is() {
		return
	}
	if kind := n.Required("type"); kind.Is() {
		kind.Text()
	}
}

func networkService(r *Request, reader *config.Reader, ports []networkPort, suffix, kind string, labels, annotations map[string]any) spec.Resource {
	name := r.appName() + "-" + suffix
	work := reader.Node(r.Workload, "workload")
	o := object("v1", "Service", r.Namespace, name,
		merged(r.appLabels(), work.Field("labels").TextMap(), labels), merged(work.Field("annotations").TextMap(), annotations))
	var list []any
	for _, p := range ports {
		list = append(list, map[string]any{
			"name": fmt.Sprintf("%s-%d-%s", name, p.port, strings.ToLower(p.protocol)), "port": p.port, "targetPort": p.target, "protocol": p.protocol,
		})
	}
	o["spec"] = map[string]any{"ports": list, "selector": r.appLabels(), "type": kind}
	o["status"] = map[string]any{"loadBalancer": map[string]any{}}
	return spec.Object(o)
}

func ingress(r *Request, n config.Node, ports []networkPort) spec.Resource {
	o := object("networking.k8s.io/v1", "Ingress", r.Namespace, r.appName()+"-ingress", n.Field("labels").TextMap(), n.Field("annotations").TextMap())
	body := map[string]any{}
	set(body, "ingressClassName", n.Field("ingressClassName").Text())
	if b := n.Field("defaultBackend"); b.Is() {
		body["defaultBackend"] = ingressBackend(r, b, ports)
	}
	var tls, rules []any
	n.Field("tls").Items(func(_ int, v config.Node) {
		t := map[string]any{}
		set(t, "hosts", v.Field("hosts").Texts())
		set(t, "secretName", v.Field("secretName").Text())
		tls = append(tls, t)
	})
	n.Field("rules").Items(func(_ int, v config.Node) {
		rule := map[string]any{}
		set(rule, "host", v.Field("host").Text())
		if http := v.Field("http"); http.Is() {
			var paths []any
			http.Required("paths").Items(func(_ int, p config.Node) {
				path := map[string]any{"backend": ingressBackend(r, p.Required("backend"), ports)}
				set(path, "path", p.Field("path").Text())
				set(path, "pathType", p.Field("pathType").Text())
				paths = append(paths, path)
			})
			rule["http"] = map[string]any{"paths": paths}
		}
		rules = append(rules, rule)
	})
	set(body, "tls", tls)
	set(body, "rules", rules)
	o["spec"], o["status"] = body, map[string]any{"loadBalancer": map[string]any{}}
	return spec.Object(o)
}

// ingressBackend reads where requests go. A service without a name is the application's own that serves the port.
func ingressBackend(r *Request, n config.Node, ports []networkPort) map[string]any {
	backend := map[string]any{}
	if s := n.Field("service"); s.Is() {
		port := map[string]any{}
		set(port, "name", s.Field("port").Field("name").Text())
		set(port, "number", s.Field("port").Field("number").IntIn(0, 65535))
		name := s.Field("name").Text()
		for _, p := range ports {
			if name != "" || port["number"] != p.port {
				continue
			}
			if name = r.appName() + "-private"; p.public {
				name = r.appName() + "-public"
			}
		}
		if name == "" {
			s.FailWith("Give it the number of one of the module's ports, or the name of a service.", "names no service, and no port of the application is meant")
		}
		backend["service"] = map[string]any{"name": name, "port": port}
	}
	if s := n.Field("resource"); s.Is() {
		ref := map[string]any{"kind": s.Required("kind").Text(), "name": s.Required("name").Text()}
		set(ref, "apiGroup", s.Field("apiGroup").Text())
		backend["resource"] = ref
	}
	return backend
}

func ingressClass(r *Request, n config.Node) spec.Resource {
	o := object("networking.k8s.io/v1", "IngressClass", "", r.appName()+"-ingressclass", n.Field("labels").TextMap(), n.Field("annotations").TextMap())
	body := map[string]any{}
	set(body, "controller", n.Field("controller").Text())
	if p := n.Field("parameters"); p.Is() {
		ref := map[string]any{"kind": p.Required("kind").Text(), "name": p.Required("name").Text()}
		for _, name := range []string{"apiGroup", "scope", "namespace"} {
			set(ref, name, p.Field(name).Text())
		}
		body["parameters"] = ref
	}
	o["spec"] = body
	return spec.Object(o)
}
