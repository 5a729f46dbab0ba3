package server

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/store"
)

// hub follows the whole store by one watch and serves everybody in this process who wants to follow a part.
type hub struct {
	store store.Store
	// raw gets each delivery as it came, before anybody else; it must not block for long.
	raw func(store.Batch)

	mu     sync.Mutex
	view   store.View
	synced chan struct{} // closed once the first delivery is in
	subs   map[*subscription]struct{}
}

func newHub(st store.Store, raw func(store.Batch)) *hub {
	return &hub{store: st, raw: raw, view: store.View{}, synced: make(chan struct{}), subs: map[*subscription]struct{}{}}
}

// run follows until ctx ends.
func (h *hub) run(ctx context.Context) {
	for ctx.Err() == nil {
		batches, err := h.store.Watch(ctx, "")
		if err != nil {
			slog.Warn("watch the store", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			continue
		}
		for b := range batches {
			h.raw(b)
			h.apply(b)
		}
	}
}

func (h *hub) apply(b store.Batch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	diff := h.view.Apply(b)
	if b.Complete {
		select {
		case <-h.synced:
		default:
			close(h.synced)
		}
	}
	for _, c := range diff {
		ref, ok := refOfKey(c.Key)
		if !ok {
			continue
		}
		for s := range h.subs {
			if s.wants(ref) {
				s.note(ref)
			}
		}
	}
}

// refOfKey gives the resource that a key is part of.
func refOfKey(key string) (api.Ref, bool) {
	for _, p := range []string{"obj/", "status/", "assign/"} {
		if rest, ok := strings.CutPrefix(key, p); ok {
			return api.ParseRef(rest)
		}
	}
	return api.Ref{}, false
}

// subscription collects which resources changed. However slow its reader is, it holds each resource once.
type subscription struct {
	hub     *hub
	wants   func(api.Ref) bool
	changed map[api.Ref]bool
	wake    chan struct{} // length 1: a wake that is not taken yet is enough
}

// note is called with the hub's lock held.
func (s *subscription) note(ref api.Ref) {
	s.changed[ref] = true
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// subscribe is subscribeWait for somebody who does not wait longer than 5 s.
func (h *hub) subscribe(ctx context.Context, wants func(api.Ref) bool) (*subscription, error) {
	bounded, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	s, err := h.subscribeWait(bounded, wants)
	if err != nil && ctx.Err() == nil {
		return nil, store.ErrUnavailable
	}
	return s, err
}

// subscribeWait follows the resources that wants picks; everything that exists counts as changed at first.
func (h *hub) subscribeWait(ctx context.Context, wants func(api.Ref) bool) (*subscription, error) {
	select {
	case <-h.synced:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s := &subscription{hub: h, wants: wants, changed: map[api.Ref]bool{}, wake: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	for key := range h.view {
		if ref, ok := refOfKey(key); ok && wants(ref) {
			s.note(ref)
		}
	}
	h.subs[s] = struct{}{}
	return s, nil
}

func (s *subscription) close() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	delete(s.hub.subs, s)
}

// delivery is what a subscriber is told: a resource as it is now, or (gone) that it is no more.
type delivery struct {
	ref    api.Ref
	object api.Object
	gone   bool
}

// take gives what changed since the last take.
func (s *subscription) take() []delivery {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	var out []delivery
	for ref := range s.changed {
		obj, ok := s.hub.view[api.ObjectKey(ref)]
		if !ok {
			out = append(out, delivery{ref: ref, gone: true})
			continue
		}
		o, err := assemble(ref, obj, s.hub.view[api.StatusKey(ref)].Value, s.hub.view[api.AssignKey(ref)].Value)
		if err != nil {
			slog.Warn("resource does not read", "ref", ref, "err", err)
			continue
		}
		out = append(out, delivery{ref: ref, object: o})
	}
	s.changed = map[api.Ref]bool{}
	return out
}

// entry gives one key as the watch last told of it; its revision is 0 if it is not there.
func (h *hub) entry(key string) store.Entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.view[key]
	e.Key = key
	return e
}

// objects lists the resources of a kind as the watch last told of them, sorted.
func (h *hub) objects(kind api.Kind) []api.Object {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []api.Object
	for key, e := range h.view {
		rest, ok := strings.CutPrefix(key, api.ObjectPrefix(kind))
		ref, ok2 := api.ParseRef(string(kind) + "/" + rest)
		if !ok || !ok2 {
			continue
		}
		if o, err := assemble(ref, e, h.view[api.StatusKey(ref)].Value, h.view[api.AssignKey(ref)].Value); err == nil {
			out = append(out, o)
		}
	}
	sortObjects(out)
	return out
}
