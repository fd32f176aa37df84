package syntax

type kind uint8

const (
	tEOF kind = iota
	tNewline
	tIndent
	tDedent
	tComment
	tIdent
	tInt
	tFloat
	tStr
	tAt
	tDot
	tEllipsis
	tComma
	tColon
	tArrow
	tDollar
	tQuestion
	tAssign
	tLParen
	tRParen
	tLBracket
	tRBracket
	tLBrace
	tRBrace
	tTilde
	tNot
	// Arithmetic operators, in one row.
	tPlus
	tMinus
	tStar
	tSlash
	tPercent
	tPower
	tFloorDiv
	tCaret
	tAmp
	tPipe
	tShl
	tShr
	// The same with an equals sign, in the same order.
	tPlusEq
	tMinusEq
	tStarEq
	tSlashEq
	tPercentEq
	tPowerEq
	tFloorDivEq
	tCaretEq
	tAmpEq
	tPipeEq
	tShlEq
	tShrEq
	// Comparisons.
	tEq
	tNe
	tLt
	tLe
	tGt
	tGe
)

var kindText = [...]string{
	tEOF: "eof", tNewline: "newline", tIndent: "indent", tDedent: "dedent",
	tComment: "inline_comment", tIdent: "identifier", tInt: "integer",
	tFloat: "float", tStr: "string", tAt: "@", tDot: ".", tEllipsis: "...",
	tComma: ",", tColon: ":", tArrow: "->", tDollar: "$", tQuestion: "?",
	tAssign: "=", tLParen: "(", tRParen: ")", tLBracket: "[", tRBracket: "]",
	tLBrace: "{", tRBrace: "}", tTilde: "~", tNot: "not",
	tPlus: "+", tMinus: "-", tStar: "*", tSlash: "/", tPercent: "%",
	tPower: "**", tFloorDiv: "//", tCaret: "^", tAmp: "&", tPipe: "|",
	tShl: "<<", tShr: ">>",
	tPlusEq: "+=", tMinusEq: "-=", tStarEq: "*=", tSlashEq: "/=",
	tPercentEq: "%=", tPowerEq: "**=", tFloorDivEq: "//=", tCaretEq: "^=",
	tAmpEq: "&=", tPipeEq: "|=", tShlEq: "<<=", tShrEq: ">>=",
	tEq: "==", tNe: "!=", tLt: "<", tLe: "<=", tGt: ">", tGe: ">=",
}

func (k kind) String() string { return kindText[k] }

func (k kind) isBinary() bool     { return k >= tPlus && k <= tShr }
func (k kind) isAugmented() bool  { return k >= tPlusEq && k <= tShrEq }
func (k kind) isComparison() bool { return k >= tEq && k <= tGe }
func (k kind) isOpen() bool       { return k == tLParen || k == tLBracket || k == tLBrace }

type keyword uint8

const (
	kwNone keyword = iota
	kwAll
	kwAnd
	kwAny
	kwAs
	kwAssert
	kwBool
	kwCheck
	kwElif
	kwElse
	kwFalse
	kwFilter
	kwFloat
	kwFor
	kwIf
	kwImport
	kwIn
	kwInt
	kwIs
	kwLambda
	kwMap
	kwMixin
	kwNoneLit
	kwNot
	kwOr
	kwProtocol
	kwRule
	kwSchema
	kwStr
	kwTrue
	kwType
	kwUndefined
)

var keywordText = [...]string{
	kwAll: "all", kwAnd: "and", kwAny: "any", kwAs: "as", kwAssert: "assert",
	kwBool: "bool", kwCheck: "check", kwElif: "elif", kwElse: "else",
	kwFalse: "False", kwFilter: "filter", kwFloat: "float", kwFor: "for",
	kwIf: "if", kwImport: "import", kwIn: "in", kwInt: "int", kwIs: "is",
	kwLambda: "lambda", kwMap: "map", kwMixin: "mixin", kwNoneLit: "None",
	kwNot: "not", kwOr: "or", kwProtocol: "protocol", kwRule: "rule",
	kwSchema: "schema", kwStr: "str", kwTrue: "True", kwType: "type",
	kwUndefined: "Undefined",
}

func (k keyword) String() string { return keywordText[k] }

func keywordOf(s string) keyword {
	if len(s) < 2 || len(s) > 9 {
		return kwNone
	}
	for i := kwAll; i <= kwUndefined; i++ {
		if keywordText[i][0] == s[0] && keywordText[i] == s {
			return i
		}
	}
	return kwNone
}

// token is a token; lit is the index of a literal's details, the number of a
// keyword, or the spaces of a misaligned dedent.
type token struct {
	kind       kind
	start, end Pos
	lit        int32
}

type literal struct {
	value, suffix string
	long          bool
	raw           string
}
