package eval

import (
	"strings"

	"github.com/weft-dev/weft/kcl/diag"
	"github.com/weft-dev/weft/kcl/syntax"
	"github.com/weft-dev/weft/kcl/value"
)

// readAttr reads an attribute, running the statements that set it if need be.
func (m *machine) readAttr(inst *instance, i int) value.Value {
	l := inst.lazy
	setters := inst.shape.setters[i]
	if m.target.inst == inst && m.target.attr == i && (l.levels[i] == 0 || len(setters) <= 1) {
		return inst.value.At(i).Value
	}
	if v := l.cache[i]; v != nil {
		return v
	}
	n := len(setters)
	level := l.levels[i]
	if n == 0 || int(level)+1 > n {
		return inst.value.At(i).Value
	}
	l.levels[i]++
	s := setters[n-1-int(level)]
	if s.mixin {
		if inst.replayed == nil {
			inst.replayed = map[syntax.Stmt]bool{}
		}
		if s.kind == wholeStmt {
			inst.replayed[s.id] = true
		}
	}
	m.enter()
	back, tgt, cur := m.back, m.target, m.inst
	m.back, m.inst = &replay{id: s.id, inner: s.inner, kind: s.kind}, inst
	m.stack = append(m.stack, s.def.unit.pkg)
	fr := inst.frame(s.def)
	s.def.compile().body[s.run.index](fr)
	m.stack = m.stack[:len(m.stack)-1]
	m.back, m.target, m.inst = back, tgt, cur
	m.leave()
	l.levels[i] = level
	v := inst.value.At(i).Value
	l.cache[i] = v
	return v
}

// done remembers an attribute's value when its last statement has run.
func (inst *instance) done(i int, by syntax.Stmt) {
	l := inst.lazy
	setters := inst.shape.setters[i]
	last, all := false, false
	if l.levels[i] == 0 && len(setters) > 0 {
		l.times[i]++
		all = int(l.times[i]) >= len(setters)
		last = setters[len(setters)-1].is(by)
	}
	if (all || last) && l.cache[i] == nil {
		l.cache[i] = inst.value.At(i).Value
	}
}

// store gives an attribute a value that overrides what it had.
func (m *machine) store(inst *instance, i int, v value.Value, o *value.Origin) {
	v = m.fit(v, inst.types[i], false)
	e := inst.value.At(i)
	e.Value, e.Op = v, value.Override
	if m.trace && o != nil {
		e.Origin = o
	}
}

// overlay merges the configuration's entry for an attribute over it.
func (m *machine) overlay(inst *instance, name string, i int) {
	k := inst.config.Find(name)
	if k < 0 {
		return
	}
	m.mergeEntry(inst.value, *inst.config.At(k), mergeOptions{resolve: true})
	if t := inst.types[i]; t != nil {
		inst.value.At(i).Value = m.fit(inst.value.At(i).Value, t, false)
	}
}

// decorate runs decorators of a schema or attribute.
func (m *machine) decorate(list []decorator, fr *frame, name string, whole bool) {
	for i := range list {
		d := &list[i]
		for _, a := range d.args {
			a(fr)
		}
		given := map[string]value.Value{}
		for _, k := range d.keywords {
			given[k.name] = value.None
			if k.x != nil {
				given[k.name] = k.x(fr)
			}
		}
		if d.name != "deprecated" {
			if d.name != "info" {
				m.fail("Unknown decorator %s", d.name)
			}
			continue
		}
		if !whole && !fr.inst.config.Has(name) {
			continue
		}
		m.deprecated(fr.inst, name, given)
	}
}

func (m *machine) deprecated(inst *instance, name string, given map[string]value.Value) {
	text := func(k string) string {
		s, _ := given[k].(value.Str)
		return string(s)
	}
	var b strings.Builder
	b.WriteString(name + " was deprecated ")
	if v := text("version"); v != "" {
		b.WriteString("since version " + v)
	}
	if r := text("reason"); r != "" {
		b.WriteString(", " + r)
	}
	f := &fault{msg: b.String(), at: m.at}
	if inst != nil && inst.meta.at.file != nil {
		f.at = inst.meta.at
	}
	if s, ok := given["strict"]; ok && !value.Truthy(s) {
		w := f.Diagnostic()
		w.Level, w.Kind = diag.Warning, diag.CompilerWarning
		m.warnings = append(m.warnings, w)
		return
	}
	panic(f)
}
