package lab

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"
)

// Flow is one direction of probe traffic: numbered packets (or records of a TCP connection) from one machine to
// another at a steady pace, counted where they arrive.
type Flow struct {
	ID   uint16   `json:"id"`
	Name string   `json:"name"`
	Kind FlowKind `json:"kind"`
	// From and To name the machines.
	From string `json:"from"`
	To   string `json:"to"`
	// Local is the sender's own address, Remote where it sends to; the PIP stands for the workload.
	Local  string `json:"local"`
	Remote string `json:"remote"`
	// Port of UDP and TCP.
	Port int `json:"port,omitempty"`
	// Interval between packets, in nanoseconds.
	Interval time.Duration `json:"interval"`
}

// FlowKind is the protocol of a flow.
type FlowKind string

// The kinds of flows.
const (
	FlowUDP  FlowKind = "udp"
	FlowTCP  FlowKind = "tcp"
	FlowICMP FlowKind = "icmp"
	FlowGRE  FlowKind = "gre"
	FlowESP  FlowKind = "esp"
)

// siteFlows is what goes through the pair: from the internet to the public address, from the workload to the
// internet, and both ways between the workload and the premises, where nothing is translated.
func siteFlows(udp time.Duration) []Flow {
	const slow = 20 * time.Millisecond
	type direction struct{ name, from, to, local, remote string }
	directions := []direction{
		{"internet-in", "client", "workload", clientAddress, pip},
		{"internet-out", "workload", "client", workloadAddress, clientAddress},
		{"premises-in", "client", "workload", onPremAddress, workloadAddress},
		{"premises-out", "workload", "client", workloadAddress, onPremAddress},
	}
	var flows []Flow
	add := func(kind FlowKind, d direction, interval time.Duration) {
		id := uint16(len(flows) + 1)
		flows = append(flows, Flow{ID: id, Name: string(kind) + "-" + d.name, Kind: kind, From: d.from, To: d.to,
			Local: d.local, Remote: d.remote, Port: 7000 + int(id), Interval: interval})
	}
	for _, d := range directions {
		add(FlowUDP, d, udp)
	}
	for _, d := range directions {
		add(FlowTCP, d, slow)
	}
	for _, kind := range []FlowKind{FlowICMP, FlowGRE, FlowESP} {
		for _, d := range directions[:2] {
			add(kind, d, slow)
		}
	}
	return flows
}

// frame is what every packet of a flow carries.
type frame struct {
	flow   uint16
	number int64
	sent   int64 // wall clock, nanoseconds
}

const (
	frameMagic = 0x554c4142 // "ULAB"
	frameSize  = 24         // magic 4, flow 2, zero 2, number 8, sent 8
)

func (f frame) put(b []byte) {
	binary.BigEndian.PutUint32(b[0:], frameMagic)
	binary.BigEndian.PutUint16(b[4:], f.flow)
	binary.BigEndian.PutUint16(b[6:], 0)
	binary.BigEndian.PutUint64(b[8:], uint64(f.number))
	binary.BigEndian.PutUint64(b[16:], uint64(f.sent))
}

var errFrame = errors.New("not a frame of the lab")

func readFrame(b []byte) (frame, error) {
	if len(b) < frameSize || binary.BigEndian.Uint32(b) != frameMagic {
		return frame{}, errFrame
	}
	f := frame{binary.BigEndian.Uint16(b[4:]), int64(binary.BigEndian.Uint64(b[8:])), int64(binary.BigEndian.Uint64(b[16:]))}
	if f.number < 0 || f.number >= maxNumber {
		return frame{}, errFrame
	}
	return f, nil
}

// maxNumber bounds what a stray packet can make a record grow to.
const maxNumber = 1 << 26

// sent is the sender's record of a flow: when each packet left, by its number.
type sent struct {
	mu    sync.Mutex
	at    []int64 // wall clock, nanoseconds
	broke []int64 // when a TCP connection broke
}

func (s *sent) add(now time.Time) (number int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = append(s.at, now.UnixNano())
	return int64(len(s.at) - 1)
}

func (s *sent) addBreak(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broke = append(s.broke, now.UnixNano())
}

// between gives the numbers [first, end) of what left in [from, to), and how many connections broke then.
func (s *sent) between(from, to int64) (first, end int64, broke int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lo, _ := slices.BinarySearch(s.at, from)
	hi, _ := slices.BinarySearch(s.at, to)
	for _, t := range s.broke {
		if t >= from && t < to {
			broke++
		}
	}
	return int64(lo), int64(hi), broke
}

// arrived is the receiver's record of a flow.
type arrived struct {
	mu         sync.Mutex
	seen       []uint64  // a bit a number
	all        []arrival // in order of arrival
	duplicates int64
}

type arrival struct {
	number   int64
	sent, at int64 // wall clock, nanoseconds
}

// add takes a frame that arrived at, by the wall clock in nanoseconds.
func (a *arrived) add(f frame, at int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	word, bit := int(f.number/64), uint64(1)<<(f.number%64)
	if word >= len(a.seen) {
		a.seen = append(a.seen, make([]uint64, word+1-len(a.seen))...)
	}
	if a.seen[word]&bit != 0 {
		a.duplicates++
		return
	}
	a.seen[word] |= bit
	if n := len(a.all); n > 0 && at < a.all[n-1].at {
		at = a.all[n-1].at // two sockets, or two processors, may disagree by a little
	}
	a.all = append(a.all, arrival{f.number, f.sent, at})
}

// count tells how many of the numbers [first, end) have arrived.
func (a *arrived) count(first, end int64) (n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := first; i < end && int(i/64) < len(a.seen); i++ {
		if a.seen[i/64]&(1<<(i%64)) != 0 {
			n++
		}
	}
	return n
}

// outage is the longest time within [from, to] without an arrival, less the interval; numbers [first, end) were sent then.
// Between two packets of which none was lost it is less the time the sender let pass, and the window's ends count only if
// something sent there is missing: that the sender was late is not the network's doing.
func (a *arrived) outage(from, to, first, end int64, interval time.Duration) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	lo, _ := slices.BinarySearchFunc(a.all, from, func(x arrival, t int64) int { return cmp.Compare(x.at, t) })
	last, longest := arrival{number: first - 1, at: from, sent: from}, int64(0)
	for _, next := range a.all[lo:] {
		if next.at > to {
			break
		}
		pause := int64(interval)
		if next.number <= last.number+1 {
			pause = max(pause, next.sent-last.sent)
		}
		longest = max(longest, next.at-last.at-pause)
		last = next
	}
	if last.number+1 < end {
		longest = max(longest, to-last.at-int64(interval))
	}
	return time.Duration(longest)
}

// last is when the newest arrival was; 0 if there was none.
func (a *arrived) last() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.all) == 0 {
		return 0
	}
	return a.all[len(a.all)-1].at
}
