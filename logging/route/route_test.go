package route

import (
	"path"
	"regexp"
	"strings"
	"testing"
)

func TestPatterns(t *testing.T) {
	prefix := Prefix("team-a")
	for _, c := range []struct {
		expression, tag string
		want            bool
	}{
		{WithTenants("kube.*"), "kube.var.log", true}, {WithTenants("kube.*"), prefix + ".kube.var.log", true}, {WithTenants("kube.*"), "x.kube.var.log", false},
		{WithTenants("kube.*"), "kubeXvar", false}, {OnlyTenants("kube.*"), "kube.var", false}, {OnlyTenants("kube.*"), prefix + ".kube.var", true},
		{RegexWithTenants("^kube|^host"), "kube.a", true}, {RegexWithTenants("^kube"), prefix + ".kube.a", true}, {RegexWithTenants("kube"), prefix + ".kube.a", true},
		{RegexWithTenants("^kube"), "a.kube.a", false},
	} {
		if got := regexp.MustCompile(c.expression).MatchString(c.tag); got != c.want {
			t.Errorf("%s matches %s: %v", c.expression, c.tag, got)
		}
	}
}

// A file is read by exactly one input: that of its namespace if it has one, else the common one.
func TestEachFileIsReadOnce(t *testing.T) {
	tenants := []string{"a", "team-a", "a-b"}
	for _, pattern := range []string{"/var/log/containers/*.log", "/var/log/containers/*", "/var/log/containers/web-*.log"} {
		for _, name := range []string{"web-1_a_c-0123.log", "web-1_team-a_a-0123.log", "web-a_other_team-a-0123.log", "web-a_a-b_a-0123.log", "db-1_a_c-0.log"} {
			file := "/var/log/containers/" + name
			wanted, err := path.Match(pattern, file)
			if err != nil {
				t.Fatal(err)
			}
			readers, excluded := 0, false
			for _, tenant := range tenants {
				files, ok := Files(pattern, tenant)
				if !ok {
					t.Fatal(pattern)
				}
				own, err := path.Match(files, file)
				if err != nil {
					t.Fatal(err)
				}
				if own {
					readers++
					if strings.Split(name, "_")[1] != tenant {
						t.Errorf("%s is read for %s", name, tenant)
					}
				}
				out, _ := path.Match(Excluded(tenant), name)
				excluded = excluded || out
			}
			if wanted && !excluded {
				readers++
			}
			if want := map[bool]int{true: 1}[wanted]; readers != want {
				t.Errorf("%s: %s is read %d times", pattern, name, readers)
			}
		}
	}
	for _, pattern := range []string{"/var/log/containers/*_a_*.log", "/var/log/containers/a?.log", "/var/log/containers/one.log", "/var/log/*/x*.log"} {
		if files, ok := Files(pattern, "a"); ok {
			t.Errorf("%s became %s", pattern, files)
		}
	}
}

func TestQuota(t *testing.T) {
	var faults []string
	fail := func(field, message string) { faults = append(faults, field) }
	q := ParseQuota(map[string]any{"recordsPerSecond": 500.0, "bytesPerSecond": "1M", "bufferedBytes": 2048.0, "whenFull": "dropOldest"}, Quota{}, fail)
	if want := (Quota{500, 1 << 20, 2048, true}); q != want || len(faults) > 0 {
		t.Errorf("%+v %v", q, faults)
	}
	if got, want := q.String(), "500 records/s, 1M bytes/s, 2K bytes buffered, dropping the oldest"; got != want {
		t.Errorf("%q", got)
	}
	over := ParseQuota(map[string]any{"bufferedBytes": "64M", "whenFull": "pause"}, q, fail)
	if want := (Quota{500, 1 << 20, 64 << 20, false}); over != want {
		t.Errorf("%+v", over)
	}
	for _, object := range []map[string]any{{"recordsPerSecond": -1.0}, {"recordsPerSecond": 1.5}, {"recordsPerSecond": "5"}, {"bytesPerSecond": "many"}, {"bytesPerSecond": -5.0}, {"bufferedBytes": "9999999999999G"},
		{"bufferedBytes": true}, {"whenFull": "explode"}, {"bytes": 1.0}} {
		faults = nil
		if got := ParseQuota(object, q, fail); got != q || len(faults) != 1 {
			t.Errorf("%v: %+v %v", object, got, faults)
		}
	}
}

func TestOverlap(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"*", "kube.x", true}, {"kube.*", "kube.var.log", true}, {"kube.*", "service.*", false}, {"*.a", "b.*", true}, {"a*c", "ab*d", false},
		{"a*c", "*b", false}, {"", "", true}, {"", "*", true}, {"a", "", false}, {"*a*b*c*", "*c*b*a*", true},
	} {
		if got := Overlap(c.a, c.b); got != c.want {
			t.Errorf("%q and %q: %v", c.a, c.b, got)
		}
	}
}

func FuzzSize(f *testing.F) {
	f.Add("64M")
	f.Fuzz(func(t *testing.T, text string) {
		n, err := ParseSize(text)
		if err != nil {
			return
		}
		if back, err := ParseSize(Size(n)); err != nil || back != n || n < 0 {
			t.Errorf("%q is %d and then %d, %v", text, n, back, err)
		}
	})
}
