package vault

import (
	"context"
	"errors"
)

// standing gives the view to read from: this one while its pins hold, and else one that is opened at the same position in its place. The
// vault may have been out of reach, or the host asleep, for longer than a pin lasts, or the clock was set; a machine that runs on the view must
// not be left without its disks for that. Where the position is not kept any more there is ErrPinLost.
func (w *View) standing(ctx context.Context) (*View, error) {
	for next := w.replaced(); next != nil; next = w.replaced() {
		w = next
	}
	err := w.alive()
	if err == nil || w.v.tune.Quiet || w.whole || w.ctx.Err() != nil {
		return w, err
	}
	next, failed := once(ctx, &w.flight, "open again", func() (any, error) { return w.again() })
	if failed != nil {
		return w, &Error{Op: "read", Object: w.info.ID, Kind: ErrPinLost, Cause: failed, Hint: "it is opened again at the next read"}
	}
	return next.(*View), nil
}

func (w *View) replaced() *View {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.next
}

// again opens the view that takes this one's place. One at a time does.
func (w *View) again() (*View, error) {
	if next := w.replaced(); next != nil {
		return next, nil
	}
	next, err := w.v.View(w.ctx, w.info.ID, w.seq)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	closed := w.ctx.Err()
	if closed == nil {
		w.next = next
	}
	w.mu.Unlock()
	if closed != nil {
		return nil, errors.Join(closed, next.Close())
	}
	w.cache.drop()
	return next, nil
}
