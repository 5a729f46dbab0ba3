package azure

import (
	"encoding/json"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/cloud/azure/armsim"
	"github.com/understudy-ha/understudy/cloud/cloudtest"
)

// TestConformance runs the suite over HTTP, 200 times as fast as Azure's published figures, with every way to
// announce operations.
func TestConformance(t *testing.T) {
	for _, style := range []armsim.Headers{armsim.HeadersBoth, armsim.HeadersAsync, armsim.HeadersLocation, armsim.HeadersNone} {
		t.Run(string(style), func(t *testing.T) {
			t.Parallel()
			cloudtest.Run(t, func(t *testing.T) *cloudtest.Harness { return harness(t, style) })
		})
	}
}

func harness(t *testing.T, style armsim.Headers) *cloudtest.Harness {
	const scale = 200
	top := topology(20*time.Second, 7*time.Second)
	top.Headers = style
	sim, err := armsim.New(armsim.Options{Seed: 1, TimeScale: scale, Token: tokenText, Topology: top})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(sim)
	t.Cleanup(srv.Close)
	d, err := New(Config{Provider: provider(srv.URL), Secret: secrets, Poll: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return &cloudtest.Harness{
		Planner: Planner{}, Driver: d, Group: group(), Provider: provider(srv.URL), Holder: "a", Other: "b",
		Bystanders: func() string { return bystanders(t, sim) },
		Writes:     func() int { return len(sim.Effects()) },
	}
}

// bystanders shows everything in the simulator but what moves, the tag, and what ARM itself changes.
func bystanders(t *testing.T, sim *armsim.Server) string {
	var docs []document
	for _, id := range []string{nicID("nva-a-outside"), nicID("nva-b-outside"), nicID("nva-a-inside"), nicID("nva-b-inside"), pipID("management-a"), pipID("management-b"), tableID("core"), spokeTable} {
		d := document(sim.Resource(id))
		delete(d, "etag")
		delete(object(d, "tags"), tagName)
		for _, c := range d.configurations() {
			if text(c, "name") != "management" {
				clearAddress(c)
			}
		}
		for _, name := range []string{"default", "onprem"} {
			delete(object(d.route(name, ""), "properties"), "nextHopIpAddress")
		}
		docs = append(docs, d)
	}
	b, err := json.Marshal(docs)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
