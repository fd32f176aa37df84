package lint

import (
	"cmp"
	"strings"

	"github.com/weft-dev/weft/logging/config"
)

// port is where a plugin listens unless it is told otherwise.
type port struct {
	number   string
	protocol string
}

var fluentBitPorts = map[string]port{
	"input forward": {"24224", "tcp"}, "input http": {"9880", "tcp"}, "input tcp": {"5170", "tcp"}, "input udp": {"5170", "udp"}, "input syslog": {"5140", "tcp"},
	"input opentelemetry": {"4318", "tcp"}, "input mqtt": {"1883", "tcp"}, "input statsd": {"8125", "udp"}, "input collectd": {"25826", "udp"},
	"input splunk": {"8088", "tcp"}, "input elasticsearch": {"9200", "tcp"}, "input prometheus_remote_write": {"8080", "tcp"},
	"output prometheus_exporter": {"2021", "tcp"}, "output vivo_exporter": {"2025", "tcp"},
}

var fluentdPorts = map[string]port{
	"source forward": {"24224", "tcp"}, "source http": {"9880", "tcp"}, "source tcp": {"5170", "tcp"}, "source udp": {"5160", "udp"}, "source syslog": {"5140", "udp"},
	"source monitor_agent": {"24220", "tcp"},
}

func listeners(sections []*config.Section) []*config.Section {
	var all []*config.Section
	for _, s := range sections {
		if s.Kind == config.Input || s.Kind == config.Output || s.Kind == config.Service {
			all = append(all, s)
		}
	}
	return all
}

// ports checks that no two plugins of one agent listen at the same port.
func (c *checker) ports(sections []*config.Section, defaults map[string]port) {
	type listener struct{ address, what string }
	seen := map[string][]listener{}
	for _, s := range sections {
		what := s.Kind + " " + strings.ToLower(s.Plugin())
		p, ok := defaults[what]
		if s.Kind == config.Service {
			on, err := config.ParseBool(s.Value("http_server"))
			p, ok, what = port{"2020", "tcp"}, on && err == nil, "the service's http_server"
		}
		if !ok || what == "input forward" && s.Value("unix_path") != "" {
			continue
		}
		if mode := strings.ToLower(s.Value("mode")); what == "input syslog" {
			if mode != "tcp" && mode != "udp" {
				continue
			}
			p.protocol = mode
		}
		pos := s.Pos
		for _, key := range []string{"port", "http_port"} {
			if set, ok := s.Get(key); ok {
				p.number, pos = set.Value, at(set)
			}
		}
		if len(s.Properties) > 0 && pos == (config.Position{}) {
			pos = s.Properties[0].Pos
		}
		address := cmp.Or(s.Value("listen"), s.Value("bind"), s.Value("http_listen"), "0.0.0.0")
		if s.Kind == config.Output {
			address = cmp.Or(s.Value("host"), "0.0.0.0")
		}
		key := p.protocol + " " + p.number
		for _, other := range seen[key] {
			if other.address == address || other.address == "0.0.0.0" || address == "0.0.0.0" || other.address == "::" || address == "::" {
				c.fail(s, pos, "DuplicatePort", "port %s (%s) is taken by %s", p.number, p.protocol, other.what)
				break
			}
		}
		seen[key] = append(seen[key], listener{address, what})
	}
}
