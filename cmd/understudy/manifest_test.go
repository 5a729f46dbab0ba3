package main

import (
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/api"
)

func TestSplitDocuments(t *testing.T) {
	for _, c := range []struct {
		name, text string
		lines      []int
	}{
		{"empty", "", nil},
		{"only comments", "# a\n---\n# b\n", nil},
		{"one", "kind: Node\n", []int{1}},
		{"separator first", "---\nkind: Node\n", []int{2}},
		{"two", "kind: A\n---\nkind: B", []int{1, 3}},
		{"comments and blanks", "# x\n\nkind: A\n--- # next\n\n# y\nkind: B\n...\n", []int{3, 7}},
		{"carriage returns", "kind: A\r\n---\r\nkind: B\r\n", []int{1, 3}},
		{"dashes inside", "a: |\n  ---\n  b\n----\n", []int{1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			parts := splitDocuments([]byte(c.text))
			if len(parts) != len(c.lines) {
				t.Fatalf("%d parts, want %d", len(parts), len(c.lines))
			}
			for i, p := range parts {
				if p.line != c.lines[i] {
					t.Errorf("part %d is at line %d, want %d", i, p.line, c.lines[i])
				}
			}
		})
	}
}

func TestManifestForms(t *testing.T) {
	const node = `{"apiVersion":"understudy/v1","kind":"Node","metadata":{"name":"NAME"}}`
	a, b := strings.Replace(node, "NAME", "a", 1), strings.Replace(node, "NAME", "b", 1)
	for name, text := range map[string]string{
		"JSON stream":       a + b,
		"JSON lines":        a + "\n" + b + "\n",
		"JSON list":         "[" + a + "," + b + "]",
		"items":             `{"items":[` + a + "," + b + "]}",
		"items as YAML":     "items:\n- " + a + "\n- " + b + "\n",
		"documents":         a + "\n---\n" + b,
		"YAML in flow form": strings.ReplaceAll(a, `"`, "'") + "\n---\n" + strings.ReplaceAll(b, `"`, "'"),
	} {
		t.Run(name, func(t *testing.T) {
			docs, err := parseManifest("x", []byte(text))
			if err != nil || len(docs) != 2 {
				t.Fatalf("%d resources (%v), want 2", len(docs), err)
			}
			for i, want := range []string{"a", "b"} {
				m := docs[i].object.Head().Metadata
				if m.Name != want || m.Tenant != "" {
					t.Errorf("resource %d is %q of tenant %q: want %q, its tenant left to the server", i, m.Name, m.Tenant, want)
				}
			}
		})
	}
}

func TestSortForApply(t *testing.T) {
	docs := []document{{"1", new(api.ApplianceGroup)}, {"2", new(api.Node)}, {"3", new(api.Provider)}, {"4", new(api.Node)}, {"5", new(api.Secret)}}
	for i, k := range []api.Kind{api.KindApplianceGroup, api.KindNode, api.KindProvider, api.KindNode, api.KindSecret} {
		docs[i].object.Head().Kind = k
	}
	sortForApply(docs)
	var got []string
	for _, d := range docs {
		got = append(got, d.where)
	}
	if s := strings.Join(got, " "); s != "5 3 2 4 1" {
		t.Errorf("order is %s", s)
	}
}

func TestSortForApplyOfMachines(t *testing.T) {
	order := []api.Kind{api.KindSecret, api.KindNode, api.KindApplianceGroup, api.KindSite, api.KindFabric, api.KindVault, api.KindReplicationPolicy,
		api.KindProcessServer, api.KindProtectedMachine, api.KindRecoveryPlan}
	var docs []document
	for _, k := range order {
		info, _ := api.LookupKind(string(k))
		o := info.New()
		o.Head().Kind = k
		docs = append([]document{{string(k), o}}, docs...)
	}
	sortForApply(docs)
	at := map[api.Kind]int{}
	for i, d := range docs {
		at[d.object.Head().Kind] = i
	}
	for _, c := range [][2]api.Kind{{api.KindNode, api.KindSite}, {api.KindSite, api.KindFabric}, {api.KindFabric, api.KindProtectedMachine}, {api.KindSecret, api.KindVault},
		{api.KindSite, api.KindVault}, {api.KindSite, api.KindProcessServer}, {api.KindVault, api.KindProtectedMachine}, {api.KindReplicationPolicy, api.KindProtectedMachine},
		{api.KindProcessServer, api.KindProtectedMachine}, {api.KindProtectedMachine, api.KindRecoveryPlan}, {api.KindApplianceGroup, api.KindRecoveryPlan}} {
		if at[c[0]] > at[c[1]] {
			t.Errorf("%s comes after %s, which refers to it", c[0], c[1])
		}
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte("apiVersion: understudy/v1\nkind: Node\nmetadata: {name: a}\n---\n{}\n"))
	f.Add([]byte(`{"items":[{"kind":"Secret","data":{"a":"b"}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		docs, err := parseManifest("x", text)
		if err == nil && len(docs) == 0 {
			t.Error("neither resources nor an error")
		}
	})
}
