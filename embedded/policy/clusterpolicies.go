package policy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"

	"github.com/weft-dev/weft/network"
)

// DefinitionName is the CustomResourceDefinition of ClusterNetworkPolicies, as kubernetes-sigs/network-policy-api installs it.
const DefinitionName = "clusternetworkpolicies.policy.networking.k8s.io"

// clusterVersion is the version that package network reads.
const clusterVersion = "v1alpha2"

var (
	definitionResource    = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	clusterPolicyResource = schema.GroupVersionResource{Group: "policy.networking.k8s.io", Version: clusterVersion, Resource: "clusternetworkpolicies"}
)

// clusterWatch watches ClusterNetworkPolicies for as long as their definition is installed.
type clusterWatch struct {
	controller *controller
	ctx        context.Context
	definition cache.ResourceEventHandlerRegistration
	group      sync.WaitGroup

	mu       sync.Mutex
	policies cache.ResourceEventHandlerRegistration // nil: they are not watched
	cancel   context.CancelFunc
	ended    chan struct{} // closed when the watch has handed over its last event
}

// watchClusterPolicies begins to watch. wait returns when everything that was begun has ended, after ctx.
func (c *controller) watchClusterPolicies(ctx context.Context) (synced cache.InformerSynced, wait func(), err error) {
	w := &clusterWatch{controller: c, ctx: ctx}
	named := fields.OneTermEqualSelector("metadata.name", DefinitionName).String()
	informer := dynamicinformer.NewFilteredDynamicInformer(c.options.Dynamic, definitionResource, metav1.NamespaceAll, 0, cache.Indexers{},
		func(o *metav1.ListOptions) { o.FieldSelector = named }).Informer()
	set := func(object any) {
		if u, ok := object.(*unstructured.Unstructured); ok {
			w.follow(u)
		}
	}
	w.definition, err = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: set, UpdateFunc: func(_, object any) { set(object) }, DeleteFunc: func(any) { w.end("") }})
	if err != nil {
		return nil, nil, err
	}
	w.group.Go(func() { informer.RunWithContext(ctx) })
	return w.synced, func() { w.group.Wait(); w.end("") }, nil
}

// synced says whether all policies that were there at the beginning have been handed over.
func (w *clusterWatch) synced() bool {
	if !w.definition.HasSynced() {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.policies == nil || w.policies.HasSynced()
}

// follow begins or ends the watch as the definition is now.
func (w *clusterWatch) follow(definition *unstructured.Unstructured) {
	served, versions := servedVersions(definition)
	switch {
	case served:
		w.begin()
	case len(versions) > 0:
		w.end(fmt.Sprintf("ClusterNetworkPolicies are not enforced: %s serves %s, and %s is what is understood", DefinitionName, strings.Join(versions, ", "), clusterVersion))
	default:
		w.end("") // not accepted yet
	}
}

// servedVersions are those in which an accepted definition gives its objects.
func servedVersions(definition *unstructured.Unstructured) (understood bool, versions []string) {
	conditions, _, _ := unstructured.NestedSlice(definition.Object, "status", "conditions") // what is malformed counts as missing
	established := slices.ContainsFunc(conditions, func(c any) bool {
		m, ok := c.(map[string]any)
		return ok && m["type"] == "Established" && m["status"] == "True"
	})
	if !established {
		return false, nil
	}
	list, _, _ := unstructured.NestedSlice(definition.Object, "spec", "versions")
	for _, v := range list {
		if m, ok := v.(map[string]any); ok && m["served"] == true {
			versions = append(versions, fmt.Sprint(m["name"]))
		}
	}
	return slices.Contains(versions, clusterVersion), versions
}

func (w *clusterWatch) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.policies != nil {
		return
	}
	c := w.controller
	informer := dynamicinformer.NewFilteredDynamicInformer(c.options.Dynamic, clusterPolicyResource, metav1.NamespaceAll, 0, cache.Indexers{}, nil).Informer()
	registration, err := informer.AddEventHandler(handle(c, c.setClusterPolicy, c.deleteClusterPolicy))
	if err != nil {
		return // only a stopped informer refuses, and this one has not been started
	}
	ctx, cancel := context.WithCancel(w.ctx)
	ended := make(chan struct{})
	w.policies, w.cancel, w.ended = registration, cancel, ended
	c.hand(func() { c.status.setProblems(DefinitionName, nil) })
	go func() {
		defer close(ended)
		informer.RunWithContext(ctx) // returns after its handlers
	}()
}

// end stops watching and forgets all policies: there are none without their definition. problem says why they are not enforced.
func (w *clusterWatch) end(problem string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.controller
	if w.policies != nil {
		w.cancel()
		<-w.ended
		w.policies = nil
	}
	if w.ctx.Err() != nil {
		return // what is in the kernel holds while the controller is away
	}
	c.hand(func() {
		for name := range c.clusterPolicies {
			c.dropClusterPolicy(name)
		}
		var problems []network.Problem
		if problem != "" {
			problems = []network.Problem{{Policy: DefinitionName, Field: "spec.versions", Message: problem}}
		}
		c.status.setProblems(DefinitionName, problems)
		c.report()
	})
}

func clusterKey(name string) string { return "ClusterNetworkPolicy " + name }

// setClusterPolicy takes over a policy. One that cannot be read leaves what was in force.
func (c *controller) setClusterPolicy(u *unstructured.Unstructured) {
	var policy network.ClusterPolicy
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &policy); err != nil {
		c.status.setProblems(clusterKey(u.GetName()), []network.Problem{{Policy: clusterKey(u.GetName()), Field: "spec", Message: err.Error()}})
		c.report()
		return
	}
	c.clusterPolicies[policy.Name] = true
	c.status.setProblems(clusterKey(policy.Name), c.compiler.SetClusterPolicy(&policy))
	c.status.setProblems("ClusterNetworkPolicies", c.compiler.ClusterTies())
	c.status.policy(clusterKey(policy.Name), true)
}

func (c *controller) deleteClusterPolicy(u *unstructured.Unstructured) {
	c.dropClusterPolicy(u.GetName())
}

func (c *controller) dropClusterPolicy(name string) {
	delete(c.clusterPolicies, name)
	c.compiler.DeleteClusterPolicy(name)
	c.status.setProblems(clusterKey(name), nil)
	c.status.setProblems("ClusterNetworkPolicies", c.compiler.ClusterTies())
	c.status.policy(clusterKey(name), false)
}
