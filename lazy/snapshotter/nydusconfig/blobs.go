package nydusconfig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// Blobs is where a configuration says that blobs lie: in folders or a file, or in a repository of a registry.
type Blobs struct {
	Kind string // localfs or registry

	File    string   // the only blob; it goes before the folders
	Folders []string // in the order in which they are searched

	Scheme, Host, Repository string
	Auth                     string // base64 of USER:PASSWORD; empty: not said
	Token                    string // a bearer token; empty: not said
	SkipVerify               bool
	CA                       []string      // PEM files
	Timeout                  time.Duration // until a connection stands; 0: not said
	Attempts                 int           // 0: not said
}

// otherBlobs is what to do about storages that are not read.
const otherBlobs = "fetch the blobs into a folder and name it with localfs, or push the image to a registry"

// texts sets a list.
func texts(f func(*Config) *[]string) effect {
	return effect{set: func(c *Config, v any) error {
		list, ok := v.([]any)
		for _, item := range list {
			s, isText := item.(string)
			ok = ok && isText
			*f(c) = append(*f(c), s)
		}
		if !ok {
			return fmt.Errorf("a list of texts was expected, not %v", v)
		}
		return nil
	}}
}

// blobKeys are the keys of the storages that are read (api/src/config.rs: LocalFsConfig, RegistryConfig, ProxyConfig).
var blobKeys = map[string]map[string]effect{
	"localfs": {
		"dir": {set: func(c *Config, v any) error {
			s, ok := v.(string)
			if !ok {
				return fmt.Errorf("a text was expected, not %v", v)
			}
			if s != "" {
				c.blobs.Folders = append([]string{s}, c.blobs.Folders...)
			}
			return nil
		}},
		"alt_dirs":      texts(func(c *Config) *[]string { return &c.blobs.Folders }),
		"blob_file":     text(func(c *Config) *string { return &c.blobs.File }),
		"readahead":     ignored("blobs are read as they are needed"),
		"readahead_sec": ignored("blobs are read as they are needed"),
	},
	"registry": {
		"scheme":                             {set: blobScheme},
		"host":                               text(func(c *Config) *string { return &c.blobs.Host }),
		"repo":                               text(func(c *Config) *string { return &c.blobs.Repository }),
		"auth":                               text(func(c *Config) *string { return &c.blobs.Auth }),
		"registry_token":                     text(func(c *Config) *string { return &c.blobs.Token }),
		"skip_verify":                        flag(func(c *Config) *bool { return &c.blobs.SkipVerify }),
		"ca_cert_files":                      texts(func(c *Config) *[]string { return &c.blobs.CA }),
		"connect_timeout":                    number(func(c *Config, n int64) { c.blobs.Timeout = time.Duration(min(n, 3600)) * time.Second }),
		"timeout":                            ignored("a transfer that stands still is begun again"),
		"retry_limit":                        number(func(c *Config, n int64) { c.blobs.Attempts = int(min(n, 255)) + 1 }),
		"blob_url_scheme":                    ignored("redirects of the registry are followed as they are"),
		"blob_redirected_host":               refused("redirects of the registry are followed as they are: leave it out"),
		"proxy.url":                          refused("say the proxy as HTTPS_PROXY"),
		"proxy.dragonfly_scheduler_endpoint": refused("there is no connection to Dragonfly: leave it out"),
		"proxy.fallback":                     ignored("there is no proxy"),
		"proxy.ping_url":                     ignored("there is no proxy"),
		"proxy.check_interval":               ignored("there is no proxy"),
		"proxy.check_pause_elapsed":          ignored("there is no proxy"),
		"proxy.use_http":                     ignored("there is no proxy"),
	},
}

func blobScheme(c *Config, v any) error {
	if v != "" && v != "https" && v != "http" {
		return fmt.Errorf("%q is none of http, https", fmt.Sprint(v))
	}
	c.blobs.Scheme = fmt.Sprint(v)
	return nil
}

// ReadBlobs reads where blobs lie out of nydusd's configuration: JSON of the first version (device.backend, or config.backend_type for fscache), JSON or TOML
// of the second (backend). What it says of anything else does not count. Notes are as in Config.
func ReadBlobs(file string) (*Blobs, []string, error) {
	b, err := readFile(file)
	if err != nil {
		return nil, nil, err
	}
	return parseBlobs(file, b)
}

// ReadBackend reads the part of nydusd's configuration that describes one storage, of the kind localfs or registry: a JSON object.
func ReadBackend(kind, file string) (*Blobs, []string, error) {
	b, err := readFile(file)
	if err != nil {
		return nil, nil, err
	}
	return Backend(kind, file, b)
}

// Backend is ReadBackend of a text. Name is told in errors.
func Backend(kind, name string, b []byte) (*Blobs, []string, error) {
	tree, err := jsonTree(name, b)
	if err != nil {
		return nil, nil, err
	}
	return blobsOf(name, jsonLine(b), kind, "", tree)
}

func parseBlobs(file string, b []byte) (*Blobs, []string, error) {
	var tree map[string]any
	var err error
	line := jsonLine(b)
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
		tree, err = jsonTree(file, b)
	} else {
		line = tomlLine(b)
		tree, err = tomlTree(file, b)
	}
	if err != nil {
		return nil, nil, err
	}
	for _, form := range []struct{ above, kind, config string }{{"backend", "type", ""}, {"device.backend", "type", "config"}, {"config", "backend_type", "backend_config"}} {
		part := tree
		for name := range strings.SplitSeq(form.above, ".") {
			part, _ = part[name].(map[string]any)
		}
		kind, ok := part[form.kind].(string)
		if !ok {
			continue
		}
		if form.config == "" {
			form.config = kind
		}
		config, _ := part[form.config].(map[string]any)
		if _, ok := blobKeys[kind]; !ok {
			return nil, nil, fmt.Errorf("%s:%d: blobs in %q are not read: %s", file, line(form.above+"."+form.kind), kind, otherBlobs)
		}
		return blobsOf(file, line, kind, form.above+"."+form.config+".", config)
	}
	return nil, nil, fmt.Errorf("%s says nowhere where blobs lie: backend.type or device.backend.type was expected", file)
}

func blobsOf(file string, line func(string) int, kind, prefix string, tree map[string]any) (*Blobs, []string, error) {
	if _, ok := blobKeys[kind]; !ok {
		return nil, nil, fmt.Errorf("blobs in %q are not read: %s", kind, otherBlobs)
	}
	keys := map[string]effect{}
	for name, e := range blobKeys[kind] {
		keys[prefix+name] = e
	}
	c := &Config{blobs: Blobs{Kind: kind}}
	if err := c.apply(file, line, prefix, tree, keys); err != nil {
		return nil, nil, err
	}
	b := &c.blobs
	switch {
	case kind == "localfs" && b.File == "" && len(b.Folders) == 0:
		return nil, nil, fmt.Errorf("%s: %sdir and %sblob_file are missing: one is needed", file, prefix, prefix)
	case kind == "registry" && (b.Host == "" || b.Repository == ""):
		return nil, nil, fmt.Errorf("%s: %shost and %srepo are needed", file, prefix, prefix)
	}
	return b, c.Notes, nil
}

func tomlTree(file string, b []byte) (map[string]any, error) {
	var tree map[string]any
	_, err := toml.Decode(string(b), &tree)
	var parse toml.ParseError
	if errors.As(err, &parse) {
		return nil, fmt.Errorf("%s:%d: %s", file, parse.Position.Line, parse.Message)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return tree, nil
}

func jsonTree(file string, b []byte) (map[string]any, error) {
	var tree map[string]any
	err := json.Unmarshal(b, &tree)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return nil, fmt.Errorf("%s:%d: %w", file, 1+strings.Count(string(b[:syntax.Offset]), "\n"), err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return tree, nil
}
