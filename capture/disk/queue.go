package disk

import (
	"time"

	"github.com/understudy-ha/understudy/journal"
)

// What a batch of Next holds at most, besides its first record.
const (
	batchBytes   = 4 << 20
	batchRecords = 2048
)

// recordOverhead is what a record costs the queue's bytes besides its payload.
const recordOverhead = 160

// queue holds records until they are released. Room is reserved before a write is issued, so that its payload is copied only
// when it will fit. All methods are called under the machine's order lock.
type queue struct {
	maxBytes   int64
	maxRecords int

	bytes    int64 // reserved and held
	records  int
	list     []journal.Record // not released, in order
	sent     int              // of list, handed out
	released uint64
	wake     chan struct{} // 1 deep: something was pushed

	// The delivering side of Counters.
	delivers runs   // changes of the machine in list, or handed out and not stored
	lost     uint64 // changes that a gap will have to make good
	gaps     []gapLedger
	stored   uint64 // Counters.Stored
}

// gapLedger is what a delivered GapEnd makes good.
type gapLedger struct{ end, lost uint64 }

func cost(payload int64) int64 { return payload + recordOverhead }

// reserve takes room for a record with so many bytes of payload, if there is.
func (q *queue) reserve(payload int64) bool {
	if q.bytes+cost(payload) > q.maxBytes || q.records >= q.maxRecords {
		return false
	}
	q.bytes += cost(payload)
	q.records++
	return true
}

func (q *queue) unreserve(payload int64) {
	q.bytes -= cost(payload)
	q.records--
}

// roomy tells whether the queue is filled to less than a fraction 1/n after taking so many more bytes and records.
func (q *queue) roomy(n int64, bytes int64, records int) bool {
	return (q.bytes+bytes)*n <= q.maxBytes && int64(q.records+records)*n <= int64(q.maxRecords)
}

// push takes a record for which room was reserved. Counting says that it is a change of the machine.
func (q *queue) push(rec journal.Record, counting bool) {
	q.list = append(q.list, rec)
	if counting {
		q.delivers.add(rec.Seq)
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take hands out the next batch, nil if there is nothing.
func (q *queue) take() []journal.Record {
	n, bytes := q.sent, int64(0)
	for n < len(q.list) && n-q.sent < batchRecords {
		bytes += cost(int64(len(q.list[n].Data)))
		if n > q.sent && bytes > batchBytes {
			break
		}
		n++
	}
	out := append([]journal.Record(nil), q.list[q.sent:n]...)
	q.sent = n
	return out
}

// release forgets what the far side keeps.
func (q *queue) release(upTo uint64) {
	n := 0
	for n < len(q.list) && q.list[n].Seq <= upTo {
		q.unreserve(int64(len(q.list[n].Data)))
		if n < q.sent {
			giveBack(q.list[n].Data)
		}
		q.list[n] = journal.Record{}
		n++
	}
	q.list = q.list[n:]
	q.sent = max(0, q.sent-n)
	q.released = max(q.released, upTo)
}

// drop forgets everything that is not released: the sender may still read what it was handed.
func (q *queue) drop(upTo uint64) {
	for i := range q.list {
		q.unreserve(int64(len(q.list[i].Data)))
		q.list[i] = journal.Record{}
	}
	q.list, q.sent, q.released = nil, 0, max(q.released, upTo)
}

// rewind makes take go on at a position that is still in memory.
func (q *queue) rewind(from uint64) {
	q.sent = 0
	for q.sent < len(q.list) && q.list[q.sent].Seq < from {
		q.sent++
	}
}

// loseFrom says that what was delivered from a position on has to be made good by a gap.
func (q *queue) loseFrom(from uint64) {
	q.lost += q.delivers.takeFrom(from)
	for n := len(q.gaps); n > 0 && q.gaps[n-1].end >= from; n-- {
		q.lost += q.gaps[n-1].lost
		q.gaps = q.gaps[:n-1]
	}
}

// endGap says that a GapEnd was pushed: once it is stored, everything lost is.
func (q *queue) endGap(end uint64) {
	q.gaps = append(q.gaps, gapLedger{end, q.lost})
	q.lost = 0
}

// store counts what is stored now.
func (q *queue) store(upTo uint64) {
	q.stored += q.delivers.takeUpTo(upTo)
	for len(q.gaps) > 0 && q.gaps[0].end <= upTo {
		q.stored += q.gaps[0].lost
		q.gaps = q.gaps[1:]
	}
}

// oldest is when the oldest record that is not released was captured.
func (q *queue) oldest() time.Time {
	if len(q.list) == 0 {
		return time.Time{}
	}
	return time.Unix(0, q.list[0].Time)
}
