package sim

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/controller"
	"github.com/understudy-ha/understudy/recovery"
	"github.com/understudy-ha/understudy/store"
)

// ask is what an operator asked last of a machine.
type ask struct {
	op     api.OperationKind
	status store.Rev // that allowed it
}

// progress says how much an operator likes an operation: what leads on comes more often than what goes to and fro.
var progress = map[api.OperationKind]int{api.OpTestFailover: 3, api.OpTestFailoverCleanup: 6, api.OpFailover: 6, api.OpChangePoint: 3, api.OpCommit: 8,
	api.OpCancelFailover: 2, api.OpReprotect: 12, api.OpFailback: 12, api.OpReEnable: 12, api.OpResync: 1, api.OpPause: 1, api.OpResume: 8, api.OpShutdown: 1,
	api.OpStart: 6, api.OpDisable: 1}

// operate does what an operator does now and then.
func (e *estate) operate() {
	w := e.w
	if w.now >= w.calm {
		return
	}
	w.after(5*time.Second+time.Duration(w.rng.ExpFloat64()*float64(20*time.Second)), e.operate)
	g := e.guests[w.rng.IntN(len(e.guests))]
	a := w.assignment(g.ref)
	if a == nil || w.store.get(api.RequestKey(g.ref)).Rev != 0 {
		return
	}
	j := w.check.jobs[a.Job]
	switch {
	case j.Status.Phase == api.Running && w.now < faultsLast && w.chance(0.06):
		e.request(g, api.Request{Kind: api.RequestCancel, To: a.Job})
	case j.Status.Phase == api.Cancelled && w.chance(0.7) || j.Status.Phase == api.Blocked && w.chance(0.3):
		e.request(g, api.Request{Kind: api.RequestRetry, To: a.Job})
	default:
		e.operation(g)
	}
}

// operation asks for one of those that the status allows.
func (e *estate) operation(g *guest) {
	w := e.w
	entry := w.store.get(api.StatusKey(g.ref))
	if entry.Rev == 0 {
		return
	}
	var all []api.OperationKind
	for _, op := range decode[api.MachineStatus](entry.Value).AllowedOperations {
		if n := progress[op]; n > 2 || w.now < faultsLast { // towards the end he gets on with it
			for range n {
				all = append(all, op)
			}
		}
	}
	if len(all) == 0 {
		return
	}
	o := &api.Operation{Operation: all[w.rng.IntN(len(all))]}
	switch o.Operation {
	case api.OpTestFailover, api.OpChangePoint:
		o.Point = e.choice(g)
	case api.OpFailover, api.OpFailback:
		o.Point, o.ShutdownSource = e.choice(g), w.chance(0.5)
	}
	e.asks[g.ref] = ask{o.Operation, entry.Rev}
	e.request(g, api.Request{Kind: api.RequestOperate, Operation: o})
}

// choice of a point: one of those that the vault offers, by name, or one by kind.
func (e *estate) choice(g *guest) *api.PointChoice {
	w, m := e.w, g.machine(e.w)
	kinds := []api.PointKind{api.PointLatest, api.PointLatest, api.PointLatestProcessed, api.PointLatestAppConsistent, api.PointCustom}
	c := &api.PointChoice{Kind: kinds[w.rng.IntN(len(kinds))]}
	if c.Kind == api.PointLatest || c.Kind == api.PointLatestProcessed {
		return c
	}
	v, id := e.vaults["vault"], m.Stream
	switch {
	case m.Stage == api.StagePending:
		v, id = e.vaults[m.Run.Vault], m.Run.Stream
	case m.Location == api.Recovery:
		v = e.vaults["back"]
	}
	points, err := v.points(id)
	if err != nil || len(points) == 0 {
		return &api.PointChoice{Kind: api.PointLatestProcessed}
	}
	newest := points[max(0, len(points)-2*retained):]
	switch {
	case c.Kind == api.PointCustom:
		c.ID = newest[w.rng.IntN(len(newest))].ID
	case !slices.ContainsFunc(newest, func(p api.RecoveryPoint) bool { return p.Consistency == api.AppConsistent }):
		c.Kind = api.PointLatest // there is none to go to
	}
	return c
}

// request stores what an operator asks.
func (e *estate) request(g *guest, r api.Request) {
	r.By, r.ID = "operator", strconv.FormatInt(int64(e.w.store.rev), 10)
	what := r.To
	if o := r.Operation; o != nil {
		what = string(o.Operation)
		if o.Point != nil {
			what += " " + string(o.Point.Kind) + o.Point.ID
		}
		what += " " + strconv.FormatBool(o.ShutdownSource)
	}
	e.w.note("operator", "asks", string(r.Kind), what, g.ref.Name)
	e.w.write(api.RequestKey(g.ref), r)
}

// settles is how long a status may be behind what it is about.
const settles = 10 * time.Second

// recorded looks at refusals: what the status lists, and goes on listing, is accepted.
func (e *estate) recorded(ev api.Event) {
	g := e.at(ev.Regarding)
	if g == nil || ev.Code != "RequestRefused" || e.asks[g.ref].op == api.OpCommit && e.repairing(g) {
		return
	}
	if l := e.w.leader(); l != nil {
		e.stillLists(g, ev, e.asks[g.ref], l, e.w.now+settles)
	}
}

// repairing tells whether a repair runs: a Commit waits for its end, and is listed before it and after it. All else takes over from it.
func (e *estate) repairing(g *guest) bool {
	j := e.w.check.jobs[e.w.assignment(g.ref).Job]
	return j.Spec.Kind == api.JobRepair && j.Status.Phase == api.Running
}

// stillLists looks whether a status that allowed what was refused stays as it is, while one leader could write another.
func (e *estate) stillLists(g *guest, ev api.Event, asked ask, l *host, until time.Duration) {
	w, now := e.w, e.w.store.get(api.StatusKey(g.ref))
	switch {
	case string(now.Value) != e.shown[now.Key]: // a write that came late took its place
	case asked.status == 0 || now.Rev != asked.status || !slices.Contains(decode[api.MachineStatus](now.Value).AllowedOperations, asked.op):
	case w.leader() != l || l.m.power != running || w.store.down || !w.net.clean(l.at, w.store.at) || !w.net.clean(w.store.at, l.at):
	case w.now < until:
		w.after(250*time.Millisecond, func() { e.stillLists(g, ev, asked, l, until) })
	default:
		w.violate(accepted, fmt.Sprintf("%s lists %s, which was refused: %s", g.ref, asked.op, ev.Message))
	}
}

// choose carries out a choose step as package server does.
func (h *host) choose(e controller.Execute) {
	w, life := h.w, h.m.life
	v := w.estate.vaults[e.Step.Choose.Vault.Name]
	done := func(p *api.RecoveryPoint, err error) {
		h.m.do(life, func(bool) {
			w.note(h.m.name, "executed", e.Job.Metadata.Name, e.Step.ID, errText(err))
			out := ""
			if p != nil {
				out = p.ID
				w.check.effectDone(e.Job.Metadata.Name, e.Step.ID)
			}
			h.step(controller.StepDone{Job: e.Job.Metadata.Name, Step: e.Step.ID, Attempt: e.Attempt, Outcome: out, Err: err, Permanent: errors.Is(err, cloud.ErrPermanent), Point: p})
		})
	}
	if w.net.lost(h.at, v.at) || w.net.lost(v.at, h.at) || w.cloud.failing > 0 && w.chance(0.5) {
		w.after(5*time.Second, func() { done(nil, errVaultGone) })
		return
	}
	d := w.net.latency(h.at, v.at) + 20*time.Millisecond
	if w.cloud.slow > 0 {
		d += w.upTo(8 * time.Second)
	}
	w.after(d, func() {
		points, err := v.points(e.Step.Choose.Stream)
		var p *api.RecoveryPoint
		if err == nil {
			var found api.RecoveryPoint
			if found, err = recovery.Choose(points, e.Step.Choose.Choice); err == nil {
				p = &found
			} else if e.Step.Choose.Choice.Kind == api.PointCustom {
				err = fmt.Errorf("%w: %w", cloud.ErrPermanent, err)
			}
		}
		w.after(w.net.latency(v.at, h.at), func() { done(p, err) })
	})
}
