package recovery

import (
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/api"
)

func TestForeseenIsWhatIsDone(t *testing.T) {
	v := view().after()
	o := &api.Operation{Operation: api.OpFailover, ShutdownSource: true}
	p, refused := v.Foresee(o)
	if refused != "" || p.From != "hq" || p.To != "dr" || show(p.Steps) != show(v.Plan(o, v.next(o))) || p.Expected == 0 || p.Worst < p.Expected {
		t.Errorf("%s, plan %+v", refused, p)
	}
	if drill, refused := v.Foresee(&api.Operation{Operation: api.OpTestFailover}); refused != "" || drill.From != "" || drill.To != "hq" {
		t.Errorf("%s, plan %+v", refused, drill)
	}
	if _, refused := v.Foresee(&api.Operation{Operation: api.OpCommit}); !strings.Contains(refused, "allowed now: TestFailover") {
		t.Errorf("commit before a move: %q", refused)
	}
	v.Policy = nil
	if _, refused := v.Foresee(o); refused != "ReplicationPolicy gold is not there" {
		t.Errorf("without a policy: %q", refused)
	}
}

func TestAPlanTakesAsLongAsItsItems(t *testing.T) {
	web, moved := view().after(), view().after(api.OpFailover)
	pv := PlanView{Plan: &api.RecoveryPlan{Header: head(api.KindRecoveryPlan, "shop"), Spec: api.RecoveryPlanSpec{Groups: []api.PlanGroup{
		{Type: api.GroupBoot, Items: []api.PlanItem{{Machine: "web"}, {Machine: "moved"}}}}}},
		Machines: map[string]View{"web": web, "moved": moved}}
	o := &api.Operation{Operation: api.OpFailover}
	own, _ := web.Foresee(o)
	p, refused := pv.Foresee(o)
	if refused != "" || p.Expected != own.Expected || p.Worst != own.Worst {
		t.Errorf("%s: takes %v, at worst %v; its machine %v and %v", refused, p.Expected, p.Worst, own.Expected, own.Worst)
	}
	if s := p.Steps[1]; s.Expected != 0 || s.Worst != 0 {
		t.Errorf("one that is there already takes %v, at worst %v", s.Expected, s.Worst)
	}
	if _, refused := pv.Foresee(&api.Operation{Operation: api.OpReEnable}); refused == "" {
		t.Error("what none of the machines allows is foreseen")
	}
}
