package qemu

import (
	"context"
	"strconv"
	"strings"

	"github.com/understudy-ha/understudy/hypervisor"
)

// Reached tells whether a connection to a forward got through to the guest.
func (d *Driver) Reached(ctx context.Context, name string, port uint16) (bool, error) {
	yes, err := d.reached(ctx, name, port)
	return yes, fail("ask about the connections of", name, err)
}

func (d *Driver) reached(ctx context.Context, name string, port uint16) (bool, error) {
	m, err := d.definition(name)
	if err != nil || !forwards(m, port) {
		return err == nil, err
	}
	var table string
	err = d.command(ctx, name, "human-monitor-command", map[string]any{"command-line": "info usernet"}, &table)
	return err == nil && through(table, port), err
}

func forwards(m hypervisor.Machine, port uint16) bool {
	for _, n := range m.NICs {
		for _, f := range n.Forwards {
			if f.Listen.Port() == port {
				return true
			}
		}
	}
	return false
}

// through looks for a connection by a listening port that the guest has answered. The lines of QEMU's table that matter are
//
//	Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
//	TCP[ESTABLISHED]   21       127.0.0.1 18080       10.0.2.15    80     0     0
//
// where the state of one that was not answered is SYN_SENT, and that of the forward itself HOST_FORWARD.
func through(table string, port uint16) bool {
	for _, line := range strings.Split(table, "\n") {
		f := strings.Fields(line)
		if len(f) < 4 || f[3] != strconv.Itoa(int(port)) {
			continue
		}
		switch f[0] {
		case "TCP[ESTABLISHED]", "TCP[CLOSE_WAIT]", "TCP[FIN_WAIT_1]", "TCP[FIN_WAIT_2]":
			return true
		}
	}
	return false
}
