package hostnet

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Rule sends some packets to a routing table.
type Rule struct {
	// Priority orders rules, lowest first: 1 to 32765.
	Priority int
	// From matches the source; left out, every packet of IPv4.
	From netip.Prefix
	// In matches the link a packet came in by.
	In string
	// Mark matches the firewall mark; 0 matches all.
	Mark  uint32
	Table uint32
}

// AddRule adds a rule; one that is there already is no error.
func (n *Net) AddRule(r Rule) error {
	if err := n.nl.RuleAdd(r.kernelForm()); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add rule %d: %w", r.Priority, err)
	}
	return nil
}

// DeleteRule removes a rule; one that is not there is no error.
func (n *Net) DeleteRule(r Rule) error {
	if err := n.nl.RuleDel(r.kernelForm()); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete rule %d: %w", r.Priority, err)
	}
	return nil
}

func (r Rule) kernelForm() *netlink.Rule {
	k := netlink.NewRule()
	k.Priority, k.Table, k.IifName, k.Mark, k.Family = r.Priority, int(r.Table), r.In, r.Mark, netlink.FAMILY_V4
	k.Protocol = Protocol
	if r.From.IsValid() {
		k.Src, k.Family = ipNet(r.From), family(r.From.Addr())
	}
	return k
}
