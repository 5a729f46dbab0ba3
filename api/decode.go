package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// maxDepth of nesting in a document; resources need 8.
const maxDepth = 32

// Decode reads one resource strictly: a field that does not exist, is spelled in another case, stands twice or has
// the wrong type is refused with its path. The error is an *Invalid. Nothing is filled in or validated; call
// Default and Validate for that.
func Decode(doc []byte) (Object, error) {
	tree, err := parse(doc)
	if err != nil {
		return nil, err
	}
	var bad Invalid
	top, ok := tree.(map[string]any)
	if !ok {
		bad.Add("", show(tree), "an object with apiVersion, kind and metadata")
		return nil, &bad
	}
	kind, _ := top["kind"].(string)
	info, ok := LookupKind(kind)
	if !ok || string(info.Kind) != kind {
		bad.Add("kind", show(top["kind"]), kindNames())
		return nil, &bad
	}
	return decodeInto(doc, tree, info)
}

// DecodeAs is Decode for a document that must be, or leaves out that it is, of one kind.
func DecodeAs(kind Kind, doc []byte) (Object, error) {
	tree, err := parse(doc)
	if err != nil {
		return nil, err
	}
	info, ok := LookupKind(string(kind))
	if !ok {
		return nil, &Invalid{Fields: []FieldError{{"kind", quote(string(kind)), kindNames()}}}
	}
	if top, ok := tree.(map[string]any); ok {
		if k, has := top["kind"]; has && k != string(kind) {
			return nil, &Invalid{Fields: []FieldError{{"kind", show(k), quote(string(kind))}}}
		}
	}
	return decodeInto(doc, tree, info)
}

func decodeInto(doc []byte, tree any, info KindInfo) (Object, error) {
	obj := info.New()
	var bad Invalid
	match(&bad, "", tree, reflect.TypeOf(obj).Elem())
	if err := bad.Err(); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(doc, obj); err != nil {
		bad.Add("", err.Error(), "a "+string(info.Kind))
		return nil, &bad
	}
	return obj, nil
}

func kindNames() string {
	var names []string
	for _, k := range Kinds() {
		names = append(names, string(k.Kind))
	}
	return "one of " + strings.Join(names, ", ")
}

// parse reads one JSON value into maps, slices, strings, json.Numbers and bools. encoding/json would take the last of
// two equal fields without a word.
func parse(doc []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	v, err := parseValue(d, "", 0)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = &Invalid{Fields: []FieldError{{"", "more after the first value", "one JSON value"}}}
		}
	}
	if err == nil {
		return v, nil
	}
	if bad, ok := err.(*Invalid); ok {
		return nil, bad
	}
	var bad Invalid
	bad.Add("", fmt.Sprintf("%v (at byte %d)", err, d.InputOffset()), "JSON")
	return nil, &bad
}

func parseValue(d *json.Decoder, path string, depth int) (any, error) {
	if depth > maxDepth {
		return nil, &Invalid{Fields: []FieldError{{path, "nested too deep", fmt.Sprintf("at most %d levels", maxDepth)}}}
	}
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		return parseObject(d, path, depth)
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, err := parseValue(d, fmt.Sprintf("%s[%d]", path, len(list)), depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := d.Token()
		return list, err
	}
	return t, nil
}

func parseObject(d *json.Decoder, path string, depth int) (any, error) {
	m := map[string]any{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		key, ok := t.(string)
		if !ok {
			return nil, fmt.Errorf("field name %v", t)
		}
		field := join(path, key)
		if _, twice := m[key]; twice {
			return nil, &Invalid{Fields: []FieldError{{field, "given twice", "it once"}}}
		}
		if m[key], err = parseValue(d, field, depth+1); err != nil {
			return nil, err
		}
	}
	_, err := d.Token()
	return m, err
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

var (
	durationType = reflect.TypeFor[Duration]()
	timeType     = reflect.TypeFor[time.Time]()
)

// match notes everything in v that a value of type t cannot take. A null stands for a field that was left out.
func match(bad *Invalid, path string, v any, t reflect.Type) {
	if v == nil {
		return
	}
	switch {
	case t.Kind() == reflect.Pointer:
		match(bad, path, v, t.Elem())
	case t == durationType:
		s, ok := v.(string)
		if _, err := time.ParseDuration(s); !ok || err != nil {
			bad.Add(path, show(v), `a string with a unit, like "250ms" or "1m30s"`)
		}
	case t == timeType:
		s, ok := v.(string)
		if err := new(time.Time).UnmarshalText([]byte(s)); !ok || err != nil {
			bad.Add(path, show(v), `a time like "2026-01-02T15:04:05Z"`)
		}
	case t.Kind() == reflect.Struct:
		matchStruct(bad, path, v, t)
	case t.Kind() == reflect.Slice:
		list, ok := v.([]any)
		if !ok {
			bad.Add(path, show(v), "a list")
		}
		for i, e := range list {
			match(bad, fmt.Sprintf("%s[%d]", path, i), e, t.Elem())
		}
	case t.Kind() == reflect.Map:
		m, ok := v.(map[string]any)
		if !ok {
			bad.Add(path, show(v), "an object")
		}
		for _, k := range sortedKeys(m) {
			match(bad, join(path, k), m[k], t.Elem())
		}
	default:
		matchScalar(bad, path, v, t)
	}
}

func matchScalar(bad *Invalid, path string, v any, t reflect.Type) {
	switch t.Kind() {
	case reflect.String:
		if _, ok := v.(string); !ok {
			bad.Add(path, show(v), "a string")
		}
	case reflect.Bool:
		if _, ok := v.(bool); !ok {
			bad.Add(path, show(v), "true or false")
		}
	case reflect.Int, reflect.Int64:
		n, ok := v.(json.Number)
		if _, err := strconv.ParseInt(string(n), 10, t.Bits()); !ok || err != nil {
			bad.Add(path, show(v), "a whole number")
		}
	case reflect.Float64:
		n, ok := v.(json.Number)
		if _, err := strconv.ParseFloat(string(n), 64); !ok || err != nil {
			bad.Add(path, show(v), "a number")
		}
	case reflect.Uint32, reflect.Uint64:
		n, ok := v.(json.Number)
		if _, err := strconv.ParseUint(string(n), 10, t.Bits()); !ok || err != nil {
			bad.Add(path, show(v), "a whole number from 0")
		}
	}
}

func matchStruct(bad *Invalid, path string, v any, t reflect.Type) {
	m, ok := v.(map[string]any)
	if !ok {
		bad.Add(path, show(v), "an object")
		return
	}
	fields := map[string]reflect.Type{}
	names := fieldsOf(t, fields, nil)
	for _, k := range sortedKeys(m) {
		if ft, ok := fields[k]; ok {
			match(bad, join(path, k), m[k], ft)
			continue
		}
		bad.Add(join(path, k), "unknown field", didYouMean(k, names))
	}
}

// fieldsOf collects the JSON names of t's fields, those of embedded structs included, in order.
func fieldsOf(t reflect.Type, fields map[string]reflect.Type, names []string) []string {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			names = fieldsOf(f.Type, fields, names)
			continue
		}
		fields[name] = f.Type
		names = append(names, name)
	}
	return names
}

func didYouMean(field string, names []string) string {
	for _, n := range names {
		if strings.EqualFold(n, field) || strings.EqualFold(n, field+"s") || strings.EqualFold(n+"s", field) {
			return fmt.Sprintf("%q", n)
		}
	}
	return "one of " + strings.Join(names, ", ")
}

// show gives a value as JSON, and "" for a missing one.
func show(v any) string {
	if v == nil {
		return ""
	}
	if s, ok := v.(string); ok {
		return fmt.Sprintf("%q", s)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}
