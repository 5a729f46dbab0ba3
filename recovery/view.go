package recovery

import (
	"time"

	"github.com/understudy-ha/understudy/api"
)

// View is everything a decision about one machine may look at.
type View struct {
	Machine *api.ProtectedMachine
	// Assignment in force; nil before the first.
	Assignment *api.Assignment
	// Job is the assignment's; nil if there is none or it is not known.
	Job     *api.Job
	Request *api.Request
	Resources
	// Generation that the next assignment would have.
	Generation int64
	// Silent is how long a node (by name) has had no session; 0 while it has one.
	Silent func(node string) time.Duration
	// Report gives what a node last said of a section, if it has a session.
	Report func(node, engine, owner string) (api.SectionStatus, bool)
	// Astray lists what is known to differ at nodes from what they should have.
	Astray []string
	// RetryAt is when a Blocked job may be tried again.
	RetryAt time.Time
	Now     time.Time
}

// Resources that a machine refers to; nil where there is none of that name.
type Resources struct {
	Policy *api.ReplicationPolicy
	// Vault and ProcessServer on the way to the recovery site, BackVault and BackServer on the way back.
	Vault, BackVault          *api.Vault
	ProcessServer, BackServer *api.ProcessServer
	// Secrets says at which revision the named secrets are: a new value must be told to nodes.
	Secrets map[string]int64
}

// missing names the first reference that leads nowhere; "" if none does.
func (v View) missing() string {
	s := &v.Machine.Spec
	switch {
	case v.Policy == nil:
		return "ReplicationPolicy " + s.Policy
	case v.Vault == nil:
		return "Vault " + s.Vault
	case v.ProcessServer == nil:
		return "ProcessServer " + s.ProcessServer
	case s.Failback != nil && v.BackVault == nil:
		return "Vault " + s.Failback.Vault
	case s.Failback != nil && v.BackServer == nil:
		return "ProcessServer " + s.Failback.ProcessServer
	case s.Failback == nil && v.machine() != nil && v.machine().Yield != "":
		return "spec.failback, by which the machine is shipped back,"
	}
	return ""
}

// machine gives the assignment's part, if it is this machine's: one that was deleted and made anew has another UID.
func (v View) machine() *api.MachineAssignment {
	if v.Assignment == nil || v.Assignment.Machine == nil || v.Assignment.Machine.UID != v.Machine.Spec.UID {
		return nil
	}
	return v.Assignment.Machine
}

// Owner of a machine's sections, and DrillOwner of its drills': both may be at one node.
func Owner(m api.Ref) string { return m.String() }

// DrillOwner owns the section of a drill.
func DrillOwner(m api.Ref) string { return m.String() + ":drill" }

func other(l api.Location) api.Location {
	if l == api.Primary {
		return api.Recovery
	}
	return api.Primary
}

// site, node, vault and server of a side. The vault and the process server are those that it ships to while it is active.
func (v View) site(l api.Location) string {
	if l == api.Recovery {
		return v.Machine.Spec.Recovery.Site
	}
	return v.Machine.Spec.Source.Site
}

func (v View) node(l api.Location) string {
	if l == api.Recovery {
		return v.Machine.Spec.Recovery.Node
	}
	return v.Machine.Spec.Source.Node
}

func (v View) vault(l api.Location) *api.Vault {
	if l == api.Recovery {
		return v.BackVault
	}
	return v.Vault
}

func (v View) server(l api.Location) *api.ProcessServer {
	if l == api.Recovery {
		return v.BackServer
	}
	return v.ProcessServer
}

// policy of the stream that a side ships.
func (v View) policy(l api.Location) api.PolicySpec {
	if l == api.Recovery {
		return api.FailbackPolicy()
	}
	return v.Policy.Spec
}

// connected tells whether a node has a session.
func (v View) connected(node string) bool { return v.Silent(node) == 0 }

// active gives what the active side's engine says of itself; nil if it is not known.
func (v View) active(m *api.MachineAssignment) *api.EngineState {
	engine := api.EngineProtect
	if m.Run != nil {
		engine = api.EngineSite
	}
	st, ok := v.Report(v.node(m.Location), engine, Owner(v.Machine.Ref()))
	if !ok || st.Applied.Generation != m.Epoch {
		return nil
	}
	return st.State
}

// stillFilling tells whether the other side has no whole copy yet. Whether the newest point is stored says little: with points every second
// there is always one on its way.
func stillFilling(st *api.EngineState, m *api.MachineAssignment) bool {
	return st.Phase == "initial" || m.Run != nil && st.Protection != "protected" && st.Protection != "gap"
}

// State of the machine for Allowed.
func (v View) State() State {
	m := v.machine()
	if m == nil {
		return State{}
	}
	s := State{Stage: m.Stage, Location: m.Location, Drill: m.Drill != nil, Paused: m.Paused, Stopped: m.Stopped, FromPoint: m.Run != nil,
		InPlace: m.Run != nil && m.Run.InPlace, WayBack: v.Machine.Spec.Failback != nil, VM: v.Machine.Spec.VM != nil,
		Reached: v.connected(v.node(other(m.Location)))}
	if j := v.Job; j != nil {
		running := j.Status.Phase == api.Running
		s.Repairing = running && j.Spec.Kind == api.JobRepair
		s.Busy = running && !s.Repairing // what is asked for takes over from a repair
		s.Moving = s.Busy && m.Stage == api.StagePending
		s.Arrived = j.Status.Phase == api.Succeeded
	}
	s.Searching = m.Run != nil && m.Run.Point == nil
	s.Arrived = s.Arrived && !s.Searching
	st := v.active(m)
	s.Partial = m.Run != nil && m.Location == api.Primary && (st == nil || st.Hydrated < 100)
	if st != nil && m.Stage == api.StageProtected {
		s.Initial = stillFilling(st, m)
	}
	return s
}
