package controller

import (
	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/recovery"
	"github.com/understudy-ha/understudy/store"
)

// learnResource takes a resource that machines refer to. It tells whether the kind is one of those.
func (c *Core) learnResource(ref api.Ref, e store.Entry) bool {
	var o api.Object
	switch ref.Kind {
	case api.KindVault:
		o = asObject(parse[api.Vault](e.Value))
	case api.KindReplicationPolicy:
		o = asObject(parse[api.ReplicationPolicy](e.Value))
	case api.KindProcessServer:
		o = asObject(parse[api.ProcessServer](e.Value))
	case api.KindSecret:
		if c.secrets[ref] != e.Rev {
			c.secrets[ref] = e.Rev
			c.unsettle()
		}
		return true
	default:
		return false
	}
	if o != nil {
		o.Default()
		c.things[ref] = o
		c.unsettle()
	}
	return true
}

func asObject[T any, P interface {
	*T
	api.Object
}](p P) api.Object {
	if p == nil {
		return nil
	}
	return p
}

// forgetResource takes the absence of one.
func (c *Core) forgetResource(ref api.Ref) {
	delete(c.things, ref)
	delete(c.secrets, ref)
	c.unsettle()
}

// unsettle has everything looked at that follows from machines and what they refer to.
func (c *Core) unsettle() {
	c.standing.stale = true
	for _, d := range c.order {
		if d.base().ref.Kind != api.KindApplianceGroup {
			d.base().dirty = true
		}
	}
}

func thing[T any](c *Core, kind api.Kind, tenant, name string) *T {
	t, _ := any(c.things[api.Ref{Kind: kind, Tenant: tenant, Name: name}]).(*T)
	return t
}

// resources that a machine refers to.
func (c *Core) resources(m *api.ProtectedMachine) recovery.Resources {
	t, s := m.Metadata.Tenant, &m.Spec
	r := recovery.Resources{Policy: thing[api.ReplicationPolicy](c, api.KindReplicationPolicy, t, s.Policy),
		Vault:         thing[api.Vault](c, api.KindVault, t, s.Vault),
		ProcessServer: thing[api.ProcessServer](c, api.KindProcessServer, t, s.ProcessServer)}
	if s.Failback != nil {
		r.BackVault = thing[api.Vault](c, api.KindVault, t, s.Failback.Vault)
		r.BackServer = thing[api.ProcessServer](c, api.KindProcessServer, t, s.Failback.ProcessServer)
	}
	r.Secrets = map[string]int64{}
	for _, v := range []*api.Vault{r.Vault, r.BackVault} {
		if v == nil {
			continue
		}
		for _, name := range []string{v.Spec.CredentialsRef, v.Spec.KeyRef} {
			if name != "" {
				r.Secrets[name] = int64(c.secrets[api.Ref{Kind: api.KindSecret, Tenant: t, Name: name}])
			}
		}
	}
	return r
}
