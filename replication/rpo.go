package replication

import (
	"slices"
	"time"
)

const (
	// rpoWindow is how many samples, one a second, p50 and p99 look at.
	rpoWindow = 600
	// maxSkew of a source's clock before it is a condition.
	maxSkew = 5 * time.Second
	// beatEvery is how often a source tells how it does, and quietAfter how long a figure of it is taken as it is.
	beatEvery  = time.Second
	quietAfter = 3 * time.Second
)

// RPOBuckets are the upper bounds of RPO.Buckets in seconds; the last has none.
var RPOBuckets = [...]float64{0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600}

// RPO is the received RPO of a stream: how much of the past would be lost if the source site was gone now.
type RPO struct {
	Now, P50, P99 time.Duration
	// Samples that P50 and P99 stand on, one a second, at most 600.
	Samples int
	// Buckets counts all samples of this process by RPOBuckets, not cumulated; Sum adds them up.
	Buckets [len(RPOBuckets) + 1]uint64
	Sum     time.Duration
}

// lateness is what the received RPO is judged by, on the process server's clock.
type lateness struct {
	oldest   time.Time // arrival of the oldest record that is not stored; zero for none
	gap      time.Time // when the gap that is not closed in the vault began; zero for none
	beat     time.Time // when the source was heard last
	queueAge time.Duration
	paused   bool // we ourselves do not read what the source sends
}

// rpo adds what waits here to what waits at the source. Of a source that is silent the worst is assumed: that it wrote
// right after its last word.
func (l lateness) rpo(now time.Time) time.Duration {
	var d time.Duration
	if !l.oldest.IsZero() {
		d = now.Sub(l.oldest)
	}
	if age := now.Sub(l.beat); age > quietAfter || l.paused {
		d = max(d, age)
	}
	d += l.queueAge
	if !l.gap.IsZero() {
		d = max(d, now.Sub(l.gap))
	}
	return max(d, 0)
}

// rpoSeries keeps samples.
type rpoSeries struct {
	ring [rpoWindow]time.Duration
	n    int // samples ever
	rpo  RPO
}

func (s *rpoSeries) add(d time.Duration) {
	s.ring[s.n%rpoWindow] = d
	s.n++
	i := 0
	for i < len(RPOBuckets) && d.Seconds() > RPOBuckets[i] {
		i++
	}
	s.rpo.Buckets[i]++
	s.rpo.Sum += d
	sorted := slices.Clone(s.ring[:min(s.n, rpoWindow)])
	slices.Sort(sorted)
	s.rpo.Now, s.rpo.Samples = d, len(sorted)
	s.rpo.P50, s.rpo.P99 = percentile(sorted, 50), percentile(sorted, 99)
}

// percentile is the smallest value that p in 100 do not exceed.
func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[(len(sorted)*p+99)/100-1]
}

// arrivals remembers when records came, coarsely: enough to tell the age of the oldest that is not stored, and how much waits.
type arrivals struct {
	marks []mark
	bytes int64 // of all marks
}

type mark struct {
	at    time.Time // when the first record came
	last  uint64
	bytes int64
}

// add notes that records up to last came at a time. Marks grow coarser the more there are, so that an hour's outage takes
// little memory; an age is never taken for less than it is.
func (a *arrivals) add(at time.Time, last uint64, bytes int64) {
	a.bytes += bytes
	grain := 20 * time.Millisecond * time.Duration(1+len(a.marks)/1000)
	if n := len(a.marks); n > 0 && at.Sub(a.marks[n-1].at) < grain {
		a.marks[n-1].last = last
		a.marks[n-1].bytes += bytes
		return
	}
	a.marks = append(a.marks, mark{at, last, bytes})
}

// stored forgets what is stored.
func (a *arrivals) stored(upTo uint64) {
	i := 0
	for ; i < len(a.marks) && a.marks[i].last <= upTo; i++ {
		a.bytes -= a.marks[i].bytes
	}
	a.marks = slices.Delete(a.marks, 0, i)
}

func (a *arrivals) oldest() time.Time {
	if len(a.marks) == 0 {
		return time.Time{}
	}
	return a.marks[0].at
}

// gaps knows since when the vault has had no valid point because of a gap, by the clock of arrival.
type gaps struct {
	since, newest time.Time // of the first gap-begin that is not ended, and of the last one
	lastSeq       uint64    // of the last gap-begin
}

func (g *gaps) begin(seq uint64, at time.Time) {
	if g.since.IsZero() {
		g.since = at
	}
	g.newest, g.lastSeq = at, seq
}

// end notes that a gap-end is stored. A gap that began behind it stays.
func (g *gaps) end(seq uint64) {
	if seq < g.lastSeq {
		g.since = g.newest
		return
	}
	g.since = time.Time{}
}
