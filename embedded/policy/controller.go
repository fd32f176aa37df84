// Package policy enforces the cluster's NetworkPolicies and ClusterNetworkPolicies on one node: it watches pods, namespaces, nodes and
// policies, and keeps the node's nftables table as package network compiles it. It must not know how policies are judged or written to the kernel.
package policy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/weft-dev/weft/network"
)

// Options say where policies come from and where they go.
type Options struct {
	Client kubernetes.Interface
	// Dynamic reads ClusterNetworkPolicies, which are watched while their definition is installed; nil: they are not watched.
	Dynamic dynamic.Interface
	// Node is the name of the node whose pods are guarded.
	Node string
	// PodCIDRs are the ranges of the node's pods, at most one of each family.
	PodCIDRs []netip.Prefix
	// Table is the name of the nftables table; NetNS an open descriptor of its network namespace, 0 for the caller's.
	Table string
	NetNS int
	// Runtime is the path of the container runtime's socket (CRI). It tells a pod's addresses before its first container starts, seconds
	// before the API does. Without it a new pod is cut off until the API knows its addresses.
	Runtime string
	// Report is called with the state after every change, from one goroutine; may be nil.
	Report func(Status)
	// Debounce is how long changes are gathered before they are written; 0 means 2 ms.
	Debounce time.Duration
	// CheckEvery is how often the table is compared with what it should be although no change was notified; 0 means a minute.
	CheckEvery time.Duration
}

// Close writes a table that cuts off every address of the pod ranges, unless the table is there already. It stands before the first pod can
// start; Run opens what may be open.
func Close(o Options) error {
	table, compiler, err := open(o)
	if err != nil {
		return err
	}
	if table.Exists() {
		return nil
	}
	return table.Replace(compiler.Ruleset())
}

func open(o Options) (*network.Table, *network.Compiler, error) {
	compiler, err := network.NewCompiler(network.Config{Table: o.Table, Node: o.Node, PodCIDRs: o.PodCIDRs})
	if err != nil {
		return nil, nil, err
	}
	table, err := network.OpenTable(o.Table, o.NetNS)
	return table, compiler, err
}

// controller is one run. Its maps and the compiler belong to the goroutine of loop; others hand over work in events.
type controller struct {
	options  Options
	table    *network.Table
	compiler *network.Compiler
	status   Status

	pods      map[types.NamespacedName]*podState
	sandboxes map[types.UID]sandbox
	nodes     map[string]network.Node

	clusterPolicies map[string]bool // names

	mu     sync.Mutex
	events []func()
	wake   chan struct{}
	// suspect is set when someone else has touched the table.
	suspect bool
}

// podState is the pod as the API tells it.
type podState struct {
	uid types.UID
	pod network.Pod
}

// Run enforces until ctx ends. The table stays when it returns: policies hold while their controller is being restarted.
func Run(ctx context.Context, o Options) error {
	if o.Debounce == 0 {
		o.Debounce = 2 * time.Millisecond
	}
	if o.CheckEvery == 0 {
		o.CheckEvery = time.Minute
	}
	table, compiler, err := open(o)
	if err != nil {
		return err
	}
	c := &controller{options: o, table: table, compiler: compiler, pods: map[types.NamespacedName]*podState{},
		sandboxes: map[types.UID]sandbox{}, nodes: map[string]network.Node{}, clusterPolicies: map[string]bool{}, wake: make(chan struct{}, 1)}
	c.status.Table = o.Table
	c.status.Bridge = "filtered"
	if err := network.FilterBridges(o.NetNS); err != nil {
		c.status.Bridge = err.Error()
	}
	if err := Close(o); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	if err := table.Watch(ctx, c.suspicion); err != nil {
		return err
	}
	synced, stop, err := c.watch(ctx)
	if err != nil {
		return err
	}
	group.Go(func() { <-ctx.Done(); stop() })
	if o.Dynamic != nil {
		clusterSynced, wait, err := c.watchClusterPolicies(ctx)
		if err != nil {
			return err
		}
		group.Go(wait)
		synced = append(synced, clusterSynced)
	}
	if o.Runtime != "" {
		sandboxesSynced := make(chan struct{})
		group.Go(func() { c.watchRuntime(ctx, sandboxesSynced) })
		select {
		case <-sandboxesSynced:
		case <-time.After(runtimePatience):
		case <-ctx.Done():
		}
	}
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return context.Cause(ctx)
	}
	return c.loop(ctx)
}

// watch starts informers that hand their events over.
func (c *controller) watch(ctx context.Context) (synced []cache.InformerSynced, stop func(), err error) {
	factory := informers.NewSharedInformerFactoryWithOptions(c.options.Client, 0, informers.WithTransform(trim))
	handlers := map[cache.SharedIndexInformer]cache.ResourceEventHandlerFuncs{
		factory.Core().V1().Pods().Informer():                  handle(c, c.setPod, c.deletePod),
		factory.Core().V1().Namespaces().Informer():            handle(c, c.setNamespace, c.deleteNamespace),
		factory.Core().V1().Nodes().Informer():                 handle(c, c.setNode, c.deleteNode),
		factory.Networking().V1().NetworkPolicies().Informer(): handle(c, c.setPolicy, c.deletePolicy),
	}
	for informer, handler := range handlers {
		registration, err := informer.AddEventHandler(handler)
		if err != nil {
			return nil, nil, err
		}
		synced = append(synced, registration.HasSynced)
	}
	factory.Start(ctx.Done())
	return synced, factory.Shutdown, nil
}

// handle makes an informer's handler out of two functions that run in the loop.
func handle[T any](c *controller, set, remove func(T)) cache.ResourceEventHandlerFuncs {
	add := func(object any) {
		if o, ok := object.(T); ok {
			c.hand(func() { set(o) })
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    add,
		UpdateFunc: func(_, object any) { add(object) },
		DeleteFunc: func(object any) {
			if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = gone.Obj
			}
			if o, ok := object.(T); ok {
				c.hand(func() { remove(o) })
			}
		},
	}
}

// hand queues work for the loop.
func (c *controller) hand(f func()) {
	c.mu.Lock()
	c.events = append(c.events, f)
	c.mu.Unlock()
	c.wakeUp()
}

func (c *controller) suspicion() {
	c.mu.Lock()
	c.suspect = true
	c.mu.Unlock()
	c.wakeUp()
}

func (c *controller) wakeUp() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *controller) take() (events []func(), suspect bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	events, suspect = c.events, c.suspect
	c.events, c.suspect = nil, false
	return events, suspect
}

// loop writes the whole table once and then what changes.
func (c *controller) loop(ctx context.Context) error {
	events, _ := c.take()
	run(events)
	if err := c.replace("start"); err != nil {
		return err
	}
	check := time.NewTicker(c.options.CheckEvery)
	defer check.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-check.C:
			err = c.check()
		case <-c.wake:
			if !sleep(ctx, c.options.Debounce) {
				return nil
			}
			events, suspect := c.take()
			run(events)
			err = c.apply()
			if suspect {
				err = errors.Join(err, c.check())
			}
		}
		if err != nil {
			// The wanted state is in memory: it is written whole as soon as the kernel takes it.
			c.status.Error = err.Error()
			c.report()
			if !sleep(ctx, retryAfter) {
				return nil
			}
			if err := c.replace("failure: " + err.Error()); err != nil {
				c.status.Error = err.Error()
				c.wakeUp()
				c.suspicion()
			}
		}
	}
}

const (
	retryAfter      = 100 * time.Millisecond
	runtimePatience = 10 * time.Second
)

func run(events []func()) {
	for _, f := range events {
		f()
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// apply writes the changes.
func (c *controller) apply() error {
	changes := c.compiler.Changes()
	if changes.Empty() {
		return nil
	}
	began := time.Now()
	if err := c.table.Apply(changes); err != nil {
		return err
	}
	c.applied(time.Since(began), changes.Size())
	return nil
}

// replace writes everything.
func (c *controller) replace(why string) error {
	c.compiler.Changes()
	ruleset := c.compiler.Ruleset()
	began := time.Now()
	if err := c.table.Replace(ruleset); err != nil {
		return err
	}
	c.status.Replacements++
	c.status.LastReplacement = why
	c.applied(time.Since(began), 0)
	return nil
}

// check compares the kernel's table with the wanted one and repairs it.
func (c *controller) check() error {
	difference, err := c.table.Check(c.compiler.Ruleset())
	if err != nil {
		return err
	}
	if difference == "" {
		if drops, err := c.table.Drops(); err == nil {
			c.status.Drops = drops
			c.report()
		}
		return nil
	}
	c.status.Repairs++
	return c.replace("repair: " + difference)
}

func (c *controller) setPod(p *corev1.Pod) {
	name := types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
	c.pods[name] = &podState{uid: p.UID, pod: convertPod(p)}
	c.compilePod(name)
}

func (c *controller) deletePod(p *corev1.Pod) {
	name := types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
	if state := c.pods[name]; state == nil || state.uid != p.UID {
		return
	}
	delete(c.pods, name)
	c.compiler.DeletePod(name.Namespace, name.Name)
}

// compilePod joins what the API and the runtime know: the runtime knows addresses first and, after a sandbox was made anew, better.
func (c *controller) compilePod(name types.NamespacedName) {
	state := c.pods[name]
	if state == nil {
		return // the API's news are still on their way
	}
	pod := state.pod
	if s, ok := c.sandboxes[state.uid]; ok && len(s.ips) > 0 && !pod.Finished {
		pod.IPs = s.ips
	}
	c.compiler.SetPod(pod)
}

func (c *controller) setNamespace(ns *corev1.Namespace) {
	c.compiler.SetNamespace(network.Namespace{Name: ns.Name, Labels: ns.Labels})
}

func (c *controller) deleteNamespace(ns *corev1.Namespace) { c.compiler.DeleteNamespace(ns.Name) }

// setNode takes over a node; heartbeats change nothing.
func (c *controller) setNode(n *corev1.Node) {
	node := convertNode(n)
	if old, ok := c.nodes[n.Name]; ok && maps.Equal(old.Labels, node.Labels) && slices.Equal(old.IPs, node.IPs) {
		return
	}
	c.nodes[n.Name] = node
	c.compiler.SetNode(node)
}

func (c *controller) deleteNode(n *corev1.Node) {
	delete(c.nodes, n.Name)
	c.compiler.DeleteNode(n.Name)
}

func (c *controller) setPolicy(np *networkingv1.NetworkPolicy) {
	c.status.setProblems(np.Namespace+"/"+np.Name, c.compiler.SetPolicy(np))
	c.status.policy(np.Namespace+"/"+np.Name, true)
}

func (c *controller) deletePolicy(np *networkingv1.NetworkPolicy) {
	c.compiler.DeletePolicy(np.Namespace, np.Name)
	c.status.setProblems(np.Namespace+"/"+np.Name, nil)
	c.status.policy(np.Namespace+"/"+np.Name, false)
}

// setSandbox takes over what the runtime says of a pod.
func (c *controller) setSandbox(s sandbox) {
	if s.ready {
		c.sandboxes[s.uid] = s
	} else if old, ok := c.sandboxes[s.uid]; ok && old.id == s.id {
		delete(c.sandboxes, s.uid)
	}
	c.compilePod(s.name)
}

// setSandboxes takes over the runtime's complete list.
func (c *controller) setSandboxes(list []sandbox) {
	touched := list
	for _, old := range c.sandboxes {
		touched = append(touched, old)
	}
	clear(c.sandboxes)
	for _, s := range list {
		c.sandboxes[s.uid] = s
	}
	for _, s := range touched {
		c.compilePod(s.name)
	}
}

func (c *controller) applied(took time.Duration, size int) {
	c.status.Applies++
	c.status.LastApplySeconds = took.Seconds()
	c.status.LastApplySize = size
	c.status.MaxApplySeconds = max(c.status.MaxApplySeconds, took.Seconds())
	c.status.Pods = len(c.pods)
	c.status.Synced = true
	c.status.Error = ""
	c.report()
}

func (c *controller) report() {
	if c.options.Report != nil {
		c.options.Report(c.status.copy())
	}
}

// String is the state in one line, for logs.
func (s Status) String() string {
	return fmt.Sprintf("%d policies on %d pods, %d writes (last %.1f ms), %d repairs", s.Policies, s.Pods, s.Applies, s.LastApplySeconds*1000, s.Repairs)
}
