package lead

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/store"
)

// EpochKey holds the number of the leadership and who has it; it changes only when leadership changes,
// so a transaction bound to its revision is bound to the epoch. BeatKey changes with every renewal.
const (
	EpochKey = "lead/epoch"
	BeatKey  = "lead/beat"
)

// EpochDoc is the value at EpochKey.
type EpochDoc struct {
	Epoch  int64  `json:"epoch"`
	Holder string `json:"holder"`
}

// BeatDoc is the value at BeatKey.
type BeatDoc struct {
	Epoch int64 `json:"epoch"`
	Count int64 `json:"count"`
	// Released says that the holder let go and holds nothing any more: nobody needs to wait.
	Released bool `json:"released,omitempty"`
}

// Role of an elector.
type Role int

// The roles.
const (
	Follower Role = iota
	Candidate
	Leader
)

func (r Role) String() string { return [...]string{"follower", "candidate", "leader"}[r] }

// Elector is one controller's part in the election. It is a plain value driven by
// one goroutine: what the store says and how writes went goes in by methods, what to
// write comes out of Act.
type Elector struct {
	self   string
	timing Timing
	role   Role

	epoch, beat store.Entry // as last seen; values are in the docs
	epochDoc    EpochDoc
	beatDoc     BeatDoc
	beatSeen    clock.Instant // when the beat was first seen at this revision
	synced      bool          // epoch and beat are fresh enough to write against
	inFlight    bool
	bid         *Write        // a bid for leadership whose outcome is not known
	acquired    clock.Instant // when leadership was won
	cleanStart  bool          // the predecessor had released it
	renewed     clock.Instant // when the last successful renewal began
	lastTry     clock.Instant
	resigning   bool
}

// NewElector makes a follower that knows nothing yet.
func NewElector(self string, t Timing) *Elector { return &Elector{self: self, timing: t} }

// Write is what Act wants written: one transaction.
type Write struct {
	Conds []store.Cond
	Ops   []store.Op
	// Campaign tells a bid for leadership from a renewal.
	Campaign bool
	// Began is when the write was asked for; hand it back in Wrote.
	Began clock.Instant

	epoch EpochDoc
	beat  BeatDoc
	clean bool // nobody held the lease
}

// Role now, after what Act or Leads found.
func (e *Elector) Role() Role { return e.role }

// Epoch of the leadership last seen or held.
func (e *Elector) Epoch() int64 { return e.epochDoc.Epoch }

// Holder is the controller that leads as far as is known.
func (e *Elector) Holder() string { return e.epochDoc.Holder }

// Leads tells whether this controller may act at now. It turns a leader whose time is over into a follower.
func (e *Elector) Leads(now clock.Instant) bool {
	if e.role == Leader && now.AtMostSince(e.renewed) >= e.timing.Hold() {
		e.follow(now)
	}
	return e.role == Leader
}

// Acquired is when leadership was won, and whether the predecessor had let go cleanly.
func (e *Elector) Acquired() (at clock.Instant, clean bool) { return e.acquired, e.cleanStart }

// Renewed is when the last successful renewal began.
func (e *Elector) Renewed() clock.Instant { return e.renewed }

// Guard binds a transaction to this leadership: it fails once somebody else has led.
func (e *Elector) Guard() store.Cond { return store.Cond{Key: EpochKey, Rev: e.epoch.Rev} }

func (e *Elector) follow(now clock.Instant) {
	e.role = Follower
	e.beatSeen = now
}

// Seen is what the store holds at EpochKey and BeatKey; an absent key has revision 0.
type Seen struct {
	Epoch    EpochDoc
	EpochRev store.Rev
	Beat     BeatDoc
	BeatRev  store.Rev
	// Fresh tells a read made after the last write ended from a watch's delivery, which may be late.
	Fresh bool
}

// Saw tells the elector what the store holds.
func (e *Elector) Saw(now clock.Instant, s Seen) {
	if s.Fresh && !e.inFlight {
		e.settle(now, s)
		return
	}
	if s.Epoch.Epoch > e.epochDoc.Epoch {
		if e.role == Leader {
			e.follow(now)
		}
		e.epoch, e.epochDoc = store.Entry{Key: EpochKey, Rev: s.EpochRev}, s.Epoch
	}
	if e.role != Leader && !e.inFlight && s.BeatRev != e.beat.Rev {
		e.beat, e.beatDoc, e.beatSeen = store.Entry{Key: BeatKey, Rev: s.BeatRev}, s.Beat, now
	}
}

// settle takes a fresh read at face value.
func (e *Elector) settle(now clock.Instant, s Seen) {
	won := e.bid != nil && s.Epoch == e.bid.epoch
	lost := e.role == Leader && (s.Epoch != e.epochDoc || s.EpochRev != e.epoch.Rev)
	if s.BeatRev != e.beat.Rev || !e.synced && e.beatSeen.IsZero() {
		e.beatSeen = now
	}
	e.epoch, e.epochDoc = store.Entry{Key: EpochKey, Rev: s.EpochRev}, s.Epoch
	e.beat, e.beatDoc = store.Entry{Key: BeatKey, Rev: s.BeatRev}, s.Beat
	e.synced = true
	switch {
	case won:
		e.role, e.acquired, e.renewed = Leader, now, e.bid.Began
		e.Leads(now)
	case lost:
		e.follow(now)
	}
	e.bid = nil
}

// NeedsRead tells that the elector must be given a fresh read before it can go on: at the start, and after a
// write that failed or whose outcome is not known.
func (e *Elector) NeedsRead() bool { return !e.synced && !e.inFlight }

// InFlight tells that a write of Act is not answered yet.
func (e *Elector) InFlight() bool { return e.inFlight }

// Wrote tells how a write of Act went: revs are the new revisions of its ops, err is nil for success.
func (e *Elector) Wrote(now clock.Instant, w Write, revs []store.Rev, err error) {
	e.inFlight = false
	if err != nil {
		e.synced = false
		if w.Campaign {
			e.role = Follower
			if !errors.Is(err, store.ErrConflict) {
				e.bid = &w
			}
		}
		return
	}
	if w.Campaign {
		e.cleanStart = w.clean
		e.epoch, e.epochDoc = store.Entry{Key: EpochKey, Rev: revs[0]}, w.epoch
		e.role, e.acquired = Leader, now
	}
	e.beat, e.beatDoc, e.beatSeen = store.Entry{Key: BeatKey, Rev: revs[len(revs)-1]}, w.beat, now
	if w.beat.Released {
		e.follow(now)
		return
	}
	if w.Campaign || e.renewed.Before(w.Began) {
		e.renewed = w.Began
	}
	e.Leads(now)
}

// Resign makes the elector give the lease back with its next write, and campaign no more. The caller must have
// stopped acting and drained what it had under way.
func (e *Elector) Resign() { e.resigning = true }

// Act gives the write that is due at now, if any, and when to ask again at the latest.
func (e *Elector) Act(now clock.Instant) (w *Write, again time.Duration) {
	every := e.timing.RenewEvery()
	leads := e.Leads(now)
	if e.inFlight || !e.synced {
		return nil, every
	}
	switch {
	case leads && e.resigning:
		return e.renewal(now, true), every
	case leads:
		if d := now.Since(e.lastTry); d < every {
			return nil, every - d
		}
		return e.renewal(now, false), every
	case e.resigning:
		return nil, every
	}
	if left := e.timing.Wait() - now.Since(e.beatSeen); !e.free() && left > 0 {
		return nil, left
	}
	if d := now.Since(e.lastTry); !e.lastTry.IsZero() && d < every {
		return nil, every - d
	}
	return e.campaign(now), every
}

// free tells that nobody holds the lease.
func (e *Elector) free() bool { return e.beat.Rev == 0 || e.beatDoc.Released }

func (e *Elector) campaign(now clock.Instant) *Write {
	e.role = Candidate
	epoch := EpochDoc{Epoch: e.epochDoc.Epoch + 1, Holder: e.self}
	w := e.write(now, BeatDoc{Epoch: epoch.Epoch, Count: e.beatDoc.Count + 1})
	w.Campaign, w.clean, w.epoch = true, e.free(), epoch
	w.Ops = append([]store.Op{{Key: EpochKey, Value: encode(epoch)}}, w.Ops...)
	return w
}

func (e *Elector) renewal(now clock.Instant, release bool) *Write {
	return e.write(now, BeatDoc{Epoch: e.epochDoc.Epoch, Count: e.beatDoc.Count + 1, Released: release})
}

func (e *Elector) write(now clock.Instant, beat BeatDoc) *Write {
	e.inFlight, e.lastTry = true, now
	return &Write{
		Conds: []store.Cond{{Key: EpochKey, Rev: e.epoch.Rev}, {Key: BeatKey, Rev: e.beat.Rev}},
		Ops:   []store.Op{{Key: BeatKey, Value: encode(beat)}},
		Began: now, beat: beat,
	}
}

func encode(doc any) []byte {
	b, err := json.Marshal(doc)
	if err != nil {
		panic("lead: " + err.Error()) // plain structs of strings and numbers always marshal
	}
	return b
}
