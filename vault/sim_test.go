package vault

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"filippo.io/age"

	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/objstore"
	"github.com/understudy-ha/understudy/objstore/faulty"
	"github.com/understudy-ha/understudy/objstore/memory"
)

// world is one simulation: actors that use one vault at the same time, each in a goroutine of which one runs at a time. Before each call
// of the store the actor stops, and the seed decides who goes on, whose answer is lost and what arrives late.
type world struct {
	seed    uint64
	rng     *rand.Rand
	inner   *memory.Store
	store   *faulty.Store
	actors  []*actor
	current *actor
	all     sync.WaitGroup
	nonces  int
	steps   int

	eye   *Vault // looks past all faults
	seen  objstore.Tag
	head  *head
	owner *log
	logs  map[string]*log // by the writer's nonce
	epoch uint64          // newest assigned
	wrong []string
	did   map[string]int
}

// log is what one writer means the stream to be. The first head.Seq records of the owner's log are the truth.
type log struct {
	model
	epoch uint64
	gap   bool
}

// openKey wraps file keys in nothing, because X25519 would take half of a simulation's time and shows nothing there.
type openKey struct{}

func (openKey) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	return []*age.Stanza{{Type: "open", Body: fileKey}}, nil
}

func (openKey) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	if len(stanzas) != 1 || stanzas[0].Type != "open" {
		return nil, age.ErrIncorrectIdentity
	}
	return stanzas[0].Body, nil
}

type actor struct {
	name   string
	ctx    context.Context
	cancel context.CancelFunc
	resume chan struct{}
	parked chan bool // true: it has ended
	dead   bool
}

const simStream = "m-1"

var simTime = time.Unix(966_000_000, 0) // long after the memory store's writes, shortly before pins run out

func newWorld(seed uint64) (*world, error) {
	w := &world{seed: seed, rng: rand.New(rand.NewPCG(seed, 0x7661756c74)), inner: memory.New(nil), logs: map[string]*log{}, epoch: 1, did: map[string]int{}}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, err
	}
	if w.eye, err = Create(context.Background(), w.inner, id.Recipient().String(), w.options("eye")); err != nil {
		return nil, err
	}
	w.eye.to = openKey{}
	p := []float64{0, 0.02, 0.1}[w.rng.IntN(3)]
	w.store = faulty.New(w.inner, faulty.Config{Seed: seed, LostAnswer: p, LostRequest: p, Late: p, Repeated: p, LostRead: p / 2, Unavailable: p / 8,
		NoSpace: p / 8})
	return w, nil
}

func (w *world) options(name string) Options {
	t := small()
	t.Parallel = 1
	t.SegmentRaw = 4 << 10
	return Options{Identity: openKey{}, Tuning: t, Now: func() time.Time { return simTime }, CacheBytes: 1 << 20, Nonce: func() string {
		w.nonces++
		return fmt.Sprintf("%s-%05d", name, w.nonces)
	}}
}

// start adds an actor that does script again and again.
func (w *world) start(name string, script func(context.Context, *Vault) error) {
	a := &actor{name: name, resume: make(chan struct{}), parked: make(chan bool)}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	w.actors = append(w.actors, a)
	w.all.Go(func() {
		defer func() { a.parked <- true }()
		<-a.resume
		for !a.dead {
			v, err := Open(a.ctx, gate{w.store, w}, w.options(name))
			if err == nil {
				v.to = openKey{}
			}
			for err == nil && !a.dead {
				w.did[name]++
				err = script(a.ctx, v)
			}
			w.judge(name, err)
		}
	})
}

// judge notes an error that no fault of the store explains.
func (w *world) judge(name string, err error) {
	if err != nil && Damage(err) && !w.actorDead(name) {
		w.fail("%s: %v", name, err)
	}
}

func (w *world) actorDead(name string) bool {
	for _, a := range w.actors {
		if a.name == name {
			return a.dead
		}
	}
	return false
}

func (w *world) fail(format string, args ...any) {
	w.wrong = append(w.wrong, fmt.Sprintf("step %d: ", w.steps)+fmt.Sprintf(format, args...))
}

// yield stops the running actor until it is its turn again, and tells whether it still lives.
func (w *world) yield() bool {
	a := w.current
	if !a.dead {
		a.parked <- false
		<-a.resume
	}
	return !a.dead
}

// run lets actors go on in an order that the seed decides, and looks at the vault after each step.
func (w *world) run(steps int) {
	var a *actor
	for burst := 0; w.steps < steps && len(w.wrong) == 0; burst-- {
		w.steps++
		if burst <= 0 {
			a, burst = w.actors[w.rng.IntN(len(w.actors))], []int{1, 1, 2, 5, 20, 60}[w.rng.IntN(6)]
		}
		w.current = a
		a.resume <- struct{}{}
		if <-a.parked {
			w.fail("%s ended", a.name)
		}
		w.look()
	}
	w.stop()
}

// stop ends all actors where they stand, as a power cut would: the store answers them no more.
func (w *world) stop() {
	for _, a := range w.actors {
		w.current, a.dead = a, true
		close(a.resume)
		<-a.parked
		a.cancel()
	}
	w.all.Wait()
}

// look checks what must hold at every step: heads go forward, epochs do not go back, and only the owner's records extend the stream.
func (w *world) look() {
	ctx := context.Background()
	b, tag, err := w.inner.Get(ctx, headKey(simStream))
	if err != nil || tag == w.seen {
		return
	}
	h, err := w.eye.decodeHead(simStream, b)
	if err != nil {
		w.fail("the head: %v", err)
		return
	}
	old := w.head
	w.seen, w.head = tag, h
	if old != nil && (h.Version <= old.Version || h.Seq < old.Seq || h.Epoch < old.Epoch) {
		w.fail("the head went from version %d, epoch %d, position %d to %d, %d, %d", old.Version, old.Epoch, old.Seq, h.Version, h.Epoch, h.Seq)
		return
	}
	if old == nil || h.Writer != old.Writer {
		w.own(h, old)
		return
	}
	if h.Seq > old.Seq && (w.owner.last() < h.Seq || h.Epoch != w.owner.epoch) {
		w.fail("somebody extended the stream to %d; %s, its writer, was at %d", h.Seq, h.Writer, w.owner.last())
	}
}

// own makes the head's writer the owner, from the position where it found the stream.
func (w *world) own(h, old *head) {
	l := &log{model: model{disks: testDisks()}, epoch: h.Epoch}
	if old != nil {
		if h.Seq != old.Seq {
			w.fail("%s took the stream at %d and brought it to %d at once", h.Writer, old.Seq, h.Seq)
		}
		for _, r := range w.owner.recs {
			if r.Seq <= h.Seq {
				l.recs = append(l.recs, r)
				l.gap = r.Kind == journal.GapBegin || l.gap && r.Kind != journal.GapEnd
			}
		}
	}
	w.owner, w.logs[h.Writer] = l, l
}

func (l *log) last() uint64 {
	if len(l.recs) == 0 {
		return 0
	}
	return l.recs[len(l.recs)-1].Seq
}
