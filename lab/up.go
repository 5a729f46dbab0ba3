package lab

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
)

// Site is a lab that stands.
type Site struct {
	ID string `json:"id"`
	// Namespaces start with this; the machine's name follows.
	Namespaces string `json:"namespaces"`
	// Config of the operator's command line; it works in the operator's namespace.
	Config string `json:"config"`
	// Logs is the directory of every process's log.
	Logs   string `json:"logs"`
	binary string
}

// Help tells people what to do with the site.
func (s Site) Help() string {
	at := "ip netns exec " + s.Namespaces
	return fmt.Sprintf(`lab %s stands: its machines are network namespaces, its logs are in %s. For example:
  %soperator %s get groups --config %s
  %soperator %s failover %s --config %s
  %sclient ping %s
  %s lab down`, s.ID, s.Logs, at, s.binary, s.Config, at, s.binary, groupName, s.Config, at, pip, s.binary)
}

// Up builds the appliance pair with a running cluster and leaves it standing until [Down].
func Up(ctx context.Context, o Options) (site Site, err error) {
	if err := o.settle(); err != nil {
		return site, err
	}
	o.standing = true
	l, err := newNVALab(ctx, o, false)
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	if err != nil {
		return site, err
	}
	n := &nvaRun{nvaLab: l, o: o}
	if err := n.startCluster(ctx); err != nil {
		return site, err
	}
	n.c.desk.close()
	site = Site{ID: l.run.id, Namespaces: l.run.namespace(""), Config: filepath.Join(n.c.dir, "client.yaml"), Logs: l.logs, binary: l.binary}
	return site, l.run.setOwner(0)
}

// startCluster starts Understudy on the site and waits until it is steady.
func (n *nvaRun) startCluster(ctx context.Context) error {
	n.c = newCluster(n.nvaLab, n.o)
	if err := n.c.start(ctx); err != nil {
		return fmt.Errorf("start understudy: %w", err)
	}
	return nil
}
