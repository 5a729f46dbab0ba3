package api_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/api"
)

const group = `{
 "apiVersion":"understudy/v1","kind":"ApplianceGroup","metadata":{"name":"dmz"},
 "spec":{"serves":["Internet","Workload"],"provider":"lab","profile":"fast",
  "members":[
   {"name":"nva1","node":"nva1","nics":[{"name":"outside","address":"10.0.1.4"},{"name":"inside","address":"10.0.2.4"}],"probe":"10.0.1.4"},
   {"name":"nva2","node":"nva2","nics":[{"name":"outside","address":"10.0.1.5"},{"name":"inside","address":"10.0.2.5"}],"probe":"10.0.1.5:8080"}],
  "probe":{"protocol":"http","port":80},
  "publicAddresses":[{"name":"web","id":"router","address":"203.0.113.10","nic":"outside"}],
  "routeTables":[{"id":"router/100","routes":[{"prefix":"0.0.0.0/0","nic":"inside"}]}]}}`

func load(doc string) error {
	o, err := api.Decode([]byte(doc))
	if err != nil {
		return err
	}
	o.Default()
	return o.Validate()
}

func TestGroupIsValidAndDefaultsHold(t *testing.T) {
	o, err := api.Decode([]byte(group))
	if err != nil {
		t.Fatal(err)
	}
	o.Default()
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	g := o.(*api.ApplianceGroup)
	p := g.Spec.Probe
	if p.Interval.String() != "15ms" || p.Timeout.String() != "30ms" || p.Rise != 10 || p.Fall != 5 || p.Path != "/" {
		t.Errorf("fast probe is %+v", p)
	}
	if got := g.Spec.RouteTables[0].Routes[0].Name; got != "0-0-0-0-0" {
		t.Errorf("route name is %q", got)
	}
	if g.Metadata.Tenant != "default" || g.Spec.Failback.Policy != api.Manual || g.Spec.Failover.Policy != api.Automatic {
		t.Errorf("defaults: %+v", g)
	}
	first, _ := json.Marshal(o)
	o.Default()
	if second, _ := json.Marshal(o); string(first) != string(second) {
		t.Errorf("a second Default changed\n%s\nto\n%s", first, second)
	}
}

func TestBalancedProfile(t *testing.T) {
	p := api.ProbeDefaults(api.ProfileBalanced)
	if p.Interval.String() != "1s" || p.Timeout.String() != "1s" || p.Rise != 2 || p.Fall != 3 {
		t.Errorf("balanced probe is %+v", p)
	}
}

// TestRefusals edits the valid group in one place and expects a refusal of that field with that advice.
func TestRefusals(t *testing.T) {
	for _, c := range []struct{ name, old, new, field, want string }{
		{"unknown field", `"serves":`, `"color":"red","serves":`, "spec.color", "one of mode, serves"},
		{"unknown field deep", `"nic":"outside"`, `"nic":"outside","mac":"x"`, "spec.publicAddresses[0].mac", "one of name, id"},
		{"wrong case", `"profile"`, `"Profile"`, "spec.Profile", `"profile"`},
		{"singular", `"routeTables"`, `"routeTable"`, "spec.routeTable", `"routeTables"`},
		{"twice", `"profile":"fast"`, `"profile":"fast","profile":"fast"`, "spec.profile", "it once"},
		{"not a list", `["Internet","Workload"]`, `"Internet"`, "spec.serves", "a list"},
		{"not a string", `"provider":"lab"`, `"provider":7`, "spec.provider", "a string"},
		{"bare duration", `"port":80`, `"port":80,"interval":15`, "spec.probe.interval", "with a unit"},
		{"fraction", `"port":80`, `"port":80.5`, "spec.probe.port", "whole number"},
		{"api version", `understudy/v1`, `understudy/v9`, "apiVersion", `"understudy/v1"`},
		{"kind", `"ApplianceGroup"`, `"Appliance"`, "kind", "ApplianceGroup"},
		{"name", `"name":"dmz"`, `"name":"DMZ"`, "metadata.name", "1 to 63 of a-z"},
		{"tenant", `"name":"dmz"`, `"name":"dmz","tenant":"a/b"`, "metadata.tenant", "1 to 63 of a-z"},
		{"no audience", `["Internet","Workload"]`, `[]`, "spec.serves", "at least one"},
		{"audience", `"Workload"`, `"Everybody"`, "spec.serves[1]", "OnPremises"},
		{"no provider", `"provider":"lab",`, ``, "spec.provider", "1 to 63"},
		{"profile", `"fast"`, `"slow"`, "spec.profile", "fast, balanced"},
		{"one member twice", `"name":"nva2"`, `"name":"nva1"`, "spec.members[1].name", "not taken by spec.members[0].name"},
		{"member without probe", `,"probe":"10.0.1.4"`, ``, "spec.members[0].probe", "an address to probe"},
		{"member probe name", `"probe":"10.0.1.4"`, `"probe":"nva1:80"`, "spec.members[0].probe", "an address to probe"},
		{"no port", `,"port":80`, ``, "spec.members[0].probe", "10.0.1.4:443"},
		{"nic address", `"address":"10.0.2.4"`, `"address":"10.0.2"`, "spec.members[0].nics[1].address", "an IP address"},
		{"nic address twice", `"address":"10.0.2.5"`, `"address":"10.0.2.4"`, "spec.members[1].nics[1].address", "not taken"},
		{"nic pairs", `"name":"inside","address":"10.0.2.5"`, `"name":"lan","address":"10.0.2.5"`, "spec.members[1].nics", "the names that"},
		{"port", `"port":80`, `"port":70000`, "spec.probe.port", "0 to 65535"},
		{"interval", `"port":80`, `"port":80,"interval":"1ms"`, "spec.probe.interval", "5ms to 1h"},
		{"timeout", `"port":80`, `"port":80,"timeout":"2m"`, "spec.probe.timeout", "5ms to 1m"},
		{"rise", `"port":80`, `"port":80,"rise":101`, "spec.probe.rise", "1 to 100"},
		{"fall", `"port":80`, `"port":80,"fall":-1`, "spec.probe.fall", "1 to 100"},
		{"path", `"port":80`, `"port":80,"path":"health"`, "spec.probe.path", `starts with "/"`},
		{"path with tcp", `"protocol":"http"`, `"protocol":"tcp","path":"/x"`, "spec.probe.path", "none with tcp"},
		{"unknown nic", `"nic":"outside"`, `"nic":"wan"`, "spec.publicAddresses[0].nic", "outside, inside"},
		{"address", `203.0.113.10`, `203.0.113.300`, "spec.publicAddresses[0].address", "an IP address"},
		{"no address", `"id":"router","address":"203.0.113.10",`, ``, "spec.publicAddresses[0].address", "or an id"},
		{"cidr", `0.0.0.0/0`, `10.0.0.0`, "spec.routeTables[0].routes[0].prefix", "CIDR form"},
		{"host bits", `0.0.0.0/0`, `10.2.3.4/16`, "spec.routeTables[0].routes[0].prefix", "10.2.0.0/16"},
		{"sources", `"routes":[`, `"sources":["10.1.2.3/24"],"routes":[`, "spec.routeTables[0].sources[0]", "10.1.2.0/24"},
		{"table", `router/100`, `router/main`, "spec.routeTables[0].id", "NODE/TABLE"},
		{"no routes", `[{"prefix":"0.0.0.0/0","nic":"inside"}]`, `[]`, "spec.routeTables[0].routes", "at least one route"},
		{"drain without node", `"node":"nva1",`, ``, "spec.members[0].node", "drain"},
		{"damping", `"profile":`, `"failover":{"damping":{"moves":1001}},"profile":`, "spec.failover.damping.moves", "1 to 1000"},
		{"hold", `"profile":`, `"failback":{"hold":"169h"},"profile":`, "spec.failback.hold", "0s to 168h"},
		{"hook both", `"profile":`, `"hooks":{"before":[{"name":"a","url":"http://x/","exec":"y"}]},"profile":`, "spec.hooks.before[0]", "exactly one"},
		{"hook path", `"profile":`, `"hooks":{"after":[{"name":"a","exec":"../y"}]},"profile":`, "spec.hooks.after[0].exec", "without a path"},
		{"hook url", `"profile":`, `"hooks":{"after":[{"name":"a","url":"ftp://x/"}]},"profile":`, "spec.hooks.after[0].url", "https or http"},
	} {
		t.Run(c.name, func(t *testing.T) {
			doc := strings.Replace(group, `"profile":"fast",`, `"profile":"fast","drain":{"period":"1s"},`, 1)
			edited := strings.Replace(doc, c.old, c.new, 1)
			if edited == doc {
				t.Fatalf("%q is not in the document", c.old)
			}
			refused(t, load(edited), c.field, c.want)
		})
	}
}

func TestOtherRefusals(t *testing.T) {
	provider := func(spec string) string {
		return `{"apiVersion":"understudy/v1","kind":"Provider","metadata":{"name":"p"},"spec":` + spec + `}`
	}
	for _, c := range []struct{ name, doc, field, want string }{
		{"empty", ``, "", "JSON"},
		{"not an object", `[]`, "", "an object"},
		{"two documents", `{} {}`, "", "one JSON value"},
		{"deep", strings.Repeat("[", 40) + strings.Repeat("]", 40), "[0][0][0]", "at most 32"},
		{"provider type", provider(`{"type":"GCP"}`), "spec.type", "Linux, Azure"},
		{"wrong section", provider(`{"type":"Linux","azure":{}}`), "spec.azure", "none"},
		{"effects", provider(`{"type":"Linux","linux":{"effects":"magic"}}`), "spec.linux.effects", "fabric, lease"},
		{"endpoint", provider(`{"type":"Azure","azure":{"endpoint":"http://x"}}`), "spec.azure.endpoint", "https"},
		{"plain endpoint", provider(`{"type":"Azure","azure":{"endpoint":"http://10.0.0.1:1","credential":{"type":"Static","secretRef":"s"}}}`), "spec.azure.endpoint", "https"},
		{"plain endpoint with an identity", provider(`{"type":"Azure","azure":{"endpoint":"http://127.0.0.1:1"}}`), "spec.azure.endpoint", "https"},
		{"credential", provider(`{"type":"Azure","azure":{"credential":{"type":"ClientSecret","tenantID":"t","clientID":"c"}}}`),
			"spec.azure.credential.secretRef", "1 to 63"},
		{"stray secret", provider(`{"type":"Azure","azure":{"credential":{"secretRef":"s"}}}`), "spec.azure.credential.secretRef", "none with ManagedIdentity"},
		{"secret without data", `{"apiVersion":"understudy/v1","kind":"Secret","metadata":{"name":"s"}}`, "data", "1 to 64"},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, load(c.doc), c.field, c.want) })
	}
}

func TestSecretValuesStayOutOfErrors(t *testing.T) {
	big := strings.Repeat("hunter2", 20_000)
	err := load(`{"apiVersion":"understudy/v1","kind":"Secret","metadata":{"name":"s"},"data":{"password":"` + big + `"}}`)
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Fatalf("got %.300v", err)
	}
}

func refused(t *testing.T, err error, field, want string) {
	t.Helper()
	var bad *api.Invalid
	if !errors.As(err, &bad) {
		t.Fatalf("got %v, want *api.Invalid", err)
	}
	for _, f := range bad.Fields {
		if strings.HasPrefix(f.Field, field) && strings.Contains(f.Want, want) {
			return
		}
	}
	t.Fatalf("got %v, want field %q with advice %q", err, field, want)
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(group))
	f.Add([]byte(`{"kind":"Secret","data":{"a":"b"}}`))
	f.Add([]byte(`{"kind":"Job","status":{"steps":[{"needs":["a"],"wait":"1s","doneAt":"2026-01-02T15:04:05Z"}]}}`))
	f.Add([]byte(`{"kind":"Provider","spec":{"azure":null}}`))
	for _, doc := range documents {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		o, err := api.Decode(doc)
		if err != nil {
			var bad *api.Invalid
			if !errors.As(err, &bad) || len(bad.Fields) == 0 {
				t.Fatalf("error %v is no *Invalid", err)
			}
			return
		}
		o.Default()
		if o.Validate() != nil {
			return
		}
		out, err := json.Marshal(o)
		if err != nil {
			t.Fatalf("valid, but: %v", err)
		}
		again, err := api.Decode(out)
		if err != nil {
			t.Fatalf("what was written is refused: %v", err)
		}
		if err := again.Validate(); err != nil {
			t.Fatalf("what was written is invalid: %v", err)
		}
	})
}

// What nobody writes must not be read either: a provider's state shows in the groups that use it.
func TestAProviderHasNoStatus(t *testing.T) {
	err := load(`{"apiVersion":"understudy/v1","kind":"Provider","metadata":{"name":"site"},"spec":{"type":"Linux"},"status":{}}`)
	var bad *api.Invalid
	if !errors.As(err, &bad) || bad.Fields[0].Field != "status" {
		t.Errorf("a provider with a status: %v", err)
	}
}
