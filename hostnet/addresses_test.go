package hostnet

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func held(s string) Address { return Address{"eth0", netip.MustParsePrefix(s)} }

func newAddresses(t *testing.T, n *Net) *Addresses {
	t.Helper()
	a, err := n.NewAddresses()
	must(t, err)
	t.Cleanup(func() { must(t, a.Close()) })
	return a
}

func TestAddressesOfOwners(t *testing.T) {
	n, peer := wired(t)
	a := newAddresses(t, n)
	must(t, a.Set("one", []Address{held("10.0.0.50/24"), held("10.7.0.1/24")}, time.Minute))
	must(t, a.Set("two", []Address{held("10.7.0.2/24")}, time.Minute))
	err := a.Set("two", []Address{held("10.7.0.2/24"), held("10.0.0.50/24"), held("10.0.0.1/24")}, time.Minute)
	if !errors.Is(err, ErrTaken) || !errors.Is(err, ErrForeign) {
		t.Fatalf("got %v, want both refusals", err)
	}
	wantText(t, lines(t, n, "addr"), `
addr 10.0.0.1/24 dev eth0
addr 10.0.0.50/24 dev eth0 ours temporary
addr 10.7.0.1/24 dev eth0 ours temporary
addr 10.7.0.2/24 dev eth0 ours temporary`)
	run(t, peer, "ping -c1 -W1 10.0.0.50")

	must(t, a.Set("one", nil, 0)) // 10.7.0.1 goes, though it is the first of its subnet; 10.7.0.2 stays
	wantText(t, lines(t, n, "addr"), `
addr 10.0.0.1/24 dev eth0
addr 10.7.0.2/24 dev eth0 ours temporary`)

	run(t, n, "ip addr del 10.7.0.2/24 dev eth0")
	if c, err := a.Repair(); !errors.Is(ByOwner(err)["two"], ErrForeign) || c["two"] != 1 {
		t.Fatalf("repaired %v, %v; want one and a refusal", c, err)
	}

	b := newAddresses(t, n) // another life, to which nobody granted anything
	swept, err := b.Sweep()
	must(t, err)
	if len(swept) != 1 || swept[0] != held("10.7.0.2/24") {
		t.Fatalf("swept %v", swept)
	}
	if err := a.Set("two", []Address{{Link: "eth0"}}, time.Minute); !errors.Is(err, ErrInvalid) {
		t.Fatalf("got %v", err)
	}
}

func TestAddressGoesByItself(t *testing.T) {
	n, _ := wired(t)
	a := newAddresses(t, n)
	began := time.Now()
	must(t, a.Set("one", []Address{held("10.0.0.50/24")}, 1900*time.Millisecond))
	must(t, a.Set("two", []Address{held("10.0.0.51/24")}, 1900*time.Millisecond))
	time.Sleep(500 * time.Millisecond)
	must(t, a.Renew("two", 5*time.Second))
	for strings.Contains(lines(t, n, "addr"), "10.0.0.50") {
		if time.Since(began) > 3*time.Second {
			t.Fatal("the address outlived its time")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if lived := time.Since(began); lived > 1900*time.Millisecond || lived < 900*time.Millisecond {
		t.Errorf("the address lived %v, want about 1s", lived)
	}
	if !strings.Contains(lines(t, n, "addr"), "10.0.0.51") {
		t.Error("the renewed address went")
	}
	if _, err := a.Repair(); err != nil { // within its time the address comes back, later it does not
		t.Error(err)
	}
	time.Sleep(time.Until(began.Add(2 * time.Second)))
	run(t, n, "ip addr flush dev eth0")
	_, err := a.Repair()
	must(t, err)
	wantText(t, lines(t, n, "addr"), "addr 10.0.0.51/24 dev eth0 ours temporary")
}

func TestAnnouncementChangesNeighbours(t *testing.T) {
	a, b := wired(t)
	run(t, b, "ip neigh replace 10.0.0.50 lladdr 02:00:00:00:00:01 dev eth0 nud stale")
	must(t, newAddresses(t, a).Set("one", []Address{held("10.0.0.50/24")}, time.Minute))
	time.Sleep(20 * time.Millisecond)
	out, err := b.Run("ip", "neigh", "show", "10.0.0.50")
	must(t, err)
	if strings.Contains(out, "02:00:00:00:00:01") {
		t.Fatalf("the neighbour still believes %s", out)
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add([]byte{2, 24, 0, 0, 1, 0, 0, 0, 8, 0, 2, 0, 10, 0, 0, 1})
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = parseAddress(b)
		_, _ = routeKeyOf(b)
	})
}
