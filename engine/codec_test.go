package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the goldens")

// rot is a sealer for tests; what it seals can be told from the clear.
type rot struct{}

func (rot) Seal(p []byte) (string, error) { return "sealed:" + string(turn(p)), nil }
func (rot) Open(s string) ([]byte, error) {
	text, ok := strings.CutPrefix(s, "sealed:")
	if !ok {
		return nil, errors.New("not sealed")
	}
	return turn([]byte(text)), nil
}

func turn(p []byte) []byte {
	out := bytes.Clone(p)
	for i := range out {
		out[i] ^= 1
	}
	return out
}

func TestTreesSurviveWriting(t *testing.T) {
	trees := []any{nil, true, int64(5), int64(math.MaxInt64), 1.5, "x", []any{}, map[string]any{},
		Sensitive{"hunter2"}, Sensitive{map[string]any{"a": []any{int64(1), Sensitive{"b"}}}}, Unknown{}, Reference{"a", []string{"b", "c"}},
		map[string]any{"$sensitive": "mine"}, map[string]any{"$unknown": true}, map[string]any{"$literal": map[string]any{"$unknown": true}},
		map[string]any{"$reference": int64(1)}, map[string]any{"$sensitive": Sensitive{"x"}}, map[string]any{"a": map[string]any{"$unknown": false}, "b": Unknown{}}}
	for _, tree := range trees {
		encoded, err := encodeTree(tree, rot{})
		if err != nil {
			t.Errorf("%#v: %v", tree, err)
			continue
		}
		data, err := json.Marshal(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte("hunter2")) {
			t.Errorf("written in the clear: %s", data)
		}
		read, err := decodeJSON(data)
		if err == nil {
			read, err = decodeTree(read, rot{})
		}
		if err != nil || !reflect.DeepEqual(read, tree) {
			t.Errorf("%#v came back as %#v, %v", tree, read, err)
		}
	}
	if _, err := encodeTree(Sensitive{"x"}, nil); !errors.Is(err, ErrNoSealer) {
		t.Error(err)
	}
	if _, err := encodeTree(math.NaN(), nil); err == nil {
		t.Error("NaN was written")
	}
	if _, err := decodeTree(map[string]any{"$sensitive": "sealed:x"}, nil); err == nil {
		t.Error("read without a key")
	}
}

// TestStateFormat reads a snapshot and records as this version and the one before wrote them.
func TestStateFormat(t *testing.T) {
	if *update {
		writeStateGolden(t, "testdata/state-v3.jsonl")
	}
	for _, path := range []string{"testdata/state-v1.jsonl", "testdata/state-v2.jsonl", "testdata/state-v3.jsonl"} {
		t.Run(path, func(t *testing.T) { checkStateGolden(t, path) })
	}
	data, err := os.ReadFile("testdata/state-v3.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	s, err := Load(nil, lines[0], lines[1:], 9, rot{})
	if err != nil {
		t.Fatal(err)
	}
	set, err := s.Wanted(1)
	if err != nil || len(set) != 1 || !reflect.DeepEqual(set[0], Resource{ID: "a", Type: "thing", Inputs: map[string]any{"x": External{"ref://s/k", nil}}, Keep: true}) {
		t.Errorf("wanted %#v, %v", set, err)
	}
	if r := s.Revisions(); len(r) != 2 || r[0].Outcome != Failed || r[0].Error != "no" || r[1].Outcome != Interrupted || s.secret != "pepper" {
		t.Errorf("revisions %+v", r)
	}
}

// TestOlderStates has the first record that is written to a state of an older version say the new one, which older programs refuse.
func TestOlderStates(t *testing.T) {
	data, err := os.ReadFile("testdata/state-v2.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	old := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	l := &lines{}
	s, err := Load(l, old[0], old[1:], 9, rot{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Forget("a"), s.Forget("c")); err != nil {
		t.Fatal(err)
	}
	if len(l.all) != 3 || string(l.all[0]) != `{"op":"format","version":3}` {
		t.Fatalf("written: %s", bytes.Join(l.all, []byte("\n")))
	}
	if s, err = Load(nil, old[0], append(old[1:], l.all...), 12, rot{}); err != nil || s.Record("a") != nil || s.Record("c") != nil {
		t.Error(err)
	}
	newer := []byte(`{"op":"format","version":4}`)
	if _, err = Load(nil, old[0], append(old[1:], newer), 10, rot{}); err == nil || !strings.Contains(err.Error(), "has version 4") {
		t.Errorf("a newer format: %v", err)
	}
}

func checkStateGolden(t *testing.T, path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	s, err := Load(nil, lines[0], lines[1:], 9, rot{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Lineage() != "LINEAGE" || s.Serial() != 9 {
		t.Error(s.Lineage(), s.Serial())
	}
	a := s.Record("a")
	want := &Record{ID: "a", Type: "thing", DependsOn: []ID{"b"}, Identity: "1-2", Inputs: map[string]any{"n": int64(1), "password": Sensitive{"hunter2"}},
		Outputs: map[string]any{"url": "http://x"}, Fingerprint: "ff", Keep: true, Timeout: time.Minute}
	if !reflect.DeepEqual(a, want) {
		t.Errorf("got %#v", a)
	}
	if s.Record("gone") != nil || s.Record("old") == nil {
		t.Error("an end record was not taken in")
	}
	if p := s.Pending()["b"]; p == nil || p.Action != Update || p.Record.Type != "thing" {
		t.Errorf("pending %#v", p)
	}
	if d := s.deposedRecords(); d["c"] == nil || d["c"].Identity != "old" || s.Record("c").Identity != "new" {
		t.Errorf("deposed %#v", d)
	}
}

type lines struct{ all [][]byte }

func (l *lines) Append(b []byte) (uint64, error) {
	l.all = append(l.all, bytes.Clone(b))
	return uint64(len(l.all)), nil
}
func (l *lines) Post(b []byte) (uint64, error) { return l.Append(b) }
func (l *lines) Compact(b []byte) error        { l.all = [][]byte{bytes.Clone(b)}; return nil }

func writeStateGolden(t *testing.T, path string) {
	l := &lines{}
	s, err := Load(l, nil, nil, 0, rot{})
	if err != nil {
		t.Fatal(err)
	}
	s.lineage, s.salt = "LINEAGE", "SALT"
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	write := func(entries ...*entry) {
		for _, e := range entries {
			if err := s.append(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(&entry{Op: "end", ID: "gone", Action: Create, Record: &Record{ID: "gone", Type: "thing"}},
		&entry{Op: "end", ID: "old", Action: Create, Record: &Record{ID: "old", Type: "thing"}},
		&entry{Op: "end", ID: "c", Action: Create, Record: &Record{ID: "c", Type: "thing", Identity: "old"}})
	blob, err := encodeResource(Resource{ID: "a", Type: "thing", Inputs: map[string]any{"x": External{"ref://s/k", nil}}, Keep: true}, rot{})
	if err != nil {
		t.Fatal(err)
	}
	write(&entry{Op: "salt", SecretSalt: "pepper"}, &entry{Op: "run", Run: &Revision{Number: 1, Operation: "apply", By: "me", Begun: at, Outcome: Running, Delta: map[ID]string{"a": "f1"}}, Blobs: map[string]json.RawMessage{"f1": blob}})
	if err := s.Compact(true); err != nil {
		t.Fatal(err)
	}
	write(&entry{Op: "ran", Run: &Revision{Number: 1, Operation: "apply", Begun: at, Ended: at, Outcome: Failed, Error: "no", Counts: map[Action]int{Create: 1}}},
		&entry{Op: "run", Run: &Revision{Number: 2, Operation: "destroy", Begun: at, Outcome: Running, Delta: map[ID]string{"a": ""}}},
		&entry{Op: "begin", Begin: &Operation{ID: "b", Action: Update, Record: &Record{ID: "b", Type: "thing"}, Begun: at}},
		&entry{Op: "end", ID: "gone", Action: Delete},
		&entry{Op: "end", ID: "c", Action: CreateReplacement, Record: &Record{ID: "c", Type: "thing", Identity: "new"}},
		&entry{Op: "end", ID: "a", Action: Create, Record: &Record{ID: "a", Type: "thing", DependsOn: []ID{"b"}, Identity: "1-2",
			Inputs:  map[string]any{"n": int64(1), "password": Sensitive{"hunter2"}},
			Outputs: map[string]any{"url": "http://x"}, Fingerprint: "ff", Keep: true, Timeout: time.Minute}})
	if err := os.WriteFile(path, append(bytes.Join(l.all, []byte("\n")), '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestOutputsThatGiveSecretsAway(t *testing.T) {
	r := &Record{}
	(&State{}).learn(r, &Object{Outputs: map[string]any{"url": "db://u:hunter2@h", "x": "x", "list": []any{"hunter2", int64(1)}}},
		map[string]any{"password": Sensitive{"hunter2"}, "short": Sensitive{"x"}})
	want := map[string]any{"url": Sensitive{"db://u:hunter2@h"}, "x": "x", "list": []any{Sensitive{"hunter2"}, int64(1)}}
	if !reflect.DeepEqual(r.Outputs, want) {
		t.Errorf("got %#v", r.Outputs)
	}
}

func TestFingerprint(t *testing.T) {
	in := map[string]any{"a": int64(1)}
	s := &State{salt: "salt"}
	base := s.fingerprint("1", in)
	for _, other := range []string{(&State{salt: "tlas"}).fingerprint("1", in), s.fingerprint("2", in), s.fingerprint("1", map[string]any{"a": int64(2)})} {
		if other == base || other == "" {
			t.Error("two inputs have one fingerprint")
		}
	}
	secret := map[string]any{"a": Sensitive{"x"}}
	if s.fingerprint("1", secret) != "" || s.fingerprint("1", map[string]any{"a": Unknown{}}) != "" || s.mark(secret, "m") != "" {
		t.Error("a secret or an unknown value was fingerprinted with the salt that everybody can read")
	}
	s.secret = "pepper"
	if a, b := s.fingerprint("1", secret), s.fingerprint("1", map[string]any{"a": Sensitive{"y"}}); a == "" || a == b {
		t.Errorf("secrets are not told apart: %q, %q", a, b)
	}
}

func FuzzLoad(f *testing.F) {
	if data, err := os.ReadFile("testdata/state-v1.jsonl"); err == nil {
		all := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
		for _, l := range all {
			f.Add(all[0], l)
		}
	}
	f.Fuzz(func(t *testing.T, snap, record []byte) {
		s, err := Load(&lines{}, snap, [][]byte{record}, 2, rot{})
		if err == nil && s.Lineage() == "" {
			t.Error("a state without a lineage was read")
		}
	})
}
