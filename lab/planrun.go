package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// hookListener stands at the operator's and remembers the webhooks it got.
type hookListener struct {
	server *http.Server
	mu     sync.Mutex
	kinds  []string // of the jobs that called
}

func (h *hookListener) close() { _ = h.server.Close() }

func (h *hookListener) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	var body struct{ Kind string }
	if json.NewDecoder(http.MaxBytesReader(w, q.Body, 1<<16)).Decode(&body) != nil {
		http.Error(w, "want JSON", http.StatusBadRequest)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kinds = append(h.kinds, body.Kind)
}

func (h *hookListener) got() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.kinds)
}

// placeHooks puts the script at every controller, and the webhook's end at the operator's.
func (l *planLab) placeHooks() error {
	for _, c := range controllers {
		dir := filepath.Join(l.dir, "cluster", c, "hooks")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "prepare"), []byte("#!/bin/sh\nexec cat >> "+l.scriptLog()+"\n"), 0o755); err != nil {
			return err
		}
	}
	var ln net.Listener
	if err := l.topo.spaces["operator"].Do(func() (err error) {
		ln, err = net.Listen("tcp", hookAddress)
		return err
	}); err != nil {
		return err
	}
	l.hooks = &hookListener{}
	l.hooks.server = &http.Server{Handler: l.hooks, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = l.hooks.server.Serve(ln) }() // ends with close
	return nil
}

func (l *planLab) scriptLog() string { return filepath.Join(l.dir, "prepared") }

// doPlan asks the plan for an operation and waits for its end, which must be a success.
func (l *planLab) doPlan(ctx context.Context, op api.Operation) (api.Job, error) {
	name, err := l.ask(ctx, "recoveryplans/"+planName, op)
	if err != nil {
		return api.Job{}, err
	}
	return l.waitJob(ctx, name, jobLimit)
}

func took(j api.Job) time.Duration { return j.Status.Ended.Sub(j.Status.Started) }

// stepNamed of a job; the zero value for one that is not there.
func stepNamed(j api.Job, id string) (s api.Step) {
	for _, s := range j.Status.Steps {
		if s.ID == id {
			return s
		}
	}
	return s
}

// rehearsePlan rehearses both machines at once: their drills hold what was written, and nothing else moves.
func (l *planLab) rehearsePlan(ctx context.Context) error {
	before := map[string]uint64{}
	for _, name := range planMachines {
		before[name] = l.scribes[name].acked.Load()
	}
	j, err := l.doPlan(ctx, api.Operation{Operation: api.OpTestFailover})
	if err != nil {
		return err
	}
	l.r.figure(Figure{Name: "plan_duration", Value: milliseconds(took(j)), Unit: "ms", Fault: "rehearsal"})
	l.checkOrder(j, "the rehearsal")
	for _, name := range planMachines {
		s, err := l.waitNamed(ctx, name, "rehearsed", time.Minute, func(s api.MachineStatus) bool {
			return s.TestFailoverState == api.TestWaitingForCleanup && s.Test != nil && s.Test.Address != ""
		})
		if err != nil {
			return err
		}
		found, err := readScribe(ctx, strings.TrimPrefix(s.Test.Address, "unix:"))
		l.r.check("the rehearsal of "+name+" has its data", err == nil && found >= before[name] && l.scribes[name].err == nil,
			"record %d; %d were acknowledged when it began (%v); the source goes on (%v)", found, before[name], err, l.scribes[name].err)
	}
	l.r.check("the rehearsal leaves the pair alone", !slices.ContainsFunc(j.Status.Steps, func(s api.Step) bool { return strings.Contains(s.ID, pairName) }), "%s", stepsOf(j))
	_, err = l.doPlan(ctx, api.Operation{Operation: api.OpTestFailoverCleanup, Notes: "rehearsed by the lab"})
	l.say("  the plan is rehearsed in %.1f s", took(j).Seconds())
	return err
}

// checkOrder looks at when a plan's steps were begun and done: the script, both machines at once, the webhook.
func (l *planLab) checkOrder(j api.Job, what string) {
	script, hook := stepNamed(j, "before:data:prepare"), stepNamed(j, "after:data:tell")
	app, web := stepNamed(j, "data:app"), stepNamed(j, "data:web")
	var failed []string
	for _, s := range j.Status.Steps {
		if s.State != api.StepDone {
			failed = append(failed, s.ID)
		}
	}
	l.r.check(what+" does every step", len(failed) == 0 && len(j.Status.Steps) > 0, "%d steps; not done: %v", len(j.Status.Steps), failed)
	l.r.check(what+" keeps the order", !script.DoneAt.After(app.IntendedAt) && !script.DoneAt.After(web.IntendedAt) &&
		!app.DoneAt.After(hook.IntendedAt) && !web.DoneAt.After(hook.IntendedAt), "the script, the machines, the webhook")
	l.r.check(what+" moves both machines at once", app.IntendedAt.Before(web.DoneAt) && web.IntendedAt.Before(app.DoneAt), "app took %.1f s, web %.1f s, both %.1f s",
		app.DoneAt.Sub(app.IntendedAt).Seconds(), web.DoneAt.Sub(web.IntendedAt).Seconds(), latest(app.DoneAt, web.DoneAt).Sub(script.DoneAt).Seconds())
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// carryOut fails everything over, with the person's part, and commits.
func (l *planLab) carryOut(ctx context.Context) error {
	before := map[string]uint64{}
	for _, name := range planMachines {
		before[name] = l.scribes[name].acked.Load()
	}
	began := time.Now()
	name, err := l.ask(ctx, "recoveryplans/"+planName, api.Operation{Operation: api.OpFailover})
	if err != nil {
		return err
	}
	waited, err := l.person(ctx, name)
	if err != nil {
		return err
	}
	j, err := l.waitJob(ctx, name, jobLimit)
	if err != nil {
		return err
	}
	l.r.figure(Figure{Name: "plan_duration", Value: milliseconds(took(j)), Unit: "ms", Fault: "failover"})
	l.checkOrder(j, "the failover")
	manual, group := stepNamed(j, "before:network:call"), stepNamed(j, "network:group:"+pairName)
	l.r.check("the plan waits for the person", waited && !group.IntendedAt.Before(manual.DoneAt) && manual.DoneAt.Sub(manual.IntendedAt) >= manualWait,
		"%.1f s; the pair moved after that, in %.1f s", manual.DoneAt.Sub(manual.IntendedAt).Seconds(), group.DoneAt.Sub(group.IntendedAt).Seconds())
	if err := l.checkMoved(ctx, before, began); err != nil {
		return err
	}
	l.checkHooks()
	l.say("  the plan is carried out in %.1f s, %.1f of them waiting for a person", took(j).Seconds(), manual.DoneAt.Sub(manual.IntendedAt).Seconds())
	began = time.Now()
	if _, err = l.doPlan(ctx, api.Operation{Operation: api.OpCommit}); err != nil {
		return err
	}
	l.r.check("the plan commits", time.Since(began) < 10*time.Second, "in %.1f s", time.Since(began).Seconds())
	return nil
}

// person sees that the plan waits, takes their time and says that it is done.
func (l *planLab) person(ctx context.Context, job string) (waited bool, err error) {
	const step = "before:network:call"
	var j api.Job
	if !waitFor(ctx, jobLimit, func() bool {
		j = api.Job{}
		return l.desk.get("/v1/jobs/"+job, &j) == nil && (stepNamed(j, step).State == api.StepIntended || j.Status.Phase.Ended())
	}) || j.Status.Phase.Ended() {
		return false, fmt.Errorf("job %s does not come to step %s: %s: %s", job, step, j.Status.Phase, stepsOf(j))
	}
	if err := sleep(ctx, manualWait); err != nil {
		return false, err
	}
	var plan api.RecoveryPlan
	if err := l.desk.get("/v1/recoveryplans/"+planName, &plan); err != nil {
		return false, err
	}
	j = api.Job{}
	if err := l.desk.get("/v1/jobs/"+job, &j); err != nil {
		return false, err
	}
	asked := slices.ContainsFunc(plan.Status.Conditions, func(c api.Condition) bool {
		return c.Code == "WaitingForInput" && strings.Contains(c.Message, "Call the carrier.")
	})
	waited = asked && j.Status.Phase == api.Running && stepNamed(j, step).State == api.StepIntended
	body, err := json.Marshal(api.StepCompletion{Step: step, Note: "called"})
	if err != nil {
		return waited, err
	}
	return waited, l.desk.call(deskCall{Method: "POST", Path: "/v1/jobs/" + job + "/complete", Body: body}, nil)
}

// checkMoved looks at the machines and the pair after the failover.
func (l *planLab) checkMoved(ctx context.Context, before map[string]uint64, began time.Time) error {
	for _, name := range planMachines {
		if _, err := l.waitNamed(ctx, name, "at the recovery site", time.Minute, func(s api.MachineStatus) bool {
			return s.ActiveLocation == api.Recovery && s.ProtectionState == api.FailoverCommitPending
		}); err != nil {
			return err
		}
		acked := l.scribes[name].stop()
		found, err := readScribe(ctx, l.socket(name, "r"))
		l.r.check(name+" is at the other site with its data", err == nil && found >= before[name],
			"record %d; %d were acknowledged when it began, %d before it was refused at the source (%v; %v)", found, before[name], acked, l.scribes[name].err, err)
	}
	var g api.ApplianceGroup
	moved := waitFor(ctx, 20*time.Second, func() bool {
		g = api.ApplianceGroup{}
		return l.desk.get("/v1/appliancegroups/"+pairName, &g) == nil && g.Status.Assignment != nil && g.Status.Assignment.Active == "gate-r"
	})
	via, err := l.topo.spaces["r1"].nextHop(pairPrefix)
	l.r.check("the pair is switched", moved && via == pairMembers["gate-r"], "the route of %s on r1 goes to %s (%v), %.1f s after the command", pairPrefix, via, err, time.Since(began).Seconds())
	return nil
}

// checkHooks: the webhook and the script each saw the rehearsal, its clean-up and the failover, once.
func (l *planLab) checkHooks() {
	want := []string{string(api.OpTestFailover), string(api.OpTestFailoverCleanup), string(api.OpFailover)}
	got := l.hooks.got()
	l.r.check("the webhook is called once a job", slices.Equal(got, want), "%v", got)
	text, err := os.ReadFile(l.scriptLog())
	var kinds []string
	for d := json.NewDecoder(strings.NewReader(string(text))); ; {
		var body struct{ Kind string }
		if d.Decode(&body) != nil {
			break
		}
		kinds = append(kinds, body.Kind)
	}
	l.r.check("the script is run once a job", slices.Equal(kinds, want), "%v (%v)", kinds, err)
}
