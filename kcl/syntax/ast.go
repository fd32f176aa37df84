package syntax

// Name is an identifier or other piece of text with its place.
type Name struct {
	Span
	Text string
}

// Comment is a comment from its # to the end of the line.
type Comment struct {
	Span
	Text string
}

// Stmt is a statement: *ImportStmt, *AssignStmt, *AugAssignStmt, *UnifyStmt,
// *ExprStmt, *AssertStmt, *IfStmt, *TypeAliasStmt, *SchemaStmt, *RuleStmt or
// *SchemaAttr.
type Stmt interface {
	Node
	stmt()
}

// Expr is an expression.
type Expr interface {
	Node
	expr()
}

// Statements.
type (
	// ImportStmt is `import path as name`.
	ImportStmt struct {
		Span
		// Path is as written, with its leading dots.
		Path Name
		// As is nil without `as`.
		As *Name
		// Name is what the package is called in the file.
		Name string
	}
	// TypeAliasStmt is `type Name = Type`.
	TypeAliasStmt struct {
		Span
		Name *Ident
		Type Type
	}
	// ExprStmt is an expression that stands alone.
	ExprStmt struct {
		Span
		Exprs []Expr
	}
	// UnifyStmt is `name: Schema {}`.
	UnifyStmt struct {
		Span
		Target *Ident
		Value  *SchemaExpr
	}
	// AssignStmt is `a = b = value` with an optional annotation.
	AssignStmt struct {
		Span
		Targets []*Target
		Value   Expr
		Type    Type
	}
	// AugAssignStmt is `a += value`; Op is without the equals sign.
	AugAssignStmt struct {
		Span
		Target *Target
		Op     string
		Value  Expr
	}
	// AssertStmt is `assert test if cond, message`.
	AssertStmt struct {
		Span
		Test, Cond, Msg Expr
	}
	// IfStmt has further IfStmts in Else for elif.
	IfStmt struct {
		Span
		Cond       Expr
		Body, Else []Stmt
	}
	// SchemaStmt is a schema, mixin or protocol.
	SchemaStmt struct {
		Span
		Doc             *Name
		Name            Name
		Parent, Host    *Ident
		Mixin, Protocol bool
		Params          *Params
		Mixins          []*Ident
		Body            []Stmt
		Decorators      []*CallExpr
		Checks          []*CheckExpr
		Index           *IndexSignature
	}
	// IndexSignature is `[key: str]: Type = value`.
	IndexSignature struct {
		Span
		Key       *Name
		KeyType   Type
		ValueType Type
		Value     Expr
		// AnyOther is set by `...`.
		AnyOther bool
	}
	// SchemaAttr is an attribute; Op is "", "=" or an operator such as "|".
	SchemaAttr struct {
		Span
		Name       Name
		Type       Type
		Op         string
		Value      Expr
		Optional   bool
		Decorators []*CallExpr
	}
	// RuleStmt is a rule.
	RuleStmt struct {
		Span
		Doc        *Name
		Name       Name
		Parents    []*Ident
		Decorators []*CallExpr
		Checks     []*CheckExpr
		Params     *Params
		Host       *Ident
	}
)

// Expressions.
type (
	// Ident is a name or several joined by dots. PkgPath is filled in by the
	// resolver when the first name is an import.
	Ident struct {
		Span
		Names   []Name
		PkgPath string
	}
	// Target is what an assignment assigns to.
	Target struct {
		Span
		Name  Name
		Paths []Member
	}
	// Member is one step of a Target: a name, or an index when Index is set.
	Member struct {
		Name  *Name
		Index Expr
	}
	// UnaryExpr has Op "+", "-", "~" or "not".
	UnaryExpr struct {
		Span
		Op string
		X  Expr
	}
	// BinaryExpr has an arithmetic or logical operator, or "as".
	BinaryExpr struct {
		Span
		X  Expr
		Op string
		Y  Expr
	}
	// CompareExpr is a chain of comparisons.
	CompareExpr struct {
		Span
		X   Expr
		Ops []string
		Ys  []Expr
	}
	// IfExpr is `body if cond else orelse`.
	IfExpr struct {
		Span
		Body, Cond, Else Expr
	}
	// SelectorExpr is `x.attr` or `x?.attr`.
	SelectorExpr struct {
		Span
		X        Expr
		Attr     *Ident
		Question bool
	}
	// CallExpr is a call.
	CallExpr struct {
		Span
		Func     Expr
		Args     []Expr
		Keywords []*Keyword
	}
	// Keyword is a keyword argument.
	Keyword struct {
		Span
		Name  *Ident
		Value Expr
	}
	// ParenExpr is an expression in parentheses.
	ParenExpr struct {
		Span
		X Expr
	}
	// QuantExpr is `all x in xs {test if cond}`; Op is all, any, map or filter.
	QuantExpr struct {
		Span
		Op     string
		Vars   []*Ident
		Target Expr
		Test   Expr
		Cond   Expr
	}
	// ListExpr is a list.
	ListExpr struct {
		Span
		Items []Expr
	}
	// ListIfItem is `if cond: items else: items` in a list. Else is a
	// *ListExpr, a *ListIfItem or nil.
	ListIfItem struct {
		Span
		Cond  Expr
		Items []Expr
		Else  Expr
	}
	// ListComp is a list comprehension.
	ListComp struct {
		Span
		Item    Expr
		Clauses []*CompClause
	}
	// DictComp is a dict comprehension.
	DictComp struct {
		Span
		Entry   *ConfigEntry
		Clauses []*CompClause
	}
	// CompClause is `for a, b in xs if cond`.
	CompClause struct {
		Span
		Targets []*Ident
		Iter    Expr
		Ifs     []Expr
	}
	// StarredExpr is `*x` in a list.
	StarredExpr struct {
		Span
		X Expr
	}
	// ConfigExpr is `{ ... }`.
	ConfigExpr struct {
		Span
		Items []*ConfigEntry
	}
	// ConfigEntry is `key op value`. Without a key it is an unpacking or holds a
	// *ConfigIfEntry. Op is ":", "=" or "+=".
	ConfigEntry struct {
		Span
		Key   Expr
		Value Expr
		Op    string
	}
	// ConfigIfEntry is `if cond: entries` in a config. Else is a *ConfigExpr, a
	// *ConfigIfEntry or nil.
	ConfigIfEntry struct {
		Span
		Cond  Expr
		Items []*ConfigEntry
		Else  Expr
	}
	// SchemaExpr is `Name(args) { config }`.
	SchemaExpr struct {
		Span
		Name     *Ident
		Args     []Expr
		Keywords []*Keyword
		Config   Expr
	}
	// CheckExpr is `test if cond, message` in a check block or rule.
	CheckExpr struct {
		Span
		Test, Cond, Msg Expr
	}
	// LambdaExpr is a lambda.
	LambdaExpr struct {
		Span
		Params *Params
		Result Type
		Body   []Stmt
	}
	// Params are the parameters of a schema, rule or lambda. Types and Defaults
	// are as long as Names and hold nil where there is none.
	Params struct {
		Span
		Names    []*Ident
		Types    []Type
		Defaults []Expr
	}
	// SubscriptExpr is an index (Index set) or a slice.
	SubscriptExpr struct {
		Span
		X                         Expr
		Index, Lower, Upper, Step Expr
		Question, Slice           bool
	}
	// NumberLit is an integer, with or without a unit, or a float.
	NumberLit struct {
		Span
		IsFloat bool
		Int     int64
		Float   float64
		Suffix  string
	}
	// StringLit is a string. Raw is as written, with quotes.
	StringLit struct {
		Span
		Value, Raw string
		Long       bool
	}
	// NameLit is True, False, None or Undefined.
	NameLit struct {
		Span
		Value string
	}
	// JoinedString is a string with interpolation: *StringLit and
	// *FormattedValue parts.
	JoinedString struct {
		Span
		Parts []Expr
		Raw   string
		Long  bool
	}
	// FormattedValue is `${value: spec}`.
	FormattedValue struct {
		Span
		X Expr
		// Spec is "" or what follows the colon, such as "#json".
		Spec string
	}
	// MissingExpr stands where an expression was expected.
	MissingExpr struct{ Span }
)

func (*ImportStmt) stmt()    {}
func (*TypeAliasStmt) stmt() {}
func (*ExprStmt) stmt()      {}
func (*UnifyStmt) stmt()     {}
func (*AssignStmt) stmt()    {}
func (*AugAssignStmt) stmt() {}
func (*AssertStmt) stmt()    {}
func (*IfStmt) stmt()        {}
func (*SchemaStmt) stmt()    {}
func (*SchemaAttr) stmt()    {}
func (*RuleStmt) stmt()      {}

func (*Ident) expr()          {}
func (*Target) expr()         {}
func (*UnaryExpr) expr()      {}
func (*BinaryExpr) expr()     {}
func (*CompareExpr) expr()    {}
func (*IfExpr) expr()         {}
func (*SelectorExpr) expr()   {}
func (*CallExpr) expr()       {}
func (*ParenExpr) expr()      {}
func (*QuantExpr) expr()      {}
func (*ListExpr) expr()       {}
func (*ListIfItem) expr()     {}
func (*ListComp) expr()       {}
func (*DictComp) expr()       {}
func (*StarredExpr) expr()    {}
func (*ConfigExpr) expr()     {}
func (*ConfigIfEntry) expr()  {}
func (*SchemaExpr) expr()     {}
func (*CheckExpr) expr()      {}
func (*LambdaExpr) expr()     {}
func (*SubscriptExpr) expr()  {}
func (*NumberLit) expr()      {}
func (*StringLit) expr()      {}
func (*NameLit) expr()        {}
func (*JoinedString) expr()   {}
func (*FormattedValue) expr() {}
func (*MissingExpr) expr()    {}

// String is the names joined by dots.
func (i *Ident) String() string {
	if len(i.Names) == 1 {
		return i.Names[0].Text
	}
	s := ""
	for k, n := range i.Names {
		if k > 0 {
			s += "."
		}
		s += n.Text
	}
	return s
}
