package controller

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/store"
)

// remove deletes a resource, as the API does.
func (e *estate) remove(ref api.Ref) {
	delete(e.data, api.ObjectKey(ref))
	e.push(Changed{Batch: store.Batch{Changes: []store.Change{{Entry: store.Entry{Key: api.ObjectKey(ref)}, Deleted: true}}}})
	e.settle()
}

// TestADeletedMachineLeavesItsDisksAlone: what its node has of it goes, also if the node hears of it late.
func TestADeletedMachineLeavesItsDisksAlone(t *testing.T) {
	for _, late := range []bool{false, true} {
		e := protected(t)
		e.do(api.Operation{Operation: api.OpDisable})
		if late {
			e.lose("host1")
		}
		e.remove(web)
		e.pass(3 * time.Second)
		if late {
			if e.protect().Mode != "writable" {
				t.Fatal("told, though it is not there")
			}
			e.find("host1")
			e.pass(3 * time.Second)
		}
		if p := e.protect(); p.Mode != "discard" || len(p.Disks) != 0 {
			t.Fatalf("late %v: host1 has %+v", late, p)
		}
		// Another machine of the name is none of that one's.
		e.place(func(m *api.ProtectedMachine) { m.Spec.UID = "w" })
		e.pass(5 * time.Second)
		if p := e.protect(); p.Mode != "writable" || p.UID != "w" || p.Stream != "w-1" {
			t.Errorf("late %v: the new machine's host1 has %+v", late, p)
		}
	}
}

// TestAStoreThatKnowsLessTakesNothingAway: a machine that the store has never heard of, or that an earlier cluster told the node of, stays.
func TestAStoreThatKnowsLessTakesNothingAway(t *testing.T) {
	e := protected(t)
	e.remove(web)
	e.pass(5 * time.Second)
	if p := e.protect(); p.Mode != "writable" {
		t.Errorf("a machine that nobody disabled: %+v", p)
	}
	e = protected(t)
	e.do(api.Operation{Operation: api.OpDisable})
	e.lose("host1")
	for _, s := range e.has["default/host1"] {
		s.Applied.ClusterID = "1-before"
	}
	e.remove(web)
	e.find("host1")
	e.pass(5 * time.Second)
	if p := e.protect(); p.Mode != "writable" {
		t.Errorf("what another cluster told: %+v", p)
	}
}

// TestAKeeperThatMovedPrunesNoMore: nor does a process server that moved, or was deleted, keep its port.
func TestAKeeperThatMovedPrunesNoMore(t *testing.T) {
	e := protected(t)
	v := &api.Vault{Header: header(api.KindVault, "v"), Spec: api.VaultSpec{Site: "dr", URL: "file:///v", Keeper: "ps2", KeyRef: "key"}}
	v.Default()
	e.put(api.ObjectKey(v.Ref()), v)
	e.pass(3 * time.Second)
	if k := e.keeper("host2", "v"); !k.Retired {
		t.Errorf("host2 keeps %+v", k)
	}
	if k := e.keeper("ps2", "v"); k == nil || k.Retired || len(k.Streams) != 1 {
		t.Errorf("ps2 keeps %+v", k)
	}
	ps := &api.ProcessServer{Header: header(api.KindProcessServer, "ps1"), Spec: api.ProcessServerSpec{Node: "host1", Site: "hq", Address: "10.0.0.9:9443"}}
	ps.Default()
	e.lose("host2") // nothing of it is needed
	e.put(api.ObjectKey(ps.Ref()), ps)
	e.pass(5 * time.Second)
	if p := e.ps("ps1"); !p.Retired {
		t.Errorf("ps1 still has %+v", p)
	}
	if got := e.protect().ProcessServers; len(got) != 1 || got[0] != "10.0.0.9:9443" {
		t.Errorf("host1 ships to %v", got)
	}
	ps.Spec.Node = "ps1" // and back
	e.put(api.ObjectKey(ps.Ref()), ps)
	e.pass(5 * time.Second)
	if p := e.ps("ps1"); p.Retired || len(p.Streams) != 1 {
		t.Errorf("ps1 has %+v", p)
	}
}

// TestAFailbackIsTakenBack: the recovery site goes on, and what ran at home is compared when it is protected again.
func TestAFailbackIsTakenBack(t *testing.T) {
	ops := []api.Operation{{Operation: api.OpFailover}, {Operation: api.OpCommit}, {Operation: api.OpReprotect}, {Operation: api.OpFailback},
		{Operation: api.OpCancelFailover}, {Operation: api.OpReprotect}, {Operation: api.OpFailback}, {Operation: api.OpCommit}, {Operation: api.OpReEnable}}
	e := protected(t)
	for _, o := range ops[:5] {
		e.do(o)
	}
	if s := e.site("host2"); s.Mode != "writable" || !s.Run || s.Capture != "u-4" || s.Instance != "r2" || s.Ship != nil {
		t.Fatalf("host2 has %+v", s)
	}
	if p, s := e.protect(), e.site("host1"); p.Mode != "off" || s.Mode != "readonly" || s.Run {
		t.Fatalf("host1 has %+v and %+v", p, s)
	}
	e.allows(api.OpReprotect, api.OpShutdown)
	e.do(ops[5])
	if y := e.site("host1").Yield; y == nil || y.For != "u-4" {
		t.Errorf("host1 yields %+v", y)
	}
	if s := e.site("host2").Ship; s == nil || s.Base != "disk" {
		t.Errorf("host2 ships %+v", s)
	}
	for _, o := range ops[6:] {
		e.do(o)
	}
	if s := e.site("host1"); s.Stream != "u-4" || !s.InPlace || s.Ship == nil || s.Ship.BaseStream != "u-1" || s.Ship.BaseSeq != 42 {
		t.Errorf("host1 has %+v", s)
	}
	calm := e.ends()
	// The leader may die at any time.
	for at := 1; ; at++ {
		e := protected(t)
		for _, o := range ops[:4] {
			e.do(o)
		}
		e.counted, e.crashAt = 0, at
		e.ask(ops[4])
		e.pass(5 * time.Second)
		if !e.crashed {
			break
		}
		e.pass(40 * time.Second)
		for _, o := range ops[5:] {
			e.do(o)
		}
		if got := e.ends(); got != calm {
			t.Fatalf("crash %d ends otherwise:\n%s\nwant\n%s", at, got, calm)
		}
	}
}

// TestAFailbackThatNeverBeganIsUndone: the disks at home are as they were, so that the machine is protected as before.
func TestAFailbackThatNeverBeganIsUndone(t *testing.T) {
	e := protected(t)
	for _, op := range []api.OperationKind{api.OpFailover, api.OpCommit, api.OpReprotect} {
		e.do(api.Operation{Operation: op})
	}
	e.execErr["choose"] = errBroken
	e.ask(api.Operation{Operation: api.OpFailback})
	e.pass(3 * time.Second)
	e.do(api.Operation{Operation: api.OpCancelFailover})
	delete(e.execErr, "choose")
	if s := e.site("host2"); s.Mode != "writable" || s.Capture != "u-2" || s.Ship == nil || s.Ship.Base != "disk" {
		t.Fatalf("host2 has %+v", s)
	}
	if s := e.site("host1"); s.Mode != "" {
		t.Errorf("host1 has %+v", s)
	}
	e.allows(api.OpFailback, api.OpPause, api.OpShutdown)
	e.do(api.Operation{Operation: api.OpFailback})
	if s := e.site("host1"); s.Mode != "writable" || s.Stream != "u-2" {
		t.Errorf("host1 has %+v", s)
	}
}

// TestNobodySaysThatACopyIsFreshAgain while nobody knows how old it is.
func TestNobodySaysThatACopyIsFreshAgain(t *testing.T) {
	e := protected(t)
	e.has["default/host1"][lead.SectionKey(api.EngineProtect, web.String())].State.RPO = api.Duration(16 * time.Minute)
	e.push(AgentReport{Node: "default/host1", Session: e.core.agents["default/host1"].session, Sections: e.sectionsOf("default/host1")})
	e.pass(2 * time.Second)
	e.lose("host1")
	e.pass(3 * time.Second)
	if log := strings.Join(e.log, " "); !strings.Contains(log, "event RPOExceeded") || strings.Contains(log, "event RPORestored") {
		t.Errorf("its node is gone: %v", e.log)
	}
}

// TestAPlanTakesNoOverrunJobForItsOwn: a job that was Blocked and that somebody has gone round is not waited for any more.
func TestAPlanTakesNoOverrunJobForItsOwn(t *testing.T) {
	e := planned(t)
	e.execErr["choose"] = errBroken
	e.askPlan(api.Request{Kind: api.RequestOperate, Operation: &api.Operation{Operation: api.OpFailover}})
	e.pass(6 * time.Minute) // until it is Blocked
	if j := e.job(e.intent().Job); j.Status.Phase != api.Blocked && j.Spec.Kind != api.JobRepair {
		t.Fatalf("job %s is %s", j.Spec.Kind, j.Status.Phase)
	}
	e.ask(api.Operation{Operation: api.OpCancelFailover})
	e.pass(10 * time.Second)
	j := e.planJob()
	if j.Status.Phase != api.Blocked || !strings.Contains(j.Status.Message, "CancelFailover was asked for since") && !strings.Contains(j.Status.Message, "superseded") {
		b, _ := json.Marshal(j.Status.Steps)
		t.Fatalf("the plan's job is %s: %s; %s", j.Status.Phase, j.Status.Message, b)
	}
}
