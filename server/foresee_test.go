package server_test

import (
	"slices"
	"testing"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
)

// TestOperationsAreForeseen asks what operations would do before they are asked for.
func TestOperationsAreForeseen(t *testing.T) {
	s := newSite(t)
	s.apply(s.admin, ground(s)...)
	s.apply(s.admin, web(), &api.RecoveryPlan{Header: head(api.KindRecoveryPlan, "", "shop"), Spec: api.RecoveryPlanSpec{Groups: []api.PlanGroup{
		{Type: api.GroupBoot, Items: []api.PlanItem{{Machine: "web"}}, After: []api.PlanAction{{Name: "cables", Manual: "plug them in"}}}}}})
	foresee := func(what string, q client.Query) (p api.Plan, err error) {
		err = s.admin.Call(t.Context(), "GET", "/v1/"+what+"/plan", q, "", nil, &p)
		return p, err
	}
	m := s.untilMachine("busy", func(m *api.ProtectedMachine) bool { return m.Status.CurrentScenario != nil })
	_, err := foresee("protectedmachines/web", client.Query{"operation": "Failover"})
	wantCode(t, err, api.CodeConflict, "a job is running")
	if err := s.admin.Call(t.Context(), "POST", "/v1/jobs/"+m.Status.CurrentScenario.Job+"/cancel", nil, "", nil, nil); err != nil {
		t.Fatal(err)
	}
	s.untilMachine("cancelled", func(m *api.ProtectedMachine) bool { return slices.Contains(m.Status.AllowedOperations, api.OpFailover) })

	p, err := foresee("protectedmachines/web", client.Query{"operation": "Failover", "point": "latestProcessed"})
	if err != nil {
		t.Fatal(err)
	}
	if p.Group.Name != "web" || p.Operation != api.OpFailover || p.From != "hq" || p.To != "dr" || p.Expected == 0 || p.Worst <= p.Expected {
		t.Errorf("plan %+v", p)
	}
	if !slices.ContainsFunc(p.Steps, func(s api.Step) bool {
		return s.Kind == api.StepChoose && s.Choose.Choice.Kind == api.PointLatestProcessed
	}) {
		t.Errorf("no point is chosen: %+v", p.Steps)
	}
	whole, err := foresee("recoveryplans/shop", client.Query{"operation": "TestFailover"})
	if err != nil {
		t.Fatal(err)
	}
	if len(whole.Steps) != 2 || whole.Steps[0].Operate == nil || whole.Steps[0].Worst == 0 || whole.Steps[1].Manual == nil {
		t.Errorf("plan %+v", whole)
	}
	_, err = foresee("protectedmachines/web", client.Query{"operation": "Commit"})
	wantCode(t, err, api.CodeConflict, "allowed now: TestFailover, Failover")
	_, err = foresee("protectedmachines/web", client.Query{"operation": "Commit", "point": "latest"})
	wantCode(t, err, api.CodeInvalid, "none with Commit")
	_, err = foresee("recoveryplans/shop", client.Query{"operation": "Pause"})
	wantCode(t, err, api.CodeInvalid, "operation")
	if after := s.machine("web"); after.Status.Assignment.Generation != 1 {
		t.Errorf("looking has changed the assignment: %+v", after.Status.Assignment)
	}
}
