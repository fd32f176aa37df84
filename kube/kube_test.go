package kube

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weft-dev/weft/kube/manifest"
)

var update = flag.Bool("update", false, "write the goldens")

// TestDiff runs txtar cases of two files, before and after, against the changes as they are printed.
func TestDiff(t *testing.T) {
	cases, err := filepath.Glob("testdata/diff/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatal("no cases", err)
	}
	for _, path := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var objects [2]*unstructured.Unstructured
			for i := range 2 {
				parsed, err := manifest.Parse(ar.Files[i].Name, ar.Files[i].Data, manifest.Limits{})
				if err != nil {
					t.Fatal(err)
				}
				objects[i] = parsed[0].Unstructured
			}
			before, _ := json.Marshal(objects)
			var got strings.Builder
			changes := Diff(objects[0], objects[1])
			for _, c := range changes {
				got.WriteString(c.String() + "\n")
			}
			if after, _ := json.Marshal(objects); string(after) != string(before) {
				t.Error("comparing changed an object")
			}
			data, err := json.Marshal(changes)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(data)+got.String(), "hunter2") || strings.Contains(string(data), "aHVudGVy") {
				t.Errorf("a secret value is shown: %s", data)
			}
			golden(t, path, ar, got.String())
		})
	}
}

func golden(t *testing.T, path string, ar *txtar.Archive, got string) {
	t.Helper()
	want := -1
	for i, f := range ar.Files {
		if f.Name == "want" {
			want = i
		}
	}
	if *update {
		if want < 0 {
			ar.Files, want = append(ar.Files, txtar.File{Name: "want"}), len(ar.Files)
		}
		ar.Files[want].Data = []byte(got)
		if err := os.WriteFile(path, txtar.Format(ar), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want < 0 || got != string(ar.Files[want].Data) {
		t.Errorf("got\n%s\nwant\n%s", got, ar.Files[want].Data)
	}
}

// TestWaves looks that whatever needs another kind comes behind it.
func TestWaves(t *testing.T) {
	for _, pair := range [][2]string{
		{"Namespace", "ConfigMap"}, {"CustomResourceDefinition.apiextensions.k8s.io", "Widget.example.org"}, {"ServiceAccount", "Deployment.apps"},
		{"Role.rbac.authorization.k8s.io", "RoleBinding.rbac.authorization.k8s.io"}, {"RoleBinding.rbac.authorization.k8s.io", "Deployment.apps"},
		{"ConfigMap", "Deployment.apps"}, {"StorageClass.storage.k8s.io", "PersistentVolumeClaim"}, {"PersistentVolumeClaim", "StatefulSet.apps"},
		{"Service", "Deployment.apps"}, {"ResourceQuota", "Pod"}, {"PriorityClass.scheduling.k8s.io", "Job.batch"}, {"NetworkPolicy.networking.k8s.io", "Pod"},
		{"Deployment.apps", "HorizontalPodAutoscaler.autoscaling"}, {"Deployment.apps", "ValidatingWebhookConfiguration.admissionregistration.k8s.io"},
		{"Widget.example.org", "APIService.apiregistration.k8s.io"},
	} {
		if a, b := waveOf(schema.ParseGroupKind(pair[0])), waveOf(schema.ParseGroupKind(pair[1])); a >= b {
			t.Errorf("%s (wave %d) has to come before %s (wave %d)", pair[0], a, pair[1], b)
		}
	}
	if waveOf(schema.GroupKind{Group: "example.org", Kind: "Namespace"}) != waveRest {
		t.Error("somebody else's kind is taken for a built-in one")
	}
}

// TestInventoryFormat reads the inventory as version 1 wrote it.
func TestInventoryFormat(t *testing.T) {
	inv := &Inventory{Manager: "weft", Entries: []Entry{
		{Identity: manifest.Identity{Group: "apps", Kind: "Deployment", Namespace: "shop", Name: "web"}, UID: "1-2", Desired: "aa", Live: "bb"},
		{Identity: manifest.Identity{Kind: "ConfigMap", Namespace: "shop", Name: "announced"}},
	}}
	if *update {
		data, err := inv.encode()
		if err != nil {
			t.Fatal(err)
		}
		out, _ := json.MarshalIndent(data, "", " ")
		if err := os.WriteFile("testdata/inventory-v1.json", append(out, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	read := func(name string) map[string][]byte {
		t.Helper()
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var data map[string][]byte
		if err := json.Unmarshal(text, &data); err != nil {
			t.Fatal(err)
		}
		return data
	}
	got, err := decodeInventory(read("testdata/inventory-v1.json"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := inv.encode(); err != nil { // sorts
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, inv) {
		t.Errorf("got %+v, want %+v", got, inv)
	}
}

func TestInventoryThatCannotBeRead(t *testing.T) {
	newer := &Inventory{}
	data, err := newer.encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeInventory(map[string][]byte{"inventory": data["inventory"][:10]}); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("cut: %v", err)
	}
	if _, err := decodeInventory(nil); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("empty: %v", err)
	}
	if _, err := decodeInventory(map[string][]byte{"inventory": gzipped(t, `{"version":2}`)}); err == nil || !strings.Contains(err.Error(), "use a newer weft") {
		t.Errorf("newer: %v", err)
	}
	if _, err := decodeInventory(map[string][]byte{"inventory": gzipped(t, `{"version":0}`)}); err == nil {
		t.Error("version 0 was read")
	}
	endless := `{"version":1}` + strings.Repeat(" ", maxInventoryPlain)
	if _, err := decodeInventory(map[string][]byte{"inventory": gzipped(t, endless)}); err == nil || !strings.Contains(err.Error(), "unpacks to more than") {
		t.Errorf("endless: %v", err)
	}
	big := &Inventory{}
	for i := range 40_000 {
		big.Entries = append(big.Entries, Entry{Identity: manifest.Identity{Kind: "ConfigMap", Name: fmt.Sprint(i)}, UID: "x", Desired: fingerprint(i), Live: fingerprint(-i)})
	}
	if _, err := big.encode(); err == nil || !strings.Contains(err.Error(), "split the set") {
		t.Errorf("large: %v", err)
	}
}

func FuzzDecodeInventory(f *testing.F) {
	data, _ := (&Inventory{Entries: []Entry{{UID: "1"}}}).encode()
	f.Add(data["inventory"])
	f.Fuzz(func(t *testing.T, data []byte) {
		if inv, err := decodeInventory(map[string][]byte{"inventory": data}); err == nil && inv.Version != InventoryVersion {
			t.Errorf("version %d was read", inv.Version)
		}
	})
}

// TestOwnedFingerprint changes a live object in ways that are ours and theirs.
func TestOwnedFingerprint(t *testing.T) {
	const text = `{"apiVersion":"v1","kind":"X","metadata":{"name":"x","resourceVersion":"5","labels":{"a":"b","theirs":"1"},"finalizers":["one","two"],
 "managedFields":[
  {"manager":"weft","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{
   "f:metadata":{"f:labels":{"f:a":{}},"f:finalizers":{"v:\"one\"":{}}},
   "f:spec":{".":{},"f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:name":{}}},"f:list":{"i:0":{}}}}},
  {"manager":"other","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:labels":{"f:theirs":{}}}}}]},
 "spec":{"ports":[{"port":81,"protocol":"TCP","name":"b"},{"port":80,"protocol":"TCP","name":"a","nodePort":3}],"list":["x","y"],"default":1}}`
	print := func(replace ...string) string {
		u := &unstructured.Unstructured{}
		changed := strings.NewReplacer(replace...).Replace(text)
		if len(replace) > 0 && changed == text {
			t.Fatalf("%q changes nothing", replace)
		}
		if err := u.UnmarshalJSON([]byte(changed)); err != nil {
			t.Fatal(err)
		}
		f, err := ownedFingerprint(u, "weft")
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	same := print()
	for _, theirs := range [][]string{{`"theirs":"1"`, `"theirs":"2"`}, {`"nodePort":3`, `"nodePort":4`}, {`"default":1`, `"default":2`}, {`"two"`, `"three"`}, {`"name":"b"`, `"name":"c"`},
		{`["x","y"]`, `["x","z"]`}, {`"resourceVersion":"5"`, `"resourceVersion":"6"`}} {
		if print(theirs...) != same {
			t.Errorf("a foreign change %q looks like one of ours", theirs)
		}
	}
	for _, ours := range [][]string{{`"a":"b"`, `"a":"c"`}, {`"name":"a"`, `"name":"d"`}, {`"one",`, ``}, {`["x","y"]`, `["z","y"]`}, {`"port":80,"protocol":"TCP","name"`, `"port":82,"protocol":"TCP","name"`},
		{`"f:a":{}`, ``}, {`"manager":"weft"`, `"manager":"loom"`}} {
		if print(ours...) == same {
			t.Errorf("a change %q of ours is not seen", ours)
		}
	}
}

func TestTakenOverJoinsEntries(t *testing.T) {
	entry := func(manager string, op metav1.ManagedFieldsOperationType, fields string) metav1.ManagedFieldsEntry {
		return metav1.ManagedFieldsEntry{Manager: manager, Operation: op, APIVersion: "v1", FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields)}
	}
	apply, upd := metav1.ManagedFieldsOperationApply, metav1.ManagedFieldsOperationUpdate
	status := entry("kubectl", upd, `{"f:status":{}}`)
	status.Subresource = "status"
	got, changed, err := takenOver([]metav1.ManagedFieldsEntry{
		entry("kubectl-client-side-apply", upd, `{"f:data":{"f:a":{}}}`), entry("controller", upd, `{"f:data":{"f:b":{}}}`),
		entry("kubectl", apply, `{"f:data":{"f:c":{}}}`), status, entry("weft", apply, `{"f:data":{"f:d":{}}}`)}, "weft")
	if err != nil || !changed {
		t.Fatal(changed, err)
	}
	var names []string
	for _, e := range got {
		names = append(names, fmt.Sprintf("%s %s %s", e.Manager, e.Operation, e.FieldsV1.String()))
	}
	want := []string{`controller Update {"f:data":{"f:b":{}}}`, `kubectl Update {"f:status":{}}`, `weft Apply {"f:data":{"f:a":{},"f:c":{},"f:d":{}}}`}
	if !reflect.DeepEqual(names, want) {
		t.Errorf("got %q", names)
	}
	if _, changed, _ := takenOver(got, "weft"); changed {
		t.Error("a second take-over finds something again")
	}
}

func TestTransient(t *testing.T) {
	status := func(code int32, reason metav1.StatusReason, message string) error {
		return &apierrors.StatusError{ErrStatus: metav1.Status{Code: code, Reason: reason, Message: message}}
	}
	fieldConflict := &apierrors.StatusError{ErrStatus: metav1.Status{Code: 409, Reason: metav1.StatusReasonConflict,
		Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: metav1.CauseTypeFieldManagerConflict}}}}}
	for _, c := range []struct {
		err  error
		want bool
	}{
		{status(http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, ""), true},
		{status(503, metav1.StatusReasonServiceUnavailable, ""), true},
		{status(500, metav1.StatusReasonInternalError, "etcdserver: leader changed"), true},
		{status(409, metav1.StatusReasonConflict, "the object has been modified"), true},
		{status(500, "", "failed to create typed patch object (a/b; v1): .x: field not declared in schema"), false},
		{status(409, metav1.StatusReasonConflict, "Precondition failed: UID in precondition"), false},
		{status(404, metav1.StatusReasonNotFound, ""), false},
		{status(403, metav1.StatusReasonForbidden, ""), false},
		{fieldConflict, false},
		{errors.New("unknown"), false},
	} {
		if got := transient(c.err); got != c.want {
			t.Errorf("%v: %t", c.err, got)
		}
	}
}

func TestOwnerLabelFits(t *testing.T) {
	if got := (Owner{"shop", "web"}).Label(); got != "shop.web" {
		t.Error(got)
	}
	long := Owner{strings.Repeat("a", 63), strings.Repeat("b", 63)}.Label()
	if len(long) > 63 || long == (Owner{strings.Repeat("a", 63), strings.Repeat("c", 63)}).Label() {
		t.Errorf("%q", long)
	}
}

func TestLoopbackHasNoLimit(t *testing.T) {
	for host, want := range map[string]bool{"https://127.0.0.1:6443": true, "https://[::1]:6443": true, "localhost:8080": true, "https://10.0.0.1": false, "https://k8s.example.org:6443": false} {
		if got := isLoopback(host); got != want {
			t.Errorf("%s: %t", host, got)
		}
	}
}

func gzipped(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What the server says of fields that do not fit comes back with their places.
func TestServersTypeErrorsArePlaced(t *testing.T) {
	objects, err := manifest.Parse("app.yaml", []byte("apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  portz: []\n  ports: {a: b}\n"), manifest.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	refused := func(message string) error {
		return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonUnknown, Message: message}}
	}
	for message, want := range map[string][]string{
		"failed to create typed patch object (x/web; /v1, Kind=Service): .spec.portz: field not declared in schema": {"app.yaml:5:3: Service web: spec.portz: unknown field", "kubectl explain service.spec"},
		"failed to create typed patch object (x/web; /v1, Kind=Service): errors:\n  .spec.portz: field not declared in schema\n  .spec.ports: expected list, got &value.valueUnstructured{Value:map[string]interface {}{\"a\":\"b\"}}": {
			"app.yaml:5:3: ", "app.yaml:6:3: Service web: spec.ports: expected list, got map"},
	} {
		got := explain(objects[0], refused(message)).Error()
		for _, part := range want {
			if !strings.Contains(got, part) {
				t.Errorf("%s\ngives: %s\nwithout: %s", message, got, part)
			}
		}
	}
}
