package recovery

import (
	"cmp"
	"slices"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/mutant"
)

// What process servers and keepers are told follows from all machines at once. It needs no job: the leader keeps their nodes
// up to date.

// ProcessServer gives the section of a process server, from all the machines of its tenant.
func ProcessServer(ps *api.ProcessServer, machines []View) Told {
	c := &api.ProcessServerConfig{Name: ps.Metadata.Name, Listen: ps.Spec.Listen, SpoolDir: ps.Spec.Spool.Dir, SpoolBytes: ps.Spec.Spool.MaxBytes,
		Bandwidth: ps.Spec.Bandwidth}
	for _, v := range machines {
		m := v.machine()
		if m != nil && m.Stage == api.StagePending && m.Run.Point == nil && m.Before != nil {
			m = m.Before // the last point of a move is still on its way
		}
		if m == nil || m.Stage != api.StageProtected || v.missing() != "" {
			continue
		}
		// One that the machine leaves takes its stream until the machine knows of the next.
		if v.server(m.Location).Metadata.Name != ps.Metadata.Name && !slices.Contains(m.Via, ps.Spec.Address) {
			continue
		}
		s := api.AcceptedStream{Machine: v.name(), UID: m.UID, Stream: m.Stream, Epoch: m.Epoch, Base: m.ShipBase, BaseStream: m.BaseStream, BaseSeq: m.BaseSeq,
			Node: v.Machine.Metadata.Tenant + "/" + v.node(m.Location), Vault: v.vault(m.Location).Access(false)}
		if s.Base == "" {
			s.Base = "none"
		}
		c.Streams = append(c.Streams, s)
	}
	return Told{Node: ps.Spec.Node, Section: api.Section{Engine: api.EngineProcessServer, Owner: ps.Ref().String(), Generation: 1, ProcessServer: c}}
}

// Keeper gives the section of a vault's keeper, from all the machines of its tenant.
func Keeper(vault *api.Vault, machines []View) Told {
	kept := map[string]*api.KeptStream{}
	keep := func(stream string, retention api.Duration) *api.KeptStream {
		k := kept[stream]
		if k == nil {
			k = &api.KeptStream{Stream: stream, Retention: min(retention, vault.Spec.MaxRetention)}
			kept[stream] = k
		}
		return k
	}
	for _, v := range machines {
		if m := v.machine(); m != nil && v.missing() == "" {
			v.keep(m, vault.Metadata.Name, keep)
		}
	}
	c := &api.KeeperConfig{Vault: vault.Access(true)}
	for _, k := range kept {
		c.Streams = append(c.Streams, *k)
	}
	slices.SortFunc(c.Streams, func(a, b api.KeptStream) int { return cmp.Compare(a.Stream, b.Stream) })
	return Told{Node: vault.Spec.Keeper, Section: api.Section{Engine: api.EngineKeeper, Owner: vault.Ref().String(), Generation: 1, Keeper: c}}
}

// keep says which streams of a machine a vault keeps, and which of their points.
func (v View) keep(m *api.MachineAssignment, vault string, keep func(string, api.Duration) *api.KeptStream) {
	if to := v.vault(m.Location); to != nil && to.Metadata.Name == vault && m.Stage != api.StagePending && m.Stage != api.StageCommitted {
		keep(m.Stream, v.policy(m.Location).Retention)
	}
	for _, a := range []*api.MachineAssignment{m, m.Before} {
		if a == nil || a.Run == nil || a.Run.Vault != vault {
			continue
		}
		k := keep(a.Run.Stream, v.policy(other(a.Location)).Retention)
		switch {
		case a.Run.Point == nil:
		case a == m && m.Stage == api.StagePending && mutant.On(mutant.Unpinned):
		case a == m && m.Stage == api.StagePending:
			k.Pins = append(k.Pins, a.Run.Point.Seq)
		case k.Stream != m.Stream: // not one that goes on, after a failover that was taken back
			k.Only = a.Run.Point.Seq
		}
	}
	for _, a := range []*api.MachineAssignment{m, m.Before} { // what a kept stream stands on
		if a != nil && a.BaseStream != "" && v.vault(a.Location).Metadata.Name == vault {
			keep(a.BaseStream, v.policy(a.Location).Retention).Only = a.BaseSeq
		}
	}
	if d := m.Drill; d != nil && d.Vault == vault && d.Point != nil && !mutant.On(mutant.Unpinned) {
		k := keep(d.Stream, v.policy(m.Location).Retention)
		k.Pins = append(k.Pins, d.Point.Seq)
	}
}
