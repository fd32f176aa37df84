package seal

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"
)

func identity(t *testing.T) *age.X25519Identity {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func keys(t *testing.T, recipients, identities []string) *Keys {
	t.Helper()
	k, err := New(recipients, identities)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestTeam(t *testing.T) {
	a, b, c := identity(t), identity(t), identity(t)
	both := []string{a.Recipient().String(), b.Recipient().String()}
	sealed, err := keys(t, both, nil).Seal([]byte("hunter2"))
	if err != nil || strings.Contains(sealed, "hunter2") {
		t.Fatal(sealed, err)
	}
	for _, id := range []*age.X25519Identity{a, b} {
		if plain, err := keys(t, both, []string{id.String()}).Open(sealed); err != nil || string(plain) != "hunter2" {
			t.Error(string(plain), err)
		}
	}
	if _, err := keys(t, nil, []string{c.String()}).Open(sealed); err == nil || !strings.Contains(err.Error(), c.Recipient().String()) {
		t.Errorf("a missing key is not named: %v", err)
	}
	if _, err := keys(t, both, nil).Open(sealed); err == nil || !strings.Contains(err.Error(), "only recipients") {
		t.Error(err)
	}
	for _, bad := range []string{"", "!", "2.", "2.aGVsbG8=", "2.aGVsbG8=.aGVsbG8=", sealed[:len(sealed)-8], sealed[:len(sealed)/2], strings.TrimPrefix(sealed, "2."), "aGVsbG8="} {
		if _, err := keys(t, nil, []string{a.String()}).Open(bad); err == nil {
			t.Errorf("%q was opened", bad)
		}
	}
}

// TestFirstForm opens a value as it was written before there were data keys.
func TestFirstForm(t *testing.T) {
	a := identity(t)
	k := keys(t, nil, []string{a.String()})
	old, err := k.encrypt([]byte("hunter2"))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := k.Open(old); err != nil || string(plain) != "hunter2" {
		t.Error(string(plain), err)
	}
}

// TestDataKeys has one data key for all values of a process, another one in the next, and no text twice.
func TestDataKeys(t *testing.T) {
	a := identity(t)
	first, second := keys(t, nil, []string{a.String()}), keys(t, nil, []string{a.String()})
	seen := map[string]bool{}
	var sealed []string
	for _, k := range []*Keys{first, first, second} {
		s, err := k.Seal([]byte("hunter2"))
		if err != nil || seen[s] {
			t.Fatal("twice the same text", err)
		}
		seen[s], sealed = true, append(sealed, s)
	}
	wrapped := func(s string) string { return strings.Split(s, ".")[1] }
	if wrapped(sealed[0]) != wrapped(sealed[1]) || wrapped(sealed[0]) == wrapped(sealed[2]) {
		t.Error("a process has to have one data key of its own")
	}
	for i := range sealed[0] { // every byte counts
		damaged := sealed[0][:i] + string(sealed[0][i]^1) + sealed[0][i+1:]
		if plain, err := first.Open(damaged); err == nil {
			t.Fatalf("byte %d changed, and %q was read", i, plain)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		b.Fatal(err)
	}
	k, err := New(nil, []string{id.String()})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err = k.Seal([]byte("hunter2")); err != nil {
			b.Fatal(err)
		}
	}
}

func TestBadKeysAreNotShown(t *testing.T) {
	if _, err := New(nil, []string{"AGE-SECRET-KEY-1SECRET"}); err == nil || strings.Contains(err.Error(), "1SECRET") {
		t.Error(err)
	}
	if _, err := New([]string{"age1nonsense"}, nil); err == nil || !strings.Contains(err.Error(), "age1nonsense") {
		t.Error(err)
	}
	if _, err := New(nil, nil); err == nil {
		t.Error("no keys at all were taken")
	}
}

func TestUserIdentity(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weft", "identity")
	got := make([]string, 8)
	var all sync.WaitGroup
	for i := range got {
		all.Go(func() {
			var err error
			if got[i], err = UserIdentity(path); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, id := range got {
		if id != got[0] || !strings.HasPrefix(id, "AGE-SECRET-KEY-1") {
			t.Errorf("two first uses made two keys")
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := UserIdentity(path); err == nil || !strings.Contains(err.Error(), "can be read by others") {
		t.Error(err)
	}
}
