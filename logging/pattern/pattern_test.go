package pattern

import "testing"

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern  string
		yes, not []string
	}{
		{"", []string{"", "a", "a.b"}, nil},
		{"**", []string{"", "a", "a.b"}, nil},
		{"a", []string{"a"}, []string{"ab", "a.b", "b.a", ""}},
		{"a.b", []string{"a.b"}, []string{"axb", "a", "a.b.c"}},
		{"a.*", []string{"a.b", "a."}, []string{"a", "a.b.c", "b.a.c"}},
		{"*", []string{"a", ""}, []string{"a.b"}},
		{"a.**", []string{"a", "a.b", "a.b.c", "a."}, []string{"ab", "b.a"}},
		{"**.c", []string{"c", "b.c", "a.b.c"}, []string{"ac", "c.d"}},
		{"a.**.c", []string{"a.c", "a.b.c", "a.b.d.c"}, []string{"ac", "a.bc", "a"}},
		{"a**", []string{"a", "ab", "a.b"}, []string{"b"}},
		{"a.**c", []string{"a.c", "a.bc", "a.b.c"}, []string{"ac", "a"}},
		{"a.{b,c}.*", []string{"a.b.x", "a.c.x"}, []string{"a.d.x", "a.b"}},
		{"{a,b.c}", []string{"a", "b.c"}, []string{"b", "a.c", "bxc"}},
		{"a.{b,{c,d}.**}", []string{"a.b", "a.c", "a.d.e.f"}, []string{"a.e"}},
		{"a b.*", []string{"a", "b.x"}, []string{"b", "c"}},
		{"/a.*[0-9]/", []string{"a1", "a.b.2"}, []string{"ba1", "a"}},
		{`a\*`, []string{"a*"}, []string{"ab"}},
		{"a+b", []string{"a+b"}, []string{"aab"}},
		{"a,b", []string{"a,b"}, []string{"a", "b"}},
		{"ä.*", []string{"ä.x"}, []string{"a.x"}},
	} {
		p, err := Parse(c.pattern)
		if err != nil {
			t.Errorf("%q: %v", c.pattern, err)
			continue
		}
		for _, tag := range c.yes {
			if !p.Match(tag) {
				t.Errorf("%q does not match %q", c.pattern, tag)
			}
		}
		for _, tag := range c.not {
			if p.Match(tag) {
				t.Errorf("%q matches %q", c.pattern, tag)
			}
		}
	}
	for _, bad := range []string{"/a", "/(/"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"a.{b,c}.**", "**.x a*", "/a.*/", `\`, "{{{,", "a.**.b", "}"} {
		f.Add(s, "a.b.c")
	}
	f.Fuzz(func(t *testing.T, text, tag string) {
		p, err := Parse(text)
		if err != nil {
			return
		}
		if got := p.Match(tag); p.All() && !got {
			t.Errorf("%q does not match %q", text, tag)
		}
	})
}
