package api

import (
	"fmt"
	"strings"
)

// FieldError is one thing that is wrong with a resource.
type FieldError struct {
	// Field is the path as the resource is written: "spec.members[1].probe"; "" for the document itself.
	Field string `json:"field"`
	// Value that was found, shortened to 200 bytes; never the value of a secret.
	Value string `json:"value"`
	// Want says what would be right.
	Want string `json:"want"`
}

func (f FieldError) String() string {
	name := f.Field
	if name == "" {
		name = "document"
	}
	if f.Value == "" {
		return fmt.Sprintf("%s is missing: want %s", name, f.Want)
	}
	return fmt.Sprintf("%s: %s: want %s", name, f.Value, f.Want)
}

// Invalid lists everything that is wrong with a resource, in the order of its fields.
type Invalid struct {
	Fields []FieldError `json:"fields"`
}

func (e *Invalid) Error() string {
	lines := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		lines[i] = f.String()
	}
	return strings.Join(lines, "; ")
}

// maxShown is how much of a refused value an error repeats.
const maxShown = 200

// Add notes that field has value, which is wrong, and what would be right. An empty value means "missing".
func (e *Invalid) Add(field, value, want string) {
	if len(value) > maxShown {
		value = strings.ToValidUTF8(value[:maxShown], "") + "…"
	}
	e.Fields = append(e.Fields, FieldError{field, value, want})
}

// Err gives e, or nil if nothing is wrong.
func (e *Invalid) Err() error {
	if len(e.Fields) == 0 {
		return nil
	}
	return e
}

// quote shows a string value so that an empty one is told from a missing one by Add.
func quote(s string) string {
	if s == "" {
		return ""
	}
	return fmt.Sprintf("%q", s)
}
