package vault

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/objstore"
)

// window is how many bytes one request of a ranged read asks for, unless the object is wanted whole.
const window = 256 << 10

// rangeReader reads an object of the store in aligned windows and keeps the newest few of them, because the container's reader asks for
// 64 KiB at a time.
type rangeReader struct {
	ctx  context.Context
	s    objstore.Store
	key  string
	size int64
	// width is how many bytes one request asks for.
	width int64

	mu   sync.Mutex
	kept [3]struct {
		at int64
		p  []byte
	}
	turn int
}

// ReadAt implements io.ReaderAt.
func (r *rangeReader) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		at := off + int64(done)
		if at >= r.size {
			return done, io.EOF
		}
		w, err := r.window(at - at%r.width)
		if err != nil {
			return done, err
		}
		done += copy(p[done:], w[at%r.width:])
	}
	return done, nil
}

func (r *rangeReader) window(at int64) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.kept {
		if k.p != nil && k.at == at {
			return k.p, nil
		}
	}
	p, err := r.s.GetRange(r.ctx, r.key, at, min(r.width, r.size-at))
	if err != nil {
		return nil, referred("read", r.key, err)
	}
	if int64(len(p)) != min(r.width, r.size-at) {
		return nil, fmt.Errorf("read %s: %d bytes at %d instead of %d", r.key, len(p), at, min(r.width, r.size-at))
	}
	r.kept[r.turn].at, r.kept[r.turn].p = at, p
	r.turn = (r.turn + 1) % len(r.kept)
	return p, nil
}

// forget lets go of the windows.
func (r *rangeReader) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.kept {
		r.kept[i].p = nil
	}
}

// openSegment opens a segment where it lies, or reads it whole.
func (v *Vault) openSegment(ctx context.Context, stream string, g *segmentRef, whole bool) (*journal.Segment, *rangeReader, error) {
	r := &rangeReader{ctx: ctx, s: v.store, key: segmentKey(stream, g), size: g.Size, width: window}
	if whole {
		r.width = g.Size
	}
	return v.openAt(r, v.segmentBinding(stream, g))
}

func (v *Vault) segmentBinding(stream string, g *segmentRef) journal.Binding {
	return journal.Binding{Type: journal.SegmentObject, Vault: v.root.ID, Stream: stream, Epoch: g.Epoch, First: g.First, Last: g.Last, Prev: g.Prev}
}

func (v *Vault) layerBinding(stream string, l *layerRef, t journal.ObjectType, part int) journal.Binding {
	return journal.Binding{Type: t, Vault: v.root.ID, Stream: stream, First: l.From + 1, Last: l.To, Part: uint32(part), Prev: l.Chain}
}

func (v *Vault) openObject(ctx context.Context, key string, size int64, b journal.Binding) (*journal.Segment, *rangeReader, error) {
	return v.openAt(&rangeReader{ctx: ctx, s: v.store, key: key, size: size, width: window}, b)
}

func (v *Vault) openAt(r *rangeReader, b journal.Binding) (*journal.Segment, *rangeReader, error) {
	ids, err := v.identities("read", r.key)
	if err != nil {
		return nil, nil, err
	}
	s, err := journal.Open(r.key, r, r.size, b, ids...)
	return s, r, err
}
