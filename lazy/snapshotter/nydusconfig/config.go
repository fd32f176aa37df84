// Package nydusconfig reads the configuration of Nydus's snapshotter (config.toml, version 1) and that of its daemon nydusd (JSON), and says what of them
// means something here; of nydusd's in any of its forms also where blobs lie. It only reads: it must not know how images are mounted.
package nydusconfig

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Config is what a configuration asks for.
type Config struct {
	Root, Address  string
	Metrics        string // address; empty: none
	LogLevel       string
	HostsDir       string // mirrors
	Volatile       bool
	SyncRemove     bool
	Daemon         string // path of nydusd's configuration; empty: none
	ReadAhead      int    // bytes; 0: not said
	Background     bool
	BackgroundSaid bool
	Timeout        time.Duration // of requests to registries; 0: not said
	Attempts       int           // 0: not said
	PlainHTTP      bool          // registries are spoken to without TLS
	PodCredentials bool          // images are fetched with those that the kubelet gives
	Secrets        bool          // images are fetched with what Secrets of the cluster hold
	Kubeconfig     string        // file by which the cluster is asked; empty: the usual one
	ImageService   string        // containerd's socket, which the kubelet's image requests are passed on to; empty without PodCredentials

	blobs Blobs    // of a configuration that says where they lie
	Notes []string // keys that are accepted and change nothing here, or are not known, with file and line
}

// limit is the greatest file that is read, in bytes.
const limit = 1 << 20

// effect is what a key of a configuration means here.
type effect struct {
	set    func(c *Config, v any) error
	note   string // why it changes nothing
	refuse string // why a value other than the zero one cannot be honoured
}

func ignored(why string) effect { return effect{note: why} }
func refused(why string) effect { return effect{refuse: why} }

// text, flag and number set fields.
func text(f func(*Config) *string) effect {
	return effect{set: func(c *Config, v any) error {
		s, ok := v.(string)
		if !ok {
			return fmt.Errorf("a text was expected, not %v", v)
		}
		*f(c) = s
		return nil
	}}
}

func flag(f func(*Config) *bool) effect {
	return effect{set: func(c *Config, v any) error {
		b, ok := v.(bool)
		if !ok {
			return fmt.Errorf("true or false was expected, not %v", v)
		}
		*f(c) = b
		return nil
	}}
}

func number(f func(*Config, int64)) effect {
	return effect{set: func(c *Config, v any) error {
		switch n := v.(type) {
		case int64:
			if n < 0 {
				return fmt.Errorf("a number from 0 was expected, not %d", n)
			}
			f(c, n)
		case float64: // JSON
			if n < 0 || n != float64(int64(n)) || n > 1<<53 {
				return fmt.Errorf("a whole number from 0 was expected, not %v", n)
			}
			f(c, int64(n))
		default:
			return fmt.Errorf("a number was expected, not %v", v)
		}
		return nil
	}}
}

func oneOf(names ...string) effect {
	return effect{set: func(_ *Config, v any) error {
		s, _ := v.(string)
		if !slices.Contains(names, s) {
			return fmt.Errorf("%q is none of %s", fmt.Sprint(v), strings.TrimPrefix(strings.Join(names, ", "), ", "))
		}
		return nil
	}}
}

const (
	noDaemons = "there are no nydusd processes"
	noSystem  = "there is no system socket"
	ownLog    = "the log goes to standard error"
)

// snapshotterKeys are the keys of config.toml (nydus-snapshotter, config/config.go).
var snapshotterKeys = map[string]effect{
	"version": {set: func(_ *Config, v any) error {
		if v != int64(1) {
			return fmt.Errorf("version %v is not known, only 1", v)
		}
		return nil
	}},
	"root":                                   text(func(c *Config) *string { return &c.Root }),
	"address":                                text(func(c *Config) *string { return &c.Address }),
	"uid":                                    refused("the socket belongs to the user that runs the snapshotter"),
	"gid":                                    refused("the socket belongs to the user that runs the snapshotter"),
	"daemon_mode":                            oneOf("", "multiple", "dedicated", "shared", "none"),
	"cleanup_on_close":                       refused("what is mounted stays mounted, for the pods that run on it"),
	"system.enable":                          ignored(noSystem),
	"system.address":                         ignored(noSystem),
	"system.uid":                             ignored(noSystem),
	"system.gid":                             ignored(noSystem),
	"system.debug.pprof_address":             refused("there are no profiles over the network"),
	"daemon.nydusd_config":                   text(func(c *Config) *string { return &c.Daemon }),
	"daemon.nydusd_path":                     ignored(noDaemons),
	"daemon.nydusimage_path":                 ignored("nydus-image is not needed"),
	"daemon.fs_driver":                       oneOf("", "fusedev", "fscache"),
	"daemon.recover_policy":                  oneOf("", "none", "restart", "failover"),
	"daemon.failover_policy":                 oneOf("", "none", "resend", "flush"),
	"daemon.threads_number":                  ignored(noDaemons),
	"daemon.log_rotation_size":               ignored(noDaemons),
	"cgroup.enable":                          ignored(noDaemons),
	"cgroup.memory_limit":                    refused("limit the memory of this process itself"),
	"log.log_to_stdout":                      ignored(ownLog),
	"log.level":                              text(func(c *Config) *string { return &c.LogLevel }),
	"log.dir":                                ignored(ownLog),
	"log.log_rotation_compress":              ignored(ownLog),
	"log.log_rotation_local_time":            ignored(ownLog),
	"log.log_rotation_max_age":               ignored(ownLog),
	"log.log_rotation_max_backups":           ignored(ownLog),
	"log.log_rotation_max_size":              ignored(ownLog),
	"metrics.address":                        text(func(c *Config) *string { return &c.Metrics }),
	"metrics.hung_io_interval":               ignored("a read that cannot be answered fails after its deadline"),
	"metrics.collect_interval":               ignored("metrics are counted when they are asked for"),
	"remote.convert_vpc_registry":            refused("registries are reached by their names; say mirrors in remote.mirrors_config.dir"),
	"remote.skip_ssl_verify":                 refused("say skip_verify of one registry in its hosts.toml, in the folder remote.mirrors_config.dir"),
	"remote.mirrors_config.dir":              text(func(c *Config) *string { return &c.HostsDir }),
	"remote.auth.enable_cri_keychain":        flag(func(c *Config) *bool { return &c.PodCredentials }),
	"remote.auth.image_service_address":      text(func(c *Config) *string { return &c.ImageService }),
	"remote.auth.enable_kubeconfig_keychain": flag(func(c *Config) *bool { return &c.Secrets }),
	"remote.auth.kubeconfig_path":            text(func(c *Config) *string { return &c.Kubeconfig }),
	"remote.auth.enable_kubelet_credential_providers": refused("credentials are those of docker login"),
	"remote.auth.credential_provider_config":          ignored("credentials are those of docker login"),
	"remote.auth.credential_provider_bin_dir":         ignored("credentials are those of docker login"),
	"remote.auth.credential_renewal_interval":         ignored("credentials are read when they are needed"),
	"snapshot.enable_nydus_overlayfs":                 refused("there are no mount helpers"),
	"snapshot.nydus_overlayfs_path":                   ignored("there are no mount helpers"),
	"snapshot.enable_kata_volume":                     refused("there are no volumes for Kata Containers"),
	"snapshot.sync_remove":                            flag(func(c *Config) *bool { return &c.SyncRemove }),
	"snapshot.enable_overlayfs_volatile":              flag(func(c *Config) *bool { return &c.Volatile }),
	"cache_manager.disable":                           ignored("what no image needs is removed with the image"),
	"cache_manager.gc_period":                         ignored("what no image needs is removed with the image"),
	"cache_manager.cache_dir":                         refused("what is fetched lies below root"),
	"image.public_key_file":                           refused("signatures of bootstraps are not checked"),
	"image.validate_signature":                        refused("signatures of bootstraps are not checked"),
	"experimental.enable_stargz":                      refused("eStargz is not mounted"),
	"experimental.enable_referrer_detect":             ignored("referrers are always looked for"),
	"experimental.enable_index_detect":                ignored("what stands in an index is always looked for"),
	"experimental.enable_backend_source":              ignored(noDaemons),
	"experimental.tarfs.enable_tarfs":                 refused("tarfs is not mounted"),
	"experimental.tarfs.mount_tarfs_on_host":          ignored("tarfs is not mounted"),
	"experimental.tarfs.tarfs_hint":                   ignored("tarfs is not mounted"),
	"experimental.tarfs.max_concurrent_proc":          ignored("tarfs is not mounted"),
	"experimental.tarfs.export_mode":                  ignored("tarfs is not mounted"),
	"system.debug.daemon_cpu_profile_duration_secs":   ignored(noDaemons),
}

// backendKeys are those of the storage of blobs in nydusd's configuration (nydus-snapshotter, config/daemonconfig).
var backendKeys = map[string]effect{
	"dir":                  ignored(notFiles),
	"blob_file":            ignored(notFiles),
	"readahead":            ignored(notFiles),
	"readahead_sec":        ignored(notFiles),
	"endpoint":             ignored(notFiles),
	"access_key_id":        ignored(notFiles),
	"access_key_secret":    ignored(notFiles),
	"bucket_name":          ignored(notFiles),
	"object_prefix":        ignored(notFiles),
	"region":               ignored(notFiles),
	"timeout":              number(func(c *Config, n int64) { c.Timeout = time.Duration(n) * time.Second }),
	"connect_timeout":      ignored("the time limit of requests holds for connecting too"),
	"retry_limit":          number(func(c *Config, n int64) { c.Attempts = int(n) + 1 }),
	"scheme":               {set: scheme},
	"host":                 ignored("the image's name says it"),
	"repo":                 ignored("the image's name says it"),
	"skip_verify":          refused("say skip_verify of one registry in its hosts.toml"),
	"ca_cert_files":        refused("say ca of one registry in its hosts.toml"),
	"auth":                 refused("credentials do not belong into this file: use docker login"),
	"registry_token":       refused("credentials do not belong into this file: use docker login"),
	"blob_redirected_host": refused("redirects of the registry are followed as they are"),
	"blob_url_scheme":      ignored("redirects of the registry are followed as they are"),
	"proxy.url":            refused("say the proxy as HTTPS_PROXY or as a mirror in a hosts.toml"),
	"proxy.fallback":       ignored("there is no proxy"),
	"proxy.ping_url":       ignored("there is no proxy"),
	"proxy.check_interval": ignored("there is no proxy"),
	"proxy.use_http":       ignored("there is no proxy"),
}

// notFiles is why keys of other storages change nothing: their type is refused.
const notFiles = "blobs come from registries"

// daemonKeys are the keys of nydusd's configuration of the forms for FUSE and fscache (nydus-snapshotter, config/daemonconfig).
func daemonKeys() map[string]effect {
	keys := map[string]effect{
		"device.id":                               ignored("the image's name says it"),
		"device.backend.type":                     oneOf("registry"),
		"device.cache.type":                       oneOf("", "blobcache", "filecache", "fscache"),
		"device.cache.compressed":                 ignored("what is fetched is kept decoded"),
		"device.cache.config.work_dir":            ignored("what is fetched lies below the snapshotter's root"),
		"device.cache.config.disable_indexed_map": ignored("what is there is always known"),
		"mode":                                  oneOf("", "direct", "cached"),
		"digest_validate":                       ignored("every chunk is verified"),
		"iostats_files":                         ignored("metrics count by image"),
		"enable_xattr":                          ignored("attributes are always there"),
		"access_pattern":                        ignored("what a start reads is always learned"),
		"latest_read_files":                     ignored("metrics count by image"),
		"warmup":                                ignored("what a start reads is always learned"),
		"id_mapping":                            refused("owners are mapped by the kernel, as containerd asks for each snapshot"),
		"amplify_io":                            number(func(c *Config, n int64) { c.ReadAhead = int(min(n, 64<<20)) }),
		"fs_prefetch.enable":                    {set: background},
		"fs_prefetch.prefetch_all":              ignored("with prefetching everything is fetched in the end"),
		"fs_prefetch.stream_prefetch":           ignored("it is chosen here"),
		"fs_prefetch.threads_count":             ignored("it is chosen here"),
		"fs_prefetch.merging_size":              ignored("it is chosen here"),
		"fs_prefetch.bandwidth_rate":            refused("limit all fetching with --limit"),
		"type":                                  oneOf("bootstrap"),
		"id":                                    ignored("the image's name says it"),
		"domain_id":                             ignored("what images share is shared always"),
		"config.id":                             ignored("the image's name says it"),
		"config.metadata_path":                  ignored("the image's name says it"),
		"config.backend_type":                   oneOf("registry"),
		"config.cache_type":                     oneOf("", "fscache", "filecache", "blobcache"),
		"config.cache_config.work_dir":          ignored("what is fetched lies below the snapshotter's root"),
		"config.prefetch_config.enable":         {set: background},
		"config.prefetch_config.prefetch_all":   ignored("with prefetching everything is fetched in the end"),
		"config.prefetch_config.threads_count":  ignored("it is chosen here"),
		"config.prefetch_config.merging_size":   ignored("it is chosen here"),
		"config.prefetch_config.bandwidth_rate": refused("limit all fetching with --limit"),
	}
	for name, e := range backendKeys {
		keys["device.backend.config."+name], keys["config.backend_config."+name] = e, e
	}
	return keys
}

func scheme(c *Config, v any) error {
	switch v {
	case "", "https":
	case "http":
		c.PlainHTTP = true
	default:
		return fmt.Errorf("%q is none of http, https", fmt.Sprint(v))
	}
	return nil
}

func background(c *Config, v any) error {
	c.BackgroundSaid = true
	return flag(func(c *Config) *bool { return &c.Background }).set(c, v)
}

// Read reads config.toml, and nydusd's configuration where it names one.
func Read(file string) (*Config, error) {
	b, err := readFile(file)
	if err != nil {
		return nil, err
	}
	c := &Config{}
	if err := c.Snapshotter(file, b); err != nil {
		return nil, err
	}
	if c.Daemon == "" {
		return c, nil
	}
	if b, err = readFile(c.Daemon); err != nil {
		return nil, fmt.Errorf("%s: daemon.nydusd_config: %w", file, err)
	}
	return c, c.Nydusd(c.Daemon, b)
}

func readFile(file string) ([]byte, error) {
	st, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if st.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes, a configuration has at most %d", file, st.Size(), limit)
	}
	return os.ReadFile(file)
}

// Snapshotter reads the text of config.toml. The file is named in errors.
func (c *Config) Snapshotter(file string, b []byte) error {
	tree, err := tomlTree(file, b)
	if err != nil {
		return err
	}
	if _, ok := tree["version"]; !ok {
		return fmt.Errorf("%s: version = 1 is missing", file)
	}
	if err := c.apply(file, tomlLine(b), "", tree, snapshotterKeys); err != nil {
		return err
	}
	switch {
	case !c.PodCredentials:
		c.ImageService = ""
	case c.ImageService == "":
		c.ImageService = "/run/containerd/containerd.sock" // nydus-snapshotter, pkg/auth/cri.go
	}
	for key, path := range map[string]string{"root": c.Root, "address": c.Address, "daemon.nydusd_config": c.Daemon, "remote.auth.image_service_address": c.ImageService,
		"remote.auth.kubeconfig_path": c.Kubeconfig} {
		if path != "" && !filepath.IsAbs(path) {
			return fmt.Errorf("%s:%d: %s: %q is no absolute path", file, tomlLine(b)(key), key, path)
		}
	}
	return nil
}

// Nydusd reads the text of nydusd's configuration.
func (c *Config) Nydusd(file string, b []byte) error {
	tree, err := jsonTree(file, b)
	if err != nil {
		return err
	}
	return c.apply(file, jsonLine(b), "", tree, daemonKeys())
}

// apply gives each key of a tree, whose own name is the prefix, its effect: all errors at once, in the order of the keys.
func (c *Config) apply(file string, line func(string) int, prefix string, tree map[string]any, keys map[string]effect) error {
	leaves := map[string]any{}
	flatten(prefix, tree, leaves)
	names := make([]string, 0, len(leaves))
	for name := range leaves {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return compare(line(a), line(b), a, b) })
	var errs []error
	for _, name := range names {
		e, known := keys[name]
		at := fmt.Sprintf("%s:%d: %s", file, line(name), name)
		switch v := leaves[name]; {
		case !known:
			c.Notes = append(c.Notes, at+": there is no such key")
		case e.refuse != "":
			if !zero(v) {
				errs = append(errs, fmt.Errorf("%s: this is not supported: %s", at, e.refuse))
			}
		case e.set != nil:
			if err := e.set(c, v); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", at, err))
			}
		case !zero(v):
			c.Notes = append(c.Notes, at+" changes nothing here: "+e.note)
		}
	}
	return errors.Join(errs...)
}

func compare(la, lb int, a, b string) int {
	if la != lb {
		return la - lb
	}
	return strings.Compare(a, b)
}

// zero says that a value asks for nothing.
func zero(v any) bool {
	return v == nil || v == "" || v == false || v == int64(0) || v == float64(0)
}

func flatten(prefix string, tree map[string]any, out map[string]any) {
	for k, v := range tree {
		if sub, ok := v.(map[string]any); ok {
			flatten(prefix+k+".", sub, out)
			continue
		}
		out[prefix+k] = v
	}
}

// tomlLine finds the line of a key: its table's heading, then the key.
func tomlLine(b []byte) func(string) int {
	lines := map[string]int{}
	table := ""
	for i, l := range strings.Split(string(b), "\n") {
		l = strings.TrimSpace(l)
		if strings.HasPrefix(l, "[") {
			table = strings.Trim(strings.SplitN(l, "#", 2)[0], "[] \t") + "."
			continue
		}
		if key, _, ok := strings.Cut(l, "="); ok && !strings.HasPrefix(l, "#") {
			name := table + strings.Trim(strings.TrimSpace(key), `"'`)
			if lines[name] == 0 {
				lines[name] = i + 1
			}
		}
	}
	return func(name string) int { return max(1, lines[name]) }
}

// jsonLine finds the first line with the last part of a key.
func jsonLine(b []byte) func(string) int {
	return func(name string) int {
		last := name[strings.LastIndexByte(name, '.')+1:]
		before, _, found := strings.Cut(string(b), `"`+last+`"`)
		if !found {
			return 1
		}
		return 1 + strings.Count(before, "\n")
	}
}
