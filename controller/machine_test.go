package controller

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
)

func protected(t *testing.T) *estate {
	t.Helper()
	e := newEstate(t)
	e.pass(5 * time.Second)
	if j := e.job(e.intent().Job); j.Status.Phase != api.Succeeded || j.Spec.Kind != api.JobEstablish {
		t.Fatalf("job %s is %s: %s\n%s", j.Spec.Kind, j.Status.Phase, j.Status.Message, e.steps(j))
	}
	e.log = nil
	return e
}

func TestAMachineIsProtected(t *testing.T) {
	e := protected(t)
	p := e.protect()
	if p == nil || p.Mode != "writable" || p.Stream != "u-1" || !p.Run || len(p.ProcessServers) != 1 || p.CrashEvery.D() != 5*time.Second {
		t.Fatalf("host1 has %+v", p)
	}
	if s := e.ps("ps1").Streams; len(s) != 1 || s[0].Stream != "u-1" || s[0].Node != "default/host1" || s[0].Epoch != 1 || s[0].Base != "none" {
		t.Errorf("ps1 takes %+v", s)
	}
	if k := e.keeper("host2", "v").Streams; len(k) != 1 || k[0].Retention.D() != 24*time.Hour {
		t.Errorf("the keeper keeps %+v", k)
	}
	s := e.shown()
	if s.ProtectionState != api.Protected || s.ActiveLocation != api.Primary || s.ReplicationHealth != api.HealthNormal {
		t.Errorf("status %+v", s)
	}
	e.allows(api.OpTestFailover, api.OpFailover, api.OpResync, api.OpPause, api.OpShutdown, api.OpDisable)
}

func TestADrillLeavesTheMachineAlone(t *testing.T) {
	e := protected(t)
	before := *e.protect()
	e.do(api.Operation{Operation: api.OpTestFailover})
	d := e.section("host2", api.EngineSite, web.String()+":drill").Site
	if d == nil || !d.Drill || d.Seq != 42 || d.Mode != "writable" || d.Capture != "" || d.Ship != nil || d.Vault.KeyRef != "key" {
		t.Fatalf("host2 has %+v", d)
	}
	if s := e.shown(); s.TestFailoverState != api.TestWaitingForCleanup || s.Test.Phase != "answering" || s.LastDrill != nil {
		t.Errorf("status %+v, test %+v", s, s.Test)
	}
	if k := e.keeper("host2", "v").Streams; len(k) != 1 || fmt.Sprint(k[0].Pins) != "[42]" {
		t.Errorf("the keeper keeps %+v", k)
	}
	e.do(api.Operation{Operation: api.OpTestFailoverCleanup, Notes: "fine"})
	s := e.shown()
	if s.TestFailoverState != api.TestNone || s.LastDrill == nil || !s.LastDrill.Passed || s.LastDrill.Notes != "fine" {
		t.Errorf("status %+v, last drill %+v", s, s.LastDrill)
	}
	if d := e.section("host2", api.EngineSite, web.String()+":drill").Site; d.Mode != "discard" {
		t.Errorf("host2 has %+v", d)
	}
	after := *e.protect()
	after.PointNow = before.PointNow
	if fmt.Sprint(after) != fmt.Sprint(before) || e.intent().Machine.Epoch != 1 {
		t.Errorf("the drill changed the source: %+v, was %+v", after, before)
	}
}

// roundTrip is every move of a machine's life in order.
var roundTrip = []api.Operation{{Operation: api.OpTestFailover}, {Operation: api.OpTestFailoverCleanup}, {Operation: api.OpFailover, ShutdownSource: true},
	{Operation: api.OpChangePoint, Point: &api.PointChoice{Kind: api.PointLatestProcessed}}, {Operation: api.OpCommit}, {Operation: api.OpReprotect},
	{Operation: api.OpFailback}, {Operation: api.OpCommit}, {Operation: api.OpReEnable}, {Operation: api.OpFailover}, {Operation: api.OpCancelFailover}}

func TestThereAndBackAgain(t *testing.T) {
	e := protected(t)
	e.do(roundTrip[0])
	e.do(roundTrip[1])

	e.do(roundTrip[2]) // failover
	if p := e.protect(); p.Mode != "readonly" || p.Run || p.Stream != "u-1" || len(p.ProcessServers) != 0 {
		t.Fatalf("the old primary has %+v", p)
	}
	if s := e.site("host2"); s.Mode != "writable" || s.Stream != "u-1" || s.Seq != 42 || s.Capture != "u-2" || s.Ship != nil || !s.Hydrate {
		t.Fatalf("host2 has %+v", s)
	}
	e.allows(api.OpChangePoint, api.OpCommit, api.OpCancelFailover, api.OpShutdown)
	first := e.site("host2").Instance

	e.do(roundTrip[3]) // change point
	if s := e.site("host2"); s.Instance == first || s.Capture != "u-3" {
		t.Fatalf("host2 has %+v", s)
	}
	e.do(roundTrip[4]) // commit
	if k := e.keeper("host2", "v").Streams; len(k) != 1 || k[0].Only != 42 {
		t.Errorf("after the commit the keeper keeps %+v", k)
	}
	e.allows(api.OpReprotect, api.OpShutdown)

	e.do(roundTrip[5]) // reprotect
	if y := e.protect().Yield; y == nil || y.For != "u-3" || y.Branch != "u-b3" || y.Into.Name != "back" || y.Home.Name != "v" {
		t.Errorf("the old primary yields %+v", y)
	}
	if s := e.site("host2").Ship; s == nil || s.Base != "disk" || s.Into.Name != "back" {
		t.Errorf("host2 ships %+v", s)
	}
	if s := e.ps("ps2").Streams; len(s) != 1 || s[0].Stream != "u-3" || s[0].Base != "disk" || s[0].Node != "default/host2" {
		t.Errorf("ps2 takes %+v", s)
	}
	e.allows(api.OpFailback, api.OpPause, api.OpShutdown)

	e.do(roundTrip[6]) // failback
	if p, s := e.protect(), e.site("host1"); p.Mode != "off" || s.Mode != "writable" || !s.InPlace || s.Stream != "u-3" || s.Disks[0].Path != "/srv/web" {
		t.Fatalf("host1 has %+v and %+v", p, s)
	}
	if s := e.site("host2"); s.Mode != "readonly" || s.Run {
		t.Errorf("host2 has %+v", s)
	}
	e.allows(api.OpCommit, api.OpCancelFailover, api.OpShutdown)

	e.do(roundTrip[7]) // commit
	if s := e.site("host2"); s.Mode != "discard" {
		t.Errorf("host2 has %+v", s)
	}
	e.do(roundTrip[8]) // re-enable
	if s := e.site("host1").Ship; s == nil || s.Base != "stream" || s.BaseStream != "u-1" || s.BaseSeq != 42 || s.Into.Name != "v" {
		t.Errorf("host1 ships %+v", s)
	}
	e.pass(2 * time.Second)
	if s := e.shown(); s.ProtectionState != api.Protected || s.ActiveLocation != api.Primary {
		t.Errorf("status %+v", s)
	}
	e.do(roundTrip[9])  // and once more
	e.do(roundTrip[10]) // but not this time
	if s := e.site("host1"); s.Mode != "writable" || !s.Run || s.Ship == nil {
		t.Errorf("host1 has %+v", s)
	}
	if s := e.site("host2"); s.Mode != "discard" {
		t.Errorf("host2 has %+v", s)
	}
}

func TestAFailoverNeedsNothingOfTheSource(t *testing.T) {
	e := protected(t)
	e.lose("host1", "ps1")
	e.do(api.Operation{Operation: api.OpFailover, ShutdownSource: true})
	if s := e.site("host2"); s.Mode != "writable" {
		t.Fatalf("host2 has %+v", s)
	}
	if e.protect().Mode != "writable" {
		t.Fatal("the source was told something, though it is not there")
	}
	e.find("host1") // it comes back by itself
	e.pass(40 * time.Second)
	if p := e.protect(); p.Mode != "readonly" {
		t.Fatalf("the old primary has %+v at first contact", p)
	}
	if j := e.job(e.intent().Job); j.Spec.Kind != api.JobRepair || j.Status.Phase != api.Succeeded {
		t.Errorf("job %s is %s", j.Spec.Kind, j.Status.Phase)
	}
}

func TestWhatIsNotAllowedIsRefused(t *testing.T) {
	e := protected(t)
	e.ask(api.Operation{Operation: api.OpCommit})
	e.pass(time.Second)
	if _, still := e.data[api.RequestKey(web)]; still || !strings.Contains(strings.Join(e.log, " "), "event RequestRefused") || e.intent().Generation != 1 {
		t.Fatalf("not refused: %v", e.log)
	}
}

func TestAChangedPolicyIsToldToTheNode(t *testing.T) {
	e := protected(t)
	p := &api.ReplicationPolicy{Header: header(api.KindReplicationPolicy, "gold"), Spec: api.PolicySpec{CrashConsistentEvery: api.Duration(time.Minute)}}
	p.Default()
	e.put(api.ObjectKey(p.Ref()), p)
	e.pass(3 * time.Second)
	if got := e.protect().CrashEvery.D(); got != time.Minute {
		t.Fatalf("points every %v, want 1m", got)
	}
	if j := e.job(e.intent().Job); j.Spec.Kind != api.JobRepair || e.intent().Generation != 1 {
		t.Errorf("job %s, generation %d", j.Spec.Kind, e.intent().Generation)
	}
}

func TestAMachineMovesBetweenProcessServers(t *testing.T) {
	e := protected(t)
	ps := &api.ProcessServer{Header: header(api.KindProcessServer, "ps3"), Spec: api.ProcessServerSpec{Node: "ps2", Site: "hq", Address: "10.0.0.6:9443"}}
	ps.Default()
	e.put(api.ObjectKey(ps.Ref()), ps)
	e.place(func(m *api.ProtectedMachine) { m.Spec.ProcessServer = "ps3" })
	e.pass(5 * time.Second)
	if got := e.protect().ProcessServers; len(got) != 1 || got[0] != "10.0.0.6:9443" {
		t.Errorf("host1 ships to %v", got)
	}
	if s := e.ps("ps1").Streams; len(s) != 0 {
		t.Errorf("ps1 still takes %+v", s)
	}
	if s := e.section("ps2", api.EngineProcessServer, "ProcessServer/default/ps3").ProcessServer.Streams; len(s) != 1 {
		t.Errorf("ps3 takes %+v", s)
	}
}

func TestAnOldCopyIsAnAlarm(t *testing.T) {
	e := protected(t)
	st := e.has["default/host1"]["protect|"+web.String()].State
	st.RPO = api.Duration(16 * time.Minute)
	e.push(AgentReport{Node: "default/host1", Session: e.core.agents["default/host1"].session, Sections: e.sectionsOf("default/host1")})
	e.pass(2 * time.Second)
	if s := e.shown(); s.ReplicationHealth != api.HealthWarning || !strings.Contains(strings.Join(e.log, " "), "event RPOExceeded") {
		t.Fatalf("health %s; %v", s.ReplicationHealth, e.log)
	}
	st.RPO = api.Duration(time.Second)
	e.push(AgentReport{Node: "default/host1", Session: e.core.agents["default/host1"].session, Sections: e.sectionsOf("default/host1")})
	e.pass(2 * time.Second)
	if s := e.shown(); s.ReplicationHealth != api.HealthNormal || !strings.Contains(strings.Join(e.log, " "), "event RPORestored") {
		t.Fatalf("health %s; %v", s.ReplicationHealth, e.log)
	}
}

// TestEveryOperationIsResumedAtEveryBoundary ends the leader's life before each boundary, push and step of every operation; a
// successor must bring it to the same end.
func TestEveryOperationIsResumedAtEveryBoundary(t *testing.T) {
	crashes := 0
	for i, o := range roundTrip {
		calm := protected(t)
		for _, all := range roundTrip[:i+1] {
			calm.do(all)
		}
		for at := 1; ; at++ {
			e := protected(t)
			for _, before := range roundTrip[:i] {
				e.do(before)
			}
			e.counted, e.crashAt = 0, at
			e.ask(o)
			e.pass(5 * time.Second)
			if !e.crashed {
				break
			}
			crashes++
			e.pass(40 * time.Second)
			j := e.job(e.intent().Job)
			if j.Status.Phase != api.Succeeded {
				t.Fatalf("%s, crash %d: job %s is a %s and %s: %s\n%s", o.Operation, at, j.Metadata.Name, j.Spec.Kind, j.Status.Phase, j.Status.Message, e.steps(j))
			}
			if got, want := e.ends(), calm.ends(); got != want {
				t.Fatalf("%s, crash %d ends otherwise:\n%s\nwant\n%s", o.Operation, at, got, want)
			}
		}
	}
	if crashes < 60 {
		t.Errorf("%d crashes; something is not counted", crashes)
	}
}

// ends is what is left of an operation: what every node has, and the intent.
func (e *estate) ends() string {
	a := e.intent().Machine
	out := fmt.Sprintf("%s at %s, stream %s, epoch %d, named %d\n", a.Stage, a.Location, a.Stream, a.Epoch, a.Named)
	for _, n := range []string{"host1", "host2"} {
		s := e.site(n)
		out += fmt.Sprintf("%s site %s %s %s@%d run %v ship %v\n", n, s.Mode, s.Instance, s.Stream, s.Seq, s.Run, s.Ship != nil)
	}
	p := e.protect()
	return out + fmt.Sprintf("protect %s %s run %v yield %v", p.Mode, p.Stream, p.Run, p.Yield != nil)
}

// A source that has just died has a session still: a failover does not wait for it until a step's deadline.
func TestAFailoverDoesNotWaitForASourceThatIsSilent(t *testing.T) {
	e := protected(t)
	for _, n := range []string{"host1", "ps1"} {
		e.agents["default/"+n] = false // it answers nothing and ticks no more
	}
	e.ask(api.Operation{Operation: api.OpFailover, Point: &api.PointChoice{Kind: api.PointLatestProcessed}})
	e.pass(6 * time.Second)
	if s := e.site("host2"); s == nil || s.Mode != "writable" {
		t.Fatalf("after 6 s host2 has %+v", s)
	}
}
