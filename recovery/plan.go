package recovery

import (
	"fmt"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/mutant"
)

// The steps that Bind looks at.
const (
	stepChoose      = "choose"
	stepChooseDrill = "choose:drill"
	stepDrill       = "drill"
	stepCleanup     = "cleanup"
	stepStart       = "start:" // and the node
)

// How long steps may take.
const (
	pushWait    = 30 * time.Second
	briefWait   = 15 * time.Second // for what is done as well as it goes
	settleWait  = 2 * time.Minute
	chooseWait  = 5 * time.Minute
	yieldWait   = time.Hour
	lastWait    = 24 * time.Hour   // for the last writes of a side that is given up for good
	startExtra  = 10 * time.Minute // beyond the check's timeout
	removalWait = 5 * time.Minute
)

// planner collects the steps of one job.
type planner struct {
	View
	m     *api.MachineAssignment
	steps []api.Step
}

func (p *planner) add(s api.Step, expected, deadline time.Duration, needs ...string) string {
	s.Expected, s.Worst, s.Deadline = api.Duration(expected), api.Duration(deadline), api.Duration(deadline)
	for _, n := range needs {
		if n != "" {
			s.Needs = append(s.Needs, n)
		}
	}
	p.steps = append(p.steps, s)
	return s.ID
}

// Plan gives the steps of an operation towards next; op "" is a repair, and what sets a new machine up.
func (v View) Plan(o *api.Operation, next *api.MachineAssignment) []api.Step {
	p := &planner{View: v, m: next}
	var op api.OperationKind
	if o != nil {
		op = o.Operation
	}
	switch op {
	case api.OpTestFailover:
		p.rehearse(p.lastPoint(o))
	case api.OpTestFailoverCleanup:
		p.cleanup()
	case api.OpFailover, api.OpFailback:
		p.reconcile(p.lastPoint(o), false)
	case api.OpChangePoint: // what runs goes only once it is known what takes its place
		p.start(p.discard(p.find("")), p.passive(false, ""))
	case api.OpCommit:
		p.settled(p.vaultNamed(next.Run.Vault), true)
		p.passive(next.Location == api.Primary, "")
	case api.OpReprotect, api.OpReEnable, "":
		p.serve()
		p.reconcile("", op == api.OpReprotect)
	case api.OpShutdown:
		p.start(p.lastPoint(&api.Operation{Operation: op, ShutdownSource: true}))
	default: // Pause, Resume, Resync, Start, Disable, CancelFailover
		p.reconcile("", false)
	}
	if op == "" && next.Drill != nil && next.Drill.Cleanup != nil {
		p.cleanup()
	} else if op == "" && next.Drill != nil && next.Drill.Passed {
		p.rehearse("")
	}
	return p.steps
}

// reconcile brings both sides to where the assignment has them: the side that is not to run first, as well as that goes. It goes on until
// it is known what takes its place: a point that is not there must not cost the machine that runs.
func (p *planner) reconcile(needs string, must bool) {
	before, found := needs, p.find(needs)
	if found != "" {
		before = stepChoose
	}
	stopped := p.passive(must, before)
	if must {
		stopped = "" // it hands over while the other side ships
	}
	p.start(needs, stopped, found)
}

// find finds the point that the run starts from, and has it kept, if it is not known yet.
func (p *planner) find(needs string) string {
	r := p.m.Run
	if r == nil || r.Point != nil {
		return ""
	}
	return p.pinned(r, p.choose(stepChoose, "run", r, needs))
}

// lastPoint makes one more point where the machine runs now, if it answers and the newest is wanted, and stops it if that is wanted.
func (p *planner) lastPoint(o *api.Operation) string {
	from := p.machine()
	node := p.node(from.Location)
	newest := choice(o).Kind == api.PointLatest
	if !p.connected(node) || from.Stage != api.StageProtected && !o.ShutdownSource || !newest && !o.ShutdownSource {
		return ""
	}
	id := fmt.Sprintf("op-%d", p.Generation)
	var last *Told
	for _, t := range p.Wanted(from) {
		if t.Active {
			last = &t
		}
	}
	await := &api.AwaitStep{Node: node, Engine: last.Section.Engine, Owner: last.Section.Owner, Generation: last.Section.Generation}
	shipping := false
	switch s := last.Section; {
	case s.Protect != nil:
		s.Protect.PointNow, shipping = id, len(s.Protect.ProcessServers) > 0
		s.Protect.Run = s.Protect.Run && !o.ShutdownSource
	case s.Site.Ship != nil:
		s.Site.Ship.PointNow, shipping = id, true
		s.Site.Run = s.Site.Run && !o.ShutdownSource
	default:
		s.Site.Run = s.Site.Run && !o.ShutdownSource
	}
	if shipping {
		await.Done, await.Stored = id, !mutant.On(mutant.PointNotThere)
	}
	name, wait := "point", pushWait
	if o.ShutdownSource {
		name, wait = "shutdown", pushWait+p.Machine.Spec.StopTimeout.D()
	}
	// What the source has not shipped stays there, as a branch. What the recovery site has not shipped is gone after a failback.
	must := o.Operation == api.OpFailback && shipping
	if must {
		wait = lastWait
	}
	return p.add(api.Step{ID: name + ":" + node, Kind: api.StepNode, Optional: !must, Await: await,
		Node: &api.NodeStep{Node: node, Sections: []api.Section{last.Section}}}, time.Second, wait)
}

// choose finds the point in the vault.
func (p *planner) choose(id, what string, r *api.MachineRun, needs ...string) string {
	c := &api.ChooseStep{Stream: r.Stream, Choice: r.Choice, For: what}
	if v := p.vaultNamed(r.Vault); v != nil {
		c.Vault = v.Access(false) // its index is no secret
	}
	return p.add(api.Step{ID: id, Kind: api.StepChoose, Choose: c}, time.Second, chooseWait, needs...)
}

// pinned waits, not for long, until the vault's keeper knows that the point is in use.
func (p *planner) pinned(r *api.MachineRun, choose string) string {
	v := p.vaultNamed(r.Vault)
	if v == nil {
		return choose
	}
	return p.add(settledStep("pin:"+v.Spec.Keeper, v.Spec.Keeper, api.EngineKeeper, v.Ref(), true), time.Second, briefWait, choose)
}

func settledStep(id, node, engine string, owner api.Ref, optional bool) api.Step {
	return api.Step{ID: id, Kind: api.StepAwait, Optional: optional,
		Await: &api.AwaitStep{Node: node, Engine: engine, Owner: owner.String(), Settled: true}}
}

// settled waits until the vault's keeper has been told.
func (p *planner) settled(v *api.Vault, optional bool) {
	if v != nil {
		p.add(settledStep("keeper:"+v.Spec.Keeper, v.Spec.Keeper, api.EngineKeeper, v.Ref(), optional), time.Second, briefWait)
	}
}

// serve waits until the process server of the active side takes the stream, if one is shipped.
func (p *planner) serve() {
	if p.m.Stage != api.StageProtected || p.m.Paused {
		return
	}
	s := p.server(p.m.Location)
	p.add(settledStep("processserver:"+s.Metadata.Name, s.Spec.Node, api.EngineProcessServer, s.Ref(), false), time.Second, settleWait)
}

// passive tells the side that is not to run, after needs, which speaks to it under the generation before. It holds nothing up:
// whoever is not there is told at first contact.
func (p *planner) passive(must bool, needs string) string {
	node := p.node(other(p.m.Location))
	var sections []api.Section
	await := (*api.AwaitStep)(nil)
	for _, t := range p.Wanted(p.m) {
		if t.Active || t.Drill {
			continue
		}
		sections = append(sections, t.Section)
		await = &api.AwaitStep{Node: node, Engine: t.Section.Engine, Owner: t.Section.Owner, Generation: t.Section.Generation}
		await.Phases, await.Done = restPhases(t.Section)
	}
	if len(sections) == 0 || !must && !p.connected(node) {
		return ""
	}
	wait := briefWait
	if must {
		wait = yieldWait
	}
	return p.add(api.Step{ID: "stop:" + node, Kind: api.StepNode, Optional: !must, Node: &api.NodeStep{Node: node, Sections: sections}, Await: await}, time.Second, wait, needs)
}

// restPhases says when a section that is not to run has come to rest.
func restPhases(s api.Section) (phases []string, done string) {
	switch {
	case s.Site != nil && s.Site.Mode == "discard":
		return []string{"discarded"}, ""
	case s.Site != nil && s.Site.Yield != nil:
		return []string{"yielded"}, s.Site.Yield.Branch
	case s.Site != nil:
		return []string{"readonly", "stopped", "yielded"}, ""
	case s.Protect.Yield != nil:
		return []string{"yielded"}, s.Protect.Yield.Branch
	case s.Protect.Mode == "readonly":
		return []string{"readonly", "yielded"}, ""
	}
	return []string{"off"}, ""
}

// discard takes away what runs now, before another point takes its place.
func (p *planner) discard(needs string) string {
	from := p.machine()
	node := p.node(from.Location)
	s := *p.run(from, from.Location)
	s.Mode, s.Run, s.Ship = "discard", false, nil
	return p.add(api.Step{ID: "discard:" + node, Kind: api.StepNode,
		Node:  &api.NodeStep{Node: node, Sections: []api.Section{{Engine: api.EngineSite, Owner: Owner(p.Machine.Ref()), Generation: p.m.Epoch, Site: &s}}},
		Await: &api.AwaitStep{Node: node, Engine: api.EngineSite, Owner: Owner(p.Machine.Ref()), Generation: p.m.Epoch, Phases: []string{"discarded", "stopped"}}},
		time.Second, removalWait, needs)
}

// start tells the active side, and waits until it is as it should be. What lets go of the disks comes before what takes them.
func (p *planner) start(needs ...string) {
	node := p.node(p.m.Location)
	for _, t := range p.Wanted(p.m) {
		if !t.Active {
			continue
		}
		id, deadline := stepStart+node, pushWait
		await := &api.AwaitStep{Node: node, Engine: t.Section.Engine, Owner: t.Section.Owner, Generation: t.Section.Generation}
		switch s := t.Section; {
		case s.Protect != nil && s.Protect.Mode == "off":
			id, await.Phases, deadline = "release:"+node, []string{"off"}, removalWait
		case s.Protect != nil:
			await.Phases, deadline = []string{"protected", "initial", "gap"}, settleWait
		default:
			await.Phases, await.Fails, await.Instance = upPhases(s.Site), []string{"failed"}, s.Site.Instance
			deadline = timeout(s.Site.Check) + startExtra
		}
		needs = []string{p.add(api.Step{ID: id, Kind: api.StepNode, Node: &api.NodeStep{Node: node, Sections: []api.Section{t.Section}}, Await: await},
			5*time.Second, deadline, needs...)}
	}
}

// upPhases says when a run from a point is up.
func upPhases(s *api.SiteConfig) []string {
	switch {
	case s.VM != nil && !s.Run:
		return []string{"stopped"}
	case s.Check != nil:
		return []string{"answering"}
	}
	return []string{"answering", "running"}
}

func timeout(c *api.ServiceCheck) time.Duration {
	if c == nil {
		return 0
	}
	return c.Timeout.D()
}

// rehearse starts the drill.
func (p *planner) rehearse(needs string) {
	choose := ""
	if p.m.Drill.Point == nil {
		choose = p.pinned(&p.m.Drill.MachineRun, p.choose(stepChooseDrill, "drill", &p.m.Drill.MachineRun, needs))
	}
	t, node := p.drillSection()
	p.add(api.Step{ID: stepDrill, Kind: api.StepNode, Node: &api.NodeStep{Node: node, Sections: []api.Section{t}},
		Await: &api.AwaitStep{Node: node, Engine: t.Engine, Owner: t.Owner, Generation: t.Generation, Instance: t.Site.Instance,
			Phases: upPhases(t.Site), Fails: []string{"failed"}}}, 5*time.Second, timeout(t.Site.Check)+startExtra, choose)
}

// cleanup takes the drill away.
func (p *planner) cleanup() {
	t, node := p.drillSection()
	p.add(api.Step{ID: stepCleanup, Kind: api.StepNode, Node: &api.NodeStep{Node: node, Sections: []api.Section{t}},
		Await: &api.AwaitStep{Node: node, Engine: t.Engine, Owner: t.Owner, Generation: t.Generation, Phases: []string{"discarded"}}},
		5*time.Second, removalWait)
}

func (p *planner) drillSection() (api.Section, string) {
	for _, t := range p.Wanted(p.m) {
		if t.Drill {
			return t.Section, t.Node
		}
	}
	return api.Section{}, ""
}
