package stdlib

import (
	"fmt"
	"strconv"

	"github.com/weft-dev/weft/kcl/value"
)

// option is option(key, type, required, default, help, file, line).
func option(c *value.Call) (value.Value, error) {
	a := read(c)
	key, named := a.optional(0, "key")
	typ, _ := a.optional(1, "type")
	help, _ := a.optional(4, "help")
	def := a.get(3, "default")
	required := a.truth(2, "required")
	if c.Host != nil && c.Host.OptionHelp != nil && named {
		shown := def
		if shown == nil {
			shown = value.Undefined
		}
		*c.Host.OptionHelp = append(*c.Host.OptionHelp, value.OptionHelp{
			Name: key, Type: typ, Help: help, Required: required, Default: shown,
		})
	}
	if named {
		if c.Host != nil {
			if v, ok := c.Host.Options[key]; ok {
				return cast(v, typ)
			}
		}
		if def != nil {
			return cast(def, typ)
		}
	}
	if required {
		if !named {
			key = "?"
		}
		if c.Host != nil && c.Host.OptionHelp != nil {
			return value.None, nil
		}
		return nil, fmt.Errorf("option('%s') must be initialized, try '-D %s=?' argument", key, key)
	}
	return value.None, nil
}

// cast converts the value of an option to its declared type.
func cast(v value.Value, typ string) (value.Value, error) {
	refuse := func() (value.Value, error) {
		return nil, fmt.Errorf("cannot use '%s' as type '%s'", value.Text(v), typ)
	}
	switch typ {
	case "":
		return v, nil
	case "bool":
		switch v := v.(type) {
		case value.Bool, value.Int, value.Float:
			return value.Bool(value.Truthy(v)), nil
		case value.Str:
			return value.Bool(v == "True" || v == "true"), nil
		}
		return value.Undefined, nil
	case "int":
		switch v := v.(type) {
		case value.Bool:
			if v {
				return value.Int(1), nil
			}
			return value.Int(0), nil
		case value.Int:
			return v, nil
		case value.Float:
			return value.Int(saturate(float64(v))), nil
		case value.Str:
			if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
				return value.Int(n), nil
			}
		}
		return refuse()
	case "float":
		switch v := v.(type) {
		case value.Bool, value.Int, value.Float:
			f, err := floatOf(nil, v)
			return value.Float(f), err
		case value.Str:
			f, _ := parseFloat(string(v))
			return value.Float(f), nil
		}
		return refuse()
	case "str":
		return castStr(v, refuse)
	case "list":
		if v.Kind() != value.ListKind {
			return refuse()
		}
		return v, nil
	case "dict":
		if v.Kind() != value.DictKind {
			return refuse()
		}
		return v, nil
	}
	return nil, fmt.Errorf("unknown type '%s'", typ)
}

func castStr(v value.Value, refuse func() (value.Value, error)) (value.Value, error) {
	switch v := v.(type) {
	case value.Bool:
		return value.Str(strconv.FormatBool(bool(v))), nil
	case value.Int:
		return value.Str(value.Text(v)), nil
	case value.Float:
		return value.Str(strconv.FormatFloat(float64(v), 'f', -1, 64)), nil
	case value.Str:
		return v, nil
	}
	return refuse()
}
