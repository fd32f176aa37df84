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
	for _, bad := range []string{"", "!", sealed[:len(sealed)-8], "aGVsbG8="} {
		if _, err := keys(t, nil, []string{a.String()}).Open(bad); err == nil {
			t.Errorf("%q was opened", bad)
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
