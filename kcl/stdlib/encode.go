package stdlib

import (
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/weft-dev/weft/kcl/plan"
	"github.com/weft-dev/weft/kcl/value"
)

var base32Functions = map[string]function{
	"encode": func(c *value.Call) (value.Value, error) {
		a := read(c)
		s := a.str(0, "value", missing("encode", "value"))
		return value.Str(base32.StdEncoding.EncodeToString([]byte(s))), a.err
	},
	"decode": func(c *value.Call) (value.Value, error) {
		a := read(c)
		s := strings.ToUpper(a.str(0, "value", missing("decode", "value")))
		if a.err != nil {
			return nil, a.err
		}
		data, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.TrimRight(s, "="))
		if err != nil {
			return nil, fmt.Errorf("decode(): the value is no base32: %w", err)
		}
		if !utf8.Valid(data) {
			return value.None, nil
		}
		return value.Str(data), nil
	},
}

var base64Functions = map[string]function{
	"encode": func(c *value.Call) (value.Value, error) {
		a := read(c)
		s := a.str(0, "value", missing("encode", "value"))
		return value.Str(base64.StdEncoding.EncodeToString([]byte(s))), a.err
	},
	"decode": func(c *value.Call) (value.Value, error) {
		a := read(c)
		s := a.str(0, "value", missing("decode", "value"))
		if a.err != nil {
			return nil, a.err
		}
		encoding := base64.StdEncoding
		if len(s)%4 != 0 {
			encoding = base64.RawStdEncoding
		}
		data, err := encoding.DecodeString(s)
		if err != nil {
			return nil, fmt.Errorf("decode(): the value is no base64: %w", err)
		}
		if !utf8.Valid(data) {
			return nil, errors.New("decode(): the decoded value is no UTF-8 text")
		}
		return value.Str(data), nil
	},
}

var jsonFunctions = map[string]function{
	"encode": written(func(c *value.Call) (value.Value, error) {
		a := read(c)
		v := a.need(0, "data", missing("encode", "value"))
		text := encodeJSON(a, v, 1)
		return value.Str(text), a.err
	}),
	"decode": func(c *value.Call) (value.Value, error) {
		a := read(c)
		s := a.str(0, "value", missing("decode", "value"))
		if a.err != nil {
			return nil, a.err
		}
		return plan.ReadJSON(s)
	},
	"validate": func(c *value.Call) (value.Value, error) {
		a := read(c)
		_, err := plan.ReadJSON(a.str(0, "value", missing("validate", "value")))
		return value.Bool(err == nil), a.err
	},
	"dump_to_file": written(func(c *value.Call) (value.Value, error) {
		return dump(c, "dump_to_file", func(a *args, v value.Value) (string, error) { return encodeJSON(a, v, 2), a.err })
	}),
	"merge": func(c *value.Call) (value.Value, error) {
		a := read(c)
		src, patch := a.get(0, "src"), a.get(1, "patch")
		if src == nil || patch == nil {
			return nil, errors.New("merge() missing required positional arguments: 'src' and 'patch'")
		}
		return mergePatch(src, patch), nil
	},
}

// encodeJSON reads sort_keys, indent, ignore_private and ignore_none from
// argument i on.
func encodeJSON(a *args, v value.Value, i int) string {
	o := plan.Options{SortKeys: a.truth(i, "sort_keys"), HidePrivate: a.truth(i+2, "ignore_private"), DropNone: a.truth(i+3, "ignore_none")}
	indent := 0
	if a.set(i+1, "indent") != nil {
		indent = int(min(max(a.integer(i+1, "indent", 0), 0), 64))
	}
	return plan.JSON(v, o, indent)
}

// mergePatch is JSON merge patch (RFC 7386).
func mergePatch(src, patch value.Value) value.Value {
	p := value.ConfigOf(patch)
	if p == nil {
		return patch
	}
	result := value.NewDict(p.Len())
	if s := value.ConfigOf(src); s != nil {
		result = s.Clone()
	}
	for _, e := range p.Entries() {
		if value.IsNull(e.Value) {
			result.Delete(e.Key)
			continue
		}
		old, ok := result.Get(e.Key)
		if !ok {
			old = value.Undefined
		}
		result.Set(e.Key, mergePatch(old, e.Value))
	}
	if s, ok := src.(*value.Schema); ok {
		merged := *s
		merged.Config = result
		return &merged
	}
	return result
}

var yamlFunctions = map[string]function{
	"encode": written(func(c *value.Call) (value.Value, error) {
		a := read(c)
		v := a.need(0, "data", missing("encode", "data"))
		return value.Str(plan.YAML(v, yamlOptions(a, 1))), a.err
	}),
	"encode_all": written(func(c *value.Call) (value.Value, error) {
		a := read(c)
		s, err := encodeAll(a, a.need(0, "data", missing("encode_all", "data")), 1)
		return value.Str(s), err
	}),
	"decode": func(c *value.Call) (value.Value, error) {
		a := read(c)
		s := a.str(0, "value", missing("decode", "value"))
		if a.err != nil {
			return nil, a.err
		}
		return plan.ReadYAML(s)
	},
	"decode_all": func(c *value.Call) (value.Value, error) {
		a := read(c)
		s := a.str(0, "value", missing("decode_all", "value"))
		if a.err != nil {
			return nil, a.err
		}
		docs, err := plan.ReadYAMLStream(s)
		return value.NewList(docs...), err
	},
	"validate": func(c *value.Call) (value.Value, error) {
		a := read(c)
		_, err := plan.ReadYAMLStream(a.str(0, "value", missing("validate", "value")))
		return value.Bool(err == nil), a.err
	},
	"dump_to_file": written(func(c *value.Call) (value.Value, error) {
		return dump(c, "dump_to_file", func(a *args, v value.Value) (string, error) { return plan.YAML(v, yamlOptions(a, 2)), a.err })
	}),
	"dump_all_to_file": written(func(c *value.Call) (value.Value, error) {
		return dump(c, "dump_all_to_file", func(a *args, v value.Value) (string, error) { return encodeAll(a, v, 2) })
	}),
}

// yamlOptions reads sort_keys, ignore_private and ignore_none from argument i on.
func yamlOptions(a *args, i int) plan.Options {
	return plan.Options{SortKeys: a.truth(i, "sort_keys"), HidePrivate: a.truth(i+1, "ignore_private"), DropNone: a.truth(i+2, "ignore_none")}
}

func encodeAll(a *args, v value.Value, i int) (string, error) {
	if a.err != nil {
		return "", a.err
	}
	l, ok := v.(*value.List)
	if !ok {
		return "", fmt.Errorf("invalid list value: expected a list of documents, got %s", value.TypeName(v))
	}
	docs := make([]string, len(l.Items))
	for k, doc := range l.Items {
		docs[k] = plan.YAML(doc, yamlOptions(a, i))
	}
	return strings.Join(docs, "\n---\n"), a.err
}

// dump writes the text of data to filename.
func dump(c *value.Call, fn string, text func(*args, value.Value) (string, error)) (value.Value, error) {
	a := read(c)
	data, name := a.get(0, "data"), a.get(1, "filename")
	if data == nil || name == nil {
		return nil, errors.New(missing(fn, "data", "filename"))
	}
	s, err := text(a, data)
	if err != nil {
		return nil, err
	}
	files, err := writable(c, fn)
	if err != nil {
		return nil, err
	}
	path := value.Text(name)
	if err := files.WriteFile(path, []byte(s), false); err != nil {
		return nil, fmt.Errorf("Unable to write file '%s': %s", path, osError(err))
	}
	return value.Undefined, nil
}

var manifestsFunctions = map[string]function{
	"yaml_stream": func(c *value.Call) (value.Value, error) {
		a := read(c)
		o, sep := plan.Options{}, plan.Separator
		if v := a.get(1, "opts"); v != nil {
			opts := value.ConfigOf(v)
			if opts == nil {
				return nil, fmt.Errorf("Invalid options arguments in yaml_stream(): expect config, got %s", value.TypeName(v))
			}
			o.SortKeys = flag(opts, "sort_keys", false)
			o.HidePrivate = flag(opts, "ignore_private", true)
			o.DropNone = flag(opts, "ignore_none", false)
			if s, ok := opts.Get("sep"); ok {
				sep = value.Text(s)
			}
		}
		v := a.need(0, "values", missing("yaml_stream", "values"))
		if a.err != nil {
			return nil, a.err
		}
		l, ok := v.(*value.List)
		if !ok {
			return nil, fmt.Errorf("invalid list value: yaml_stream() expects a list of documents, got %s", value.TypeName(v))
		}
		if c.Host == nil || c.Host.Manifests == nil {
			return nil, errors.New("yaml_stream() has no output to write to here")
		}
		*c.Host.Manifests = plan.YAMLStream(l.Items, o, sep)
		return value.Undefined, nil
	},
}

func flag(d *value.Dict, key string, def bool) bool {
	if v, ok := d.Get(key); ok {
		return value.Truthy(v)
	}
	return def
}

var collectionFunctions = map[string]function{
	"union_all": func(c *value.Call) (value.Value, error) {
		if len(c.Args) == 0 {
			return nil, errors.New("union_all() takes at least 1 argument (0 given)")
		}
		l, ok := c.Args[0].(*value.List)
		if !ok || len(l.Items) == 0 {
			return value.NewDict(0), nil
		}
		result := l.Items[0]
		for _, v := range l.Items[1:] {
			merged, err := c.Host.Merge(result, v)
			if err != nil {
				return nil, err
			}
			result = merged
		}
		return result, nil
	},
}

var runtimeFunctions = map[string]function{
	"catch": func(c *value.Call) (value.Value, error) {
		a := read(c)
		fn := a.need(0, "func", "catch() takes exactly one argument (0 given)")
		if a.err != nil {
			return nil, a.err
		}
		if _, ok := fn.(*value.Func); !ok {
			return value.Undefined, nil
		}
		if _, err := c.Host.Invoke(fn, nil, nil); err != nil {
			if c.Host.Context != nil && c.Host.Context.Err() != nil {
				return nil, err // cancellation is not the program's to catch
			}
			return value.Str(err.Error()), nil
		}
		return value.Undefined, nil
	},
}
