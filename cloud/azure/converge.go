package azure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/understudy-ha/understudy/cloud"
)

const (
	// patience is how many polls Do spends on refusals that pass by themselves, beyond what operations take.
	patience = 480
	// maxWrites is how many writes of one Do may succeed and not hold.
	maxWrites = 5
)

// converge reads, compares, writes and waits until the resource is as wanted.
func (d *Driver) converge(ctx context.Context, ours mark, ch change) (string, error) {
	w := &waiter{poll: d.poll}
	writes := 0
	var doc document // as last read; nil when it must be read again
	for {
		var err error
		if doc == nil {
			doc, err = d.rest(ctx, ch.target)
		}
		if err != nil {
			if err = w.wait(ctx, err); err != nil {
				return "", err
			}
			doc = nil
			continue
		}
		if err := checkMark(doc, ours); err != nil {
			return "", err
		}
		etag, healthy := doc.etag(), doc.succeeded()
		n, err := ch.apply(doc)
		if err != nil {
			return "", fmt.Errorf("%s: %w", ch.target.full, err)
		}
		if n == 0 && healthy {
			return outcome(writes, ch), nil
		}
		if writes == maxWrites {
			return "", fmt.Errorf("%s: written %d times and changed back by others each time", ch.target.full, writes)
		}
		if doc, err = d.write(ctx, ours, ch, doc, etag); err == nil {
			writes++
			continue
		}
		if failed(err) {
			return "", err // the job counts the attempt and says when the next one is
		}
		if err = w.wait(ctx, err); err != nil {
			return "", err
		}
	}
}

// rest reads a resource; if somebody's write is under way, another leader's or our own from before a crash, when it has ended.
func (d *Driver) rest(ctx context.Context, id resourceID) (document, error) {
	doc, err := d.client.get(ctx, id)
	if err == nil && doc.working() {
		return d.await(ctx, id, watch{seen: true})
	}
	return doc, err
}

func outcome(writes int, ch change) string {
	if writes == 0 {
		return "nothing to do: " + ch.target.name + " is so already"
	}
	return "written and read back: " + ch.target.name
}

// write puts a changed document, waits for it and gives what is read back.
func (d *Driver) write(ctx context.Context, ours mark, ch change, doc document, etag string) (document, error) {
	doc.setTag(tagName, ours.String())
	delete(doc, "etag")
	op, busy, err := d.client.put(ctx, ch.target, doc, etag)
	if err != nil {
		return nil, err
	}
	if !busy && op.url() == "" {
		return d.rest(ctx, ch.target)
	}
	return d.await(ctx, ch.target, watch{op: op, seen: busy, before: etag})
}

// watch is what is known of a running write.
type watch struct {
	op operation
	// seen tells that the resource has said it is working. Before that its word is not enough: a NIC may say
	// Succeeded while its write still runs.
	seen bool
	// before is the etag that was there before the write, "" if unknown. Reads that still show it are old.
	before string
}

// await watches until no operation runs on a resource and gives its document. It reads the resource each poll, and
// looks at the operation when ARM said it may, which is seldom (every 10 s) and tells why an operation failed.
func (d *Driver) await(ctx context.Context, id resourceID, w watch) (document, error) {
	next := time.Now().Add(max(w.op.after, d.poll))
	ended := false
	for {
		if err := sleep(ctx, d.poll); err != nil {
			return nil, fmt.Errorf("wait for the write of %s: %w", id.full, err)
		}
		if w.op.url() != "" && !time.Now().Before(next) {
			p, err := d.client.look(ctx, &w.op)
			next = time.Now().Add(max(w.op.after, d.poll))
			switch {
			case errors.Is(err, errLost):
				w.op, w.seen = operation{}, true
			case err == nil && p.done && p.code != "":
				return nil, operationFailed(id, p)
			case err == nil && p.done:
				ended = true
			case errors.Is(err, cloud.ErrPermanent):
				return nil, err
			}
		}
		doc, err := d.client.get(ctx, id)
		switch {
		case errors.Is(err, cloud.ErrPermanent):
			return nil, err
		case err != nil:
			if err := sleep(ctx, asked(err)); err != nil {
				return nil, fmt.Errorf("wait for the write of %s: %w", id.full, err)
			}
		case doc.working():
			w.seen = true
		case ended, w.seen && (w.before == "" || doc.etag() != w.before):
			return d.settled(ctx, id, w.op, doc)
		}
	}
}

// settled gives a document that rests, or says why its operation failed.
func (d *Driver) settled(ctx context.Context, id resourceID, op operation, doc document) (document, error) {
	if doc.succeeded() || op.url() == "" {
		return doc, nil
	}
	if p, err := d.client.look(ctx, &op); err == nil && p.done && p.code != "" {
		return nil, operationFailed(id, p)
	}
	return nil, operationFailed(id, progress{code: doc.state(), message: "the operation failed"})
}

func operationFailed(id resourceID, p progress) *Error {
	return &Error{Op: "write " + id.full, Status: http.StatusOK, Code: p.code, Message: p.message}
}

// failed tells the failure of an operation that had been accepted.
func failed(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusOK
}

// waiter waits out refusals, with growing pauses where ARM names none.
type waiter struct {
	poll  time.Duration
	spent time.Duration
	tries int
}

// wait gives nil when it is time to try again, else the error to end with.
func (w *waiter) wait(ctx context.Context, err error) error {
	if errors.Is(err, cloud.ErrPermanent) || ctx.Err() != nil {
		return err
	}
	pause := asked(err)
	var e *Error
	if errors.As(err, &e) && e.class() == changed {
		pause = w.poll / 4 // somebody was faster; what they wrote is there to read
	}
	if pause == 0 {
		pause = w.poll << min(w.tries, 5)
	}
	w.tries++
	if w.spent += pause; w.spent > patience*w.poll {
		if e != nil && e.class() == inUse {
			// Somebody's late write has brought the address back. To attach again and again is vain; a new plan detaches first.
			return fmt.Errorf("%w: still in use after %d tries: %w", cloud.ErrPermanent, w.tries, err)
		}
		return fmt.Errorf("tried %d times: %w", w.tries, err)
	}
	if sleep(ctx, pause) != nil {
		return err
	}
	return nil
}

// asked is how long the refusal asks to wait, 0 if it does not say.
func asked(err error) time.Duration {
	var e *Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
