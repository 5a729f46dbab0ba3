package sim

import "time"

// place is an end of the network.
type place int

// path is one direction between two places.
type path struct {
	cut  int // how many faults cut it
	slow time.Duration
	loss float64
}

// network carries messages between places. Datagrams may be lost; streams are late instead, or break.
type network struct {
	w     *world
	names []string
	paths [][]path
}

func (n *network) add(name string) place {
	n.names = append(n.names, name)
	for i := range n.paths {
		n.paths[i] = append(n.paths[i], path{})
	}
	n.paths = append(n.paths, make([]path, len(n.names)))
	return place(len(n.names) - 1)
}

func (n *network) path(a, b place) *path { return &n.paths[a][b] }
func (n *network) open(a, b place) bool  { return n.paths[a][b].cut == 0 }

// clean tells that nothing is wrong with a path.
func (n *network) clean(a, b place) bool { return *n.path(a, b) == path{} }

// latency of one message now.
func (n *network) latency(a, b place) time.Duration {
	d := time.Duration(200+n.w.rng.IntN(1800)) * time.Microsecond
	if s := n.paths[a][b].slow; s > 0 {
		d += time.Duration(n.w.rng.Int64N(int64(s)))
	}
	return d
}

// lost tells whether a message that is sent now, or arrives now, is lost.
func (n *network) lost(a, b place) bool {
	p := n.path(a, b)
	return p.cut > 0 || p.loss > 0 && n.w.rng.Float64() < p.loss
}

// send carries one datagram.
func (n *network) send(a, b place, f func()) {
	if n.lost(a, b) {
		return
	}
	n.w.after(n.latency(a, b), func() {
		if n.open(a, b) {
			f()
		}
	})
}

// flow is one direction of a stream: in order, nothing lost until it breaks; a cut or a loss delays.
type flow struct {
	n      *network
	a, b   place
	queue  []parcel
	moving bool
	broken bool
}

type parcel struct {
	at time.Duration
	f  func()
}

// resend is how long a lost part of a stream takes to be sent again.
const resend = 300 * time.Millisecond

func (f *flow) send(deliver func()) {
	if f.broken {
		return
	}
	f.queue = append(f.queue, parcel{f.n.w.now + f.n.latency(f.a, f.b), deliver})
	f.pump()
}

func (f *flow) pump() {
	if f.moving || f.broken || len(f.queue) == 0 {
		return
	}
	f.moving = true
	f.n.w.at(max(f.queue[0].at, f.n.w.now), f.arrive)
}

func (f *flow) arrive() {
	f.moving = false
	if f.broken {
		return
	}
	if f.n.lost(f.a, f.b) {
		f.moving = true
		f.n.w.after(resend, f.arrive)
		return
	}
	p := f.queue[0]
	f.queue = f.queue[1:]
	p.f()
	f.pump()
}

func (f *flow) cut() { f.broken, f.queue = true, nil }

// end lets what is under way arrive, and then runs last.
func (f *flow) end(last func()) {
	f.send(func() {
		f.cut()
		last()
	})
}
