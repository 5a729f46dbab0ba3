package recovery

import (
	"fmt"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// silentFor is how long the active side may say nothing before that is critical: the field's heartbeat.
const silentFor = 15 * time.Minute

// drillEvery is how often a drill is recommended.
const drillEvery = 180 * 24 * time.Hour

func (v View) status(missing string) api.MachineStatus {
	m := v.machine()
	s := api.MachineStatus{ProtectionState: api.Unprotected, TestFailoverState: api.TestNone, ReplicationHealth: api.HealthNone}
	note := func(code string, sev api.Severity, impacts, format string, args ...any) {
		s.Conditions = append(s.Conditions, api.Condition{Code: code, Severity: sev, Message: fmt.Sprintf(format, args...), Impacts: impacts})
	}
	if missing != "" {
		note("ReferenceMissing", api.Critical, "no job is possible", "%s: there is none of that name", missing)
	}
	if v.Machine.Spec.Paused {
		note("Paused", api.Warning, "drift stays", "repairs are paused")
	}
	if m == nil {
		return s
	}
	s.ActiveLocation, s.ActiveSite, s.LastDrill = m.Location, v.site(m.Location), m.LastDrill
	s.AllowedOperations = Allowed(v.State())
	v.jobStatus(&s, note)
	s.TestFailoverState = v.testState(m)
	st := v.active(m)
	s.ProtectionState = v.protection(m, st)
	s.Replication, s.Run, s.Test = v.replication(m, st), v.runStatus(m.Run, m.Location, Owner(v.Machine.Ref())), v.runStatus(drillRun(m), api.Recovery, DrillOwner(v.Machine.Ref()))
	v.nodeConditions(m, note)
	if missing == "" {
		v.replicationConditions(m, st, note)
	}
	if st != nil {
		s.Conditions = append(s.Conditions, st.Conditions...)
	}
	s.ReplicationHealth = health(m, s.Conditions)
	if m.Stage == api.StageProtected && m.Drill == nil && (m.LastDrill == nil || !m.LastDrill.Passed || v.Now.Sub(m.LastDrill.At) > drillEvery) {
		note("TestRecommended", api.Info, "", "no drill has passed and been cleaned up within 180 days")
	}
	return s
}

type noter func(code string, sev api.Severity, impacts, format string, args ...any)

func (v View) jobStatus(s *api.MachineStatus, note noter) {
	j := v.Job
	if j == nil {
		return
	}
	switch j.Status.Phase {
	case api.Running:
		s.CurrentScenario = &api.Scenario{Name: string(j.Spec.Kind), Job: j.Metadata.Name, Started: j.Status.Started}
	case api.Blocked:
		note("JobBlocked", api.Critical, "the operation has not been carried out whole", "job %s: %s", j.Metadata.Name, j.Status.Message)
	case api.Cancelled:
		note("JobCancelled", api.Warning, "the operation has not been carried out whole", "job %s: %s; run `understudy jobs retry`", j.Metadata.Name, j.Status.Message)
	}
	if j.Spec.PlanVersion > api.PlanVersion {
		note("JobNewer", api.Warning, "the job waits for a newer controller", "job %s has plan version %d, this controller knows %d", j.Metadata.Name, j.Spec.PlanVersion, api.PlanVersion)
	}
}

func (v View) testState(m *api.MachineAssignment) api.TestFailoverState {
	running := v.Job != nil && v.Job.Status.Phase == api.Running
	switch {
	case m.Drill == nil:
		return api.TestNone
	case m.Drill.Cleanup != nil:
		return api.TestCleaningUp
	case running && !m.Drill.Passed:
		return api.TestInProgress
	}
	return api.TestWaitingForCleanup
}

func (v View) protection(m *api.MachineAssignment, st *api.EngineState) api.ProtectionState {
	running := v.Job != nil && v.Job.Status.Phase == api.Running
	switch m.Stage {
	case api.StageDisabled:
		return api.Unprotected
	case api.StagePending:
		if running {
			return api.FailoverInProgress
		}
		return api.FailoverCommitPending
	case api.StageCommitted:
		return api.FailoverCommitted
	}
	filling := st != nil && stillFilling(st, m)
	switch {
	case filling && m.Location == api.Recovery:
		return api.Reprotecting
	case filling:
		return api.InitialReplication
	}
	return api.Protected
}

func (v View) replication(m *api.MachineAssignment, st *api.EngineState) *api.ReplicationStatus {
	if st == nil || m.Stage != api.StageProtected {
		return nil
	}
	return &api.ReplicationStatus{Node: v.node(m.Location), Phase: st.Phase, Stream: st.Stream, Progress: st.Percent, RPO: st.RPO, RPOp50: st.RPOp50,
		RPOp99: st.RPOp99, Captured: st.Changes.Captured, Stored: st.Changes.Stored, Dirty: st.Changes.Dirty, LatestPoint: st.LastPoint, LatestPointAt: st.LastPointAt,
		ResyncBytes: st.ResyncBytes, DifferingBytes: st.DifferingBytes}
}

func (v View) runStatus(r *api.MachineRun, l api.Location, owner string) *api.RunStatus {
	if r == nil {
		return nil
	}
	s := &api.RunStatus{Node: v.node(l), Instance: r.Instance, Point: r.Point}
	if has, ok := v.Report(s.Node, api.EngineSite, owner); ok && has.State != nil && (has.State.Instance == "" || has.State.Instance == r.Instance) {
		st := has.State
		s.Phase, s.Progress, s.AnswersAfter, s.Address, s.Screenshot = st.Phase, st.Percent, st.AnswersAfter, st.Address, st.Screenshot
	}
	return s
}

func (v View) nodeConditions(m *api.MachineAssignment, note noter) {
	node := v.node(m.Location)
	switch silent := v.Silent(node); {
	case silent >= silentFor:
		note("NoHeartbeat", api.Critical, "replication", "%s: its agent has had no session for more than %v", node, silentFor)
	case silent > 0:
		note("AgentDisconnected", api.Warning, "jobs that need it wait", "%s: its agent has no session with the leader", node)
	}
	if m.Stage != api.StageProtected || m.Paused {
		return
	}
	if ps := v.server(m.Location); ps != nil {
		switch silent := v.Silent(ps.Spec.Node); {
		case silent >= silentFor:
			note("ProcessServerNoHeartbeat", api.Critical, "replication", "%s: the process server's node %s has had no session for more than %v", ps.Metadata.Name, ps.Spec.Node, silentFor)
		case silent > 0:
			note("ProcessServerDisconnected", api.Warning, "replication", "%s: the process server's node %s has no session with the leader", ps.Metadata.Name, ps.Spec.Node)
		case ps.Spec.Temporary:
			note("ProcessServerTemporary", api.Info, "", "%s: it is a temporary process server", ps.Metadata.Name)
		}
		v.passOn(ps.Metadata.Name, ps.Spec.Node, api.EngineProcessServer, ps.Ref(), note)
	}
	if vault := v.vault(m.Location); vault != nil {
		v.passOn(vault.Metadata.Name, vault.Spec.Keeper, api.EngineKeeper, vault.Ref(), note)
	}
}

// passOn makes what an engine says that the machine depends on the machine's own, so that its health and events tell of it. What is said
// of other machines is left out, and what the machine's sender says itself.
func (v View) passOn(name, node, engine string, owner api.Ref, note noter) {
	has, ok := v.Report(node, engine, owner.String())
	if !ok || has.State == nil {
		return
	}
	own := "machine " + v.name() + ": "
	for _, c := range has.State.Conditions {
		said, mine := strings.CutPrefix(c.Message, own)
		if !mine && strings.HasPrefix(said, "machine ") || c.Code == "ClockSkew" {
			continue
		}
		note(c.Code, c.Severity, c.Impacts, "%s: %s", name, said)
	}
}

// replicationConditions compares what is shipped with the policy.
func (v View) replicationConditions(m *api.MachineAssignment, st *api.EngineState, note noter) {
	if m.Stage != api.StageProtected {
		return
	}
	if m.Paused {
		note("ReplicationPaused", api.Warning, "the copy grows older", "nothing is shipped until Resume")
		return
	}
	if st == nil {
		return
	}
	limit := v.policy(m.Location).RPOThreshold.D()
	switch rpo := st.RPO.D(); {
	case rpo > 2*limit:
		note("RPOExceeded", api.Critical, "what a failover would lose", "rpo: more than twice the %v that the policy allows", limit)
	case rpo > limit:
		note("RPOExceeded", api.Warning, "what a failover would lose", "rpo: more than the %v that the policy allows", limit)
	}
	if st.Phase == "gap" {
		note("Resynchronising", api.Warning, "no new recovery point until the gap is closed", "gap: what was not shipped in time is read again")
	}
}

// health is the worst of the conditions, if anything is to be shipped.
func health(m *api.MachineAssignment, conditions []api.Condition) api.ReplicationHealth {
	if m.Stage != api.StageProtected {
		return api.HealthNone
	}
	h := api.HealthNormal
	for _, c := range conditions {
		switch {
		case c.Severity == api.Critical:
			return api.HealthCritical
		case c.Severity == api.Warning:
			h = api.HealthWarning
		}
	}
	return h
}
