package server

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/recovery"
)

// keepsWhatRuns refuses changes of a machine's spec that what runs of it, or was captured of it, would not survive. The
// transaction is bound to the assignment that it was judged by: a move that begins meanwhile wins.
func (r *resources) keepsWhatRuns(ctx context.Context, w *writing, old, m *api.ProtectedMachine) error {
	if old.Status.Assignment == nil {
		return nil
	}
	bad := keepsShape(old, m)
	if !touchesRuns(&old.Spec, &m.Spec) {
		return bad.Err()
	}
	a, err := r.boundAssignment(ctx, w, m.Ref())
	if err != nil {
		return err
	}
	if a == nil || a.Machine == nil || a.Machine.UID != old.Spec.UID {
		return bad.Err()
	}
	gone, err := r.discarded(ctx, old)
	if err != nil {
		return err
	}
	keepsRuns(&bad, a.Machine, &old.Spec, &m.Spec, gone)
	return bad.Err()
}

// boundAssignment reads the assignment, nil if there is none, and binds the transaction to it.
func (r *resources) boundAssignment(ctx context.Context, w *writing, ref api.Ref) (*api.Assignment, error) {
	e, err := r.maybe(ctx, api.AssignKey(ref))
	if err != nil {
		return nil, err
	}
	w.condOnce(e)
	if e.Rev == 0 {
		return nil, nil
	}
	var a api.Assignment
	if err := json.Unmarshal(e.Value, &a); err != nil {
		return nil, fmt.Errorf("assignment of %s: %w", ref, err)
	}
	return &a, nil
}

// keepsShape refuses changes that what is captured would not survive.
func keepsShape(old, m *api.ProtectedMachine) (bad api.Invalid) {
	same := func(field, was, is string) {
		if was != is {
			bad.Add(field, fmt.Sprintf("%q", is), fmt.Sprintf("%q, as it was: disable and delete the machine, and protect it anew", was))
		}
	}
	same("spec.source.site", old.Spec.Source.Site, m.Spec.Source.Site)
	same("spec.source.node", old.Spec.Source.Node, m.Spec.Source.Node)
	same("spec.recovery.site", old.Spec.Recovery.Site, m.Spec.Recovery.Site)
	same("spec.vault", old.Spec.Vault, m.Spec.Vault)
	if len(old.Spec.Disks) != len(m.Spec.Disks) {
		bad.Add("spec.disks", fmt.Sprintf("%d disks", len(m.Spec.Disks)), fmt.Sprintf("%d, as it was: a disk is added by protecting the machine anew", len(old.Spec.Disks)))
		return bad
	}
	for i, d := range m.Spec.Disks {
		same(fmt.Sprintf("spec.disks[%d].name", i), old.Spec.Disks[i].Name, d.Name)
		same(fmt.Sprintf("spec.disks[%d].path", i), old.Spec.Disks[i].Path, d.Path)
	}
	return bad
}

func backVault(s *api.MachineSpec) string {
	if s.Failback == nil {
		return ""
	}
	return s.Failback.Vault
}

// touchesRuns tells whether a change may take away what a run stands on: where it runs, what it reads, who runs it.
func touchesRuns(old, s *api.MachineSpec) bool {
	return old.Recovery.Node != s.Recovery.Node || backVault(old) != backVault(s) || old.VM != nil && s.VM == nil
}

// keepsRuns refuses what would let the machine run twice, or without its past. Gone tells that the recovery node has said that nothing of
// the machine is left there.
func keepsRuns(bad *api.Invalid, a *api.MachineAssignment, old, s *api.MachineSpec, gone bool) {
	if old.Recovery.Node != s.Recovery.Node {
		want := ""
		switch {
		case a.Location == api.Recovery:
			want = "while the machine runs there: it would run twice"
		case a.Drill != nil:
			want = "until the drill there is cleaned up"
		case a.Before != nil && a.Before.Run != nil && a.Before.Location == api.Recovery && !gone:
			want = "until it has said that what ran there is discarded"
		}
		if want != "" {
			bad.Add("spec.recovery.node", fmt.Sprintf("%q", s.Recovery.Node), fmt.Sprintf("%q %s", old.Recovery.Node, want))
		}
	}
	if was := backVault(old); was != backVault(s) && readsFrom(a, was) {
		bad.Add("spec.failback.vault", fmt.Sprintf("%q", backVault(s)), fmt.Sprintf("%q, from which the machine came home or is to: disable and delete it, and protect it anew", was))
	}
	if old.VM != nil && s.VM == nil && !a.Stopped {
		bad.Add("spec.vm", "", "what runs the machine; shut it down first (operation Shutdown), then leave this out")
	}
}

// readsFrom tells whether a vault on the way back holds what the machine stands on, or is being shipped.
func readsFrom(a *api.MachineAssignment, vault string) bool {
	if vault == "" {
		return false
	}
	if a.Location == api.Recovery && a.Yield != "" && a.Stage == api.StageProtected {
		return true
	}
	for _, x := range []*api.MachineAssignment{a, a.Before} {
		if x != nil && x.Run != nil && x.Run.Vault == vault {
			return true
		}
	}
	return false
}

// discarded tells whether the recovery node, when it was last heard of, had nothing of the machine any more.
func (r *resources) discarded(ctx context.Context, m *api.ProtectedMachine) (bool, error) {
	o, _, err := r.get(ctx, api.Ref{Kind: api.KindNode, Tenant: m.Metadata.Tenant, Name: m.Spec.Recovery.Node})
	if isNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	for _, s := range o.(*api.Node).Status.Sections {
		if s.Engine == api.EngineSite && s.Owner == recovery.Owner(m.Ref()) {
			return s.State != nil && s.State.Phase == "discarded", nil
		}
	}
	return false, nil
}
