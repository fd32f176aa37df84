package network

import (
	"go/ast"
	"go/token"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
)

// script carries out a conformance test that was read: the few kinds of statements that such tests are made of. Objects are JSON values, and
// fields have their JSON names.
type script struct {
	world *conformance
	cases *int
}

type vars map[string]any

// nameOf is a type's or a function's name, package.Name, or what comes last in a chain of calls.
func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		if x, ok := e.X.(*ast.Ident); ok {
			return x.Name + "." + e.Sel.Name
		}
		return e.Sel.Name
	}
	return ""
}

func fields(c *ast.CompositeLit) map[string]ast.Expr {
	all := map[string]ast.Expr{}
	for _, e := range c.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			all[nameOf(kv.Key)] = kv.Value
		}
	}
	return all
}

func text(e ast.Expr) string {
	l, ok := e.(*ast.BasicLit)
	if !ok {
		return ""
	}
	s, err := strconv.Unquote(l.Value)
	if err != nil {
		return l.Value
	}
	return s
}

// jsonName is the JSON name of a Go field of the objects here.
func jsonName(field string) string { return strings.ToLower(field[:1]) + field[1:] }

func (s *script) block(t *testing.T, v vars, b *ast.BlockStmt) {
	t.Helper()
	for _, statement := range b.List {
		s.statement(t, v, statement)
	}
}

func (s *script) statement(t *testing.T, v vars, statement ast.Stmt) {
	t.Helper()
	switch st := statement.(type) {
	case *ast.ExprStmt:
		s.value(t, v, st.X)
	case *ast.DeferStmt: // a context's end
	case *ast.DeclStmt: // a variable that is assigned later
	case *ast.BlockStmt:
		s.block(t, v, st)
	case *ast.AssignStmt:
		value := runtime.DeepCopyJSONValue(s.value(t, v, st.Rhs[0])) // assigning copies, as it does for structs
		s.assign(t, v, st.Lhs[0], value)
	case *ast.IfStmt:
		if s.value(t, v, st.Cond) == true {
			s.block(t, v, st.Body)
		} else if st.Else != nil {
			s.statement(t, v, st.Else)
		}
	default:
		t.Fatalf("a statement of the kind %T is not known", st)
	}
}

func (s *script) assign(t *testing.T, v vars, to ast.Expr, value any) {
	t.Helper()
	switch to := to.(type) {
	case *ast.Ident:
		v[to.Name] = value
	case *ast.SelectorExpr:
		s.value(t, v, to.X).(map[string]any)[jsonName(to.Sel.Name)] = value
	case *ast.IndexExpr:
		s.value(t, v, to.X).([]any)[s.value(t, v, to.Index).(int64)] = value
	default:
		t.Fatalf("an assignment to %T is not known", to)
	}
}

func (s *script) value(t *testing.T, v vars, e ast.Expr) any {
	t.Helper()
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.INT {
			n, err := strconv.ParseInt(e.Value, 0, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		return text(e)
	case *ast.Ident:
		if e.Name == "true" || e.Name == "false" {
			return e.Name == "true"
		}
		return v[e.Name]
	case *ast.UnaryExpr: // an address
		return s.value(t, v, e.X)
	case *ast.BinaryExpr:
		return s.value(t, v, e.X).(string) + s.value(t, v, e.Y).(string)
	case *ast.IndexExpr:
		return s.value(t, v, e.X).([]any)[s.value(t, v, e.Index).(int64)]
	case *ast.SelectorExpr:
		return s.selected(t, v, e)
	case *ast.CompositeLit:
		return s.literal(t, v, e)
	case *ast.CallExpr:
		return s.call(t, v, e)
	}
	t.Fatalf("an expression of the kind %T is not known", e)
	return nil
}

func (s *script) selected(t *testing.T, v vars, e *ast.SelectorExpr) any {
	t.Helper()
	name := nameOf(e)
	if action, ok := strings.CutPrefix(name, "api.ClusterNetworkPolicyRuleAction"); ok {
		return action
	}
	if name == "s.HostNetworkPorts" {
		return s.world.ports
	}
	o, ok := s.value(t, v, e.X).(map[string]any)
	if !ok {
		t.Fatalf("%s is no object", name)
	}
	return o[jsonName(e.Sel.Name)]
}

func (s *script) literal(t *testing.T, v vars, c *ast.CompositeLit) any {
	t.Helper()
	_, list := c.Type.(*ast.ArrayType)
	_, dictionary := c.Type.(*ast.MapType)
	if list || c.Type == nil && len(c.Elts) > 0 && !isKeyed(c) {
		all := []any{}
		for _, e := range c.Elts {
			all = append(all, s.value(t, v, e))
		}
		return all
	}
	o := map[string]any{}
	for _, e := range c.Elts {
		kv := e.(*ast.KeyValueExpr)
		key := text(kv.Key)
		if !dictionary {
			key = jsonName(nameOf(kv.Key))
		}
		o[key] = s.value(t, v, kv.Value)
	}
	return o
}

func isKeyed(c *ast.CompositeLit) bool {
	_, ok := c.Elts[0].(*ast.KeyValueExpr)
	return ok
}

func (s *script) call(t *testing.T, v vars, c *ast.CallExpr) any {
	t.Helper()
	name := nameOf(c.Fun)
	arg := func(i int) any { return s.value(t, v, c.Args[i]) }
	word := func(i int) string { return arg(i).(string) }
	w := s.world
	switch name {
	case "t.Run":
		*s.cases++
		t.Run(word(0), func(t *testing.T) { s.block(t, maps.Clone(v), c.Args[1].(*ast.FuncLit).Body) })
	case "kubernetes.GetPod":
		i := slices.IndexFunc(w.pods, func(p Pod) bool { return p.Key() == word(2)+"/"+word(3) })
		if i < 0 {
			t.Fatalf("there is no pod %s/%s", word(2), word(3))
		}
		return map[string]any{"status": map[string]any{"podIP": w.pods[i].IPs[0].String()}}
	case "kubernetes.GetClusterNetworkPolicy":
		return w.cluster[word(2)]
	case "kubernetes.GetNamespace":
		return map[string]any{"name": word(2)}
	case "kubernetes.PatchClusterNetworkPolicy":
		changed := arg(3).(map[string]any)
		w.cluster[changed["metadata"].(map[string]any)["name"].(string)] = changed
	case "kubernetes.PatchNamespace":
		changed := arg(3).(map[string]any)
		labels := map[string]string{}
		for k, l := range changed["labels"].(map[string]any) {
			labels[k] = l.(string)
		}
		w.spaces[changed["name"].(string)] = labels
	case "kubernetes.PokeServer":
		w.poke(t, word(3), word(4), word(5), word(6), arg(7).(int64), arg(9).(bool))
	case "Get": // of the client: by namespace and name
		key := arg(1).(map[string]any)
		v[nameOf(c.Args[2])] = w.policies[key["namespace"].(string)+"/"+key["name"].(string)]
	case "Delete":
		metadata := arg(1).(map[string]any)["metadata"].(map[string]any)
		delete(w.policies, metadata["namespace"].(string)+"/"+metadata["name"].(string))
	case "net.IsIPv4String":
		return netip.MustParseAddr(word(0)).Is4()
	case "int32", "api.CIDR":
		return arg(0)
	case "append":
		return append(slices.Clone(arg(0).([]any)), arg(1).([]any)...)
	case "require.NoErrorf", "context.WithTimeout":
	default:
		if f, ok := c.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "DeepCopy" {
			return runtime.DeepCopyJSONValue(s.value(t, v, f.X))
		} else if ok && f.Sel.Name == "SetLabels" {
			s.value(t, v, f.X).(map[string]any)["labels"] = arg(0)
			return nil
		}
		t.Fatalf("the function %s is not known", name)
	}
	return nil
}
