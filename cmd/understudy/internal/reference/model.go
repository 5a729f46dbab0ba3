// Package reference writes the reference pages: the resources from the comments in package api, the command line from
// its commands. The same input gives the same bytes.
package reference

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Model is what package api says of its types, by name.
type Model struct {
	Structs map[string]*Struct
	// Enums are the string types that have constants.
	Enums map[string]*Enum
	// Scalars are the other named types, with what they are written as.
	Scalars map[string]string
}

// Struct is one type with fields.
type Struct struct {
	Name, Doc string
	Fields    []Field
}

// Field of a Struct.
type Field struct {
	// Name as it is written in a resource, GoName as it is in the comments.
	Name, GoName string
	// Type is the element's Go name ("Probe", "string"); List and Map tell how many there are of it.
	Type      string
	List, Map bool
	Doc       string
}

// Enum is a set of words.
type Enum struct {
	Doc    string
	Values []Value
}

// Value of an Enum.
type Value struct{ Text, Doc string }

// Load reads the Go files of packages, tests left out. Of types with one name the last stays.
func Load(packages ...fs.FS) (*Model, error) {
	m := &Model{Structs: map[string]*Struct{}, Enums: map[string]*Enum{}, Scalars: map[string]string{}}
	var files []*ast.File
	for _, src := range packages {
		more, err := parse(src)
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	for _, f := range files {
		eachSpec(f, token.TYPE, m.addType)
	}
	for _, f := range files {
		eachSpec(f, token.CONST, m.addValue)
	}
	return m, nil
}

func parse(src fs.FS) (files []*ast.File, err error) {
	names, err := fs.Glob(src, "*.go")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := fs.ReadFile(src, name)
		if err != nil {
			return nil, err
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments)
		if err != nil {
			return nil, fmt.Errorf("read the comments of %s: %w", name, err)
		}
		files = append(files, f)
	}
	return files, nil
}

// eachSpec calls see with every declaration of a kind at the top of f, and the comment above its group.
func eachSpec(f *ast.File, kind token.Token, see func(spec ast.Spec, groupDoc string)) {
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != kind {
			continue
		}
		doc := ""
		if !g.Lparen.IsValid() {
			doc = words(g.Doc)
		}
		for _, s := range g.Specs {
			see(s, doc)
		}
	}
}

func (m *Model) addType(spec ast.Spec, groupDoc string) {
	t := spec.(*ast.TypeSpec)
	doc := strings.TrimSpace(groupDoc + " " + words(t.Doc))
	switch x := t.Type.(type) {
	case *ast.StructType:
		s := &Struct{Name: t.Name.Name, Doc: doc}
		for _, f := range x.Fields.List {
			if len(f.Names) > 0 { // an embedded one is the Header, which every resource has
				s.Fields = append(s.Fields, fieldOf(f))
			}
		}
		shareComments(s.Fields)
		m.Structs[s.Name] = s
	case *ast.Ident:
		if x.Name == "string" {
			m.Enums[t.Name.Name] = &Enum{Doc: doc}
			return
		}
		m.Scalars[t.Name.Name] = x.Name
	case *ast.SelectorExpr:
		m.Scalars[t.Name.Name] = x.Sel.Name
	}
}

// fieldOf reads a field.
func fieldOf(f *ast.Field) Field {
	out := Field{GoName: f.Names[0].Name, Doc: strings.TrimSpace(words(f.Doc) + " " + words(f.Comment))}
	if f.Tag != nil {
		tag, err := strconv.Unquote(f.Tag.Value)
		if err == nil {
			out.Name, _, _ = strings.Cut(reflect.StructTag(tag).Get("json"), ",")
		}
	}
	x := f.Type
	for {
		switch t := x.(type) {
		case *ast.StarExpr:
			x = t.X
		case *ast.ArrayType:
			out.List, x = true, t.Elt
		case *ast.MapType:
			out.Map, x = true, t.Value
		case *ast.SelectorExpr:
			out.Type = t.Sel.Name // time.Time
			return out
		case *ast.Ident:
			out.Type = t.Name
			return out
		default:
			return out
		}
	}
}

func (m *Model) addValue(spec ast.Spec, groupDoc string) {
	v := spec.(*ast.ValueSpec)
	id, ok := v.Type.(*ast.Ident)
	if !ok || len(v.Values) == 0 || m.Enums[id.Name] == nil {
		return
	}
	lit, ok := v.Values[0].(*ast.BasicLit)
	if !ok {
		return
	}
	text, err := strconv.Unquote(lit.Value)
	if err != nil {
		return
	}
	doc := strings.TrimSpace(groupDoc + " " + words(v.Doc) + " " + words(v.Comment))
	for _, n := range v.Names {
		doc = strings.TrimPrefix(strings.TrimPrefix(doc, n.Name+":"), n.Name)
	}
	m.Enums[id.Name].Values = append(m.Enums[id.Name].Values, Value{text, strings.TrimSpace(doc)})
}

// shareComments gives a field without a comment that of the field before it, if that begins by speaking of both.
func shareComments(fields []Field) {
	for i := 1; i < len(fields); i++ {
		before := strings.Fields(fields[i-1].Doc)
		about := min(len(before), 4)
		if fields[i].Doc == "" && slices.Contains(before[:about], fields[i].GoName) {
			fields[i].Doc = "See `" + fields[i-1].Name + "`."
		}
	}
}

// reach lists the structs that are used by the fields of the named ones, in the order they are met, those in seen left out.
func (m *Model) reach(names []string, seen map[string]bool) []*Struct {
	var out []*Struct
	for len(names) > 0 {
		s := m.Structs[names[0]]
		names = names[1:]
		if s == nil || seen[s.Name] {
			continue
		}
		seen[s.Name] = true
		out = append(out, s)
		for _, f := range s.Fields {
			names = append(names, f.Type)
		}
	}
	return slices.Clip(out)
}

// words gives a comment as one line.
func words(c *ast.CommentGroup) string {
	return strings.Join(strings.Fields(c.Text()), " ")
}
