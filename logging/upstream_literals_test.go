package logging_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// goTypes are the struct types of a tree of Go packages, by package and name, as the syntax has them.
type goTypes map[string]*ast.StructType

func readTypes(t *testing.T, folders ...string) goTypes {
	t.Helper()
	types := goTypes{}
	for _, folder := range folders {
		files, err := filepath.Glob(filepath.Join(folder, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range f.Decls {
				g, ok := d.(*ast.GenDecl)
				if !ok {
					continue
				}
				for _, s := range g.Specs {
					if spec, ok := s.(*ast.TypeSpec); ok {
						if st, ok := spec.Type.(*ast.StructType); ok {
							types[f.Name.Name+"."+spec.Name.Name] = st
						}
					}
				}
			}
		}
	}
	return types
}

// literal evaluates Go expressions that are literals to values as JSON has them. What it does not know is an error that names it.
type literal struct {
	types goTypes
	pkg   string
	env   map[string]any
}

// unknown is the value of what is no literal.
type unknown struct{ what string }

func (l *literal) eval(e ast.Expr, of ast.Expr) any {
	switch e := e.(type) {
	case *ast.ParenExpr:
		return l.eval(e.X, of)
	case *ast.BasicLit:
		switch e.Kind {
		case token.STRING, token.CHAR:
			s, _ := strconv.Unquote(e.Value)
			return s
		default:
			n, _ := strconv.ParseFloat(e.Value, 64)
			return n
		}
	case *ast.Ident:
		switch e.Name {
		case "true", "false":
			return e.Name == "true"
		case "nil":
			return nil
		}
		if v, ok := l.env[e.Name]; ok {
			return v
		}
		return unknown{e.Name}
	case *ast.UnaryExpr:
		if e.Op == token.SUB {
			if n, ok := l.eval(e.X, of).(float64); ok {
				return -n
			}
		}
		return l.eval(e.X, of)
	case *ast.StarExpr:
		return l.eval(e.X, of)
	case *ast.BinaryExpr:
		x, ok1 := l.eval(e.X, nil).(string)
		y, ok2 := l.eval(e.Y, nil).(string)
		if ok1 && ok2 {
			return x + y
		}
	case *ast.SelectorExpr:
		if base, ok := l.eval(e.X, nil).(map[string]any); ok {
			if v, ok := base[e.Sel.Name]; ok {
				return v
			}
			return base[strings.ToLower(e.Sel.Name[:1])+e.Sel.Name[1:]]
		}
	case *ast.CallExpr:
		return l.call(e)
	case *ast.CompositeLit:
		if e.Type != nil {
			of = e.Type
		}
		return l.composite(e, of)
	}
	return unknown{fmt.Sprintf("%T", e)}
}

func (l *literal) call(e *ast.CallExpr) any {
	switch typeName("", e.Fun) {
	case "fmt.Sprintf":
		var args []any
		for _, a := range e.Args[1:] {
			args = append(args, l.eval(a, nil))
		}
		format, _ := l.eval(e.Args[0], nil).(string)
		return fmt.Sprintf(format, args...)
	case "make":
		if len(e.Args) == 2 {
			n, _ := l.eval(e.Args[1], nil).(float64)
			return make([]any, int(n))
		}
	}
	if len(e.Args) == 1 { // a conversion, or one of the helpers that make a pointer
		return l.eval(e.Args[0], nil)
	}
	return unknown{typeName("", e.Fun)}
}

// typeName is package.Name of a type or function.
func typeName(pkg string, e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		if pkg == "" {
			return e.Name
		}
		return pkg + "." + e.Name
	case *ast.SelectorExpr:
		if x, ok := e.X.(*ast.Ident); ok {
			return x.Name + "." + e.Sel.Name
		}
	case *ast.StarExpr:
		return typeName(pkg, e.X)
	case *ast.IndexExpr:
		return typeName(pkg, e.X)
	}
	return ""
}

func (l *literal) composite(e *ast.CompositeLit, of ast.Expr) any {
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	switch of := of.(type) {
	case *ast.ArrayType:
		list := []any{}
		for _, item := range e.Elts {
			list = append(list, l.eval(item, of.Elt))
		}
		return list
	case *ast.MapType:
		m := map[string]any{}
		for _, item := range e.Elts {
			if kv, ok := item.(*ast.KeyValueExpr); ok {
				m[fmt.Sprint(l.eval(kv.Key, of.Key))] = l.eval(kv.Value, of.Value)
			}
		}
		return m
	case *ast.StructType: // of the table of a test: fields keep their names
		m := map[string]any{}
		for _, item := range e.Elts {
			if kv, ok := item.(*ast.KeyValueExpr); ok {
				name := kv.Key.(*ast.Ident).Name
				m[name] = l.eval(kv.Value, fieldType(of, name))
			}
		}
		return m
	}
	name := typeName(l.pkg, of)
	st := l.types[name]
	inside := *l
	if pkg, _, ok := strings.Cut(name, "."); ok && st != nil {
		inside.pkg = pkg
	}
	m := map[string]any{}
	for _, item := range e.Elts {
		kv, ok := item.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		field := kv.Key.(*ast.Ident).Name
		key, inline := jsonName(st, field)
		var want ast.Expr
		if st != nil {
			want = qualified(inside.pkg, fieldType(st, field))
		}
		value := l.eval(kv.Value, want)
		if object, ok := value.(map[string]any); ok && (inline || field == "TypeMeta" || field == "LocalObjectReference") {
			maps.Copy(m, object)
		} else if value != nil {
			m[key] = value
		}
	}
	return m
}

// qualified writes a type of another package with its package's name.
func qualified(pkg string, e ast.Expr) ast.Expr {
	switch e := e.(type) {
	case *ast.Ident:
		if unicode.IsUpper(rune(e.Name[0])) {
			return &ast.SelectorExpr{X: ast.NewIdent(pkg), Sel: e}
		}
	case *ast.StarExpr:
		return &ast.StarExpr{X: qualified(pkg, e.X)}
	case *ast.ArrayType:
		return &ast.ArrayType{Elt: qualified(pkg, e.Elt)}
	case *ast.MapType:
		return &ast.MapType{Key: e.Key, Value: qualified(pkg, e.Value)}
	}
	return e
}

func fieldType(st *ast.StructType, name string) ast.Expr {
	for _, f := range st.Fields.List {
		for _, n := range f.Names {
			if n.Name == name {
				return f.Type
			}
		}
		if len(f.Names) == 0 && strings.HasSuffix("."+typeName("", f.Type), "."+name) {
			return f.Type
		}
	}
	return nil
}

// jsonName is a field's name in JSON, from its tag, or by Kubernetes' habit for types that were not read.
func jsonName(st *ast.StructType, field string) (name string, inline bool) {
	if st != nil {
		for _, f := range st.Fields.List {
			own := len(f.Names) == 0 && strings.HasSuffix("."+typeName("", f.Type), "."+field)
			for _, n := range f.Names {
				own = own || n.Name == field
			}
			if !own || f.Tag == nil {
				continue
			}
			tag, _ := strconv.Unquote(f.Tag.Value)
			name, rest, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
			return name, strings.Contains(rest, "inline") || name == "" || name == "-"
		}
	}
	switch field {
	case "APIVersion":
		return "apiVersion", false
	case "ObjectMeta":
		return "metadata", false
	}
	return strings.ToLower(field[:1]) + field[1:], false
}

// expectation is a rendering that a test of the operator expects.
type expectation struct {
	where  string // function, and number of the row of a table
	method string
	on     any
	args   []any
	want   string
}

// expectations runs through the tests of a package: it evaluates what is assigned, and notes which text is expected of what.
func expectations(t *testing.T, folder string, types goTypes, pkg string) []expectation {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatal("no tests", err)
	}
	var parsed []*ast.File
	global := map[string]any{}
	for range 2 { // constants first, then what is made of them
		parsed = nil
		for _, path := range files {
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			parsed = append(parsed, f)
			for _, d := range f.Decls {
				if g, ok := d.(*ast.GenDecl); ok {
					(&literal{types, pkg, global}).declare(g)
				}
			}
		}
	}
	var all []expectation
	for _, f := range parsed {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(fn.Name.Name, "Test") {
				w := &walker{literal: literal{types, pkg, maps.Clone(global)}, where: fn.Name.Name, made: map[string]expectation{}}
				w.block(fn.Body.List)
				all = append(all, w.found...)
			}
		}
	}
	return all
}

func (l *literal) declare(g *ast.GenDecl) {
	for _, s := range g.Specs {
		if spec, ok := s.(*ast.ValueSpec); ok {
			for i, name := range spec.Names {
				if i < len(spec.Values) {
					l.env[name.Name] = l.eval(spec.Values[i], spec.Type)
				} else {
					l.env[name.Name] = nil
				}
			}
		}
	}
}

type walker struct {
	literal
	where string
	made  map[string]expectation
	found []expectation
}

func (w *walker) block(list []ast.Stmt) {
	for _, s := range list {
		w.statement(s)
	}
}

func (w *walker) statement(s ast.Stmt) {
	switch s := s.(type) {
	case *ast.DeclStmt:
		if g, ok := s.Decl.(*ast.GenDecl); ok {
			w.declare(g)
		}
	case *ast.AssignStmt:
		w.assign(s)
	case *ast.ForStmt:
		w.block(s.Body.List)
	case *ast.RangeStmt:
		list, _ := w.eval(s.X, nil).([]any)
		name, ok := s.Value.(*ast.Ident)
		for i, item := range list {
			if ok {
				w.env[name.Name] = item
			}
			outer := w.where
			w.where = fmt.Sprintf("%s/%d", outer, i)
			w.block(s.Body.List)
			w.where = outer
		}
	case *ast.ExprStmt:
		call, ok := s.X.(*ast.CallExpr)
		if !ok {
			return
		}
		for _, a := range call.Args { // t.Run
			if f, ok := a.(*ast.FuncLit); ok {
				w.block(f.Body.List)
			}
		}
		w.expect(call)
	}
}

// assign remembers values, and what a rendering method was called on.
func (w *walker) assign(s *ast.AssignStmt) {
	for i, left := range s.Lhs {
		if at, ok := left.(*ast.IndexExpr); ok {
			if m, ok := w.eval(at.X, nil).(map[string]any); ok {
				m[fmt.Sprint(w.eval(at.Index, nil))] = w.eval(s.Rhs[i], nil)
			}
			list, _ := w.eval(at.X, nil).([]any)
			if n, ok := w.eval(at.Index, nil).(float64); ok && int(n) < len(list) {
				list[int(n)] = w.eval(s.Rhs[i], nil)
			}
			continue
		}
		name, ok := left.(*ast.Ident)
		if !ok || i >= len(s.Rhs) {
			continue
		}
		delete(w.made, name.Name)
		if call, ok := s.Rhs[i].(*ast.CallExpr); ok {
			if method, ok := call.Fun.(*ast.SelectorExpr); ok && (strings.HasPrefix(method.Sel.Name, "Load") || strings.HasPrefix(method.Sel.Name, "Render")) {
				e := expectation{where: w.where, method: method.Sel.Name, on: w.eval(method.X, nil)}
				for _, a := range call.Args {
					e.args = append(e.args, w.eval(a, nil))
				}
				w.made[name.Name] = e
				continue
			}
		}
		w.env[name.Name] = w.eval(s.Rhs[i], nil)
	}
}

// expect notes g.Expect(made).To(Equal(text)).
func (w *walker) expect(call *ast.CallExpr) {
	to, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || to.Sel.Name != "To" || len(call.Args) != 1 {
		return
	}
	equal, ok1 := call.Args[0].(*ast.CallExpr)
	expect, ok2 := to.X.(*ast.CallExpr)
	if !ok1 || !ok2 || typeName("", equal.Fun) != "Equal" || len(expect.Args) != 1 {
		return
	}
	name, ok := expect.Args[0].(*ast.Ident)
	if !ok {
		return
	}
	e, ok := w.made[name.Name]
	want, isText := w.eval(equal.Args[0], nil).(string)
	if ok && isText {
		e.want = want
		w.found = append(w.found, e)
	}
}
