package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/understudy-ha/understudy/api"
)

// document is one resource of a file, with where it stands for messages.
type document struct {
	where  string
	object api.Object
}

// maxManifest is the largest file that is read, in bytes: 20,000 resources of usual size.
const maxManifest = 64 << 20

// readManifest reads the resources of a file, or of standard input for "-". Every resource is decoded and validated
// before any is returned; the error lists everything that is wrong.
func (c *console) readManifest(path string) ([]document, error) {
	in, name := c.in, "standard input"
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in, name = f, path
	}
	b, err := io.ReadAll(io.LimitReader(in, maxManifest+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > maxManifest {
		return nil, usagef("%s is larger than %d MiB: want it in parts", name, maxManifest>>20)
	}
	return parseManifest(name, b)
}

func parseManifest(name string, b []byte) ([]document, error) {
	var docs []document
	var bad api.Invalid
	for _, part := range splitDocuments(b) {
		where := fmt.Sprintf("%s:%d", name, part.line)
		raws, err := toJSON(part)
		if err != nil {
			bad.Add(where, yamlError(err), "YAML or JSON")
			continue
		}
		for _, raw := range raws {
			o, err := decodeResource(raw)
			var inv *api.Invalid
			if errors.As(err, &inv) {
				for _, f := range inv.Fields {
					bad.Add(where+": "+orDocument(f.Field), f.Value, f.Want)
				}
				continue
			}
			docs = append(docs, document{where, o})
		}
	}
	if err := bad.Err(); err != nil {
		return nil, err
	}
	if len(docs) == 0 {
		return nil, usagef("%s holds no resource: want documents with apiVersion, kind, metadata and spec", name)
	}
	return docs, sameTwice(docs)
}

func orDocument(field string) string {
	if field == "" {
		return "document"
	}
	return field
}

// decodeResource reads and checks one resource. What is returned is as it was written: the server fills in defaults,
// the tenant among them.
func decodeResource(raw []byte) (api.Object, error) {
	o, err := api.Decode(raw)
	if err != nil {
		return nil, err
	}
	if info, _ := api.LookupKind(string(o.Head().Kind)); info.ReadOnly {
		return nil, &api.Invalid{Fields: []api.FieldError{{Field: "kind", Value: fmt.Sprintf("%q", info.Kind),
			Want: "a kind that people write: " + info.Plural + " are written by controllers alone"}}}
	}
	check, err := api.Decode(raw)
	if err != nil {
		return nil, err
	}
	check.Default()
	return o, check.Validate()
}

func sameTwice(docs []document) error {
	first := map[api.Ref]string{}
	for _, d := range docs {
		ref := d.object.Head().Ref()
		if at, twice := first[ref]; twice {
			return usagef("%s: %s is described a second time; the first is at %s", d.where, shortRef(ref), at)
		}
		first[ref] = d.where
	}
	return nil
}

// part is one document of a file as text: above is how many lines stand before text, line where its first field is.
type part struct {
	above, line int
	text        []byte
}

// splitDocuments splits YAML at its "---" lines. A document that begins with "{" or "[" is JSON, of which several may follow each
// other; toJSON takes those apart.
func splitDocuments(b []byte) []part {
	var parts []part
	cur := part{}
	flush := func() {
		if len(bytes.TrimSpace(withoutComments(cur.text))) > 0 {
			cur.line = cur.above + 1 + leadingBlank(cur.text)
			parts = append(parts, cur)
		}
	}
	for n, line := range bytes.SplitAfter(b, []byte("\n")) {
		if isSeparator(line) {
			flush()
			cur = part{above: n + 1}
			continue
		}
		cur.text = append(cur.text, line...)
	}
	flush()
	return parts
}

func isSeparator(line []byte) bool {
	s := strings.TrimRight(string(line), " \t\r\n")
	return s == "---" || strings.HasPrefix(s, "--- #") || s == "..."
}

func withoutComments(text []byte) []byte {
	var out []byte
	for _, line := range bytes.SplitAfter(text, []byte("\n")) {
		if t := bytes.TrimSpace(line); len(t) > 0 && t[0] != '#' {
			out = append(out, line...)
		}
	}
	return out
}

func leadingBlank(text []byte) int {
	n := 0
	for _, line := range bytes.SplitAfter(text, []byte("\n")) {
		if t := bytes.TrimSpace(line); len(t) > 0 && t[0] != '#' {
			return n
		}
		n++
	}
	return n
}

// toJSON gives the resources of a document: one, those of a JSON stream, or those of a list as `get -o json` writes it.
func toJSON(p part) ([][]byte, error) {
	t := bytes.TrimSpace(p.text)
	if len(t) > 0 && (t[0] == '{' || t[0] == '[') {
		if raws, err := jsonStream(t); err == nil {
			return raws, nil
		}
	}
	// With the lines above it, so that errors name the file's lines.
	raw, err := yaml.YAMLToJSONStrict(append(bytes.Repeat([]byte("\n"), p.above), p.text...))
	if err != nil {
		return nil, err
	}
	return items(raw), nil
}

// yamlError is a parser's complaint on one line.
func yamlError(err error) string {
	text := strings.TrimPrefix(strings.Join(strings.Fields(err.Error()), " "), "yaml: ")
	return strings.TrimPrefix(text, "unmarshal errors: ")
}

func jsonStream(text []byte) ([][]byte, error) {
	var out [][]byte
	d := json.NewDecoder(bytes.NewReader(text))
	for {
		var raw json.RawMessage
		err := d.Decode(&raw)
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		out = append(out, items(raw)...)
	}
}

// items takes a list apart; what is no list is given back as it is, for Decode to judge.
func items(raw []byte) [][]byte {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		var object map[string]json.RawMessage
		if json.Unmarshal(raw, &object) != nil || object["kind"] != nil || object["items"] == nil ||
			json.Unmarshal(object["items"], &list) != nil {
			return [][]byte{raw}
		}
	}
	out := make([][]byte, 0, len(list))
	for _, e := range list {
		out = append(out, e)
	}
	return out
}

// kindRank orders kinds so that what is referred to comes before what refers to it.
var kindRank = map[api.Kind]int{api.KindSecret: 0, api.KindProvider: 1, api.KindNode: 2, api.KindApplianceGroup: 3,
	api.KindSite: 4, api.KindFabric: 5, api.KindVault: 6, api.KindReplicationPolicy: 6, api.KindProcessServer: 6,
	api.KindProtectedMachine: 7, api.KindRecoveryPlan: 8}

// sortForApply puts what others need before them; otherwise the file's order stays.
func sortForApply(docs []document) {
	slices.SortStableFunc(docs, func(a, b document) int {
		return kindRank[a.object.Head().Kind] - kindRank[b.object.Head().Kind]
	})
}
