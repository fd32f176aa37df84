package module

import (
	"encoding/json"
	"strings"

	"github.com/weft-dev/weft/stack/config"
	"github.com/weft-dev/weft/stack/spec"
)

// provider is one of Terraform's.
type provider struct{ namespace, name, version string }

var (
	randomProvider   = provider{"hashicorp", "random", "3.6.0"}
	awsProvider      = provider{"hashicorp", "aws", "5.0.1"}
	searchProvider   = provider{"hashicorp", "aws", "5.51.1"}
	alicloudProvider = provider{"aliyun", "alicloud", "1.209.1"}
)

func (p provider) id(kind, name string) string {
	return strings.Join([]string{p.namespace, p.name, kind, name}, ":")
}

// resource describes one of Terraform's resources in a region.
func (p provider) resource(region, kind, name string, attributes map[string]any) spec.Resource {
	meta := map[string]any{}
	set(meta, "region", region)
	return spec.Resource{ID: p.id(kind, name), Type: spec.Terraform, Attributes: attributes, Extensions: map[string]any{
		"provider":     strings.Join([]string{"registry.terraform.io", p.namespace, p.name, p.version}, "/"),
		"providerMeta": meta, "resourceType": kind,
	}}
}

// password has a password made up, and returns the text that stands for it.
func (d *database) password() string {
	name := d.name + "-" + d.engine.name
	d.resources = append(d.resources, randomProvider.resource("", "random_password", name, map[string]any{"length": int64(16), "special": true, "override_special": "_"}))
	return spec.PathTo(randomProvider.id("random_password", name), "result")
}

// aws describes an instance of Amazon RDS and who may reach it.
func (d *database) aws(region string) {
	d.secret = d.password()
	group := d.name + "-" + d.engine.name
	rule := func(from []any, protocol string, port int64) []any {
		return []any{map[string]any{
			"cidr_blocks": from, "description": "", "from_port": port, "ipv6_cidr_blocks": []any{}, "prefix_list_ids": []any{},
			"protocol": protocol, "security_groups": []any{}, "self": false, "to_port": port,
		}}
	}
	instance := map[string]any{
		"allocated_storage": d.size, "engine": d.engine.name, "engine_version": d.version, "identifier": d.name, "instance_class": d.instance,
		"password": d.secret, "publicly_accessible": d.public(), "skip_final_snapshot": true, "username": d.username,
		"vpc_security_group_ids": []any{spec.PathTo(awsProvider.id("aws_security_group", group), "id")},
	}
	set(instance, "db_subnet_group_name", d.subnet)
	d.resources = append(d.resources,
		awsProvider.resource(region, "aws_security_group", group, map[string]any{
			"egress": rule([]any{"0.0.0.0/0"}, "-1", 0), "ingress": rule(d.securityIPs, "tcp", d.port),
		}),
		awsProvider.resource(region, "aws_db_instance", d.name, instance))
	d.hostAddress = spec.PathTo(awsProvider.id("aws_db_instance", d.name), "address")
}

// alicloud describes an instance of ApsaraDB RDS, its account and, where it is public, its address.
func (d *database) alicloud(region string) {
	d.secret = d.password()
	id := alicloudProvider.id("alicloud_db_instance", d.name)
	instance := map[string]any{
		"category": d.category, "engine": d.cloudName, "engine_version": d.version, "instance_storage": d.size, "instance_type": d.instance,
		"security_ips": d.securityIPs, "vswitch_id": d.subnet, "instance_name": d.name,
	}
	if strings.Contains(d.category, "serverless") {
		instance["db_instance_storage_type"], instance["instance_charge_type"] = "cloud_essd", "Serverless"
		instance["serverless_config"] = []any{map[string]any{"auto_pause": false, "switch_force": false, "max_capacity": int64(8), "min_capacity": int64(1)}}
	}
	d.resources = append(d.resources, alicloudProvider.resource(region, "alicloud_db_instance", d.name, instance))
	d.hostAddress = spec.PathTo(id, "connection_string")
	if d.public() {
		connection := map[string]any{"instance_id": spec.PathTo(id, "id")}
		if d.engine.name == postgres.name {
			connection["port"] = d.port
		}
		d.resources = append(d.resources, alicloudProvider.resource(region, "alicloud_db_connection", d.name, connection))
		if !d.privateRouting {
			d.hostAddress = spec.PathTo(alicloudProvider.id("alicloud_db_connection", d.name), "connection_string")
		}
	}
	d.resources = append(d.resources, alicloudProvider.resource(region, "alicloud_rds_account", d.name, map[string]any{
		"account_name": d.username, "account_password": d.secret, "account_type": "Super", "db_instance_id": spec.PathTo(id, "id"),
	}))
}

// openSearch describes a domain of Amazon's search service.
func openSearch(r *Request) (*Response, error) {
	if r.Dev == nil {
		return nil, nil
	}
	reader, dev, platform := r.nodes()
	region := platform.Required("region").Text()
	attributes := map[string]any{
		"domain_name": dev.Required("domainName").Text(), "engine_version": dev.Field("engineVersion").Text(),
		"cluster_config": map[string]any{"instance_type": platform.Field("clusterConfig").Field("instanceType").Text()},
		"ebs_options": map[string]any{
			"ebs_enabled": platform.Field("ebsOptions").Field("ebsEnabled").Bool(), "volume_size": platform.Field("ebsOptions").Field("volumeSize").Int(),
		},
	}
	if policies := accessPolicies(platform.Field("statement")); policies != "" {
		attributes["access_policies"] = policies
	}
	if err := reader.Err(); err != nil {
		return nil, err
	}
	domain := searchProvider.resource(region, "aws_opensearch_domain", r.appName(), attributes)
	return &Response{Resources: at(dev.Place(), domain), Patcher: &Patcher{Environments: []map[string]any{
		{"name": "OPEN_SEARCH_ENDPOINT", "value": spec.PathTo(domain.ID, "endpoint")},
		{"name": "OPEN_SEARCH_REGION", "value": region},
	}}}, nil
}

// accessPolicies is the JSON text of who may do what; its fields stand in upstream's order.
func accessPolicies(n config.Node) string {
	type principal struct {
		Type        string `json:"type"`
		Identifiers []any  `json:"identifiers"`
	}
	type statement struct {
		Effect     string      `json:"effect"`
		Principals []principal `json:"principals"`
		Action     []any       `json:"action"`
	}
	var list []statement
	n.Items(func(_ int, v config.Node) {
		s := statement{Effect: v.Required("effect").Text(), Action: v.Field("action").Texts()}
		if s.Effect != "Allow" && s.Effect != "Deny" {
			v.Field("effect").Fail("must be Allow or Deny, got %q", s.Effect)
		}
		v.Field("principals").Items(func(_ int, p config.Node) {
			s.Principals = append(s.Principals, principal{p.Field("type").Text(), p.Field("identifiers").Texts()})
		})
		list = append(list, s)
	})
	if len(list) == 0 {
		return ""
	}
	text, err := json.Marshal(list)
	if err != nil {
		n.Fail("cannot be written: %v", err)
	}
	return string(text)
}
