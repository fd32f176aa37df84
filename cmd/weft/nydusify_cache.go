package main

import (
	"context"
	"strconv"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/registry"
)

// nydusCache is what nydusify's options say about a build cache.
type nydusCache struct {
	name, tag, version string
	records            int
	insecure           bool
}

func (c *nydusCache) options() nydusOptions {
	c.version, c.records = image.DefaultCacheVersion, image.MaxCacheRecords
	return nydusOptions{
		{name: "build-cache", env: "BUILD_CACHE", to: &c.name, usage: "`image` that remembers what layers became: what is in it is not converted again. It is written at the end"},
		{name: "build-cache-tag", env: "BUILD_CACHE_TAG", to: &c.tag, usage: "`tag` of the cache in the target's repository, instead of --build-cache"},
		{name: "build-cache-version", env: "BUILD_CACHE_VERSION", to: &c.version, usage: "caches of another version are not used, and replaced"},
		{name: "build-cache-insecure", env: "BUILD_CACHE_INSECURE", to: &c.insecure, usage: "do not verify the certificate of the cache's registry"},
		{name: "build-cache-max-records", env: "BUILD_CACHE_MAX_RECORDS", to: &c.records, usage: "how many layers a cache remembers for each platform, from 1 to 200"},
	}
}

// reference is the cache's name; empty: there is none.
func (c *nydusCache) reference(n *nydusifyConvert) (string, error) {
	if c.records < 1 || c.records > image.MaxCacheRecords {
		return "", output.Usagef("--build-cache-max-records %s: expected a number from 1 to %d", strconv.Itoa(c.records), image.MaxCacheRecords)
	}
	if c.tag == "" {
		return c.name, nil
	}
	if c.name != "" {
		return "", output.Usagef("--build-cache conflicts with --build-cache-tag")
	}
	target := n.target
	if n.suffix != "" {
		target = n.source
	}
	ref, err := registry.ParseReference(target)
	if target == "" || err != nil {
		return "", output.Usagef("--build-cache-tag needs a target in a registry")
	}
	return ref.WithTag(c.tag).String(), nil
}

// nydusBuildCache opens the cache; nil if none was asked for. Only what is wrong with its name is an error.
func (a *app) nydusBuildCache(ctx context.Context, n *nydusifyConvert, target string) (*image.BuildCache, error) {
	name, err := n.cache.reference(n)
	if name == "" || err != nil {
		return nil, err
	}
	if ref, err := registry.ParseReference(name); err != nil {
		return nil, output.Usagef("--build-cache: %w", err)
	} else if to, err := registry.ParseReference(target); err == nil && ref == to {
		return nil, output.Usagef("--build-cache is the same image as the target: it needs a name of its own")
	}
	return image.OpenBuildCache(ctx, a.nydusClient(name, n.plainHTTP, n.cache.insecure, registry.Retry{}), name, image.CacheOptions{
		Version: n.cache.version, Records: n.cache.records, Warn: a.print().Warn,
	})
}
