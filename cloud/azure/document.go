package azure

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// document is an ARM resource with all its fields, known or not. Numbers keep their text.
type document map[string]any

func parseDocument(b []byte) (document, error) {
	var d document
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if err := dec.Decode(&d); err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	if d == nil {
		return nil, errors.New("not a JSON object: null")
	}
	return d, nil
}

func object(m map[string]any, field string) map[string]any {
	o, _ := m[field].(map[string]any)
	return o
}

func text(m map[string]any, field string) string {
	t, _ := m[field].(string)
	return t
}

// objects gives the objects of an array; changing them changes the document.
func objects(m map[string]any, field string) []map[string]any {
	l, _ := m[field].([]any)
	var out []map[string]any
	for _, e := range l {
		if o, ok := e.(map[string]any); ok {
			out = append(out, o)
		}
	}
	return out
}

func (d document) properties() map[string]any { return object(d, "properties") }
func (d document) etag() string               { return text(d, "etag") }

// state is the provisioning state, "Succeeded" for a resource that has none.
func (d document) state() string {
	if s := text(d.properties(), "provisioningState"); s != "" {
		return s
	}
	return "Succeeded"
}

// working tells whether an operation is running on the resource.
func (d document) working() bool {
	switch strings.ToLower(d.state()) {
	case "succeeded", "failed", "canceled":
		return false
	}
	return true
}

func (d document) succeeded() bool { return strings.EqualFold(d.state(), "Succeeded") }

// tag gives a tag's value. Tag names know no case.
func (d document) tag(name string) string {
	tags := object(d, "tags")
	for k := range tags {
		if strings.EqualFold(k, name) {
			return text(tags, k)
		}
	}
	return ""
}

func (d document) setTag(name, value string) {
	tags := object(d, "tags")
	if tags == nil {
		tags = map[string]any{}
		d["tags"] = tags
	}
	for k := range tags {
		if strings.EqualFold(k, name) {
			delete(tags, k)
		}
	}
	tags[name] = value
}

// configurations are the IP configurations of a NIC.
func (d document) configurations() []map[string]any {
	return objects(d.properties(), "ipConfigurations")
}

// configuration finds an IP configuration by name; "" is the primary one, or the first if none says it is.
func (d document) configuration(name string) map[string]any {
	all := d.configurations()
	for _, c := range all {
		if name != "" && strings.EqualFold(text(c, "name"), name) {
			return c
		}
		if primary, _ := object(c, "properties")["primary"].(bool); name == "" && primary {
			return c
		}
	}
	if name == "" && len(all) > 0 {
		return all[0]
	}
	return nil
}

// addressOf gives the id of the public address of an IP configuration, or "".
func addressOf(configuration map[string]any) string {
	return text(object(object(configuration, "properties"), "publicIPAddress"), "id")
}

func clearAddress(configuration map[string]any) {
	delete(object(configuration, "properties"), "publicIPAddress")
}

func setAddress(configuration map[string]any, id string) {
	p := object(configuration, "properties")
	if p == nil {
		p = map[string]any{}
		configuration["properties"] = p
	}
	p["publicIPAddress"] = map[string]any{"id": id}
}

// route finds a route by name, else by prefix: a table has each prefix at most once.
func (d document) route(name, prefix string) map[string]any {
	all := objects(d.properties(), "routes")
	for _, r := range all {
		if strings.EqualFold(text(r, "name"), name) {
			return r
		}
	}
	for _, r := range all {
		if text(object(r, "properties"), "addressPrefix") == prefix {
			return r
		}
	}
	return nil
}
