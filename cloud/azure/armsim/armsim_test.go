package armsim

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/understudy-ha/understudy/api"
)

const base = "/subscriptions/s1/resourceGroups/rg/providers/Microsoft.Network/"

func sample() Topology {
	nic := func(name, pip string) NIC {
		return NIC{ID: base + "networkInterfaces/" + name, IPForwarding: true, IPConfigurations: []IPConfiguration{
			{Name: "one", Address: "10.0.0.4", Subnet: base + "virtualNetworks/v/subnets/s", PublicAddress: pip}}}
	}
	return Topology{
		NICs:            []NIC{nic("a", base+"publicIPAddresses/web"), nic("b", "")},
		PublicAddresses: []PublicAddress{{ID: base + "publicIPAddresses/web", Address: "203.0.113.10"}},
		RouteTables:     []RouteTable{{ID: base + "routeTables/core", Routes: []Route{{Name: "default", Prefix: "0.0.0.0/0", NextHop: "10.0.0.4"}}}},
		Latencies:       Latencies{NIC: api.Duration(time.Minute), RouteTable: api.Duration(7 * time.Second)},
	}
}

// client sends requests in process.
type client struct {
	t   *testing.T
	sim *Server
}

func start(t *testing.T, top Topology) client {
	t.Helper()
	sim, err := New(Options{Seed: 7, Topology: top})
	if err != nil {
		t.Fatal(err)
	}
	return client{t, sim}
}

func (c client) send(method, url, etag string, doc map[string]any) (int, http.Header, map[string]any) {
	c.t.Helper()
	var body io.Reader
	if doc != nil {
		b, err := json.Marshal(doc)
		if err != nil {
			c.t.Fatal(err)
		}
		body = strings.NewReader(string(b))
	}
	if strings.HasPrefix(url, "/") {
		url = "https://arm.test" + url + "?api-version=2024-05-01"
	}
	q, err := http.NewRequestWithContext(c.t.Context(), method, url, body)
	if err != nil {
		c.t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer x")
	if etag != "" {
		q.Header.Set("If-Match", etag)
	}
	r, err := c.sim.Transport().RoundTrip(q)
	if err != nil {
		return 0, nil, nil
	}
	var out map[string]any
	b, err := io.ReadAll(r.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if len(b) > 0 {
		if err := json.Unmarshal(b, &out); err != nil {
			c.t.Fatal(err)
		}
	}
	return r.StatusCode, r.Header, out
}

func (c client) get(id string) map[string]any {
	c.t.Helper()
	status, _, doc := c.send("GET", id, "", nil)
	if status != 200 {
		c.t.Fatalf("GET %s: %d %v", id, status, doc)
	}
	return doc
}

func code(doc map[string]any) string {
	e, _ := doc["error"].(map[string]any)
	return text(e, "code")
}

func withAddress(doc map[string]any, pip string) map[string]any {
	p := props(list(props(doc), "ipConfigurations")[0])
	delete(p, "publicIPAddress")
	if pip != "" {
		p["publicIPAddress"] = map[string]any{"id": pip}
	}
	return doc
}

func TestWriteTakesEffectAtItsEnd(t *testing.T) {
	for _, style := range []Headers{HeadersAsync, HeadersLocation, HeadersBoth, HeadersNone} {
		t.Run(string(style), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				top := sample()
				top.Headers = style
				c := start(t, top)
				a, b, web := base+"networkInterfaces/a", base+"networkInterfaces/b", base+"publicIPAddresses/web"
				_, h, doc := c.send("PUT", a, "", withAddress(c.get(a), ""))
				if text(props(doc), "provisioningState") != "Updating" {
					t.Errorf("accepted write answers %v", doc)
				}
				url := h.Get("Azure-AsyncOperation")
				if style == HeadersLocation {
					url = h.Get("Location")
				}
				if (style == HeadersNone) != (url == "") || style != HeadersNone && h.Get("Retry-After") != "10" {
					t.Errorf("headers %v", h)
				}
				time.Sleep(59 * time.Second)
				if refOf(props(c.get(web)), "ipConfiguration") == "" || text(props(c.get(a)), "provisioningState") != "Updating" {
					t.Error("the detach took effect before its end")
				}
				if s, _, d := c.send("PUT", b, "", withAddress(c.get(b), web)); s != 400 || code(d) != "PublicIPAddressInUse" {
					t.Errorf("attach during detach: %d %v", s, d)
				}
				if s, hh, d := c.send("PUT", a, "", c.get(a)); s != 429 || code(d) != "RetryableErrorDueToAnotherOperation" || hh.Get("Retry-After") != "10" {
					t.Errorf("second write: %d %v", s, d)
				}
				if url != "" {
					if s, _, d := c.send("GET", url, "", nil); style == HeadersLocation && s != 202 || style != HeadersLocation && text(d, "status") != "InProgress" {
						t.Errorf("running operation: %d %v", s, d)
					}
				}
				time.Sleep(time.Second)
				if refOf(props(c.get(web)), "ipConfiguration") != "" || text(props(c.get(a)), "provisioningState") != "Succeeded" {
					t.Error("the detach has no effect after its end")
				}
				if url != "" {
					if s, _, d := c.send("GET", url, "", nil); s != 200 || style != HeadersLocation && text(d, "status") != "Succeeded" {
						t.Errorf("ended operation: %d %v", s, d)
					}
				}
				if s, _, d := c.send("PUT", b, "", withAddress(c.get(b), web)); s >= 300 {
					t.Errorf("attach after detach: %d %v", s, d)
				}
				if e := c.sim.Effects(); len(e) != 1 || e[0].At != 60 {
					t.Errorf("effects %+v", e)
				}
			})
		})
	}
}

// TestForgetfulClientLosesSettings is why movers must keep fields they do not know.
func TestForgetfulClientLosesSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, sample())
		id := base + "networkInterfaces/a"
		doc := c.get(id)
		delete(props(doc), "enableIPForwarding")
		c.send("PUT", id, "", doc)
		time.Sleep(time.Minute)
		if on, _ := props(c.get(id))["enableIPForwarding"].(bool); on {
			t.Error("IP forwarding survives a write without it")
		}
	})
}

func TestRefusals(t *testing.T) {
	a, web, core := base+"networkInterfaces/a", base+"publicIPAddresses/web", base+"routeTables/core"
	route := func(doc map[string]any, field string, v any) map[string]any {
		props(list(props(doc), "routes")[0])[field] = v
		return doc
	}
	tests := []struct {
		name   string
		roles  []Role
		send   func(client) (int, http.Header, map[string]any)
		status int
		code   string
	}{
		{"no such NIC", nil, func(c client) (int, http.Header, map[string]any) { return c.send("GET", a+"x", "", nil) }, 404, "ResourceNotFound"},
		{"no such thing", nil, func(c client) (int, http.Header, map[string]any) { return c.send("GET", "/x", "", nil) }, 404, "NotFound"},
		{"no version", nil, func(c client) (int, http.Header, map[string]any) { return c.send("GET", "https://arm.test"+a, "", nil) }, 400, "MissingApiVersionParameter"},
		{"delete", nil, func(c client) (int, http.Header, map[string]any) { return c.send("DELETE", a, "", nil) }, 405, "MethodNotAllowed"},
		{"old etag", nil, func(c client) (int, http.Header, map[string]any) { return c.send("PUT", a, `W/"old"`, c.get(a)) }, 412, "PreconditionFailed"},
		{"no body", nil, func(c client) (int, http.Header, map[string]any) { return c.send("PUT", a, "", nil) }, 400, "InvalidRequestContent"},
		{"unknown address", nil, func(c client) (int, http.Header, map[string]any) {
			return c.send("PUT", a, "", withAddress(c.get(a), web+"x"))
		}, 400, "InvalidResourceReference"},
		{"held elsewhere", nil, func(c client) (int, http.Header, map[string]any) {
			b := base + "networkInterfaces/b"
			return c.send("PUT", b, "", withAddress(c.get(b), strings.ToUpper(web)))
		}, 400, "PublicIPAddressInUse"},
		{"bad prefix", nil, func(c client) (int, http.Header, map[string]any) {
			return c.send("PUT", core, "", route(c.get(core), "addressPrefix", "10.0.0.0/99"))
		}, 400, "InvalidAddressPrefixFormat"},
		{"bad next hop", nil, func(c client) (int, http.Header, map[string]any) {
			return c.send("PUT", core, "", route(c.get(core), "nextHopIpAddress", "nowhere"))
		}, 400, "InvalidNextHopIpAddress"},
		{"may not read", []Role{{Scope: "/", Actions: []string{"*/write"}}}, func(c client) (int, http.Header, map[string]any) { return c.send("GET", a, "", nil) }, 403, "AuthorizationFailed"},
		{"other scope", []Role{{Scope: "/subscriptions/s1/resourceGroups/r", Actions: []string{"*"}}}, func(c client) (int, http.Header, map[string]any) { return c.send("GET", a, "", nil) }, 403, "AuthorizationFailed"},
		{"may not join the address", []Role{{Scope: "/", Actions: []string{"*"}, NotActions: []string{"Microsoft.Network/publicIPAddresses/join/*"}}}, func(c client) (int, http.Header, map[string]any) {
			return c.send("PUT", a, "", c.get(a))
		}, 403, "LinkedAuthorizationFailed"},
	}
	for _, test := range tests {
		c := start(t, sample())
		c.sim.SetRoles(test.roles)
		status, _, doc := test.send(c)
		if status != test.status || code(doc) != test.code {
			t.Errorf("%s: %d %s, want %d %s", test.name, status, code(doc), test.status, test.code)
		}
		if n := len(c.sim.Effects()); n != 0 {
			t.Errorf("%s: %d effects", test.name, n)
		}
	}
}

// TestSameSeedSameFaults replays requests against random faults.
func TestSameSeedSameFaults(t *testing.T) {
	run := func(seed uint64) []Record {
		var log []Record
		synctest.Test(t, func(t *testing.T) {
			top := sample()
			top.Latencies.Jitter, top.Headers = 0.5, HeadersMixed
			top.Faults = []Fault{{Kind: Throttle, Rate: 0.2}, {Kind: DropResponse, Rate: 0.2}, {Kind: FailOperation, Rate: 0.3}}
			sim, err := New(Options{Seed: seed, Topology: top})
			if err != nil {
				t.Fatal(err)
			}
			c := client{t, sim}
			for range 40 {
				id := base + "routeTables/core"
				if s, _, doc := c.send("GET", id, "", nil); s == 200 {
					c.send("PUT", id, "", doc)
				}
				time.Sleep(3 * time.Second)
			}
			log = sim.Log()
		})
		return log
	}
	one := run(1)
	if !reflect.DeepEqual(one, run(1)) {
		t.Error("the same seed gives another log")
	}
	if reflect.DeepEqual(one, run(2)) {
		t.Error("another seed gives the same log: nothing depends on it")
	}
}

func TestTimeScale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim, err := New(Options{TimeScale: 60, Topology: sample()})
		if err != nil {
			t.Fatal(err)
		}
		c := client{t, sim}
		id := base + "networkInterfaces/a"
		_, h, _ := c.send("PUT", id, "", c.get(id))
		if h.Get("Retry-After") != "1" || h.Get("x-ms-retry-after-ms") != "166" {
			t.Errorf("headers %v, want 10 s in a sixtieth of the time", h)
		}
		time.Sleep(time.Second)
		if e := sim.Effects(); len(e) != 1 || e[0].At != 60 {
			t.Errorf("after one second: effects %+v, want one at 60", e)
		}
	})
}

func TestTopologyFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "topology.json")
	text := `{"nics":[{"id":"` + base + `networkInterfaces/a","ipForwarding":true,"latency":"8m","ipConfigurations":[
		{"name":"one","address":"10.0.0.4","subnet":"` + base + `virtualNetworks/v/subnets/s","publicAddress":"` + base + `publicIPAddresses/web"}]}],
		"publicAddresses":[{"id":"` + base + `publicIPAddresses/web","address":"203.0.113.10"}],
		"routeTables":[{"id":"` + base + `routeTables/core","routes":[{"name":"default","prefix":"0.0.0.0/0","nextHop":"10.0.0.4"}]}],
		"latencies":{"nic":"60s","routeTable":"7s"},"headers":"mixed","faults":[{"kind":"Throttle","rate":0.01}],
		"roles":[{"scope":"/","actions":["*"]}]}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	top, err := LoadTopology(file)
	if err != nil {
		t.Fatal(err)
	}
	sim, err := New(Options{Topology: top})
	if err != nil {
		t.Fatal(err)
	}
	if refOf(props(sim.Resource(base+"publicIPAddresses/WEB")), "ipConfiguration") == "" {
		t.Error("the address is on no NIC")
	}
	for name, bad := range map[string]string{
		"unknown field": `{"nic":[]}`,
		"no unit":       `{"latencies":{"nic":60}}`,
		"no id":         `{"routeTables":[{"id":"core","routes":[]}]}`,
		"twice":         `{"publicAddresses":[{"id":"` + base + `publicIPAddresses/web"},{"id":"` + base + `publicIPAddresses/WEB"}]}`,
		"no address":    strings.Replace(text, `"publicAddresses":[{"id":"`+base+`publicIPAddresses/web","address":"203.0.113.10"}],`, "", 1),
		"fault":         `{"faults":[{"kind":"Explode"}]}`,
		"rate":          `{"faults":[{"kind":"Throttle","rate":2}]}`,
		"headers":       `{"headers":"loud"}`,
	} {
		top, err := ParseTopology([]byte(bad))
		if err == nil {
			_, err = New(Options{Topology: top})
		}
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestToken(t *testing.T) {
	sim, err := New(Options{Token: "right", Topology: sample()})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(sim.Handler())
	defer srv.Close()
	for auth, want := range map[string]int{"Bearer right": 200, "Bearer wrong": 401, "": 401, "Basic right": 401} {
		q, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+base+"routeTables/core/routes/default?api-version=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Authorization", auth)
		r, err := srv.Client().Do(q)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if r.StatusCode != want {
			t.Errorf("authorization %q: %d, want %d", auth, r.StatusCode, want)
		}
	}
}

func FuzzTopology(f *testing.F) {
	b, err := json.Marshal(sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		top, err := ParseTopology(b)
		if err != nil {
			return
		}
		sim, err := New(Options{Topology: top})
		if err != nil {
			return
		}
		c := client{t, sim}
		for _, n := range top.NICs {
			if !strings.ContainsAny(n.ID, "?#% ") {
				c.send("GET", n.ID, "", nil)
			}
		}
	})
}

func FuzzWrite(f *testing.F) {
	b, err := json.Marshal(clone(map[string]any{"properties": nicProperties(sample().NICs[0])}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, true)
	f.Add([]byte(`{"properties":{"routes":[{"name":"x","properties":null}]}}`), false)
	sim, err := New(Options{Topology: Topology{NICs: sample().NICs, PublicAddresses: sample().PublicAddresses, RouteTables: sample().RouteTables}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte, nic bool) {
		id := base + "routeTables/core"
		if nic {
			id = base + "networkInterfaces/b"
		}
		q, err := http.NewRequestWithContext(t.Context(), "PUT", "https://arm.test"+id+"?api-version=1", strings.NewReader(string(b)))
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Authorization", "Bearer x")
		if _, err := sim.Transport().RoundTrip(q); err != nil {
			t.Fatal(err)
		}
		if text(props(sim.Resource(id)), "provisioningState") != "Succeeded" {
			t.Errorf("after %s the state is %v", b, sim.Resource(id))
		}
	})
}
