package module

import (
	"net"
	"net/url"
	"path"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/weft-dev/weft/stack/config"
)

// pods is what containers come to.
type pods struct {
	containers, volumes []any
	configMaps          []map[string]any // of the files, without a namespace
	claims              bool             // a volume is mounted that keeps data
}

func readPods(n config.Node, app string) pods {
	var p pods
	n.Sorted(func(name string, v config.Node) {
		c := map[string]any{"name": name, "resources": quantities(v.Field("resources"))}
		set(c, "image", v.Required("image").Text())
		set(c, "command", v.Field("command").Texts())
		set(c, "args", v.Field("args").Texts())
		set(c, "workingDir", v.Field("workingDir").Text())
		set(c, "env", environment(v.Field("env")))
		for _, probe := range []string{"readinessProbe", "livenessProbe", "startupProbe"} {
			if v.Field(probe).Is() {
				c[probe] = readProbe(v.Field(probe))
			}
		}
		if v.Field("lifecycle").Is() {
			hooks := map[string]any{}
			for _, hook := range []string{"preStop", "postStart"} {
				if h := v.Field("lifecycle").Field(hook); h.Is() {
					hooks[hook] = handler(h, false)
				}
			}
			c["lifecycle"] = hooks
		}
		var mounts []any
		p.files(v.Field("files"), app+"-"+name, &mounts)
		p.dirs(v.Field("dirs"), &mounts)
		set(c, "volumeMounts", mounts)
		p.containers = append(p.containers, c)
	})
	return p
}

// environment are the variables of a container. They stand in the order that upstream gives them, except where a variable refers
// to one that would come after it, which Kubernetes would not expand: then they stand as they were written.
func environment(n config.Node) []any {
	var written []string
	variables := map[string]any{}
	n.Each(func(name string, v config.Node) {
		written = append(written, name)
		variables[name] = variable(name, v)
	})
	order := upstreamOrder(written)
	if refersAhead(order, variables) && !refersAhead(written, variables) {
		order = written
	}
	list := make([]any, len(order))
	for i, name := range order {
		list[i] = variables[name]
	}
	return list
}

// variable reads one; secret://NAME/KEY takes it from a Secret.
func variable(name string, v config.Node) map[string]any {
	text := v.Text()
	rest, ok := strings.CutPrefix(text, secretScheme)
	if !ok {
		e := map[string]any{"name": name}
		set(e, "value", text)
		return e
	}
	secret, key, ok := strings.Cut(rest, "/")
	if !ok || secret == "" || key == "" || strings.Contains(key, "/") {
		v.Fail("must be secret://NAME/KEY, got %q", text)
	}
	return fromSecret(name, secret, key)
}

func fromSecret(name, secret, key string) map[string]any {
	return map[string]any{"name": name, "valueFrom": map[string]any{"secretKeyRef": map[string]any{"name": secret, "key": key}}}
}

// upstreamOrder sorts names as the YAML writer does through which upstream hands them on: A2 goes before A10.
func upstreamOrder(names []string) []string {
	m := map[string]bool{}
	for _, name := range names {
		m[name] = true
	}
	text, err := yaml.Marshal(m)
	if err != nil {
		return names
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil || len(doc.Content) == 0 {
		return names
	}
	var order []string
	for i := 0; i < len(doc.Content[0].Content); i += 2 {
		order = append(order, doc.Content[0].Content[i].Value)
	}
	return order
}

// refersAhead says whether a variable refers to a later one by $(NAME).
func refersAhead(order []string, variables map[string]any) bool {
	for i, name := range order {
		value, _ := variables[name].(map[string]any)["value"].(string)
		for _, later := range order[i+1:] {
			if strings.Contains(value, "$("+later+")") {
				return true
			}
		}
	}
	return false
}

const (
	secretScheme = "secret://"
	volumeScheme = "volume://" // ours
)

// quantities reads what a container needs: a limit, or a request and a limit with a hyphen between.
func quantities(n config.Node) map[string]any {
	requests, limits := map[string]any{}, map[string]any{}
	n.Each(func(name string, v config.Node) {
		parts := strings.Split(v.Scalar(), "-")
		if len(parts) > 2 {
			v.Fail("must be a limit, or a request and a limit such as 250m-500m, got %q", v.Scalar())
			return
		}
		limits[name] = quantity(v, parts[len(parts)-1])
		if len(parts) == 2 {
			requests[name] = quantity(v, parts[0])
		}
	})
	m := map[string]any{}
	set(m, "requests", requests)
	set(m, "limits", limits)
	return m
}

func quantity(n config.Node, text string) string {
	q, err := resource.ParseQuantity(text)
	if err != nil {
		n.Fail("must be a quantity such as 500m, 2 or 512Mi, got %q", text)
		return ""
	}
	return q.String()
}

func readProbe(n config.Node) map[string]any {
	p := handler(n.Required("probeHandler"), true)
	for _, name := range []string{"initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"} {
		set(p, name, n.Field(name).IntIn(0, 1<<31-1))
	}
	return p
}

// handler reads what a probe or a hook does: Http, Exec or, for probes, Tcp of a package container.probe.
func handler(n config.Node, probe bool) map[string]any {
	if !n.Is() {
		return map[string]any{}
	}
	name := n.Field("_type").Text()
	if name == "" && n.Tree() != nil {
		name = n.Tree().Type
	}
	switch kind := name[strings.LastIndexByte(name, '.')+1:]; {
	case kind == "Http":
		return map[string]any{"httpGet": httpGet(n)}
	case kind == "Exec":
		return map[string]any{"exec": map[string]any{"command": n.Required("command").Texts()}}
	case kind == "Tcp" && probe:
		return map[string]any{"tcpSocket": tcpSocket(n.Required("url"))}
	}
	n.FailWith("It tells what to do by its schema.", "must be a probe's Http, Exec or Tcp, got %q", name)
	return map[string]any{}
}

func httpGet(n config.Node) map[string]any {
	text := n.Required("url").Text()
	u, err := url.Parse(text)
	if err != nil {
		n.Field("url").Fail("must be an address such as http://localhost:80/healthz, got %q", text)
		return nil
	}
	host := u.Hostname()
	if host == "localhost" || host == "127.0.0.1" {
		host = "" // the pod's own address
	}
	get := map[string]any{"port": port(n.Field("url"), u)}
	set(get, "path", u.Path)
	set(get, "host", host)
	set(get, "scheme", strings.ToUpper(u.Scheme))
	var headers []any
	n.Field("headers").Sorted(func(name string, v config.Node) {
		headers = append(headers, map[string]any{"name": name, "value": v.Text()})
	})
	set(get, "httpHeaders", headers)
	return get
}

// port is the address's, or that of its scheme.
func port(n config.Node, u *url.URL) any {
	switch text := u.Port(); {
	case text != "":
		number, err := strconv.ParseInt(text, 10, 32)
		if err != nil || number < 1 || number > 65535 {
			n.Fail("has no port from 1 to 65535 but %s", text)
		}
		return number
	case u.Scheme == "https":
		return int64(443)
	}
	return int64(80)
}

func tcpSocket(n config.Node) map[string]any {
	text := n.Text()
	text = strings.TrimPrefix(text, "tcp://")
	host, number, err := net.SplitHostPort(text)
	p, _ := strconv.ParseInt(number, 10, 32)
	if err != nil || p < 1 || p > 65535 {
		n.Fail("must be HOST:PORT, got %q", n.Text())
	}
	socket := map[string]any{"port": p}
	set(socket, "host", host)
	return socket
}

// files are made of ConfigMaps, or taken from Secrets.
func (p *pods) files(n config.Node, prefix string, mounts *[]any) {
	index := 0
	n.Sorted(func(name string, v config.Node) {
		if base := path.Base(name); base == "." || base == "/" {
			v.Fail("the path of a file needs its name")
			return
		}
		volume := prefix + "-" + strconv.Itoa(index)
		index++
		mode := fileMode(v.Field("mode"))
		switch {
		case v.Field("contentFrom").Text() != "":
			secret, key := secretReference(v.Field("contentFrom"))
			p.volume(secret, map[string]any{"secret": map[string]any{"secretName": secret, "defaultMode": mode}})
			mount := map[string]any{"name": secret, "mountPath": path.Join("/", name)}
			set(mount, "subPath", key)
			*mounts = append(*mounts, mount)
		case v.Field("content").Text() != "":
			m := object("v1", "ConfigMap", "", volume, nil, nil)
			m["data"] = map[string]any{path.Base(name): v.Field("content").Text()}
			p.configMaps = append(p.configMaps, m)
			p.volume(volume, map[string]any{"configMap": map[string]any{"name": volume, "defaultMode": mode}})
			*mounts = append(*mounts, map[string]any{"name": volume, "mountPath": path.Dir(name)})
		}
	})
}

// volume adds a volume; one that is there already is used by both mounts.
func (p *pods) volume(name string, source map[string]any) {
	for _, v := range p.volumes {
		if v.(map[string]any)["name"] == name {
			return
		}
	}
	source["name"] = name
	p.volumes = append(p.volumes, source)
}

func fileMode(n config.Node) int64 {
	if !n.Is() {
		return 0o644
	}
	mode, err := strconv.ParseInt(n.Scalar(), 8, 32)
	if err != nil || mode < 0 || mode > 0o777 {
		n.Fail("must be the bits of a mode such as 0644, got %q", n.Scalar())
	}
	return mode
}

// dirs mount whole Secrets, and claims of volumes, which upstream's modules cannot.
func (p *pods) dirs(n config.Node, mounts *[]any) {
	n.Sorted(func(name string, v config.Node) {
		if claim, ok := strings.CutPrefix(v.Text(), volumeScheme); ok {
			if faults := validation.IsDNS1123Subdomain(claim); len(faults) > 0 {
				v.Fail("must be volume://CLAIM, with the name of a PersistentVolumeClaim, got %q", v.Text())
			}
			p.claims = true
			volume := strings.ReplaceAll(claim, ".", "-") // names of volumes have no periods
			p.volume(volume, map[string]any{"persistentVolumeClaim": map[string]any{"claimName": claim}})
			*mounts = append(*mounts, map[string]any{"name": volume, "mountPath": path.Join("/", name)})
			return
		}
		secret, _ := secretReference(v)
		p.volume(secret, map[string]any{"secret": map[string]any{"secretName": secret}})
		*mounts = append(*mounts, map[string]any{"name": secret, "mountPath": path.Join("/", name)})
	})
}

// secretReference reads secret://NAME/KEY or ${secret://NAME/KEY}.
func secretReference(n config.Node) (name, key string) {
	text := n.Text()
	if inner, ok := strings.CutPrefix(text, "${"); ok {
		text = strings.TrimSuffix(inner, "}")
	}
	u, err := url.Parse(text)
	if err != nil || !strings.HasPrefix(text, secretScheme) || u.Host == "" {
		n.Fail("must be secret://NAME/KEY, got %q", n.Text())
		return "", ""
	}
	key, _, _ = strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	return u.Host, key
}
