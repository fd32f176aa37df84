package stack

import "testing"

func FuzzParseWorkspace(f *testing.F) {
	f.Add([]byte("modules: {m: {path: p, version: 1.0, configs: {default: {x: 1}, one: {projectSelector: [q], y: [2]}}}}\nsecretStore: {provider: {vault: {server: s}}}\ncontext: {a: b}"))
	f.Add([]byte("modules: {m: {configs: {one: 1}}}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		w, err := ParseWorkspace("w", "w", text)
		if err != nil {
			return
		}
		again, err := w.YAML()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseWorkspace("w", "w", again); err != nil {
			t.Fatalf("%q is read and not what is written of it, %q: %v", text, again, err)
		}
		w.Config("m", "q")
	})
}

func FuzzParseProject(f *testing.F) {
	f.Add([]byte("name: a\nextensions: [{kind: kubernetesNamespace, kubernetesNamespace: {namespace: b}}]"))
	f.Fuzz(func(_ *testing.T, text []byte) {
		p, _, err := ParseProject("p", text)
		s, _, err2 := ParseStack("s", text)
		if err == nil && err2 == nil {
			Namespace(p, s)
		}
	})
}
