package hostnet

import (
	"fmt"
	"os/exec"
	"strings"
)

// SetTable makes the nft table of one owner hold exactly body, in one transaction: what the table held before is
// gone, nothing of other tables is touched. Family is inet, ip, ip6, arp, bridge or netdev. It needs the program nft.
func (n *Net) SetTable(family, owner, body string) error {
	table := family + " " + owner
	return n.nft(fmt.Sprintf("table %s\ndelete table %s\ntable %s {\n%s\n}\n", table, table, table, body))
}

// DeleteTable removes an owner's nft table. One that is not there is no error.
func (n *Net) DeleteTable(family, owner string) error {
	table := family + " " + owner
	return n.nft(fmt.Sprintf("table %s\ndelete table %s\n", table, table))
}

// ChangeTable runs one nft script as one transaction, for changes to a table's sets while it works.
func (n *Net) ChangeTable(script string) error { return n.nft(script) }

func (n *Net) nft(script string) error {
	return n.Do(func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("nft in %s: %w: %s", n.name, err, strings.TrimSpace(string(out)))
		}
		return nil
	})
}
