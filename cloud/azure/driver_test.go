package azure

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/cloud/azure/armsim"
)

const (
	nicTime   = 60 * time.Second
	tableTime = 7 * time.Second
)

// TestFaults meets each fault once on the write of a route table. Whatever happens, the table ends as wanted, after at
// most one write more than needed.
func TestFaults(t *testing.T) {
	tests := []struct {
		fault armsim.Fault
		// fails: the first Do ends with an error that may pass.
		fails    bool
		min, max time.Duration
		effects  int
	}{
		{fault: armsim.Fault{Kind: armsim.ServerError, Method: "GET"}, min: tableTime, max: tableTime + 2*time.Second, effects: 1},
		{fault: armsim.Fault{Kind: armsim.ServerError, Method: "PUT"}, min: tableTime, max: tableTime + 2*time.Second, effects: 1},
		{fault: armsim.Fault{Kind: armsim.DropRequest, Method: "PUT"}, min: tableTime, max: tableTime + 2*time.Second, effects: 1},
		{fault: armsim.Fault{Kind: armsim.DropResponse}, min: tableTime, max: tableTime + 2*time.Second, effects: 1},
		{fault: armsim.Fault{Kind: armsim.LoseOperation}, min: tableTime, max: tableTime + time.Second, effects: 1},
		{fault: armsim.Fault{Kind: armsim.Throttle, Method: "PUT"}, min: 10*time.Second + tableTime, max: 19 * time.Second, effects: 1},
		{fault: armsim.Fault{Kind: armsim.Throttle, Method: "GET"}, min: 10*time.Second + tableTime, max: 19 * time.Second, effects: 1},
		{fault: armsim.Fault{Kind: armsim.AnotherOperation, Method: "PUT"}, min: 10*time.Second + tableTime, max: 19 * time.Second, effects: 1},
		{fault: armsim.Fault{Kind: armsim.SlowOperation, Delay: api.Duration(time.Minute)}, min: tableTime + time.Minute, max: tableTime + time.Minute + time.Second, effects: 1},
		{fault: armsim.Fault{Kind: armsim.FailOperation}, fails: true, min: tableTime, max: tableTime + time.Second, effects: 2},
	}
	for _, style := range []armsim.Headers{armsim.HeadersAsync, armsim.HeadersLocation, armsim.HeadersMixed} {
		for _, test := range tests {
			t.Run(string(style)+"/"+string(test.fault.Kind)+test.fault.Method, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					top := topology(nicTime, tableTime)
					test.fault.Times = 1
					top.Headers, top.Faults = style, []armsim.Fault{test.fault}
					sim, d := inProcess(t, top, nil)
					begin := time.Now()
					_, err := d.Do(t.Context(), tok, routesStep("10.0.2.5"))
					took := time.Since(begin)
					if test.fails {
						if err == nil || errors.Is(err, cloud.ErrPermanent) || !strings.Contains(err.Error(), "InternalServerError") {
							t.Fatalf("error %v, want ARM's InternalServerError, not permanent", err)
						}
						_, err = d.Do(t.Context(), tok, routesStep("10.0.2.5"))
					}
					if err != nil {
						t.Fatal(err)
					}
					if took < test.min || took > test.max {
						t.Errorf("took %v, want %v to %v", took, test.min, test.max)
					}
					if hop(sim, "default") != "10.0.2.5" || hop(sim, "onprem") != "10.0.2.5" || hop(sim, "others") != "10.0.2.99" {
						t.Errorf("next hops %s, %s, %s", hop(sim, "default"), hop(sim, "onprem"), hop(sim, "others"))
					}
					if n := len(sim.Effects()); n != test.effects {
						t.Errorf("%d writes took effect, want %d", n, test.effects)
					}
				})
			})
		}
	}
}

// TestCrashInFlight abandons a write that ARM has accepted; the next driver waits for it and writes nothing.
func TestCrashInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim, d := inProcess(t, topology(nicTime, tableTime), nil)
		ctx, crash := context.WithTimeout(t.Context(), 20*time.Second)
		defer crash()
		step := nicStepOf(api.StepDetach, "nva-a-outside")
		if _, err := d.Do(ctx, tok, step); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("error %v, want the deadline", err)
		}
		next := api.Token{ClusterID: "c1", Epoch: 4, Generation: 5}
		if _, err := d.Do(t.Context(), next, step); err != nil {
			t.Fatal(err)
		}
		if at := sim.Now(); at > nicTime+time.Second {
			t.Errorf("done at %v, want within a second of the operation's end at %v", at, nicTime)
		}
		if n := len(sim.Effects()); n != 1 || holder(sim, "web") != "" {
			t.Errorf("%d writes, web on %q; want 1 write and nobody", n, holder(sim, "web"))
		}
	})
}

// TestAttachWaitsForDetach starts both at once, as a leader may whose predecessor's detach is still running.
func TestAttachWaitsForDetach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim, d := inProcess(t, topology(nicTime, tableTime), nil)
		done := make(chan error, 1)
		go func() {
			_, err := d.Do(t.Context(), tok, nicStepOf(api.StepDetach, "nva-a-outside"))
			done <- err
		}()
		time.Sleep(time.Second)
		if _, err := d.Do(t.Context(), tok, nicStepOf(api.StepAttach, "nva-b-outside")); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if want := nicID("nva-b-outside") + "/ipConfigurations/"; holder(sim, "web") != want+"first" || holder(sim, "mail") != want+"second" {
			t.Errorf("web on %q, mail on %q", holder(sim, "web"), holder(sim, "mail"))
		}
	})
}

// TestAttachNamesTheHolder gives up on an address that stays in use, in two minutes and for good, so that a new plan
// detaches it, and says who has it.
func TestAttachNamesTheHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, d := inProcess(t, topology(nicTime, tableTime), nil)
		begin := time.Now()
		_, err := d.Do(t.Context(), tok, nicStepOf(api.StepAttach, "nva-b-outside"))
		if !errors.Is(err, cloud.ErrPermanent) || !strings.Contains(err.Error(), "nva-a-outside") {
			t.Errorf("error %v, want one for good that names nva-a-outside", err)
		}
		if took := time.Since(begin); took > 3*time.Minute {
			t.Errorf("took %v", took)
		}
	})
}

// TestSomebodyElseWrites changes the table between the driver's read and its write. If-Match makes ARM refuse, the
// driver reads again, and both changes hold.
func TestSomebodyElseWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sim *armsim.Server
		edited := false
		var d *Driver
		sim, d = inProcess(t, topology(nicTime, tableTime), func(next http.RoundTripper) http.RoundTripper {
			return roundTrip(func(q *http.Request) (*http.Response, error) {
				if q.Method == http.MethodPut && !edited {
					edited = true
					sim.Edit(tableID("core"), func(doc map[string]any) {
						object(document(doc).route("others", ""), "properties")["nextHopIpAddress"] = "10.0.2.77"
					})
				}
				return next.RoundTrip(q)
			})
		})
		if _, err := d.Do(t.Context(), tok, routesStep("10.0.2.5")); err != nil {
			t.Fatal(err)
		}
		if hop(sim, "others") != "10.0.2.77" || hop(sim, "default") != "10.0.2.5" {
			t.Errorf("others via %s, default via %s; want both changes", hop(sim, "others"), hop(sim, "default"))
		}
		if n := count(sim, "PUT", http.StatusPreconditionFailed); n != 1 {
			t.Errorf("%d writes met 412, want 1", n)
		}
	})
}

// TestNewerLeaderBetweenReadAndWrite is the paused leader: it has read, a newer one writes, it goes on. ARM refuses by
// the etag and the tag that is then read makes it ErrStale.
func TestNewerLeaderBetweenReadAndWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var successor *Driver
		raced := false
		sim, old := inProcess(t, topology(nicTime, tableTime), func(next http.RoundTripper) http.RoundTripper {
			return roundTrip(func(q *http.Request) (*http.Response, error) {
				if q.Method == http.MethodPut && !raced {
					raced = true
					if _, err := successor.Do(q.Context(), api.Token{ClusterID: "c1", Epoch: 4, Generation: 6}, routesStep("10.0.2.6")); err != nil {
						return nil, err
					}
				}
				return next.RoundTrip(q)
			})
		})
		var err error
		if successor, err = New(Config{Provider: provider("https://arm.test"), Secret: secrets, Transport: sim.Transport()}); err != nil {
			t.Fatal(err)
		}
		if _, err := old.Do(t.Context(), tok, routesStep("10.0.2.5")); !errors.Is(err, cloud.ErrStale) {
			t.Errorf("error %v, want ErrStale", err)
		}
		if hop(sim, "default") != "10.0.2.6" {
			t.Errorf("default via %s, want the successor's 10.0.2.6", hop(sim, "default"))
		}
	})
}

// eager shows a NIC as wanted and Succeeded as soon as its write is accepted, as ARM does with some NICs.
func eager(next http.RoundTripper) http.RoundTripper {
	var goal []byte
	return roundTrip(func(q *http.Request) (*http.Response, error) {
		r, err := next.RoundTrip(q)
		if err != nil || !strings.Contains(q.URL.Path, "networkInterfaces") {
			return r, err
		}
		b, err := io.ReadAll(r.Body)
		if q.Method == http.MethodPut && r.StatusCode < 300 {
			goal = bytes.ReplaceAll(b, []byte("Updating"), []byte("Succeeded"))
		}
		if goal != nil && r.StatusCode < 300 {
			b = goal
		}
		r.Body = io.NopCloser(bytes.NewReader(b))
		return r, err
	})
}

// TestNICThatNeverSaysUpdating: where the resource's word is worth nothing, the operation's counts, at the pace ARM
// asks for. If the operation is lost too, there is only the resource.
func TestNICThatNeverSaysUpdating(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim, d := inProcess(t, topology(nicTime, tableTime), eager)
		if _, err := d.Do(t.Context(), tok, nicStepOf(api.StepDetach, "nva-a-outside")); err != nil {
			t.Fatal(err)
		}
		if at := sim.Now(); at < nicTime || at > nicTime+11*time.Second {
			t.Errorf("done at %v, want after the operation's end at %v and by ARM's next look 10 s later", at, nicTime)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		top := topology(nicTime, tableTime)
		top.Faults = []armsim.Fault{{Kind: armsim.LoseOperation}}
		_, d := inProcess(t, top, eager)
		ctx, stop := context.WithTimeout(t.Context(), 20*time.Minute)
		defer stop()
		if _, err := d.Do(ctx, tok, nicStepOf(api.StepDetach, "nva-a-outside")); err != nil {
			t.Errorf("with a lost operation: %v", err)
		}
	})
}

func TestPermanentRefusals(t *testing.T) {
	tests := []struct {
		name  string
		setUp func(*armsim.Server)
		step  api.Step
		want  string
	}{
		{"no such table", func(s *armsim.Server) { s.Delete(tableID("core")) }, routesStep("10.0.2.5"), "404 ResourceNotFound"},
		{"may not write", func(s *armsim.Server) {
			s.SetRoles([]armsim.Role{{Scope: "/", Actions: []string{"*"}, NotActions: []string{"Microsoft.Network/routeTables/write"}}})
		}, routesStep("10.0.2.5"), "403 AuthorizationFailed"},
		{"may not join", func(s *armsim.Server) {
			s.SetRoles([]armsim.Role{{Scope: "/", Actions: []string{"*"}, NotActions: []string{"*/subnets/join/action"}}})
		}, nicStepOf(api.StepDetach, "nva-a-outside"), "403 LinkedAuthorizationFailed"},
		{"bad next hop", func(*armsim.Server) {}, routesStep("not-an-address"), "400 InvalidNextHopIpAddress"},
		{"other prefix", func(s *armsim.Server) {
			s.Edit(tableID("core"), func(doc map[string]any) {
				object(document(doc).route("onprem", ""), "properties")["addressPrefix"] = "192.168.7.0/24"
			})
		}, routesStep("10.0.2.5"), "route onprem has the prefix 192.168.7.0/24"},
		{"place is taken", func(s *armsim.Server) {
			s.Edit(nicID("nva-b-outside"), func(doc map[string]any) { clearAddress(document(doc).configuration("management")) })
			s.Edit(nicID("nva-b-outside"), func(doc map[string]any) { setAddress(document(doc).configuration("second"), pipID("management-b")) })
		}, nicStepOf(api.StepAttach, "nva-b-outside"), "management-b, which is not moved"},
		{"no such place", func(*armsim.Server) {}, api.Step{ID: "attach", Kind: api.StepAttach, NIC: &api.NICStep{NIC: nicID("nva-b-inside"),
			Addresses: []api.AddressBinding{{ID: pipID("web"), IPConfiguration: "second"}}}}, `no IP configuration "second"`},
		{"no cloud step", func(*armsim.Server) {}, api.Step{ID: "drain", Kind: api.StepDrain}, `step kind "drain"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sim, d := inProcess(t, topology(nicTime, tableTime), nil)
				test.setUp(sim)
				_, err := d.Do(t.Context(), tok, test.step)
				if !errors.Is(err, cloud.ErrPermanent) || !strings.Contains(err.Error(), test.want) {
					t.Errorf("error %v, want ErrPermanent with %q", err, test.want)
				}
				if n := len(sim.Effects()); n != 0 {
					t.Errorf("%d writes took effect, want none", n)
				}
			})
		})
	}
}

// TestOneWriteCarriesTwoAddresses also swaps addresses that sit on the wrong configurations of the right NIC.
func TestOneWriteCarriesTwoAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim, d := inProcess(t, topology(nicTime, tableTime), nil)
		step := nicStepOf(api.StepAttach, "nva-a-outside")
		step.NIC.Addresses[0].IPConfiguration, step.NIC.Addresses[1].IPConfiguration = "second", "first"
		if _, err := d.Do(t.Context(), tok, step); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(holder(sim, "web"), "/second") || !strings.HasSuffix(holder(sim, "mail"), "/first") || len(sim.Effects()) != 1 {
			t.Errorf("web on %q, mail on %q after %d writes; want them swapped by one", holder(sim, "web"), holder(sim, "mail"), len(sim.Effects()))
		}
	})
}

// TestSecondAddressAlone: a half-done step is finished.
func TestSecondAddressAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim, d := inProcess(t, topology(nicTime, tableTime), nil)
		sim.Edit(nicID("nva-a-outside"), func(doc map[string]any) { clearAddress(document(doc).configuration("second")) })
		if _, err := d.Do(t.Context(), tok, nicStepOf(api.StepAttach, "nva-a-outside")); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(holder(sim, "web"), "/first") || !strings.HasSuffix(holder(sim, "mail"), "/second") {
			t.Errorf("web on %q, mail on %q", holder(sim, "web"), holder(sim, "mail"))
		}
	})
}

// TestGroupsShareATable: generations of two groups count apart, and must not fence each other.
func TestGroupsShareATable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim, d := inProcess(t, topology(nicTime, tableTime), nil)
		if _, err := d.Do(t.Context(), api.Token{ClusterID: "c1", Epoch: 3, Generation: 50}, routesStep("10.0.2.5")); err != nil {
			t.Fatal(err)
		}
		other := api.Step{ID: "routes:core", Kind: api.StepRoutes, Routes: &api.RoutesStep{Table: tableID("core"), Routes: []api.CloudRoute{{Name: "others", Prefix: "172.16.0.0/12", NextHop: "10.0.2.98"}}}}
		if _, err := d.Do(t.Context(), api.Token{ClusterID: "c1", Epoch: 3, Generation: 2}, other); err != nil {
			t.Errorf("the second group is refused: %v", err)
		}
		if hop(sim, "others") != "10.0.2.98" || hop(sim, "default") != "10.0.2.5" {
			t.Errorf("others via %s, default via %s", hop(sim, "others"), hop(sim, "default"))
		}
	})
}
