package recovery

import (
	"time"

	"github.com/understudy-ha/understudy/api"
)

// leftoverStop is how long a virtual machine that is left over may take to shut down.
const leftoverStop = 2 * time.Minute

// Leftover gives the section by which a node lets go of what it has of a machine that is not to be there: one that was deleted, or an
// earlier one of its name. Its disks stay. ok is false if what the node has is the machine's, or may be. spec is nil if the machine was
// deleted; has is what the node said of the section.
func Leftover(ref api.Ref, spec *View, a *api.Assignment, node string, has api.SectionStatus) (s api.Section, ok bool) {
	if a == nil || a.Machine == nil || has.State != nil && has.State.Phase == "discarded" {
		return s, false
	}
	m := a.Machine
	if spec == nil && m.Stage != api.StageDisabled || spec != nil && !spec.earlier(m, node, has) {
		return s, false
	}
	s = api.Section{Engine: has.Engine, Owner: has.Owner, Generation: max(has.Applied.Generation, 1)}
	name, vm := ref.Tenant+"/"+ref.Name, &api.VirtualMachine{}
	switch has.Engine {
	case api.EngineProtect:
		s.Protect = &api.ProtectConfig{Machine: name, UID: m.UID, Mode: "discard", VM: vm, StopTimeout: api.Duration(leftoverStop)}
	case api.EngineSite: // in place or not: the engine knows
		s.Site = &api.SiteConfig{Machine: name, UID: m.UID, Mode: "discard", InPlace: true, VM: vm, StopTimeout: api.Duration(leftoverStop)}
	default:
		return s, false
	}
	return s, true
}

// earlier tells whether a section is of an earlier machine of the name, and this one has none there.
func (v *View) earlier(m *api.MachineAssignment, node string, has api.SectionStatus) bool {
	told := v.Wanted(m)
	if m.UID != v.Machine.Spec.UID || has.Applied.Generation >= m.First || len(told) == 0 {
		return false
	}
	for _, t := range told {
		if t.Node == node && t.Section.Engine == has.Engine && t.Section.Owner == has.Owner {
			return false
		}
	}
	return true
}

// Retired gives the section by which a node lets go of a process server or a keeper that is another node's, or was deleted; ok is false for
// other engines, and for what has gone already.
func Retired(has api.SectionStatus) (s api.Section, ok bool) {
	if has.State != nil && has.State.Phase == "retired" {
		return s, false
	}
	s = api.Section{Engine: has.Engine, Owner: has.Owner, Generation: max(has.Applied.Generation, 1)}
	switch has.Engine {
	case api.EngineProcessServer:
		s.ProcessServer = &api.ProcessServerConfig{Retired: true}
	case api.EngineKeeper:
		s.Keeper = &api.KeeperConfig{Retired: true}
	default:
		return s, false
	}
	return s, true
}

// ShipsThrough tells whether a machine may still ship through a process server's former place: not all nodes have been told where it is.
func (v View) ShipsThrough(server string) bool {
	s := &v.Machine.Spec
	return (s.ProcessServer == server || s.Failback != nil && s.Failback.ProcessServer == server) && v.missing() == "" && !v.settled()
}
