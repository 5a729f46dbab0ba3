package hanva_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/cloud/azure"
	"github.com/understudy-ha/understudy/cmd/understudy/internal/hanva"
)

var update = flag.Bool("update", false, "write the golden files anew")

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func facts(t *testing.T) (f hanva.Facts) {
	t.Helper()
	for _, name := range []string{"nics.json", "tables.json"} {
		if err := f.Add(name, read(t, name)); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func text(t *testing.T, r hanva.Result) string {
	t.Helper()
	var b strings.Builder
	for _, w := range r.Warnings {
		b.WriteString("# " + w + "\n")
	}
	for _, o := range r.Objects {
		doc, err := yaml.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString("---\n" + string(doc))
	}
	return b.String()
}

func TestSample(t *testing.T) {
	for _, c := range []struct {
		golden       string
		facts        hanva.Facts
		placeholders bool
	}{
		{"known.yaml", facts(t), false},
		{"unknown.yaml", hanva.Facts{}, true},
	} {
		t.Run(c.golden, func(t *testing.T) {
			r, err := hanva.Convert(read(t, "sample.json"), hanva.Options{Facts: c.facts})
			if err != nil {
				t.Fatal(err)
			}
			if r.Placeholders != c.placeholders {
				t.Errorf("placeholders is %v", r.Placeholders)
			}
			got := text(t, r)
			if *update {
				if err := os.WriteFile(filepath.Join("testdata", c.golden), []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := string(read(t, c.golden)); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			plannable(t, r)
		})
	}
}

// plannable makes sure that a move of the converted group has a plan, onto whichever member.
func plannable(t *testing.T, r hanva.Result) {
	t.Helper()
	p, g := r.Objects[1].(*api.Provider), r.Objects[2].(*api.ApplianceGroup)
	p.Default()
	g.Default()
	for _, m := range g.Spec.Members {
		steps, err := azure.Planner{}.Plan(cloud.Move{Group: g, Provider: p, To: m.Name, Generation: 1})
		if err != nil || len(steps) != 4 {
			t.Errorf("onto %s: %d steps (%v), want two tables, one detach and one attach", m.Name, len(steps), err)
		}
	}
}

// TestRoutesThatPointElsewhereStay: the daemon moved just the routes whose next hop was a member.
func TestRoutesThatPointElsewhereStay(t *testing.T) {
	r, err := hanva.Convert(read(t, "sample.json"), hanva.Options{Facts: facts(t)})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, table := range r.Objects[2].(*api.ApplianceGroup).Spec.RouteTables {
		for _, rt := range table.Routes {
			names = append(names, rt.Name+" by "+rt.NIC)
		}
	}
	if want := []string{"to-internet by nic2", "to-mgmt by nic2", "to-web by nic3"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
}

func TestWarnings(t *testing.T) {
	for _, c := range []struct{ name, old, new, want string }{
		{"certificate", `"clientSecret": "not-a-real-secret"`, `"clientCertificate": {"keyStorePath": "/a.jks", "keyStorePassword": "x", "certificatePassword": "y"}`, "managed identity"},
		{"certificate of older files", `"clientSecret": "not-a-real-secret"`, `"keyStorePath": "/a.jks", "keyStorePassword": "x", "certificatePassword": "y"`, "managed identity"},
		{"unknown field", `"probePort": 54321`, `"probePath": "/", "probePort": 54321`, "daemon.monitors[0].settings.nvas[0].probePath: has no counterpart"},
		{"address without a NIC", `"publicIpAddresses": [`, `"publicIpAddresses": [{"name": "nic9", "id": "x"},`, `"nic9" is the name of no network interface`},
		{"second monitor", `"monitors": [`, `"monitors": [FIRST,`, "daemon.monitors[1]: left out"},
		{"another class", `.AzureProbeMonitor`, `.Other`, "is not the daemon's AzureProbeMonitor"},
		{"names", `"name": "nic3"`, `"name": "Management NIC"`, `"Management NIC" is written "management-nic"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			doc := string(read(t, "sample.json"))
			if c.name == "second monitor" {
				start, end := strings.Index(doc, `"monitors": [`)+len(`"monitors": [`), strings.LastIndex(doc, "]")
				c.new = strings.Replace(c.new, "FIRST", doc[start:end], 1)
			}
			edited := strings.ReplaceAll(doc, c.old, c.new)
			if edited == doc {
				t.Fatalf("%q is not in the sample", c.old)
			}
			r, err := hanva.Convert([]byte(edited), hanva.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(strings.Join(r.Warnings, "\n"), c.want) {
				t.Errorf("got %q, want one with %q", r.Warnings, c.want)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	const id = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/dmz/providers/Microsoft.Network/"
	for _, c := range []struct{ name, old, new, field, want string }{
		{"not JSON", `{`, `<`, "", "the JSON file"},
		{"wrong type", `"probePort": 54321`, `"probePort": "54321"`, "", "the JSON file"},
		{"no monitors", `"monitors"`, `"observers"`, "daemon.monitors", "at least one monitor"},
		{"no appliances", `"nvas"`, `"firewalls"`, "daemon.monitors[0].settings.nvas", "2 to 8"},
		{"placeholder of the sample", `"` + id + `routeTables/web"`, `"<route_table_1_id>"`, "daemon.monitors[0].settings.routeTables[0]", "full ARM id"},
		{"NIC that does not pair", `"name": "nic3", "id": "` + id + `networkInterfaces/nva2-mgmt"`, `"name": "nic4", "id": "` + id + `networkInterfaces/nva2-mgmt"`,
			"daemon.monitors[0].settings.nvas[1].networkInterfaces[2].name", "names pair them"},
		{"port", `"probePort": 54321`, `"probePort": 0`, "daemon.monitors[0].settings.nvas[0].probePort", "1 to 65535"},
		{"probed NIC", `"probeNetworkInterface": "` + id, `"probeNetworkInterface": "nva/`, "daemon.monitors[0].settings.nvas[0].probeNetworkInterface", "full ARM id"},
		{"threshold", `"numberOfFailuresThreshold": 3`, `"numberOfFailuresThreshold": 0, "probePollingInterval": 1`, "spec.probe.interval", "5ms to 1h"},
	} {
		t.Run(c.name, func(t *testing.T) {
			doc := string(read(t, "sample.json"))
			edited := strings.ReplaceAll(doc, c.old, c.new)
			if edited == doc {
				t.Fatalf("%q is not in the sample", c.old)
			}
			_, err := hanva.Convert([]byte(edited), hanva.Options{})
			var bad *api.Invalid
			if !errors.As(err, &bad) {
				t.Fatalf("got %v, want *api.Invalid", err)
			}
			if !slices.ContainsFunc(bad.Fields, func(f api.FieldError) bool { return f.Field == c.field && strings.Contains(f.Want, c.want) }) {
				t.Errorf("got %v, want field %q with advice %q", err, c.field, c.want)
			}
		})
	}
}

func TestFactsRefuseWhatIsNoList(t *testing.T) {
	var f hanva.Facts
	if err := f.Add("x.json", []byte(`{"id": "a"}`)); err == nil || !strings.Contains(err.Error(), "az network nic list") {
		t.Errorf("got %v", err)
	}
}

func FuzzConvert(f *testing.F) {
	f.Add(read(f, "sample.json"), read(f, "tables.json"))
	f.Add([]byte(`{"daemon":{"monitors":[{"settings":{"nvas":[{"networkInterfaces":null}]}}]}}`), []byte(`[{"ipConfigurations":[null]}]`))
	f.Fuzz(func(t *testing.T, doc, az []byte) {
		o := hanva.Options{}
		if o.Facts.Add("az", az) != nil {
			o.Facts = hanva.Facts{}
		}
		r, err := hanva.Convert(doc, o)
		if err != nil {
			return
		}
		for _, x := range r.Objects {
			x.Default()
			if err := x.Validate(); err != nil {
				t.Errorf("%s: %v", x.Head().Kind, err)
			}
		}
	})
}
