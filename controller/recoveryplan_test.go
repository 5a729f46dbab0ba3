package controller

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
)

var all = api.Ref{Kind: api.KindRecoveryPlan, Tenant: "default", Name: "all"}

// planned is an estate with a plan: the machine, then a person, a webhook and a pair of appliances.
func planned(t *testing.T) *estate {
	t.Helper()
	e := protected(t)
	e.up(nil)
	p := &api.RecoveryPlan{Header: header(api.KindRecoveryPlan, "all"), Spec: api.RecoveryPlanSpec{Groups: []api.PlanGroup{
		{Type: api.GroupShutdown, Items: []api.PlanItem{{Machine: "web"}}},
		{Type: api.GroupBoot, Items: []api.PlanItem{{Machine: "web"}}, After: []api.PlanAction{{Name: "dns", Manual: "change the record", Operations: []api.OperationKind{api.OpFailover}}}},
		{Type: api.GroupBoot, Items: []api.PlanItem{{ApplianceGroup: "dmz", To: "b", Back: "a"}}, Before: []api.PlanAction{{Name: "tell", Webhook: "http://x/", Directions: []api.Direction{api.PrimaryToRecovery}}}},
	}}}
	p.Default()
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	e.put(api.ObjectKey(p.Ref()), p)
	e.pass(2 * time.Second)
	e.log = nil
	return e
}

func (e *estate) askPlan(q api.Request) {
	q.By, q.ID = "ann", "q"+string(q.Kind)
	e.put(api.RequestKey(all), q)
}

func (e *estate) planJob() api.Job {
	var a api.Assignment
	if err := json.Unmarshal(e.data[api.AssignKey(all)].Value, &a); err != nil {
		e.t.Fatalf("assignment of the plan: %v; log %v", err, e.log)
	}
	return e.job(a.Job)
}

func TestAPlanMovesEverythingInOrder(t *testing.T) {
	e := planned(t)
	e.askPlan(api.Request{Kind: api.RequestOperate, Operation: &api.Operation{Operation: api.OpFailover, ShutdownSource: true}})
	e.pass(10 * time.Second)
	j := e.planJob()
	if j.Status.Phase != api.Running || e.intent().Machine.Location != api.Recovery || e.assignment().Active != "a" {
		t.Fatalf("before the person has acted: job %s, machine at %s, dmz on %s\n%s", j.Status.Phase, e.intent().Machine.Location, e.assignment().Active, e.steps(j))
	}
	var s api.RecoveryPlanStatus
	if err := json.Unmarshal(e.data[api.StatusKey(all)].Value, &s); err != nil || !slices.ContainsFunc(s.Conditions, func(c api.Condition) bool { return c.Code == "WaitingForInput" }) {
		t.Errorf("status %+v, %v", s, err)
	}
	e.askPlan(api.Request{Kind: api.RequestComplete, To: j.Metadata.Name, Completion: &api.StepCompletion{Step: "after:boot-1:dns", Note: "ttl 60"}})
	e.pass(10 * time.Second)
	e.probe("b", 0, 1)
	j = e.planJob()
	if j.Status.Phase != api.Succeeded || e.assignment().Active != "b" {
		t.Fatalf("job %s: %s, dmz on %s\n%s", j.Status.Phase, j.Status.Message, e.assignment().Active, e.steps(j))
	}
	var ids []string
	for _, st := range j.Status.Steps {
		ids = append(ids, st.ID)
		if st.ID == "after:boot-1:dns" && st.Outcome != "done by ann: ttl 60" {
			t.Errorf("the manual step's outcome is %q", st.Outcome)
		}
	}
	if got, want := strings.Join(ids, " "), "shutdown:web boot-1:web after:boot-1:dns before:boot-2:tell boot-2:group:dmz"; got != want {
		t.Errorf("steps %s, want %s", got, want)
	}
}

func TestAPlanIsResumedAtEveryBoundary(t *testing.T) {
	for at := 1; ; at++ {
		e := planned(t)
		e.counted, e.crashAt = 0, at
		e.askPlan(api.Request{Kind: api.RequestOperate, Operation: &api.Operation{Operation: api.OpTestFailover}})
		e.pass(40 * time.Second)
		if j := e.planJob(); j.Status.Phase != api.Succeeded || e.intent().Machine.Drill == nil {
			t.Fatalf("crash %d: job %s: %s\n%s", at, j.Status.Phase, j.Status.Message, e.steps(j))
		}
		if !e.crashed {
			if at < 10 {
				t.Errorf("%d boundaries; something is not counted", at)
			}
			return
		}
	}
}

func TestARefusedItemBlocksThePlan(t *testing.T) {
	e := planned(t)
	e.do(api.Operation{Operation: api.OpPause})
	e.do(api.Operation{Operation: api.OpDisable})
	e.askPlan(api.Request{Kind: api.RequestOperate, Operation: &api.Operation{Operation: api.OpFailover}})
	e.pass(2 * time.Second)
	if !strings.Contains(strings.Join(e.log, " "), "event RequestRefused") {
		t.Fatalf("the plan was not refused: %v", e.log)
	}
}
