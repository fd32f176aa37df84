package eval

import (
	"github.com/weft-dev/weft/kcl/diag"
	"github.com/weft-dev/weft/kcl/syntax"
	"github.com/weft-dev/weft/kcl/value"
)

// configMeta is the place of the configuration that made an instance.
type configMeta struct{ at place }

// lineMeta is the place of an instance that is known by its line alone.
func (m *machine) lineMeta() configMeta {
	at := m.at
	if at.file != nil {
		at.off = at.file.LineStart(at.off)
	}
	return configMeta{at: at}
}

// target is what the running assignment sets: a global or an attribute.
type target struct {
	global *global
	inst   *instance
	attr   int
}

// is reports whether the assignment is to a variable or attribute of that name.
func (t target) is(name string) bool {
	if t.inst != nil {
		return t.inst.shape.names[t.attr] == name
	}
	return t.global != nil && t.global.name == name
}

// instance is a schema instance while it is built and for the functions that
// were made in it.
type instance struct {
	def    *schemaDef
	shape  *shape
	value  *value.Dict
	config *value.Dict
	meta   configMeta
	args   []value.Value
	kwargs *value.Dict
	types  []*rtype
	frames []levelFrame
	lazy   *attrLazy
	// replayed are the statements of mixins that ran before their turn.
	replayed map[syntax.Stmt]bool
	caller   string
}

type levelFrame struct {
	def *schemaDef
	fr  *frame
}

// attrLazy is the state of the attributes in one level's run.
type attrLazy struct {
	cache  []value.Value
	levels []int32
	times  []int32
}

func newAttrLazy(n int) *attrLazy {
	return &attrLazy{make([]value.Value, n), make([]int32, n), make([]int32, n)}
}

func (l *attrLazy) clone() *attrLazy {
	return &attrLazy{append([]value.Value(nil), l.cache...), append([]int32(nil), l.levels...), append([]int32(nil), l.times...)}
}

type instanceSet struct {
	list []*instance
}

// instantiate makes an instance from a configuration.
func (d *schemaDef) instantiate(config *value.Dict, meta configMeta, args []value.Value, kwargs *value.Dict) value.Value {
	v, _ := d.make(config, meta, args, kwargs)
	return v
}

func (d *schemaDef) make(config *value.Dict, meta configMeta, args []value.Value, kwargs *value.Dict) (value.Value, *instance) {
	m := d.m
	if config == nil {
		config = value.NewDict(0)
	}
	if d.isRule {
		return d.applyRule(config, meta, args, kwargs)
	}
	s := d.link()
	m.enter()
	m.grow(200 + 80*len(s.names))
	inst := &instance{def: d, shape: s, value: s.blank.Clone(), config: config, meta: meta, args: args, kwargs: kwargs,
		types: make([]*rtype, len(s.names)), lazy: newAttrLazy(len(s.names))}
	inst.caller = "__main__"
	if n := len(m.stack); n > 0 {
		inst.caller = m.stack[n-1].path
	}
	saved, back, tgt := m.inst, m.back, m.target
	m.inst, m.back = inst, nil
	m.building++
	m.called(d.name)
	m.stack = append(m.stack, d.unit.pkg)
	v := d.build(inst)
	m.returned()
	m.stack = m.stack[:len(m.stack)-1]
	m.building--
	m.inst, m.back, m.target = saved, back, tgt
	m.leave()
	return v, inst
}

// build runs the levels and the checks of an instance.
func (d *schemaDef) build(inst *instance) value.Value {
	m := d.m
	d.runLevel(inst, true)
	inst.value.Potential = d.runtimeType
	fr := inst.frame(d)
	code := d.compile()
	index, ixFrame := code.index, fr
	for p := d; index == nil && p.parent != nil; {
		p = p.parent
		index, ixFrame = p.compile().index, inst.frame(p)
	}
	if index == nil || index.key == "" {
		m.relaxed(inst, index, ixFrame)
		s := inst.schema()
		m.checkRequired(s)
		d.runChecks(inst, 0)
		return s
	}
	for _, e := range inst.config.Entries() {
		if i := inst.shape.find(e.Key); i >= 0 && inst.types[i] != nil {
			continue
		}
		inst.value.Set(index.key, value.Str(e.Key))
		m.relaxed(inst, index, ixFrame)
		d.runChecks(inst, 0)
	}
	inst.value.Delete(index.key)
	s := inst.schema()
	m.checkRequired(s)
	return s
}

// schema is the finished value.
func (inst *instance) schema() *value.Schema {
	d := inst.def
	return &value.Schema{Name: d.name, PkgPath: d.unit.pkg.path, Config: inst.value, ConfigKeys: inst.config.Keys(),
		Args: inst.args, Kwargs: inst.kwargs, Optional: inst.shape.optional, Type: d, Meta: inst}
}

// frame is the frame of a level, with its parameters bound.
func (inst *instance) frame(d *schemaDef) *frame {
	for _, l := range inst.frames {
		if l.def == d {
			return l.fr
		}
	}
	code := d.compile()
	fr := &frame{vars: make([]value.Value, code.size.n), inst: inst}
	inst.frames = append(inst.frames, levelFrame{d, fr})
	d.m.bindParams(fr, code.params, inst.args, inst.kwargs, d != inst.def)
	return fr
}

// runLevel runs the statements of a level: first its parent's, at last its
// mixins'. sub is set for the instance's own schema.
func (d *schemaDef) runLevel(inst *instance, sub bool) {
	m := d.m
	d.link()
	if d.parent != nil {
		own := inst.lazy
		inst.lazy = own.clone()
		m.enter()
		m.stack = append(m.stack, d.parent.unit.pkg)
		d.parent.runLevel(inst, false)
		m.stack = m.stack[:len(m.stack)-1]
		m.leave()
		inst.lazy = own
	}
	fr := inst.frame(d)
	code := d.compile()
	for i, s := range code.body {
		if inst.replayed != nil && inst.replayed[d.schema().Body[i]] && !sub {
			continue
		}
		m.step()
		s(fr)
	}
	m.decorate(code.decorators, fr, d.name, true)
	for _, x := range d.mixins {
		own := inst.lazy
		inst.lazy = own.clone()
		m.enter()
		m.stack = append(m.stack, x.unit.pkg)
		x.runLevel(inst, false)
		m.stack = m.stack[:len(m.stack)-1]
		m.leave()
		inst.lazy = own
	}
	m.record(d, inst)
}

func (m *machine) record(d *schemaDef, inst *instance) {
	set := m.instances[d.runtimeType]
	if set == nil {
		set = &instanceSet{}
		m.instances[d.runtimeType] = set
	}
	set.list = append(set.list, inst)
}

// listInstances lists the instances of a schema, by default only those that
// the main package made.
func (m *machine) listInstances(runtimeType string, all bool) []value.Value {
	set := m.instances[runtimeType]
	if set == nil {
		return nil
	}
	var out []value.Value
	for _, inst := range set.list {
		if all || inst.caller == "__main__" {
			out = append(out, inst.schema())
		}
	}
	return out
}

func (m *machine) instancesFunc(f *value.Func) *value.Func {
	return &value.Func{Name: "instances", Call: func(c *value.Call) (value.Value, error) {
		all := false
		if v := c.Arg(0, "full_pkg"); v != nil {
			all = value.Truthy(v)
		}
		return value.NewList(m.listInstances(f.Type, all)...), nil
	}}
}

// runChecks runs the check blocks: the parent's, the own, the mixins'.
func (d *schemaDef) runChecks(inst *instance, depth int) {
	d.link()
	if d.parent != nil {
		d.parent.runChecks(inst, depth+1)
	}
	fr := inst.frame(d)
	for _, c := range d.compile().checks {
		c(fr)
	}
	for _, x := range d.mixins {
		x.runChecks(inst, depth+1)
	}
}

func (m *machine) checkFailed(inst *instance, msg string) {
	f := &fault{msg: "Check failed on the condition", at: m.at, short: &msg}
	if msg != "" {
		f.msg += ": " + msg
	}
	if inst != nil && inst.meta.at.file != nil {
		first := diag.MessageAt(inst.meta.at.file, syntax.Span{Start: inst.meta.at.off, End: inst.meta.at.off}, "Instance check failed")
		f.first = &first
	}
	panic(f)
}

// relaxed takes the keys of the configuration that are no attributes, by the
// index signature or not at all.
func (m *machine) relaxed(inst *instance, index *indexCode, fr *frame) {
	var def value.Value = value.Undefined
	if index != nil && index.value != nil {
		def = index.value(fr)
	}
	for _, e := range inst.config.Entries() {
		if inst.value.Has(e.Key) {
			continue
		}
		if index == nil {
			m.fail("No attribute named '%s' in the schema '%s'", e.Key, inst.def.name)
		}
		if index.key != "" {
			if k, ok := inst.value.Get(index.key); ok {
				if s, ok := k.(value.Str); !ok || string(s) != e.Key {
					continue
				}
			}
		}
		inst.value.Put(value.Entry{Key: e.Key, Value: def, Op: value.Override, Index: value.NoIndex})
		m.mergeEntry(inst.value, value.Entry{Key: e.Key, Value: e.Value, Op: e.Op, Index: value.NoIndex, Origin: e.Origin}, mergeOptions{})
		i := inst.value.Find(e.Key)
		inst.value.At(i).Value = m.fit(inst.value.At(i).Value, index.typ, false)
	}
}

// checkRequired refuses instances with attributes missing, once the outermost
// schema expression is done.
func (m *machine) checkRequired(s *value.Schema) {
	if m.building > 1 || m.exprs > 1 {
		return
	}
	m.required(s)
	for _, e := range s.Config.Entries() {
		m.requiredIn(e.Value)
	}
}

func (m *machine) requiredIn(v value.Value) {
	switch v := v.(type) {
	case *value.List:
		for _, e := range v.Items {
			m.requiredIn(e)
		}
	case *value.Dict:
		for _, e := range v.Entries() {
			m.requiredIn(e.Value)
		}
	case *value.Schema:
		m.required(v)
		for _, e := range v.Config.Entries() {
			m.requiredIn(e.Value)
		}
	}
}

func (m *machine) required(s *value.Schema) {
	def, _ := s.Type.(*schemaDef)
	if def == nil {
		return
	}
	for _, name := range def.link().order {
		if def.shape.optional[name] {
			continue
		}
		if v, _ := s.Config.Get(name); !value.IsNull(v) {
			continue
		}
		f := &fault{msg: "attribute '" + name + "' of " + s.Name + " is required and can't be None or Undefined", at: m.at}
		if inst, ok := s.Meta.(*instance); ok && inst.meta.at.file != nil {
			f.at = inst.meta.at
		}
		panic(f)
	}
}

// applyRule runs a rule: its host schema, if any, and the checks.
func (d *schemaDef) applyRule(config *value.Dict, meta configMeta, args []value.Value, kwargs *value.Dict) (value.Value, *instance) {
	m := d.m
	s := d.link()
	m.enter()
	defer m.leave()
	inst := &instance{def: d, shape: s, value: value.NewDict(0), config: config, meta: meta, args: args, kwargs: kwargs, lazy: newAttrLazy(0)}
	var v value.Value = inst.value
	if d.host != nil {
		v, inst = d.host.make(config, meta, args, kwargs)
		inst.meta = meta
	}
	saved, back, tgt := m.inst, m.back, m.target
	m.inst, m.back, m.target = inst, nil, target{}
	m.stack = append(m.stack, d.unit.pkg)
	m.building++
	fr := inst.frame(d)
	m.decorate(d.compile().decorators, fr, d.name, true)
	d.ruleChecks(inst)
	m.building--
	m.stack = m.stack[:len(m.stack)-1]
	m.inst, m.back, m.target = saved, back, tgt
	return v, inst
}

func (d *schemaDef) ruleChecks(inst *instance) {
	d.link()
	d.m.enter()
	for _, p := range d.rules {
		p.ruleChecks(inst)
	}
	fr := inst.frame(d)
	for _, c := range d.compile().checks {
		c(fr)
	}
	d.m.leave()
}
