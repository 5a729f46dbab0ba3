package controller

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/health"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/store"
)

// world is the smallest surroundings that a Core can live in: a store that answers at once, agents that apply
// at once, and a clock that a test moves.
type world struct {
	t     *testing.T
	now   clock.Instant
	core  *Core
	data  map[string]store.Entry
	rev   store.Rev
	queue []Event
	log   []string
	tick  uint64

	agents   map[string]bool // connected
	applied  map[string][]api.Section
	codes    map[string]string // node → answer instead of ok
	mute     map[string]bool   // node never answers
	failTxn  error             // for the next transaction with an assignment
	lost     func()            // if set, the next transaction with an assignment happens and its answer is lost; then it is called
	late     func()            // if set, the watch shows the next transaction that deletes something before its answer comes, and meanwhile it is called
	failed   Transact          // the one that failTxn hit
	slow     bool              // reads see the store at once and are answered by release
	answers  []Event
	deaf     bool             // the watch shows nothing any more of what is written
	cut      bool             // the store answers nothing any more but ErrUnavailable
	execErr  map[string]error // step → error
	held     map[string]bool  // steps that do not answer
	heldExec []Execute
	engines  func(Push) // if set, takes pushes to nodes that answer
	says     func(node string) []api.SectionStatus
	crashAt  int // stop performing effects at the n-th one that counts; 0: never
	counted  int
	crashed  bool
}

// routersPlanner is a stand-in for cloud/linux: one step per route table.
type routersPlanner struct{}

func (routersPlanner) Plan(m cloud.Move) ([]api.Step, error) {
	var steps []api.Step
	for _, t := range m.Group.Spec.RouteTables {
		via := ""
		for _, mem := range m.Group.Spec.Members {
			if mem.Name == m.To {
				via = mem.NICs[0].Address
			}
		}
		steps = append(steps, api.Step{ID: "node:" + t.ID, Kind: api.StepNode, Deadline: api.Duration(10 * time.Second),
			Node: &api.NodeStep{Node: t.ID, Sections: []api.Section{{Engine: api.EngineRoutes, Owner: m.Group.Ref().String(), Generation: m.Generation,
				Routes: &api.RoutesConfig{Routes: []api.KernelRoute{{Prefix: t.Routes[0].Prefix, Via: via}}}}}}})
	}
	return steps, nil
}

var testTiming = lead.Timing{TTL: 3 * time.Second, Margin: 500 * time.Millisecond}

func newWorld(t *testing.T) *world {
	w := &world{t: t, data: map[string]store.Entry{}, agents: map[string]bool{}, applied: map[string][]api.Section{},
		codes: map[string]string{}, mute: map[string]bool{}, execErr: map[string]error{}, held: map[string]bool{}}
	w.now = clock.Instant{Mono: time.Hour, Wall: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	w.start()
	return w
}

// start begins a new life of the controller.
func (w *world) start() {
	w.core = New(Config{Self: "c1", Controllers: []string{"c1"}, Timing: testTiming, ClusterID: "1-x",
		Planners: map[api.ProviderType]cloud.Planner{api.ProviderLinux: routersPlanner{}}})
	w.queue = nil
	w.push(Wake{})
	w.push(Changed{Batch: store.Batch{Complete: true, Changes: w.changes()}})
	for node, up := range w.agents {
		if up {
			w.push(AgentHello{Node: node, Session: uint64(w.now.Mono), Life: "l", Sections: w.report(node)})
		}
	}
	w.settle()
}

// report is what a node's agent says of itself.
func (w *world) report(node string) []api.SectionStatus {
	if w.says != nil {
		return w.says(node)
	}
	var out []api.SectionStatus
	for _, s := range w.applied[node] {
		out = append(out, api.SectionStatus{Engine: s.Engine, Owner: s.Owner, Applied: api.Token{ClusterID: "1-x", Epoch: 1, Generation: s.Generation}})
	}
	return out
}

func (w *world) changes() []store.Change {
	var out []store.Change
	for _, e := range w.data {
		out = append(out, store.Change{Entry: e})
	}
	return out
}

func (w *world) push(ev Event) { w.queue = append(w.queue, ev) }

// settle steps until nothing is left to be told.
func (w *world) settle() {
	for n := 0; len(w.queue) > 0; n++ {
		if n > 100000 {
			w.t.Fatal("the controller does not come to rest")
		}
		ev := w.queue[0]
		w.queue = w.queue[1:]
		for _, e := range w.core.Step(w.now, ev) {
			if w.crashes(e) {
				return
			}
			w.perform(e)
		}
	}
}

// crashes ends the controller's life before the effect at which it is to.
func (w *world) crashes(e Effect) bool {
	switch e.(type) {
	case Boundary, Push, Execute:
		w.counted++
	}
	if w.crashAt == 0 || w.counted < w.crashAt || w.crashed {
		return false
	}
	w.crashed = true
	w.now = w.now.Add(2 * testTiming.TTL)
	w.start()
	return true
}

// pass lets time go by in steps of 100 ms, with a tick of each agent in each.
func (w *world) pass(d time.Duration) {
	for end := w.now.Mono + d; w.now.Mono < end; {
		w.now = w.now.Add(100 * time.Millisecond)
		w.tick++
		for node := range w.agents {
			if a := w.core.agents[node]; a != nil && w.agents[node] {
				w.push(AgentTick{Node: node, Session: a.session, Life: "l", Seq: w.tick})
			}
		}
		w.push(Wake{})
		w.settle()
	}
}

func (w *world) perform(e Effect) {
	switch e := e.(type) {
	case Transact:
		w.transact(e)
	case Read:
		w.read(e)
	case Push:
		w.log = append(w.log, fmt.Sprintf("push %s gen %d epoch %d", e.Node, e.Sections[0].Generation, e.Token.Epoch))
		switch {
		case w.mute[e.Node]:
		case w.codes[e.Node] != "":
			w.push(AgentApplied{Node: e.Node, Session: e.Session, Push: e.ID, Code: w.codes[e.Node]})
		case w.engines != nil:
			w.engines(e)
		default:
			w.applied[e.Node] = e.Sections
			w.push(AgentApplied{Node: e.Node, Session: e.Session, Push: e.ID, Code: "ok"})
		}
	case Execute:
		w.log = append(w.log, "execute "+e.Step.ID)
		if w.held[e.Step.ID] {
			w.heldExec = append(w.heldExec, e)
			return
		}
		done := StepDone{Job: e.Job.Metadata.Name, Step: e.Step.ID, Attempt: e.Attempt, Err: w.execErr[e.Step.ID]}
		if c := e.Step.Choose; c != nil && done.Err == nil {
			done.Point = &api.RecoveryPoint{ID: "p", Stream: c.Stream, Seq: 42, At: w.now.Wall, Consistency: api.CrashConsistent}
		}
		w.push(done)
	case Record:
		w.log = append(w.log, "event "+e.Event.Code)
	case Boundary:
		w.log = append(w.log, string(e.Where))
	}
}

func (w *world) transact(e Transact) {
	if w.cut {
		w.push(TxnDone{ID: e.ID, Err: store.ErrUnavailable})
		return
	}
	for _, op := range e.Ops {
		if strings.HasPrefix(op.Key, "assign/") && w.failTxn != nil {
			err := w.failTxn
			w.failTxn, w.failed = nil, e
			w.push(TxnDone{ID: e.ID, Err: err})
			return
		}
	}
	for _, c := range e.Conds {
		if w.data[c.Key].Rev != c.Rev {
			w.push(TxnDone{ID: e.ID, Err: fmt.Errorf("%s: %w", c.Key, store.ErrConflict)})
			return
		}
	}
	var revs []store.Rev
	var changes []store.Change
	w.rev++
	for _, op := range e.Ops {
		if op.Delete {
			delete(w.data, op.Key)
			revs = append(revs, 0)
			changes = append(changes, store.Change{Entry: store.Entry{Key: op.Key}, Deleted: true})
			continue
		}
		w.data[op.Key] = store.Entry{Key: op.Key, Value: op.Value, Rev: w.rev}
		revs = append(revs, w.rev)
		changes = append(changes, store.Change{Entry: w.data[op.Key]})
	}
	if lost := w.lost; lost != nil && strings.HasPrefix(e.Ops[len(e.Ops)-1].Key, "assign/") {
		w.lost = nil
		w.push(TxnDone{ID: e.ID, Err: store.ErrUnknown})
		w.push(Changed{Batch: store.Batch{Changes: changes}})
		lost()
		return
	}
	if late := w.late; late != nil && slices.Contains(revs, 0) {
		w.late = nil
		w.push(Changed{Batch: store.Batch{Changes: changes}})
		late()
		w.push(TxnDone{ID: e.ID, Revs: revs})
		return
	}
	w.push(TxnDone{ID: e.ID, Revs: revs})
	if !w.deaf {
		w.push(Changed{Batch: store.Batch{Changes: changes}})
	}
}

func (w *world) read(e Read) {
	r := ReadDone{ID: e.ID}
	if w.cut {
		r.Err = store.ErrUnavailable
		w.push(r)
		return
	}
	for key, entry := range w.data {
		hit := under(e.Prefixes...)(key)
		for _, k := range e.Keys {
			hit = hit || k == key
		}
		if hit {
			r.Entries = append(r.Entries, entry)
		}
	}
	if w.slow {
		w.answers = append(w.answers, r)
		return
	}
	w.push(r)
}

// put writes as the API would.
func (w *world) put(key string, v any) {
	w.rev++
	w.data[key] = store.Entry{Key: key, Value: encode(v), Rev: w.rev}
	w.push(Changed{Batch: store.Batch{Changes: []store.Change{{Entry: w.data[key]}}}})
	w.settle()
}

// probe reports n equal results for a member.
func (w *world) probe(member string, o health.Outcome, n int) {
	for range n {
		w.push(Probed{Group: dmz, Member: member, Outcome: o, Detail: "timeout"})
	}
	w.settle()
}

func (w *world) assignment() api.Assignment {
	var a api.Assignment
	if e, ok := w.data[api.AssignKey(dmz)]; ok {
		if err := json.Unmarshal(e.Value, &a); err != nil {
			w.t.Fatal(err)
		}
	}
	return a
}

func (w *world) job(name string) api.Job {
	var j api.Job
	if err := json.Unmarshal(w.data[api.ObjectKey(api.Ref{Kind: api.KindJob, Tenant: "default", Name: name})].Value, &j); err != nil {
		w.t.Fatalf("job %s: %v", name, err)
	}
	return j
}

var dmz = api.Ref{Kind: api.KindApplianceGroup, Tenant: "default", Name: "dmz"}

func (w *world) pair(change func(*api.ApplianceGroup)) {
	p := &api.Provider{Header: api.Header{APIVersion: api.Version, Kind: api.KindProvider, Metadata: api.Metadata{Name: "lab", Tenant: "default", Generation: 1}},
		Spec: api.ProviderSpec{Type: api.ProviderLinux, Linux: &api.LinuxProvider{Effects: api.EffectsFabric}}}
	g := &api.ApplianceGroup{Header: api.Header{APIVersion: api.Version, Kind: api.KindApplianceGroup, Metadata: api.Metadata{Name: "dmz", Tenant: "default", Generation: 1}}}
	g.Spec = api.GroupSpec{Serves: []api.Audience{api.ServesInternet}, Provider: "lab", Probe: api.Probe{Port: 80}}
	for i, name := range []string{"a", "b"} {
		ip := netip.AddrFrom4([4]byte{10, 0, 1, byte(i + 1)}).String()
		g.Spec.Members = append(g.Spec.Members, api.Member{Name: name, NICs: []api.NIC{{Name: "in", Address: ip}}, Probe: ip})
	}
	for _, r := range []string{"edge", "core"} {
		g.Spec.RouteTables = append(g.Spec.RouteTables, api.RouteTable{ID: r, Routes: []api.Route{{Prefix: "0.0.0.0/0", NIC: "in"}}})
		w.agents["default/"+r] = true
		w.push(AgentHello{Node: "default/" + r, Session: 1, Life: "l"})
	}
	if change != nil {
		change(g)
	}
	g.Default()
	w.put(api.ObjectKey(p.Ref()), p)
	w.put(api.ObjectKey(g.Ref()), g)
}

// up brings a pair to life on member a.
func (w *world) up(change func(*api.ApplianceGroup)) {
	w.pair(change)
	w.pass(time.Second)
	w.probe("a", health.OK, 10)
	w.probe("b", health.OK, 10)
	w.pass(2 * time.Second)
	if got := w.assignment(); got.Active != "a" {
		w.t.Fatalf("active %q after start, want a; log %v", got.Active, w.log)
	}
	w.log = nil
}

var errBroken = errors.New("broken")
