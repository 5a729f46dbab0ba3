package replication

import (
	"time"

	"github.com/understudy-ha/understudy/journal"
)

// churnWindow is how many seconds the churn looks at.
const churnWindow = 60

// figures of a lane. They are kept under its lock.
type figures struct {
	arrived arrivals
	gap     gaps
	rpo     rpoSeries
	// From the source's last beat.
	beatAt     time.Time // when it came
	queueAge   time.Duration
	queueBytes int64
	captured   uint64
	inGap      bool
	skew       time.Duration
	skewedAt   time.Time // since when it is more than maxSkew
	paused     bool      // the session is not read: the spool is full
	pausedAt   time.Time

	batches, records, bytes, churned, segments, storedRecords, storedBytes, uploaded, syncs, retries, sessions int64
	// churn and uploads of the last seconds, by second.
	churn, upload rate
}

// came counts a batch that was taken.
func (f *figures) came(recs []journal.Record, bytes int, now time.Time) {
	f.batches++
	f.records += int64(len(recs))
	f.bytes += int64(bytes)
	for i := range recs {
		switch r := &recs[i]; {
		case r.Kind == journal.GapBegin:
			f.gap.begin(r.Seq, now)
		case r.Kind == journal.Write && r.Flags&journal.Resync == 0:
			f.churned += r.Len
		}
	}
	f.arrived.add(now, recs[len(recs)-1].Seq, int64(bytes))
}

// seen takes a frame that an earlier life left into account.
func (f *figures) seen(fr *frame) {
	for i := range fr.recs {
		if fr.recs[i].Kind == journal.GapBegin {
			f.gap.begin(fr.recs[i].Seq, fr.arrived)
		}
	}
	f.arrived.add(fr.arrived, fr.last, int64(fr.bytes))
}

// committed counts a pack that is stored.
func (f *figures) committed(p *pack, uploaded int64) {
	f.segments++
	f.storedRecords += int64(len(p.recs))
	f.storedBytes += p.bytes
	f.uploaded += uploaded
	for i := range p.recs {
		if p.recs[i].Kind == journal.GapEnd {
			f.gap.end(p.recs[i].Seq)
		}
	}
	f.arrived.stored(p.last())
}

func (f *figures) lateness() lateness {
	return lateness{oldest: f.arrived.oldest(), gap: f.gap.since, beat: f.beatAt, queueAge: f.queueAge, paused: f.paused}
}

// sample is called once a second.
func (f *figures) sample(now time.Time) {
	f.rpo.add(f.lateness().rpo(now))
	f.churn.add(f.churned)
	f.upload.add(f.storedBytes)
}

// rate of a counter over the last minute, from its value once a second.
type rate struct {
	values [churnWindow + 1]int64
	n      int
	peak   int64 // the most in one second, ever
}

func (r *rate) add(v int64) {
	if r.n > 0 {
		r.peak = max(r.peak, v-r.values[(r.n-1)%len(r.values)])
	}
	r.values[r.n%len(r.values)] = v
	r.n++
}

// perSecond over up to a minute.
func (r *rate) perSecond() int64 {
	have := min(r.n, len(r.values))
	if have < 2 {
		return 0
	}
	newest, oldest := r.values[(r.n-1)%len(r.values)], r.values[(r.n-have)%len(r.values)]
	return (newest - oldest) / int64(have-1)
}
