package reference

import (
	"fmt"
	"io/fs"
	"strings"

	"github.com/understudy-ha/understudy/api"
)

const resourcesIntro = `# Resources

What people write and what the product answers, field by field. This page is written by ` + "`understudy docs`" + ` from the
comments in package api.

Resources are YAML or JSON with ` + "`apiVersion: " + api.Version + "`, `kind`, `metadata` and `spec`" + `. Unknown fields are refused, with what
would be right. A duration is a string with a unit, like "250ms" or "1m30s". What ` + "`status`" + ` holds is written by the controllers alone.

`

// Resources writes the page about the kinds.
func Resources(src fs.FS) (string, error) {
	m, err := Load(src)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(resourcesIntro)
	for _, k := range api.Kinds() {
		fmt.Fprintf(&b, "- [%s](#%s)\n", k.Kind, anchor(string(k.Kind)))
	}
	seen := map[string]bool{"Header": true}
	b.WriteString("\n## metadata\n\nCommon to every resource.\n\n")
	b.WriteString(m.table(m.Structs["Metadata"]))
	seen["Metadata"] = true
	for _, k := range api.Kinds() {
		if err := m.kind(&b, k, seen); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

// kind writes a kind's section. Types that several kinds use stand at the first one.
func (m *Model) kind(b *strings.Builder, k api.KindInfo, seen map[string]bool) error {
	top := m.Structs[string(k.Kind)]
	if top == nil {
		return fmt.Errorf("reference: package api has no type %s", k.Kind)
	}
	fmt.Fprintf(b, "\n## %s\n\n%s\n\nOn the command line: %s.", k.Kind, top.Doc, strings.Join(append([]string{k.Plural}, k.Aliases...), ", "))
	if k.ReadOnly {
		b.WriteString(" Written by controllers alone.")
	}
	b.WriteString("\n")
	for _, s := range m.reach([]string{top.Name}, seen) {
		if s != top {
			fmt.Fprintf(b, "\n### %s\n\n%s\n", s.Name, s.Doc)
		}
		b.WriteString("\n")
		b.WriteString(m.table(s))
	}
	return nil
}

func (m *Model) table(s *Struct) string {
	var b strings.Builder
	b.WriteString("| field | type | meaning |\n|---|---|---|\n")
	for _, f := range s.Fields {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.Name, m.typeWords(f), m.meaning(f))
	}
	return b.String()
}

// typeWords says what is to be written.
func (m *Model) typeWords(f Field) string {
	name := f.Type
	switch {
	case m.Structs[name] != nil:
		name = fmt.Sprintf("[%s](#%s)", name, anchor(name))
	case name == "Duration":
		name = "duration"
	case name == "Time":
		name = "time"
	case m.Enums[name] != nil:
		name = "string"
	case m.Scalars[name] != "":
		name = m.Scalars[name]
	}
	switch name {
	case "bool":
		name = "true or false"
	case "int", "int64", "uint32":
		name = "whole number"
	case "byte":
		return "base64"
	}
	switch {
	case f.List:
		return "list of " + name
	case f.Map:
		return "map to " + name
	}
	return name
}

// meaning is the field's comment with the words that an enum knows.
func (m *Model) meaning(f Field) string {
	doc := f.Doc
	if e := m.Enums[f.Type]; e != nil && len(e.Values) > 0 {
		var list []string
		for _, v := range e.Values {
			item := "`" + v.Text + "`"
			if v.Doc != "" {
				item += " (" + strings.TrimSuffix(v.Doc, ".") + ")"
			}
			list = append(list, item)
		}
		doc = strings.TrimSpace(doc + " One of " + strings.Join(list, ", ") + ".")
	}
	return strings.ReplaceAll(doc, "|", "\\|")
}

func anchor(heading string) string {
	return strings.ReplaceAll(strings.ToLower(heading), " ", "-")
}
