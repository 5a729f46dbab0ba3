package sim

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/controller"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/store"
)

// world is everything there is under one seed. One goroutine drives it.
type world struct {
	seed  uint64
	rng   *rand.Rand
	now   time.Duration // true time
	queue queue
	trace *trace

	timing lead.Timing
	skew   struct {
		rate float64       // clocks run at 1 ± rate
		wall time.Duration // and are set wrong by up to this
	}
	keepalive time.Duration // how long a session that carries nothing is kept
	net       *network
	store     *storeModel
	cloud     *cloudModel
	hosts     []*host
	nodes     []*node
	boxes     []*box
	groups    []*group
	estate    *estate // nil in a world of appliances

	sessions  []*session
	sessionID uint64

	faults *faults
	check  *checker
	// calm is when the last fault ends.
	calm    time.Duration
	hooks   int
	oldJobs []string // ended, still stored
	failure *Failure
}

// Failure is an invariant that did not hold.
type Failure struct {
	// Invariant is its number in DESIGN.md; 0 for what no world should meet, 7 and more for what docs/simulation.md says of machines.
	Invariant int           `json:"invariant"`
	Text      string        `json:"text"`
	At        time.Duration `json:"at"`
	Tail      []string      `json:"tail"` // the last lines of the trace
}

func (f *Failure) String() string {
	return fmt.Sprintf("invariant %d at %v: %s", f.Invariant, f.At, f.Text)
}

// clusterID of the only cluster there is.
const clusterID = "1-sim"

// faultsLast is how long faults happen, at least.
const faultsLast = 30 * time.Minute

func newWorld(kind World, seed uint64, out io.Writer) *world {
	w := &world{seed: seed, rng: rand.New(rand.NewPCG(seed, 0x756e6465727374)), trace: newTrace(out), calm: faultsLast}
	// Long leases cost few events; some seeds have the product's default.
	ttl, late := time.Duration(12+3*w.rng.IntN(3))*time.Second, time.Second+kernelLate
	if w.chance(0.03) {
		ttl, late = lead.DefaultTiming.TTL, kernelLate
	}
	w.timing = lead.Timing{TTL: ttl, Margin: ttl/6 + w.upTo(ttl/3-ttl/6)}
	// Holders stop at ttl−margin by their clocks, a hung one's kernel up to late after that, and successors wait for
	// ttl+margin by theirs: that is safe while (ttl−margin+late)·(1+rate) ≤ (ttl+margin)·(1−rate).
	w.skew.rate = 0.95 * float64(2*w.timing.Margin-late) / float64(2*ttl+late)
	w.keepalive = w.between(ttl/2, 4*ttl)
	w.skew.wall = 20 * time.Second
	w.net = &network{w: w}
	w.store = &storeModel{w: w, at: w.net.add("store"), entries: map[string]store.Entry{}}
	w.cloud = &cloudModel{w: w, at: w.net.add("cloud"), resources: map[string]*resource{}, ifMatch: w.chance(0.5)}
	w.check = newChecker(w)
	w.faults = newFaults(w, kind)
	for i := range 3 {
		name := fmt.Sprintf("c%d", i)
		w.hosts = append(w.hosts, &host{w: w, m: newMachine(w, name), index: i, at: w.net.add(name), told: make([]time.Duration, 3)})
	}
	if kind == Machines {
		w.populateEstate()
	} else {
		w.populate()
	}
	w.note("world", "seed", fmt.Sprint(seed), "ttl", ttl.String(), "margin", w.timing.Margin.String(), "groups", fmt.Sprint(len(w.groups)))
	return w
}

// run plays the seed to its end or to the first failure.
func (w *world) run() {
	for _, n := range w.nodes {
		n.start()
	}
	for _, h := range w.hosts {
		w.after(w.upTo(time.Second), h.start)
	}
	w.faults.begin()
	for w.failure == nil {
		if w.now >= w.calm && !w.faults.ended && !w.faults.end() {
			continue
		}
		if w.faults.ended && w.check.finished() {
			return
		}
		e := w.queue.pop()
		w.now = e.at
		e.run()
		if w.estate != nil {
			w.estate.assert()
		}
	}
}

func (w *world) at(t time.Duration, f func())    { w.queue.push(max(t, w.now), f) }
func (w *world) after(d time.Duration, f func()) { w.queue.push(w.now+max(d, 0), f) }

func (w *world) note(who string, words ...string) { w.trace.line(w.now, who, words...) }

func (w *world) violate(invariant int, text string) {
	if w.failure == nil {
		w.note("VIOLATED", fmt.Sprint(invariant), text)
		w.failure = &Failure{Invariant: invariant, Text: text, At: w.now, Tail: w.trace.tail()}
	}
}

func (w *world) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

// faulty gives p while faults may happen, and 0 afterwards.
func (w *world) faulty(p float64) float64 {
	if w.now >= w.calm {
		return 0
	}
	return p
}

func (w *world) upTo(d time.Duration) time.Duration { return time.Duration(w.rng.Int64N(int64(d) + 1)) }
func (w *world) between(a, b time.Duration) time.Duration {
	return a + w.upTo(b-a)
}
func (w *world) spread(d time.Duration) time.Duration { return w.upTo(2*d) - d }

// rate is how much faster than true time a clock runs.
func (w *world) rate() float64 { return (2*w.rng.Float64() - 1) * w.skew.rate }

// leader gives the controller that leads, or believes so; nil if none does.
func (w *world) leader() *host {
	for _, h := range w.hosts {
		if h.epoch > 0 && h.m.power != off {
			return h
		}
	}
	return nil
}

func (w *world) coreConfig(h *host) controller.Config {
	return controller.Config{Self: h.m.name, Controllers: []string{"c0", "c1", "c2"}, Timing: w.timing, ClusterID: clusterID,
		Planners: w.planners(), Version: "sim"}
}

// subjects lists what fails over.
func (w *world) subjects() (refs []api.Ref) {
	for _, g := range w.groups {
		refs = append(refs, g.ref)
	}
	if w.estate != nil {
		for _, g := range w.estate.guests {
			refs = append(refs, g.ref)
		}
	}
	return refs
}

// assignment gives a group's assignment as stored.
func (w *world) assignment(ref api.Ref) *api.Assignment {
	e := w.store.get(api.AssignKey(ref))
	if e.Rev == 0 {
		return nil
	}
	return decode[api.Assignment](e.Value)
}

func decode[T any](b []byte) *T {
	v := new(T)
	if err := json.Unmarshal(b, v); err != nil {
		return nil
	}
	return v
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("sim: " + err.Error()) // resources are plain structs
	}
	return b
}
