package module

import (
	"crypto/md5" // upstream's passwords are made with it; they are names rather than secrets
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"github.com/weft-dev/weft/stack/config"
	"github.com/weft-dev/weft/stack/spec"
)

// engine is what the modules of databases differ in.
type engine struct {
	name, cloudName string // mysql and, at Alibaba Cloud, MySQL
	port            int64
	username        string // by default
	data            string // where the image keeps its data
	environment     func(secret, username string) []any
	secret          func(d *database) map[string]any // what the local server's Secret has besides the password
}

var mysql = engine{
	name: "mysql", cloudName: "MySQL", port: 3306, username: "root", data: "/var/lib/mysql",
	environment: func(secret, username string) []any {
		if username == "root" {
			return []any{fromSecret("MYSQL_ROOT_PASSWORD", secret, "password")}
		}
		return []any{map[string]any{"name": "MYSQL_USER", "value": username}, fromSecret("MYSQL_PASSWORD", secret, "password")}
	},
	secret: func(*database) map[string]any { return nil },
}

var postgres = engine{
	name: "postgres", cloudName: "PostgreSQL", port: 5432, username: "kusion_default", data: "/var/lib/postgresql/data",
	environment: func(secret, _ string) []any {
		return []any{fromSecret("POSTGRES_USER", secret, "username"), fromSecret("POSTGRES_PASSWORD", secret, "password"), fromSecret("POSTGRES_DB", secret, "database")}
	},
	secret: func(d *database) map[string]any { return map[string]any{"username": d.username, "database": d.name} },
}

// database is one database server with its configuration.
type database struct {
	engine
	request             *Request
	name                string // of the database, and begin of all names
	version             string
	username            string
	category            string
	instance, subnet    string
	size                int64 // GiB
	privateRouting      bool
	securityIPs         []any
	platform            config.Node
	resources           []spec.Resource
	hostAddress, secret string // what the application's Secret holds
}

// generate makes a database in the cluster, or describes one of a cloud for Terraform, and a Secret whose values the application
// gets as variables.
func (e engine) generate(r *Request) (*Response, error) {
	if r.Dev == nil {
		return nil, nil
	}
	reader, dev, platform := r.nodes()
	d := e.read(r, dev, platform)
	kind := dev.Required("type").Text()
	cloud := strings.ToLower(platform.Field("cloud").Text())
	switch strings.ToLower(kind) {
	case "local":
	case "cloud":
		if d.instance == "" {
			platform.Field("instanceType").FailWith("Set it in the workspace: modules."+e.name+".configs.default.instanceType.", "is missing, and a database of a cloud needs it")
		}
		if cloud != "aws" && cloud != "alicloud" {
			platform.Field("cloud").FailWith("Set it in the workspace: modules."+e.name+".configs.default.cloud.", "must be aws or alicloud for a database of a cloud, got %q", cloud)
		}
	default:
		dev.Field("type").Fail("must be local or cloud, got %q", kind)
	}
	region := ""
	if strings.EqualFold(kind, "cloud") && reader.Err() == nil {
		region = readRegion(r, platform, cloud)
	}
	if err := reader.Err(); err != nil {
		return nil, err
	}
	switch {
	case cloud == "aws" && region != "":
		d.aws(region)
	case region != "":
		d.alicloud(region)
	default:
		d.local()
	}
	return d.response(dev.Place()), nil
}

func (e engine) read(r *Request, dev, platform config.Node) *database {
	d := &database{engine: e, request: r, platform: platform, name: strings.Join([]string{r.Project, r.Stack, r.App, e.name}, "-"),
		username: e.username, category: "Basic", size: 10, privateRouting: true, securityIPs: []any{"0.0.0.0/0"}}
	d.version = dev.Required("version").Scalar()
	override := func(to *string, name string) {
		if n := platform.Field(name); n.Is() {
			*to = n.Text()
		}
	}
	override(&d.username, "username")
	override(&d.category, "category")
	override(&d.instance, "instanceType")
	override(&d.subnet, "subnetID")
	if n := platform.Field("databaseName"); n.Is() && n.Text() != "" {
		d.name = n.Text()
	}
	if n := platform.Field("size"); n.Is() {
		d.size = n.IntIn(1, 1<<20)
	}
	if n := platform.Field("privateRouting"); n.Is() {
		d.privateRouting = n.Bool()
	}
	if n := platform.Field("securityIPs"); n.Is() {
		d.securityIPs = n.Texts()
		n.Items(func(_ int, v config.Node) {
			text := v.Text()
			_, notAddress := netip.ParseAddr(text)
			if _, notRange := netip.ParsePrefix(text); notAddress != nil && notRange != nil {
				v.Fail("must be an address or a range such as 10.0.0.0/8, got %q", text)
			}
		})
	}
	return d
}

// readRegion is where resources of a cloud go, which its tools read from the environment.
func readRegion(r *Request, n config.Node, cloud string) string {
	variable := map[string]string{"aws": "AWS_REGION", "alicloud": "ALICLOUD_REGION"}[cloud]
	region := ""
	if r.Getenv != nil {
		region = r.Getenv(variable)
	}
	if region == "" {
		n.FailWith("Set the variable "+variable+".", "needs a region for %s", cloud)
	}
	return region
}

// public says whether any address may reach the database from outside.
func (d *database) public() bool {
	for _, ip := range d.securityIPs {
		text := ip.(string)
		addr, err := netip.ParseAddr(text)
		if err != nil {
			prefix, err := netip.ParsePrefix(text)
			if err != nil {
				continue
			}
			addr = prefix.Addr()
		}
		if !addr.IsPrivate() {
			return true
		}
	}
	return false
}

// response adds the application's Secret.
func (d *database) response(place config.Place) *Response {
	name := d.name + "-" + d.engine.name
	d.add(d.newSecret(name, map[string]any{"hostAddress": d.hostAddress, "username": d.username, "password": d.secret}))
	suffix := "_" + strings.ToUpper(strings.ReplaceAll(d.name, "-", "_"))
	return &Response{Resources: at(place, d.resources...), Patcher: &Patcher{Environments: []map[string]any{
		fromSecret("KUSION_DB_HOST"+suffix, name, "hostAddress"),
		fromSecret("KUSION_DB_USERNAME"+suffix, name, "username"),
		fromSecret("KUSION_DB_PASSWORD"+suffix, name, "password"),
	}}}
}

func (d *database) add(o map[string]any) { d.resources = append(d.resources, spec.Object(o)) }

func (d *database) newSecret(name string, data map[string]any) map[string]any {
	o := object("v1", "Secret", d.request.Namespace, name, nil, nil)
	o["stringData"] = data
	return o
}

// local makes a server in the cluster. Its password follows from the names, as upstream's does, so that it stays the same.
func (d *database) local() {
	sum := md5.Sum([]byte(d.request.Project + d.request.Stack + d.request.App + d.name))
	d.secret = hex.EncodeToString(sum[:])[:16]
	secret, service, claim := d.name+"-db-local-secret", d.name+"-db-local-service", d.name+"-db-local-pvc"
	d.hostAddress = service
	labels := map[string]any{"accessory": d.name}
	d.add(d.newSecret(secret, merged(map[string]any{"password": d.secret}, d.engine.secret(d))))
	d.add(deployment(d.request.Namespace, d.name+"-db-local-deployment", labels, map[string]any{
		"containers": []any{map[string]any{
			"name": d.name, "image": d.engine.name + ":" + d.version, "env": d.environment(secret, d.username), "resources": map[string]any{},
			"ports":        []any{map[string]any{"name": d.name[:min(15, len(d.name))], "containerPort": d.port}},
			"volumeMounts": []any{map[string]any{"name": d.name, "mountPath": d.data}},
		}},
		"volumes": []any{map[string]any{"name": d.name, "persistentVolumeClaim": map[string]any{"claimName": claim}}},
	}))
	pvc := object("v1", "PersistentVolumeClaim", d.request.Namespace, claim, labels, nil)
	pvc["spec"] = map[string]any{"accessModes": []any{"ReadWriteOnce"}, "resources": map[string]any{"requests": map[string]any{"storage": fmt.Sprintf("%dGi", d.size)}}}
	pvc["status"] = map[string]any{}
	d.add(pvc)
	d.add(clusterService(d.request.Namespace, service, labels, map[string]any{
		"clusterIP": "None", "ports": []any{map[string]any{"port": d.port, "targetPort": int64(0)}}, "selector": labels,
	}))
}

// deployment is one of the pods that a label selects.
func deployment(namespace, name string, labels, podSpec map[string]any) map[string]any {
	o := object("apps/v1", "Deployment", namespace, name, nil, nil)
	o["spec"] = map[string]any{
		"selector": map[string]any{"matchLabels": labels}, "strategy": map[string]any{},
		"template": map[string]any{"metadata": metadata("", "", labels, nil), "spec": podSpec},
	}
	o["status"] = map[string]any{}
	return o
}

func clusterService(namespace, name string, labels, body map[string]any) map[string]any {
	o := object("v1", "Service", namespace, name, labels, nil)
	o["spec"], o["status"] = body, map[string]any{"loadBalancer": map[string]any{}}
	return o
}
