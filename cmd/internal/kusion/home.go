// Package kusion keeps Kusion's files on this machine (its configuration, workspaces and releases), finds projects and stacks in
// folders, evaluates them, and reads the secrets that they refer to. The formats are KusionStack/kusion's (v0.15).
//
// Here package stack meets the disk. The package must not plan, apply or print.
package kusion

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/weft-dev/weft/stack/config"
)

// Home is the folder of Kusion's files: $KUSION_HOME, else .kusion in the user's home folder.
func Home(getenv func(string) string) (string, error) {
	if home := getenv("KUSION_HOME"); home != "" {
		return filepath.Abs(home)
	}
	home := getenv("HOME")
	if home == "" {
		return "", errors.New("no place for Kusion's files: neither KUSION_HOME nor HOME is set")
	}
	return filepath.Join(home, ".kusion"), nil
}

// maxFile bounds the files that are read, in bytes.
const maxFile = 64 << 20

// readFile reads a file of a sensible size.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s is larger than %d MB", path, maxFile>>20)
	}
	return os.ReadFile(path)
}

// writeFile writes a file so that a reader sees the old or the new one, readable by its owner alone.
func writeFile(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".write-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Config is Kusion's configuration, the file config.yaml in its home: backends by name.
type Config struct {
	path string
	tree map[string]any
}

// The types of backends.
const (
	localBackend   = "local"
	defaultBackend = "default"
)

// OpenConfig reads the configuration. What upstream has there without being asked is there: the local backend called default.
func OpenConfig(home string) (*Config, error) {
	c := &Config{path: filepath.Join(home, "config.yaml")}
	content, err := readFile(c.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		tree, err := config.ParseYAML(c.path, content)
		if err != nil {
			return nil, err
		}
		r := &config.Reader{}
		r.Node(tree, "").Field("backends").Each(func(name string, v config.Node) {
			if name == "current" {
				v.Text()
				return
			}
			v.Field("type").Text()
			v.Field("configs").Each(func(string, config.Node) {})
		})
		if err := r.Err(); err != nil {
			return nil, err
		}
		c.tree, _ = tree.Plain().(map[string]any)
	}
	if c.tree == nil {
		c.tree = map[string]any{}
	}
	backends := c.backends()
	backends[defaultBackend] = map[string]any{"type": localBackend}
	if _, ok := backends["current"].(string); !ok {
		backends["current"] = defaultBackend
	}
	return c, nil
}

func (c *Config) backends() map[string]any {
	b, _ := c.tree["backends"].(map[string]any)
	if b == nil {
		b = map[string]any{}
		c.tree["backends"] = b
	}
	return b
}

// Current is the name of the backend that is used where none is named.
func (c *Config) Current() string {
	s, _ := c.backends()["current"].(string)
	return s
}

// Backend returns a backend's type and configuration; ok is false if there is none of that name.
func (c *Config) Backend(name string) (kind string, configs map[string]any, ok bool) {
	b, ok := c.backends()[name].(map[string]any)
	if !ok {
		return "", nil, false
	}
	kind, _ = b["type"].(string)
	configs, _ = b["configs"].(map[string]any)
	return kind, configs, true
}

// YAML is the configuration as `kusion config list` shows it.
func (c *Config) YAML() ([]byte, error) { return yaml.Marshal(c.tree) }

// Save writes the configuration.
func (c *Config) Save() error {
	content, err := c.YAML()
	if err != nil {
		return err
	}
	return writeFile(c.path, content)
}

// Get returns an item, for example backends.current or backends.pre.configs.
func (c *Config) Get(key string) (any, error) {
	if _, err := parseKey(key); err != nil {
		return nil, err
	}
	var v any = c.tree
	for _, name := range strings.Split(key, ".") {
		m, ok := v.(map[string]any)
		if !ok || m[name] == nil {
			return nil, errors.New("empty config item")
		}
		v = m[name]
	}
	return v, nil
}

// item is a key taken apart: what is set of a backend.
type item struct {
	backend string // "" for backends.current
	field   string // "", type or configs
	config  string // of configs
}

func parseKey(key string) (item, error) {
	if key == "" {
		return item{}, errors.New("empty config item key")
	}
	parts := strings.Split(key, ".")
	unsupported := fmt.Errorf("unsupported config item, %s; items are backends.current, backends.NAME, backends.NAME.type, backends.NAME.configs and backends.NAME.configs.FIELD", key)
	switch {
	case parts[0] != "backends" || len(parts) < 2 || len(parts) > 4:
		return item{}, unsupported
	case parts[1] == "":
		return item{}, errors.New("backend name should not be empty")
	case parts[1] == "current" && len(parts) == 2:
		return item{}, nil
	case parts[1] == "current":
		return item{}, errors.New("backend name should not be current")
	}
	it := item{backend: parts[1]}
	if len(parts) > 2 {
		if it.field = parts[2]; it.field != "type" && it.field != "configs" {
			return item{}, unsupported
		}
	}
	if len(parts) > 3 {
		if it.config = parts[3]; it.field != "configs" || !slices.Contains(allFields, it.config) {
			return item{}, unsupported
		}
	}
	return it, nil
}

// fields are what the types of backends are configured with.
var fields = map[string][]string{
	localBackend: {"path"},
	"oss":        {"endpoint", "accessKeyID", "accessKeySecret", "bucket", "prefix"},
	"s3":         {"endpoint", "accessKeyID", "accessKeySecret", "bucket", "prefix", "region", "forcePathStyle"},
}

var allFields = []string{"path", "endpoint", "accessKeyID", "accessKeySecret", "bucket", "prefix", "region"}

// Set sets an item to what a text says: a text, or YAML for a whole backend or its configs.
func (c *Config) Set(key, text string) error {
	it, err := parseKey(key)
	if err != nil {
		return err
	}
	if text == "" {
		return errors.New("empty config item value")
	}
	backends := c.backends()
	if it.backend == "" {
		if _, _, ok := c.Backend(text); !ok {
			return fmt.Errorf("cannot assign current to not exist backend: there is no backend %s", text)
		}
		backends["current"] = text
		return nil
	}
	if it.backend == defaultBackend {
		return errors.New("backend name should not be default: that one is always there and local")
	}
	kind, configs, _ := c.Backend(it.backend)
	next := map[string]any{}
	if kind != "" {
		next["type"] = kind
	}
	if configs != nil {
		next["configs"] = configs
	}
	switch {
	case it.field == "":
		m, err := yamlMap(key, text)
		if err != nil {
			return err
		}
		next = m
	case it.field == "type":
		if kind != "" && kind != text && len(configs) > 0 {
			return fmt.Errorf("conflict backend type, cannot assign backend %s from type %s to %s with non-empty config", it.backend, kind, text)
		}
		next["type"] = text
	case kind == "":
		return fmt.Errorf("empty backend type: set backends.%s.type first", it.backend)
	case it.config == "":
		if next["configs"], err = yamlMap(key, text); err != nil {
			return err
		}
	default:
		changed := map[string]any{}
		for k, v := range configs {
			changed[k] = v
		}
		changed[it.config] = text
		next["configs"] = changed
	}
	if err := checkBackend(next); err != nil {
		return err
	}
	backends[it.backend] = next
	return nil
}

func yamlMap(key, text string) (map[string]any, error) {
	tree, err := config.ParseYAML(key, []byte(text))
	if err != nil {
		return nil, err
	}
	m, ok := tree.Plain().(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s must be fields with values, for example '{\"bucket\":\"kusion\"}'", key)
	}
	return m, nil
}

func checkBackend(b map[string]any) error {
	kind, _ := b["type"].(string)
	known, ok := fields[kind]
	if !ok {
		return fmt.Errorf("unsupported backend type %q; types are local, oss and s3", kind)
	}
	configs, _ := b["configs"].(map[string]any)
	for name, v := range configs {
		if !slices.Contains(known, name) {
			return fmt.Errorf("do not support %s for backend with type %s; fields are %s", name, kind, strings.Join(known, ", "))
		}
		_, text := v.(string)
		_, flag := v.(bool)
		if name == "forcePathStyle" && !flag {
			return fmt.Errorf("value of %s with backend type %s is not bool type", name, kind)
		}
		if name != "forcePathStyle" && !text {
			return fmt.Errorf("value of %s with backend type %s is not string type", name, kind)
		}
	}
	return nil
}

// Unset removes an item.
func (c *Config) Unset(key string) error {
	it, err := parseKey(key)
	if err != nil {
		return err
	}
	backends := c.backends()
	if it.backend == "" {
		if c.Current() == defaultBackend {
			return errors.New("cannot unset default current backend")
		}
		backends["current"] = defaultBackend
		return nil
	}
	if it.backend == defaultBackend {
		return errors.New("backend name should not be default: that one is always there and local")
	}
	b, _ := backends[it.backend].(map[string]any)
	configs, _ := b["configs"].(map[string]any)
	switch it.field {
	case "", "type":
		if c.Current() == it.backend {
			return fmt.Errorf("unset in-use current backend, cannot unset config of backend %s cause it's current backend", it.backend)
		}
		if it.field == "type" {
			if len(configs) > 0 {
				return fmt.Errorf("non-empty backend config items, cannot unset type backend of %s whose config items is not empty", it.backend)
			}
			delete(b, "type")
		} else {
			delete(backends, it.backend)
		}
	default:
		if it.config == "" {
			delete(b, "configs")
		} else {
			delete(configs, it.config)
		}
	}
	if len(configs) == 0 {
		delete(b, "configs")
	}
	if len(b) == 0 {
		delete(backends, it.backend)
	}
	return nil
}
