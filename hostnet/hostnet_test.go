package hostnet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var namespaceCount atomic.Int64

// newNet makes a namespace of its own for one test.
func newNet(t *testing.T) *Net {
	t.Helper()
	name := fmt.Sprintf("us-hn-%d-%d", os.Getpid(), namespaceCount.Add(1))
	n, err := CreateNamespace(name)
	if err != nil {
		t.Fatalf("namespaces need root: %v", err)
	}
	t.Cleanup(func() {
		if err := errors.Join(n.Close(), DeleteNamespace(name)); err != nil {
			t.Error(err)
		}
	})
	return n
}

// wired makes a namespace whose eth0 (10.0.0.1/24) is wired to another's eth0 (10.0.0.2/24).
func wired(t *testing.T) (*Net, *Net) {
	t.Helper()
	a, b := newNet(t), newNet(t)
	must(t, a.AddVeth("eth0", "eth0", b))
	must(t, a.AddAddress("eth0", netip.MustParsePrefix("10.0.0.1/24")))
	must(t, b.AddAddress("eth0", netip.MustParsePrefix("10.0.0.2/24")))
	must(t, a.SetUp("eth0", true))
	must(t, b.SetUp("eth0", true))
	return a, b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, n *Net, line string) {
	t.Helper()
	f := strings.Fields(line)
	if _, err := n.Run(f[0], f[1:]...); err != nil {
		t.Fatal(err)
	}
}

// lines gives the lines of Dump that begin with one of the prefixes.
func lines(t *testing.T, n *Net, prefixes ...string) string {
	t.Helper()
	text, err := n.Dump()
	must(t, err)
	var out []string
	for l := range strings.Lines(text) {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(l, p) }) {
			out = append(out, strings.TrimSpace(l))
		}
	}
	return strings.Join(out, "\n")
}

func wantText(t *testing.T, got, want string) {
	t.Helper()
	if strings.TrimSpace(got) != strings.TrimSpace(want) {
		t.Fatalf("got:\n%s\nwant:\n%s", got, want)
	}
}

func route(table uint32, prefix, via string) Route {
	return Route{Table: table, Prefix: netip.MustParsePrefix(prefix), Via: netip.MustParseAddr(via)}
}

func TestDump(t *testing.T) {
	a, _ := wired(t)
	must(t, a.AddBridge("br0"))
	must(t, a.AddVeth("p0", "p1", nil))
	must(t, a.SetMaster("p0", "br0"))
	must(t, a.AddMacvlan("mv0", "eth0"))
	must(t, a.SetUp("br0", true))
	must(t, a.AddRule(Rule{Priority: 100, From: netip.MustParsePrefix("10.9.0.0/16"), Table: 77}))
	must(t, a.AddRule(Rule{Priority: 100, From: netip.MustParsePrefix("10.9.0.0/16"), Table: 77}))
	must(t, a.ReplaceRoute(route(77, "0.0.0.0/0", "10.0.0.2")))
	text, err := a.Dump()
	must(t, err)
	wantText(t, text, `
link br0 bridge up, no carrier
link eth0 veth up
link lo device up
link mv0 macvlan down
link p0 veth down master br0
link p1 veth down
addr 10.0.0.1/24 dev eth0
route 0.0.0.0/0 table 77 via 10.0.0.2 dev eth0 ours
route 10.0.0.0/24 table main dev eth0 proto kernel
rule 100 from 10.9.0.0/16 lookup 77`)
	must(t, a.DeleteRule(Rule{Priority: 100, From: netip.MustParsePrefix("10.9.0.0/16"), Table: 77}))
	must(t, a.DeleteRule(Rule{Priority: 100, From: netip.MustParsePrefix("10.9.0.0/16"), Table: 77}))
	must(t, a.DeleteLink("br0"))
	must(t, a.DeleteLink("br0"))
	wantText(t, lines(t, a, "rule", "link p0"), "link p0 veth down")
}

func TestSysctlAndStartStayInTheNamespace(t *testing.T) {
	n := newNet(t)
	must(t, n.SetSysctl("net.ipv4.ip_forward", "1"))
	if v, err := n.Sysctl("net.ipv4.ip_forward"); err != nil || v != "1" {
		t.Fatalf("got %q, %v", v, err)
	}
	cmd := exec.Command("ip", "-o", "link")
	var out strings.Builder
	cmd.Stdout = &out
	must(t, n.Start(cmd))
	must(t, cmd.Wait())
	if strings.Count(out.String(), "\n") != 1 {
		t.Fatalf("a fresh namespace has lo alone, the program saw:\n%s", out.String())
	}
	if _, err := n.Sysctl("net.ipv4.no_such_thing"); err == nil {
		t.Fatal("a missing sysctl was read")
	}
}

func TestTablesBelongToOwners(t *testing.T) {
	n := newNet(t)
	must(t, n.SetTable("inet", "a", "set s { type ipv4_addr; elements = { 10.0.0.1 } }"))
	must(t, n.SetTable("inet", "b", "set s { type ipv4_addr; }"))
	must(t, n.SetTable("inet", "a", "set s { type ipv4_addr; elements = { 10.0.0.2 } }"))
	must(t, n.ChangeTable("add element inet b s { 10.0.0.3 }"))
	if err := n.SetTable("inet", "a", "nonsense"); err == nil {
		t.Fatal("nonsense was accepted")
	}
	out, err := n.Run("nft", "list", "ruleset")
	must(t, err)
	for _, want := range []string{"10.0.0.2", "10.0.0.3"} {
		if !strings.Contains(out, want) {
			t.Fatalf("no %s in:\n%s", want, out)
		}
	}
	if strings.Contains(out, "10.0.0.1") {
		t.Fatalf("the old element stayed:\n%s", out)
	}
	must(t, n.DeleteTable("inet", "a"))
	must(t, n.DeleteTable("inet", "a"))
	out, err = n.Run("nft", "list", "tables")
	must(t, err)
	wantText(t, out, "table inet b")
}

func TestRoutesOfOwners(t *testing.T) {
	a, _ := wired(t)
	run(t, a, "ip route add 10.5.0.0/16 via 10.0.0.9 metric 50")
	r := a.NewRoutes()
	must(t, r.Set("one", []Route{route(0, "10.1.0.0/16", "10.0.0.2"), route(100, "0.0.0.0/0", "10.0.0.2")}))
	must(t, r.Set("two", []Route{route(0, "10.2.0.0/16", "10.0.0.2")}))

	err := r.Set("two", []Route{route(0, "10.2.0.0/16", "10.0.0.3"), route(0, "10.1.0.0/16", "10.0.0.3"), route(0, "10.5.0.0/16", "10.0.0.3")})
	if !errors.Is(err, ErrTaken) || !errors.Is(err, ErrForeign) {
		t.Fatalf("got %v, want both refusals", err)
	}
	for _, want := range []string{"10.1.0.0/16", "one", "10.5.0.0/16", "via 10.0.0.9 dev eth0 proto boot metric 50"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q names no %q", err, want)
		}
	}
	wantText(t, lines(t, a, "route"), `
route 0.0.0.0/0 table 100 via 10.0.0.2 dev eth0 ours
route 10.0.0.0/24 table main dev eth0 proto kernel
route 10.1.0.0/16 table main via 10.0.0.2 dev eth0 ours
route 10.2.0.0/16 table main via 10.0.0.3 dev eth0 ours
route 10.5.0.0/16 table main via 10.0.0.9 dev eth0 proto boot metric 50`)

	run(t, a, "ip route del 10.5.0.0/16") // now the place is free
	if n, err := r.Repair(); err != nil || n["two"] != 1 {
		t.Fatalf("repaired %v, %v; want the route that was refused", n, err)
	}
	must(t, r.Set("one", nil))
	must(t, r.Set("two", nil))
	must(t, r.Set("two", nil))
	wantText(t, lines(t, a, "route"), "route 10.0.0.0/24 table main dev eth0 proto kernel")
}

func TestStrangersRouteStaysWhenOursIsGivenUp(t *testing.T) {
	a, _ := wired(t)
	r := a.NewRoutes()
	must(t, r.Set("one", []Route{route(0, "10.1.0.0/16", "10.0.0.2")}))
	run(t, a, "ip route replace 10.1.0.0/16 via 10.0.0.7")
	must(t, r.Set("one", nil))
	_, err := r.Sweep()
	must(t, err)
	wantText(t, lines(t, a, "route 10.1"), "route 10.1.0.0/16 table main via 10.0.0.7 dev eth0 proto boot")
}

func TestRoutesRefuseNonsenseWhole(t *testing.T) {
	a, _ := wired(t)
	r := a.NewRoutes()
	good := route(0, "10.1.0.0/16", "10.0.0.2")
	for _, bad := range []Route{
		{},
		{Prefix: netip.MustParsePrefix("10.1.0.1/16"), Via: good.Via},
		{Prefix: good.Prefix},
		{Prefix: good.Prefix, Via: netip.MustParseAddr("fd00::1")},
		route(254, "10.1.0.0/16", "10.0.0.3"), // main by its number is main
	} {
		if err := r.Set("one", []Route{good, bad}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%v: got %v, want ErrInvalid", bad, err)
		}
	}
	wantText(t, lines(t, a, "route 10.1"), "")
}

func TestRoutesAfterRestart(t *testing.T) {
	a, _ := wired(t)
	must(t, a.NewRoutes().Set("one", []Route{route(0, "10.1.0.0/16", "10.0.0.2"), route(0, "10.2.0.0/16", "10.0.0.2")}))
	r := a.NewRoutes() // another life
	must(t, r.Set("one", []Route{route(0, "10.1.0.0/16", "10.0.0.3")}))
	swept, err := r.Sweep()
	must(t, err)
	wantText(t, fmt.Sprint(swept), "[10.2.0.0/16 table main]")
	wantText(t, lines(t, a, "route 10.1", "route 10.2"), "route 10.1.0.0/16 table main via 10.0.0.3 dev eth0 ours")
}

func TestRepair(t *testing.T) {
	a, _ := wired(t)
	r := a.NewRoutes()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changes, err := a.Watch(ctx, r.Wants)
	must(t, err)
	must(t, r.Set("one", []Route{route(0, "10.1.0.0/16", "10.0.0.2")}))
	want := "route 10.1.0.0/16 table main via 10.0.0.2 dev eth0 ours"
	for _, spoil := range []string{
		"ip route del 10.1.0.0/16",
		"ip route replace 10.1.0.0/16 via 10.0.0.7",
		"ip route replace 10.1.0.0/16 via 10.0.0.7 proto 85",
		"ip route replace blackhole 10.1.0.0/16",
	} {
		drain(changes)
		run(t, a, spoil)
		awaitChange(t, changes, spoil)
		if n, err := r.Repair(); err != nil || n["one"] != 1 {
			t.Fatalf("%s: repaired %v, %v", spoil, n, err)
		}
		wantText(t, lines(t, a, "route 10.1"), want)
	}
	must(t, a.SetUp("eth0", false))
	if _, err := r.Repair(); ByOwner(err)["one"] == nil {
		t.Fatalf("no link: got %v, want an error of owner one", err)
	}
	drain(changes)
	must(t, a.SetUp("eth0", true))
	awaitChange(t, changes, "link up")
	_, err = r.Repair()
	must(t, err)
	wantText(t, lines(t, a, "route 10.1"), want)

	drain(changes)
	run(t, a, "ip route add 10.200.0.0/16 via 10.0.0.2")
	select {
	case <-changes:
		t.Fatal("somebody else's route was reported")
	case <-time.After(50 * time.Millisecond):
	}
	cancel()
	for range changes { //nolint:revive // waits for the close
	}
}

func TestRoutesOfIPv6(t *testing.T) {
	a, _ := wired(t)
	must(t, a.AddAddress("eth0", netip.MustParsePrefix("fd00::1/64")))
	r := a.NewRoutes()
	for _, via := range []string{"fd00::2", "fd00::3"} {
		must(t, r.Set("one", []Route{route(0, "fd01::/64", via)}))
		must(t, a.NewRoutes().Set("one", []Route{route(0, "fd01::/64", via)}))
		wantText(t, lines(t, a, "route fd01"), "route fd01::/64 table main via "+via+" dev eth0 ours metric 1024")
	}
	must(t, r.Set("one", nil))
	wantText(t, lines(t, a, "route fd01"), "")
}

func drain(ch <-chan struct{}) {
	for {
		select {
		case <-ch:
		case <-time.After(30 * time.Millisecond):
			return
		}
	}
}

func awaitChange(t *testing.T, ch <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(5 * time.Second):
		t.Fatalf("%s was not noticed", what)
	}
}

// TestRandomSets replays random sets of three owners, strangers' changes and repairs, and compares the kernel with a model.
func TestRandomSets(t *testing.T) {
	a, _ := wired(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	r := a.NewRoutes()
	owners := []string{"one", "two", "three"}
	model := map[string][]Route{}
	for i := range 150 {
		o := owners[rnd.IntN(3)]
		switch rnd.IntN(6) {
		case 0:
			p := fmt.Sprintf("10.%d.0.0/16", 1+rnd.IntN(8))
			_, _ = a.Run("ip", "route", "del", p, "proto", "85") // it need not be there
			if _, err := r.Repair(); err != nil {
				t.Fatal(err)
			}
		case 1: // a restart
			r = a.NewRoutes()
			for _, o := range owners {
				must(t, r.Set(o, model[o]))
			}
			_, err := r.Sweep()
			must(t, err)
		default:
			model[o] = randomRoutes(rnd, model, o)
			must(t, r.Set(o, model[o]))
		}
		if got, want := lines(t, a, "route 10.1.", "route 10.2.", "route 10.3", "route 10.4", "route 10.5", "route 10.6", "route 10.7", "route 10.8", "route 0."), expected(model); got != want {
			t.Fatalf("step %d: got:\n%s\nwant:\n%s", i, got, want)
		}
	}
}

func randomRoutes(rnd *rand.Rand, model map[string][]Route, owner string) []Route {
	taken := map[RouteKey]bool{}
	for o, list := range model {
		for _, r := range list {
			taken[r.Key()] = taken[r.Key()] || o != owner
		}
	}
	var out []Route
	for i := range 8 {
		r := route([]uint32{0, 100}[rnd.IntN(2)], fmt.Sprintf("10.%d.0.0/16", 1+i), fmt.Sprintf("10.0.0.%d", 2+rnd.IntN(3)))
		if rnd.IntN(2) == 0 && !taken[r.Key()] {
			out = append(out, r)
		}
	}
	return out
}

func expected(model map[string][]Route) string {
	var out []string
	for _, list := range model {
		for _, r := range list {
			out = append(out, fmt.Sprintf("route %s via %s dev eth0 ours", r.Key(), r.Via))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func BenchmarkReplaceNextHop(b *testing.B) {
	name := fmt.Sprintf("us-hn-bench-%d", os.Getpid())
	n, err := CreateNamespace(name)
	if err != nil {
		b.Fatal(err)
	}
	defer DeleteNamespace(name)
	defer n.Close()
	if err := errors.Join(n.AddVeth("eth0", "eth1", nil), n.AddAddress("eth0", netip.MustParsePrefix("10.0.0.1/24")),
		n.SetUp("eth0", true), n.SetUp("eth1", true)); err != nil {
		b.Fatal(err)
	}
	r := n.NewRoutes()
	for i := range b.N + 1 {
		if err := r.Set("one", []Route{route(0, "10.1.0.0/16", fmt.Sprintf("10.0.0.%d", 2+i%2))}); err != nil {
			b.Fatal(err)
		}
	}
}
