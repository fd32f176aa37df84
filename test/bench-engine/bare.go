package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"
)

// plurals are the resources of the kinds that objects makes.
var plurals = map[string]string{"ConfigMap": "configmaps", "Secret": "secrets", "Service": "services", "Role": "roles", "Shelf": "shelves"}

// applyBare sends the requests of an apply and does nothing else: what the server takes for them is the bound of every program.
func (b *bench) applyBare(namespace string) error {
	cfg, err := clientcmd.BuildConfigFromFlags("", filepath.Join(b.state, "kubeconfig"))
	if err != nil {
		return err
	}
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	g, ctx := errgroup.WithContext(context.Background())
	g.SetLimit(24)
	for i, text := range spread(strings.Split(objects(namespace), "---\n")[1:], 24) {
		g.Go(func() error {
			if err := send(ctx, client, cfg.Host, namespace, text); err != nil {
				return fmt.Errorf("object %d: %w", i, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// spread deals a list out like the engine does to its workers, so that unlike objects are under way together.
func spread(list []string, hands int) []string {
	stretch := (len(list) + hands - 1) / hands
	dealt := make([]string, 0, len(list))
	for offset := range stretch {
		for i := offset; i < len(list); i += stretch {
			dealt = append(dealt, list[i])
		}
	}
	return dealt
}

func send(ctx context.Context, client *http.Client, host, namespace, text string) error {
	var object struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name string `json:"name"`
		} `json:"metadata"`
	}
	body, err := yaml.YAMLToJSON([]byte(text))
	if err == nil {
		err = yaml.Unmarshal(body, &object)
	}
	if err != nil {
		return err
	}
	root := "/apis/"
	if !strings.Contains(object.APIVersion, "/") {
		root = "/api/"
	}
	url := host + root + object.APIVersion + "/namespaces/" + namespace + "/" + plurals[object.Kind] + "/" + object.Metadata.Name + "?fieldManager=bare&fieldValidation=Ignore"
	request, err := http.NewRequestWithContext(ctx, http.MethodPatch, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/apply-patch+yaml")
	request.Header.Set("Accept", "application/json")
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusCreated {
		err = fmt.Errorf("%s: %s", answer.Status, said)
	}
	return err
}

// tick is the unit of /proc/PID/stat.
const tick = 10 * time.Millisecond

// serverTime is the processor time of the children of the supervisor so far.
func (b *bench) serverTime() time.Duration {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	var sum time.Duration
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it ended
		}
		_, rest, _ := strings.Cut(string(data), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 13 || fields[1] != strconv.Itoa(b.supervisor) {
			continue
		}
		for _, f := range fields[11:13] {
			n, err := strconv.ParseInt(f, 10, 64)
			if err == nil {
				sum += time.Duration(n) * tick
			}
		}
	}
	return sum
}
