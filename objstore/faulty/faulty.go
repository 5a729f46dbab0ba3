// Package faulty takes answers away from an object store, under a seed: lost answers, lost, late and repeated requests, spells without
// service and without space. It keeps no clock and starts no goroutine: in a simulation of one goroutine the same seed gives the same faults.
//
// Late and repeated requests come before later calls, at random; Settle lets all that are still under way arrive.
package faulty

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/understudy-ha/understudy/objstore"
)

// Config says how often each fault happens: chances from 0 to 1, decided anew for each call.
type Config struct {
	Seed uint64
	// LostAnswer: a write is done, and answered ErrUnknown.
	LostAnswer float64
	// LostRequest: a write is not done, and answered ErrUnknown.
	LostRequest float64
	// Late: a write is answered ErrUnknown, and tried before some later call, under its condition as of then.
	Late float64
	// Repeated: a write is done and answered, and tried once more before some later call.
	Repeated float64
	// LostRead: a read is answered ErrUnavailable.
	LostRead float64
	// Unavailable and NoSpace: a spell begins, in which all calls answer ErrUnavailable, or all puts ErrNoSpace, for 1 to Spell calls.
	Unavailable, NoSpace float64
	// Spell is the longest, in calls. Default 8.
	Spell int
	// Arrive is the chance, before each call, that one write under way arrives. Default 0.2.
	Arrive float64
	// Before, if not nil, is told of each call before it begins, outside of all locks: a simulation may let others go first there.
	Before func(op, key string)
}

// Counts says how many faults there were.
type Counts struct {
	LostAnswers, LostRequests, Late, Repeated, LostReads, Unavailable, NoSpace int
	// Arrived counts late and repeated writes that took effect; Refused those whose condition no longer held.
	Arrived, Refused int
}

// Store wraps a store. Its faults can be switched off and on; writes under way stay under way.
type Store struct {
	inner  objstore.Store
	cfg    Config
	mu     sync.Mutex
	rng    *rand.Rand
	on     bool
	away   int // calls left of a spell without service
	full   int // puts left of a spell without space
	flying []write
	counts Counts
	past   map[string][][]byte
}

type write struct {
	key    string
	data   []byte
	cond   objstore.Cond
	delete bool
}

var _ objstore.Store = (*Store)(nil)

// New wraps inner. Faults are on.
func New(inner objstore.Store, cfg Config) *Store {
	if cfg.Spell == 0 {
		cfg.Spell = 8
	}
	if cfg.Arrive == 0 {
		cfg.Arrive = 0.2
	}
	return &Store{inner: inner, cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 0x6f626a)), on: true, past: map[string][][]byte{}}
}

// SetFaults switches faults. While they are off nothing that is under way arrives.
func (s *Store) SetFaults(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on = on
	if !on {
		s.away, s.full = 0, 0
	}
}

// Counts gives the faults so far.
func (s *Store) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// Settle lets every write under way arrive, in random order.
func (s *Store) Settle(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.flying) > 0 {
		s.arrive(ctx)
	}
}

func (s *Store) arrive(ctx context.Context) {
	i := s.rng.IntN(len(s.flying))
	w := s.flying[i]
	s.flying = slices.Delete(s.flying, i, i+1)
	if _, err := s.apply(ctx, w); err != nil {
		s.counts.Refused++
		return
	}
	s.counts.Arrived++
}

// apply does a write, and remembers what a put made, for Replay.
func (s *Store) apply(ctx context.Context, w write) (objstore.Tag, error) {
	if w.delete {
		return "", s.inner.Delete(ctx, w.key)
	}
	tag, err := s.inner.Put(ctx, w.key, w.data, w.cond)
	if err == nil {
		s.past[w.key] = append(s.past[w.key], w.data)
	}
	return tag, err
}

func (s *Store) chance(p float64) bool { return s.on && p > 0 && s.rng.Float64() < p }

// begin lets writes arrive, and decides whether the call meets a spell. s.mu is held.
func (s *Store) begin(ctx context.Context, op, key string, put bool) error {
	if len(s.flying) > 0 && s.chance(s.cfg.Arrive) {
		s.arrive(ctx)
	}
	if s.away == 0 && s.chance(s.cfg.Unavailable) {
		s.away = 1 + s.rng.IntN(s.cfg.Spell)
	}
	if s.full == 0 && s.chance(s.cfg.NoSpace) {
		s.full = 1 + s.rng.IntN(s.cfg.Spell)
	}
	switch {
	case s.away > 0:
		s.away--
		s.counts.Unavailable++
		return &objstore.Error{Op: op, Key: key, Kind: objstore.ErrUnavailable}
	case s.full > 0 && put:
		s.full--
		s.counts.NoSpace++
		return &objstore.Error{Op: op, Key: key, Kind: objstore.ErrNoSpace}
	}
	return nil
}

func (s *Store) hook(op, key string) {
	if s.cfg.Before != nil {
		s.cfg.Before(op, key)
	}
}

// write does w, or what its fault makes of it.
func (s *Store) write(ctx context.Context, op string, w write) (objstore.Tag, error) {
	s.hook(op, w.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, op, w.key, !w.delete); err != nil {
		return "", err
	}
	unknown := &objstore.Error{Op: op, Key: w.key, Kind: objstore.ErrUnknown}
	switch {
	case s.chance(s.cfg.LostRequest):
		s.counts.LostRequests++
		return "", unknown
	case s.chance(s.cfg.Late):
		s.counts.Late++
		s.flying = append(s.flying, w)
		return "", unknown
	}
	tag, err := s.apply(ctx, w)
	if s.chance(s.cfg.Repeated) {
		s.counts.Repeated++
		s.flying = append(s.flying, w)
	}
	if s.chance(s.cfg.LostAnswer) {
		s.counts.LostAnswers++
		return "", unknown
	}
	return tag, err
}

// Put implements objstore.Store.
func (s *Store) Put(ctx context.Context, key string, data []byte, cond objstore.Cond) (objstore.Tag, error) {
	if err := objstore.ValidPut("put", key, len(data), cond); err != nil {
		return "", err
	}
	return s.write(ctx, "put", write{key: key, data: slices.Clone(data), cond: cond})
}

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := objstore.ValidKey("delete", key); err != nil {
		return err
	}
	_, err := s.write(ctx, "delete", write{key: key, delete: true})
	return err
}

// read decides whether a read is answered.
func (s *Store) read(ctx context.Context, op, key string) error {
	s.hook(op, key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, op, key, false); err != nil {
		return err
	}
	if s.chance(s.cfg.LostRead) {
		s.counts.LostReads++
		return &objstore.Error{Op: op, Key: key, Kind: objstore.ErrUnavailable}
	}
	return nil
}

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, key string) ([]byte, objstore.Tag, error) {
	if err := s.read(ctx, "get", key); err != nil {
		return nil, "", err
	}
	return s.inner.Get(ctx, key)
}

// GetRange implements objstore.Store.
func (s *Store) GetRange(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if err := s.read(ctx, "get range of", key); err != nil {
		return nil, err
	}
	return s.inner.GetRange(ctx, key, off, n)
}

// Head implements objstore.Store.
func (s *Store) Head(ctx context.Context, key string) (objstore.Info, error) {
	if err := s.read(ctx, "head", key); err != nil {
		return objstore.Info{}, err
	}
	return s.inner.Head(ctx, key)
}

// List implements objstore.Store. A lost read may come after any object.
func (s *Store) List(ctx context.Context, prefix, after string, yield func(objstore.Info) bool) error {
	if err := s.read(ctx, "list", prefix); err != nil {
		return err
	}
	var lost error
	err := s.inner.List(ctx, prefix, after, func(i objstore.Info) bool {
		if lost = s.lostInList(prefix); lost != nil {
			return false
		}
		return yield(i)
	})
	if lost != nil {
		return lost
	}
	return err
}

func (s *Store) lostInList(prefix string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.chance(s.cfg.LostRead / 16) {
		return nil
	}
	s.counts.LostReads++
	return &objstore.Error{Op: "list", Key: prefix, Kind: objstore.ErrUnavailable}
}

// Close implements objstore.Store. What is under way is lost.
func (s *Store) Close() error { return s.inner.Close() }
