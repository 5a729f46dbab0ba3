package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
)

// engineNode gives the node that keeps a vault or runs a process server; nil for other kinds, and if it is not there.
func engineNode(ctx context.Context, cl *client.Client, o api.Object) (*api.Node, error) {
	name := ""
	switch o := o.(type) {
	case *api.Vault:
		name = o.Spec.Keeper
	case *api.ProcessServer:
		name = o.Spec.Node
	default:
		return nil, nil
	}
	n, err := cl.Get(ctx, api.KindNode, o.Head().Metadata.Tenant, name)
	var refusal *api.Error
	if errors.As(err, &refusal) && refusal.Code == api.CodeNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return n.(*api.Node), nil
}

// describeEngine says how the engine of a resource is at its node.
func (c *console) describeEngine(n *api.Node, engine string, owner api.Ref) {
	f := c.fields(13)
	if n == nil {
		f("Engine", c.shade(styleYellow, "its node is not there"))
		return
	}
	how := "connected"
	if !n.Status.Connected {
		how = c.shade(styleYellow, "not connected")
	}
	f("At", n.Metadata.Name+", "+how)
	for _, s := range n.Status.Sections {
		if s.Engine != engine || s.Owner != owner.String() {
			continue
		}
		f("Error", s.Error)
		if s.State != nil {
			f("Phase", s.State.Phase)
			c.describeConditions(s.State.Conditions)
		}
	}
}

// describeMirror says what server recover would find in a vault.
func (c *console) describeMirror(v *api.Vault) {
	f, m := c.fields(13), v.Status.Mirror
	if m == nil {
		f("Mirror", "none: server recover would find nothing there")
	} else {
		f("Mirror", fmt.Sprintf("%s, known whole %s ago", plural(m.Objects, "resource", "resources"), age(time.Now(), m.At)))
		f("Withheld", strings.Join(m.Withheld, ", "))
	}
	f("Recipient", v.Spec.Recipient)
	c.describeConditions(v.Status.Conditions)
}
