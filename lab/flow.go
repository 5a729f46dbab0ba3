package lab

import (
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
const (
	frameMagic = 0x554c4142 // "ULAB"
	frameSize  = 16         // magic 4, flow 2, zero 2, number 8
)

func putFrame(b []byte, flow uint16, number int64) {
	binary.BigEndian.PutUint32(b[0:], frameMagic)
	binary.BigEndian.PutUint16(b[4:], flow)
	binary.BigEndian.PutUint16(b[6:], 0)
	binary.BigEndian.PutUint64(b[8:], uint64(number))
}

var errFrame = errors.New("not a frame of the lab")

func readFrame(b []byte) (flow uint16, number int64, err error) {
	if len(b) < frameSize || binary.BigEndian.Uint32(b) != frameMagic {
		return 0, 0, errFrame
	}
	number = int64(binary.BigEndian.Uint64(b[8:]))
	if number < 0 {
		return 0, 0, errFrame
	}
	return binary.BigEndian.Uint16(b[4:]), number, nil
}

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
	seen       []uint64 // a bit a number
	at         []int64  // wall clock of each arrival, in order
	duplicates int64
}

// maxNumber bounds what a stray packet can make the record grow to.
const maxNumber = 1 << 26

func (a *arrived) add(number int64, now time.Time) {
	if number >= maxNumber {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	word, bit := int(number/64), uint64(1)<<(number%64)
	if word >= len(a.seen) {
		a.seen = append(a.seen, make([]uint64, word+1-len(a.seen))...)
	}
	if a.seen[word]&bit != 0 {
		a.duplicates++
		return
	}
	a.seen[word] |= bit
	a.at = append(a.at, now.UnixNano())
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

// longestGap is the longest time within [from, to] without an arrival, its ends included.
func (a *arrived) longestGap(from, to int64) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	lo, _ := slices.BinarySearch(a.at, from)
	last, longest := from, int64(0)
	for _, t := range a.at[lo:] {
		if t > to {
			break
		}
		longest = max(longest, t-last)
		last = t
	}
	return time.Duration(max(longest, to-last))
}

// last is when the newest arrival was; 0 if there was none.
func (a *arrived) last() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.at) == 0 {
		return 0
	}
	return a.at[len(a.at)-1]
}
