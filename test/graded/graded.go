// Package graded gives tests a cluster in which the kinds of levels are installed, writes objects of these kinds, and speaks to it in the names of users. It
// must not know what a test is about.
package graded

import (
	"context"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/kube"
	"github.com/weft-dev/weft/level"
)

// Cluster is a test's view of a cluster as one account, and as the users that it stands for.
type Cluster struct {
	t       testing.TB
	Config  *rest.Config
	Objects dynamic.Interface
}

// New connects; nothing is installed yet.
func New(t testing.TB, config *rest.Config) *Cluster {
	t.Helper()
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return &Cluster{t, config, objects}
}

// Resource is a kind of levels as requests name it: registries, clearances, workspaces, doors, regrades.
func Resource(name string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: api.Group, Version: api.Version, Resource: name}
}

// Install installs the kinds of levels, and waits until the API server knows them.
func (c *Cluster) Install() {
	c.t.Helper()
	client, err := kube.New(c.Config)
	if err != nil {
		c.t.Fatal(err)
	}
	all, err := level.Definitions()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, d := range all {
		if _, err := client.ApplyObject(c.t.Context(), d, true, true); err != nil {
			c.t.Fatal(err)
		}
	}
	if err := client.Wait(c.t.Context(), all, nil); err != nil {
		c.t.Fatal(err)
	}
}

// Apply writes an object of a kind of levels, told in YAML.
func (c *Cluster) Apply(resource, text string) {
	c.t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.Objects.Resource(Resource(resource)).Apply(c.t.Context(), u.GetName(), u, metav1.ApplyOptions{FieldManager: "test", Force: true}); err != nil {
		c.t.Fatal(err)
	}
}

// Remove deletes an object of a kind of levels, also at a test's end.
func (c *Cluster) Remove(resource, name string) {
	c.t.Helper()
	if err := c.Objects.Resource(Resource(resource)).Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
		c.t.Fatal(err)
	}
}
