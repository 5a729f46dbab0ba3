package vault

import (
	"container/list"
	"context"
	"strconv"
	"sync"

	"golang.org/x/sync/singleflight"

	"github.com/understudy-ha/understudy/journal"
)

// shelfBytes bounds the memory of the indexes of opened layer parts of one view; extentBytes is what one extent of an index takes.
const (
	shelfBytes  = 64 << 20
	extentBytes = 48
)

// shelf keeps the layer parts that a view used last open.
type shelf struct {
	flight singleflight.Group
	ctx    context.Context // of the view

	mu    sync.Mutex
	order *list.List // of *onShelf, the last used in front
	by    map[uint32]*list.Element
	bytes int64
}

type onShelf struct {
	id  uint32
	seg *journal.Segment
}

func newShelf(ctx context.Context) *shelf {
	return &shelf{ctx: ctx, order: list.New(), by: map[uint32]*list.Element{}}
}

// open gives the part with a number, opening it by do unless it is here. Callers that want the same part wait for one opening.
func (s *shelf) open(ctx context.Context, id uint32, do func(context.Context) (*journal.Segment, *rangeReader, error)) (*journal.Segment, error) {
	s.mu.Lock()
	if e, ok := s.by[id]; ok {
		s.order.MoveToFront(e)
		s.mu.Unlock()
		return e.Value.(*onShelf).seg, nil
	}
	s.mu.Unlock()
	seg, err := once(ctx, &s.flight, strconv.Itoa(int(id)), func() (any, error) {
		seg, r, err := do(s.ctx)
		if err != nil {
			return nil, err
		}
		r.forget()
		s.keep(id, seg)
		return seg, nil
	})
	if err != nil {
		return nil, err
	}
	return seg.(*journal.Segment), nil
}

// once lets callers that want the same thing share one call, which goes on when one of them gives up.
func once(ctx context.Context, g *singleflight.Group, key string, do func() (any, error)) (any, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case r := <-g.DoChan(key, do):
		return r.Val, r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *shelf) keep(id uint32, seg *journal.Segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.by[id]; there {
		return
	}
	s.by[id] = s.order.PushFront(&onShelf{id, seg})
	s.bytes += int64(len(seg.Index())) * extentBytes
	for s.bytes > shelfBytes && s.order.Len() > 1 {
		e := s.order.Back()
		old := e.Value.(*onShelf)
		s.order.Remove(e)
		delete(s.by, old.id)
		s.bytes -= int64(len(old.seg.Index())) * extentBytes
	}
}
