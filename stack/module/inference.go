package module

import (
	"fmt"
	"strings"

	"github.com/weft-dev/weft/stack/config"
	"github.com/weft-dev/weft/stack/spec"
)

// model is what a language model is asked to be.
type model struct {
	name, framework, system, template string
	topK, predict, context            int64
	topP, temperature                 float64
}

// inference serves a language model behind a proxy whose address the application gets as INFERENCE_URL.
func inference(r *Request) (*Response, error) {
	if r.Dev == nil {
		return nil, nil
	}
	reader, dev, platform := r.nodes()
	m := model{topK: 40, topP: 0.9, temperature: 0.8, predict: 128, context: 2048}
	m.read(dev)
	m.read(platform)
	if m.name == "" {
		dev.Required("model").Text()
	}
	if !strings.EqualFold(m.framework, "ollama") {
		dev.Field("framework").Fail("must be Ollama, which is the only one that is made, got %q", m.framework)
	}
	if err := reader.Err(); err != nil {
		return nil, err
	}
	const server, proxy = "ollama", "proxy"
	resources := []spec.Resource{
		spec.Object(deployment(r.Namespace, server+"-infer-deployment", map[string]any{"accessory": server}, map[string]any{
			"containers": []any{map[string]any{
				"name": server + "-infer-container", "image": "ollama/ollama", "command": []any{"/bin/sh", "-c", m.script()}, "resources": map[string]any{},
				"ports":        []any{map[string]any{"name": server + "-port", "containerPort": int64(11434)}},
				"volumeMounts": []any{map[string]any{"name": server + "-infer-storage", "mountPath": "/root/.ollama"}},
			}},
			"volumes": []any{map[string]any{"name": server + "-infer-storage", "emptyDir": map[string]any{}}},
		})),
		inferenceService(r, server, 11434),
		spec.Object(deployment(r.Namespace, proxy+"-infer-deployment", map[string]any{"accessory": proxy}, map[string]any{
			"containers": []any{map[string]any{
				"name": proxy + "-infer-container", "image": "kangy126/proxy", "resources": map[string]any{},
				"ports": []any{map[string]any{"name": proxy + "-port", "containerPort": int64(5000)}},
				"env":   []any{map[string]any{"name": "MODEL", "value": m.name}, map[string]any{"name": "FRAMEWORK_URL", "value": server + "-infer-service"}},
			}},
		})),
		inferenceService(r, proxy, 5000),
	}
	return &Response{Resources: at(dev.Place(), resources...), Patcher: &Patcher{Environments: []map[string]any{
		{"name": "INFERENCE_URL", "value": proxy + "-infer-service"},
	}}}, nil
}

func (m *model) read(n config.Node) {
	text := func(to *string, name string) {
		if v := n.Field(name); v.Is() {
			*to = v.Text()
		}
	}
	whole := func(to *int64, name string, least int64) {
		if v := n.Field(name); v.Is() {
			*to = v.IntIn(least, 1<<31-1)
		}
	}
	number := func(to *float64, name string, most float64) {
		if v := n.Field(name); v.Is() {
			if *to = v.Float(); *to <= 0 || *to > most {
				v.Fail("must be greater than 0 and at most %g, got %g", most, *to)
			}
		}
	}
	text(&m.name, "model")
	text(&m.framework, "framework")
	text(&m.system, "system")
	text(&m.template, "template")
	whole(&m.topK, "top_k", 1)
	whole(&m.predict, "num_predict", -2)
	whole(&m.context, "num_ctx", 1)
	number(&m.topP, "top_p", 1)
	number(&m.temperature, "temperature", 1e9)
}

// script writes the model's file, starts the server and makes the model.
func (m *model) script() string {
	var file strings.Builder
	fmt.Fprintf(&file, "FROM %s\n", m.name)
	if m.system != "" {
		fmt.Fprintf(&file, "SYSTEM \"\"\"%s\"\"\"\n", m.system)
	}
	if m.template != "" {
		fmt.Fprintf(&file, "TEMPLATE \"\"\"%s\"\"\"\n", m.template)
	}
	fmt.Fprintf(&file, "PARAMETER top_k %d\nPARAMETER top_p %f\nPARAMETER temperature %f\n", m.topK, m.topP, m.temperature)
	fmt.Fprintf(&file, "PARAMETER num_predict %d\nPARAMETER num_ctx %d\n", m.predict, m.context)
	return strings.Join([]string{
		"echo '" + strings.ReplaceAll(file.String(), "'", `'\''`) + "' > Modelfile", "ollama serve & OLLAMA_SERVE_PID=$!", "sleep 5",
		"ollama create " + m.name + " -f Modelfile", "wait $OLLAMA_SERVE_PID",
	}, " && ")
}

func inferenceService(r *Request, name string, port int64) spec.Resource {
	labels := map[string]any{"accessory": name}
	return spec.Object(clusterService(r.Namespace, name+"-infer-service", labels, map[string]any{
		"type": "ClusterIP", "selector": labels, "ports": []any{map[string]any{"port": int64(80), "targetPort": port}},
	}))
}
