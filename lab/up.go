package lab

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
)

// Up builds the appliance pair with a running cluster and leaves it standing until [Down]. It tells o.Progress how to use it.
func Up(ctx context.Context, o Options) (err error) {
	if err := o.settle(); err != nil {
		return err
	}
	o.standing = true
	l, err := newNVALab(ctx, o, false)
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	if err != nil {
		return err
	}
	n := &nvaRun{nvaLab: l, o: o}
	if err := n.startCluster(ctx); err != nil {
		return err
	}
	n.c.desk.close()
	if err := l.run.setOwner(0); err != nil {
		return err
	}
	at := "ip netns exec " + l.run.namespace("")
	config := filepath.Join(n.c.dir, "client.yaml")
	l.say("\nlab %s stands. Its machines are namespaces, its logs are in %s. For example:", l.run.id, l.logs)
	l.say("  %soperator %s get appliancegroups --config %s", at, l.binary, config)
	l.say("  %soperator %s failover %s --config %s", at, l.binary, groupName, config)
	l.say("  %sclient ping %s", at, pip)
	l.say("  %s lab down", filepath.Base(l.binary))
	return nil
}

// startCluster starts Understudy on the site and waits until it is steady.
func (n *nvaRun) startCluster(ctx context.Context) error {
	n.c = newCluster(n.nvaLab, n.o)
	if err := n.c.start(ctx); err != nil {
		return fmt.Errorf("start understudy: %w", err)
	}
	return nil
}
