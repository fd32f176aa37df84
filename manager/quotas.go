package manager

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/weft-dev/weft/logging"
	"github.com/weft-dev/weft/logging/resource"
	"github.com/weft-dev/weft/logging/usage"
)

// quotas follows whether namespaces keep their quotas: it asks the agents that keep them for their metrics. That needs no right but to list pods: agents
// serve metrics to who reaches them, and none of them may write a status.
type quotas struct {
	every  time.Duration
	client *http.Client
	wake   chan struct{}

	mu     sync.Mutex
	agents []agentSet
	known  map[string]usage.Namespace
	before map[string]map[string]usage.Counters // what each pod said last; only Poll uses it
}

// agentSet is the agents of one FluentBit that keep quotas.
type agentSet struct {
	namespace, name, selector string
	port                      int64  // of the metrics
	silent                    string // why they serve none
	inputs                    map[string]string
	quotas                    map[string]usage.Namespace // without nodes
}

func newQuotas() *quotas {
	return &quotas{
		every: 30 * time.Second, wake: make(chan struct{}, 1), known: map[string]usage.Namespace{}, before: map[string]map[string]usage.Counters{},
		client: &http.Client{
			Timeout: 5 * time.Second, Transport: &http.Transport{Proxy: nil, MaxIdleConnsPerHost: 1, IdleConnTimeout: 90 * time.Second},
			CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("the agent leads elsewhere") },
		},
	}
}

// want notes who keeps quotas according to a plan, and gives what is known of the namespaces.
func (q *quotas) want(result *logging.Result) map[string]usage.Namespace {
	var sets []agentSet
	for _, c := range result.Configurations {
		if c.Pipeline == nil || c.Owner == nil || c.Owner.Kind != "FluentBit" || len(c.Pipeline.Quotas) == 0 {
			continue
		}
		set := agentSet{namespace: c.Owner.Namespace, name: c.Owner.Name, inputs: c.Pipeline.QuotaInputs(), quotas: map[string]usage.Namespace{}}
		for namespace, quota := range c.Pipeline.Quotas {
			set.quotas[namespace] = usage.Namespace{Quota: quota}
		}
		if set.port = metricsPort(c.Config); set.port == 0 {
			set.silent = fmt.Sprintf("spec.service.httpServer of the ClusterFluentBitConfig %s is not true", c.Config.Name)
		}
		set.selector = selectorOf(result, c.Owner)
		sets = append(sets, set)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if !reflect.DeepEqual(sets, q.agents) {
		q.agents = sets
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	return maps.Clone(q.known)
}

// metricsPort is where agents with this configuration serve metrics, 0 if they do not.
func metricsPort(config *resource.Document) int64 {
	service, _ := config.Spec()["service"].(map[string]any)
	if on, _ := service["httpServer"].(bool); !on {
		return 0
	}
	switch n := service["httpPort"].(type) {
	case int64:
		return n
	case float64:
		return int64(n)
	}
	return 2020
}

// selectorOf is by which labels the pods of agents are found.
func selectorOf(result *logging.Result, owner *resource.Document) string {
	for _, o := range result.Objects {
		if o.Owner == owner && o.Object["kind"] == "DaemonSet" {
			selected, _, _ := unstructured.NestedStringMap(o.Object, "spec", "selector", "matchLabels")
			return labels.SelectorFromSet(selected).String()
		}
	}
	return ""
}

// poll asks until the context ends, and calls changed when something else is known than before.
func (q *quotas) poll(ctx context.Context, read Reader, changed func()) {
	timer := time.NewTimer(q.every)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-q.wake:
		}
		q.mu.Lock()
		sets := q.agents
		q.mu.Unlock()
		known := q.ask(ctx, sets, read)
		if ctx.Err() != nil {
			return
		}
		q.mu.Lock()
		differs := !reflect.DeepEqual(known, q.known)
		q.known = known
		q.mu.Unlock()
		if differs {
			changed()
		}
		next := q.every
		for _, n := range known {
			if len(n.Nodes) == 0 { // agents that start are asked soon
				next = q.every / 10
			}
		}
		timer.Reset(next)
	}
}

// ask asks all agents once.
func (q *quotas) ask(ctx context.Context, sets []agentSet, read Reader) map[string]usage.Namespace {
	known := map[string]usage.Namespace{}
	before := map[string]map[string]usage.Counters{}
	var mu sync.Mutex
	note := func(namespace, node string, excess usage.Excess, silent string) {
		n := known[namespace]
		if silent != "" {
			n.Silent[node] = silent
		} else {
			n.Nodes[node] = n.Nodes[node].Or(excess)
		}
	}
	var group errgroup.Group
	group.SetLimit(8)
	for _, set := range sets {
		for namespace, n := range set.quotas {
			if _, there := known[namespace]; !there {
				known[namespace] = usage.Namespace{Quota: n.Quota, Nodes: map[string]usage.Excess{}, Silent: map[string]string{}}
			}
		}
	}
	for _, set := range sets {
		agents, err := q.pods(ctx, set, read)
		if err != nil {
			mu.Lock()
			for namespace := range set.quotas {
				note(namespace, "any", usage.Excess{}, err.Error())
			}
			mu.Unlock()
		}
		for _, pod := range agents {
			group.Go(func() error {
				now, err := q.fetch(ctx, pod.address)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					for namespace := range set.quotas {
						note(namespace, pod.node, usage.Excess{}, err.Error())
					}
					return nil
				}
				before[pod.id] = now
				for input, counters := range now {
					if namespace := set.inputs[input]; namespace != "" {
						last, asked := q.before[pod.id][input]
						if !asked { // what was counted before the first question is old
							last = counters
						}
						note(namespace, pod.node, usage.Between(last, counters), "")
					}
				}
				return nil
			})
		}
	}
	_ = group.Wait() // the functions give no errors
	q.before = before
	return known
}

// agentPod is one agent's pod.
type agentPod struct{ id, node, address string }

// pods are the running pods of a set that its DaemonSet controls, and no others that have the same labels.
func (q *quotas) pods(ctx context.Context, set agentSet, read Reader) ([]agentPod, error) {
	if set.silent != "" {
		return nil, errors.New(set.silent)
	}
	list, err := read.List(ctx, pods, set.namespace, set.selector)
	if err != nil {
		return nil, err
	}
	var all []agentPod
	for _, pod := range list {
		ip, _, _ := unstructured.NestedString(pod.Object, "status", "podIP")
		phase, _, _ := unstructured.NestedString(pod.Object, "status", "phase")
		made := slices.ContainsFunc(pod.GetOwnerReferences(), func(o metav1.OwnerReference) bool {
			return o.Controller != nil && *o.Controller && o.Kind == "DaemonSet" && o.Name == set.name
		})
		if !made || phase != "Running" || net.ParseIP(ip) == nil {
			continue
		}
		node, _, _ := unstructured.NestedString(pod.Object, "spec", "nodeName")
		if node == "" {
			node = pod.GetName()
		}
		all = append(all, agentPod{string(pod.GetUID()), node, net.JoinHostPort(ip, strconv.FormatInt(set.port, 10))})
	}
	return all, nil
}

func (q *quotas) fetch(ctx context.Context, address string) (map[string]usage.Counters, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/api/v2/metrics/prometheus", nil)
	if err != nil {
		return nil, err
	}
	response, err := q.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("http://%s/api/v2/metrics/prometheus answers %s", address, response.Status)
	}
	return usage.Read(response.Body)
}
