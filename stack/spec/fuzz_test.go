package spec

import "testing"

func FuzzParseSpec(f *testing.F) {
	f.Add([]byte("resources: [{id: a, type: Kubernetes, attributes: {apiVersion: v1, kind: Secret, metadata: {name: n}}, dependsOn: [b], extensions: {x: y}}]\nsecretStore: {provider: {fake: {data: [{key: k, valuemap: {a: b}}]}}}\ncontext: {}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseSpec("s", text)
		if err != nil {
			return
		}
		Order(s.Resources)
		again, err := s.YAML()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseSpec("s", again); err != nil {
			t.Fatalf("%q is read and not what is written of it, %q: %v", text, again, err)
		}
	})
}

func FuzzParseRelease(f *testing.F) {
	f.Add([]byte("project: p\nworkspace: w\nrevision: 1\nstack: s\nstate: {resources: []}\nphase: succeeded\ncreateTime: 2024-05-10T16:48:00+08:00\nmodifiedTime: 2024-05-10T16:48:00.5Z\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseRelease("r", text)
		if err != nil {
			return
		}
		again, err := r.YAML()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseRelease("r", again); err != nil {
			t.Fatalf("%q is read and not what is written of it, %q: %v", text, again, err)
		}
	})
}

func FuzzReferences(f *testing.F) {
	for _, seed := range []string{"ref://a/b?version=1", "ref://a", "ref://a/b/c", "ref:///x", "$kusion_path.a.b.c", "$kusion_path.", "ref://%zz"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, _, _, _ = ImplicitRef(text, func(id string) bool { return id == "a" || id == "a.b" })
		ref, err := ParseSecretRef(text)
		if err != nil {
			return
		}
		again, err := ParseSecretRef(ref.String())
		if err == nil && again != ref {
			t.Fatalf("%q is %v, and %q is %v", text, ref, ref.String(), again)
		}
	})
}
