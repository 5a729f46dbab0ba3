package qemu

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"github.com/understudy-ha/understudy/hypervisor"
)

// TestForwardIsNotReached: QEMU accepts a connection although nothing in the guest does, nor ever booted.
func TestForwardIsNotReached(t *testing.T) {
	ctx, d := context.Background(), open(t, Config{Accelerator: "tcg"})
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(free.Addr().String())
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	m := blank(t, "one")
	m.NICs = []hypervisor.NIC{{Mode: hypervisor.Isolated, Forwards: []hypervisor.Forward{{Listen: at, Port: 80}}}}
	if err := d.Start(ctx, m); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if yes, err := d.Reached(ctx, "one", at.Port()); err != nil || yes {
		t.Errorf("reached %v, %v", yes, err)
	}
	if yes, err := d.Reached(ctx, "one", at.Port()-1); err != nil || !yes {
		t.Errorf("a port that is no forward: reached %v, %v", yes, err)
	}
}

func TestConnectionsOfATable(t *testing.T) {
	const head = "Hub -1 (net0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n"
	for line, want := range map[string]bool{
		"  TCP[HOST_FORWARD]  12       127.0.0.1  8080       10.0.2.15    80     0     0\r\n": false,
		"  TCP[SYN_SENT]      15       127.0.0.1  8080       10.0.2.15    80     0     0\r\n": false,
		"  TCP[ESTABLISHED]   15       127.0.0.1  8080       10.0.2.15    80     0     0\r\n": true,
		"  TCP[ESTABLISHED]   15               *  8080       10.0.2.15    80     0     0\r\n": true,
		"  TCP[CLOSE_WAIT]    15       127.0.0.1  8080       10.0.2.15    80     0     0\r\n": true,
		"  TCP[ESTABLISHED]   15       127.0.0.1  8081       10.0.2.15    80     0     0\r\n": false,
		"  TCP[ESTABLISHED]   15       10.0.2.15   443       127.0.0.1  8080     0     0\r\n": false,
	} {
		if got := through(head+line, 8080); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}
