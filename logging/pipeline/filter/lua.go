package filter

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
	lua "github.com/yuin/gopher-lua"
)

// luaScript gives each record to a function of a Lua script (5.1): code, time and record come back; code -1 drops it, 0 leaves it, 1 changes both, 2
// changes the record only.
type luaScript struct {
	host      Host
	call      string
	ints      []string
	arrays    []string
	protected bool
	null      bool
	timeTable bool

	mu    sync.Mutex
	state *lua.LState
	flb   *lua.LTable // flb_null stands for nil in records
	array *lua.LTable // the metatable of arrays that came from records: they stay arrays when they are empty
}

// scriptTime bounds one call: a script that does not end must not stop the pipeline.
const scriptTime = 5 * time.Second

func newLua(o *options.Set, h Host) Filter {
	l := &luaScript{host: h, call: o.String("call"), ints: o.Words("type_int_key"), arrays: o.Words("type_array_key"), protected: o.Bool("protected_mode"),
		null: o.Bool("enable_flb_null"), timeTable: o.Bool("time_as_table")}
	script, code := o.String("script"), o.String("code")
	if l.call == "" {
		o.Failf("call", "the filter lua needs call, the name of the function")
	}
	if (script == "") == (code == "") {
		o.Failf("script", "the filter lua needs either script or code")
		return l
	}
	if code == "" {
		if !filepath.IsAbs(script) {
			script = filepath.Join(filepath.Dir(o.Section.Pos.File), script)
		}
		data, err := os.ReadFile(script)
		if err != nil {
			o.Failf("script", "script: %v", err)
			return l
		}
		code = string(data)
	}
	if err := l.load(code); err != nil {
		o.Failf("script", "the script cannot be loaded: %v", err)
		return l
	}
	if l.state.GetGlobal(l.call).Type() != lua.LTFunction {
		o.Failf("call", "the script has no function %q", l.call)
	}
	return l
}

// load makes a state. Scripts have Lua's own libraries, as in the engine: who writes a configuration may do what the agent may.
func (l *luaScript) load(code string) error {
	l.state = lua.NewState(lua.Options{RegistryMaxSize: 1 << 20, CallStackSize: 256, RegistryGrowStep: 64})
	l.flb, l.array = l.state.NewTable(), l.state.NewTable()
	l.state.SetGlobal("flb_null", l.flb)
	ctx, cancel := context.WithTimeout(context.Background(), scriptTime)
	defer cancel()
	l.state.SetContext(ctx)
	return l.state.DoString(code)
}

func (l *luaScript) Apply(ctx context.Context, dst []byte, b flow.Batch) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := record.NewReader(b.Data)
	for r.Next() {
		var err error
		if dst, err = l.event(ctx, dst, b.Tag, &r.Event); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			l.host.Log.Error("the script failed; the record stays as it was", "error", err)
			dst = append(dst, r.Raw...)
		}
	}
	return dst, r.Err
}

func (l *luaScript) event(ctx context.Context, dst []byte, tag string, e *record.Event) ([]byte, error) {
	limited, cancel := context.WithTimeout(ctx, scriptTime)
	defer cancel()
	l.state.SetContext(limited)
	var at lua.LValue = lua.LNumber(e.Time.Float())
	if l.timeTable {
		t := l.state.NewTable()
		t.RawSetString("sec", lua.LNumber(e.Time.Sec))
		t.RawSetString("nsec", lua.LNumber(e.Time.Nsec))
		at = t
	}
	l.state.SetTop(0)
	err := l.state.CallByParam(lua.P{Fn: l.state.GetGlobal(l.call), NRet: 3, Protect: true}, lua.LString(tag), at, l.push(e.Body))
	if err != nil {
		return dst, short(err)
	}
	code, isNumber := l.state.Get(-3).(lua.LNumber)
	if !isNumber {
		return dst, errors.New("the function does not give a code, a time and a record")
	}
	switch code {
	case -1:
		return dst, nil
	case 0:
		return append(dst, e.Raw...), nil
	case 1, 2:
	default:
		return dst, fmt.Errorf("the function gives the code %v; there are -1, 0, 1 and 2", code)
	}
	when := e.Time
	if code == 1 {
		when = l.time(l.state.Get(-2), e.Time)
	}
	return l.append(dst, when, e, l.state.Get(-1))
}

func short(err error) error {
	var api *lua.ApiError
	if errors.As(err, &api) {
		return errors.New(strings.TrimSpace(api.Object.String()))
	}
	return err
}

func (l *luaScript) time(v lua.LValue, other record.Time) record.Time {
	switch t := v.(type) {
	case lua.LNumber:
		if f := float64(t); f >= 0 && f < 1<<53 {
			sec := math.Floor(f)
			return record.Time{Sec: int64(sec), Nsec: uint32((f - sec) * 1e9)}
		}
	case *lua.LTable:
		sec, ok1 := t.RawGetString("sec").(lua.LNumber)
		nsec, ok2 := t.RawGetString("nsec").(lua.LNumber)
		if ok1 && ok2 && nsec >= 0 && nsec < 1e9 {
			return record.Time{Sec: int64(sec), Nsec: uint32(nsec)}
		}
	}
	return other
}

// append appends one record, or one for each item of an array of records.
func (l *luaScript) append(dst []byte, at record.Time, e *record.Event, v lua.LValue) ([]byte, error) {
	t, ok := v.(*lua.LTable)
	if !ok {
		return dst, errors.New("the function gives no table as record")
	}
	if t.Len() == 0 {
		start := len(dst)
		dst, err := l.value(record.AppendEventHead(dst, at, e.Meta), t, "", 0)
		if err != nil {
			return dst[:start], err
		}
		return dst, nil
	}
	start := len(dst)
	for n := 1; n <= t.Len(); n++ {
		item, ok := t.RawGetInt(n).(*lua.LTable)
		if !ok {
			return dst[:start], errors.New("an array of records holds something else than tables")
		}
		var err error
		if dst, err = l.value(record.AppendEventHead(dst, at, e.Meta), item, "", 0); err != nil {
			return dst[:start], err
		}
	}
	return dst, nil
}

// push makes a value of Lua.
func (l *luaScript) push(v []byte) lua.LValue {
	switch record.KindOf(v) {
	case record.Bool:
		b, _ := record.Truth(v)
		return lua.LBool(b)
	case record.Int:
		n, _ := record.Integer(v)
		return lua.LNumber(n)
	case record.Real:
		f, _ := record.Float(v)
		return lua.LNumber(f)
	case record.String, record.Binary:
		t, _ := record.Text(v)
		return lua.LString(t)
	case record.Array:
		t := l.state.NewTable()
		t.Metatable = l.array
		for i := record.ItemsOf(v); i.Next(); {
			t.Append(l.push(i.Value))
		}
		return t
	case record.Map:
		t := l.state.NewTable()
		for f := record.FieldsOf(v); f.Next(); {
			if f.Key != nil {
				t.RawSetString(string(f.Key), l.push(f.Value))
			} else {
				t.RawSet(l.push(f.Raw[:len(f.Raw)-len(f.Value)]), l.push(f.Value))
			}
		}
		return t
	}
	if l.null {
		return l.flb
	}
	return lua.LNil
}

const maxLuaDepth = 64

// value appends a value of Lua. Keys are sorted: Lua's own order is none.
func (l *luaScript) value(dst []byte, v lua.LValue, key string, depth int) ([]byte, error) {
	switch x := v.(type) {
	case lua.LBool:
		return record.AppendBool(dst, bool(x)), nil
	case lua.LNumber:
		if f := float64(x); math.Abs(f) < 1<<63 && (f == math.Trunc(f) || slices.Contains(l.ints, key)) {
			return record.AppendInt(dst, int64(f)), nil
		}
		return record.AppendFloat(dst, float64(x)), nil
	case lua.LString:
		return record.AppendString(dst, string(x)), nil
	case *lua.LTable:
		if x == l.flb {
			return record.AppendNil(dst), nil
		}
		return l.table(dst, x, key, depth)
	}
	return record.AppendNil(dst), nil
}

func (l *luaScript) table(dst []byte, t *lua.LTable, key string, depth int) ([]byte, error) {
	if depth > maxLuaDepth {
		return dst, errors.New("tables lie too deep inside of each other")
	}
	if n := t.Len(); n > 0 || (t.Metatable == l.array || slices.Contains(l.arrays, key)) && depth > 0 {
		dst = record.AppendArrayHead(dst, n)
		var err error
		for i := 1; i <= n && err == nil; i++ {
			dst, err = l.value(dst, t.RawGetInt(i), "", depth+1)
		}
		return dst, err
	}
	type entry struct {
		key   string
		value lua.LValue
	}
	var entries []entry
	t.ForEach(func(k, v lua.LValue) { entries = append(entries, entry{k.String(), v}) })
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	dst = record.AppendMapHead(dst, len(entries))
	var err error
	for _, e := range entries {
		if dst, err = l.value(record.AppendString(dst, e.key), e.value, e.key, depth+1); err != nil {
			return dst, err
		}
	}
	return dst, nil
}
