package replication

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/journal"
)

// ship appends packs until something fails. While some are on their way, the next is read and, by a Beginner, encoded.
func (l *lane) ship(ctx context.Context, app Appender) error {
	ctx, cancel := context.WithCancel(ctx)
	packs := make(chan *pack)
	var packErr error
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(packs)
		packErr = l.feed(ctx, packs)
	})
	err := l.pipe(ctx, app, packs)
	cancel()
	wg.Wait()
	if err == nil {
		err = packErr
	}
	return err
}

func (l *lane) feed(ctx context.Context, packs chan<- *pack) error {
	p := l.packer()
	for {
		next, err := p.next(ctx)
		if err != nil {
			return err
		}
		select {
		case packs <- next:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// flight is an append on its way.
type flight struct {
	p    *pack
	done <-chan result
}

type result struct {
	committed uint64
	err       error
}

// pipe has appends begin in order, up to a depth of them on their way, and takes their results in order. It returns when all
// that began have ended.
func (l *lane) pipe(ctx context.Context, app Appender, packs <-chan *pack) (err error) {
	depth := 1
	if _, ok := app.(Beginner); ok {
		depth = pipeDepth
	}
	var flights []flight
	defer func() {
		for _, f := range flights {
			<-f.done
		}
	}()
	var ready *pack // waits for a place and for bandwidth
	for open := true; open || ready != nil || len(flights) > 0; {
		var in <-chan *pack
		var paid <-chan time.Time
		var first <-chan result
		if len(flights) > 0 {
			first = flights[0].done
		}
		switch {
		case ready == nil && open:
			in = packs
		case ready != nil && len(flights) < depth:
			if d := l.delay(); d > 0 {
				paid = time.After(d)
				break
			}
			l.cfg.reached(BeforeAppend)
			l.pay(ready.bytes)
			flights = append(flights, flight{ready, begin(ctx, app, ready.recs)})
			ready = nil
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-paid:
		case ready, open = <-in:
		case r := <-first:
			p := flights[0].p
			flights = flights[1:]
			if r.committed < p.last() {
				if r.err == nil {
					r.err = fmt.Errorf("append of records %d to %d committed only %d", p.recs[0].Seq, p.last(), r.committed)
				}
				return r.err
			}
			l.commit(app, p)
		}
	}
	return nil
}

// delay tells how long the next append must wait for bandwidth; 0: it may go.
func (l *lane) delay() time.Duration {
	now := time.Now()
	return max(l.pace.delay(now), l.allPace.delay(now))
}

// pay counts bytes towards the vault; less than 0 if fewer were sent than were paid for.
func (l *lane) pay(n int64) {
	now := time.Now()
	l.pace.pay(now, n)
	l.allPace.pay(now, n)
}

// pipeDepth is how many appends of a Beginner are on their way at once.
const pipeDepth = 3

// begin starts an append. Of a Beginner it returns when the next may begin.
func begin(ctx context.Context, app Appender, recs []journal.Record) <-chan result {
	done := make(chan result, 1)
	if b, ok := app.(Beginner); ok {
		wait, err := b.Begin(ctx, recs)
		if err != nil {
			done <- result{0, err}
			return done
		}
		go func() {
			committed, err := wait()
			done <- result{committed, err}
		}()
		return done
	}
	go func() {
		committed, err := app.Append(ctx, recs)
		done <- result{committed, err}
	}()
	return done
}

// commit notes that a pack is stored.
func (l *lane) commit(app Appender, p *pack) {
	l.cfg.reached(AfterAppendCommit)
	sent := p.bytes
	l.mu.Lock()
	if u, ok := app.(Uploader); ok {
		total := u.Uploaded()
		sent, l.sentBefore = total-l.sentBefore, total
	}
	l.stored, l.failing = p.last(), nil
	l.figures.committed(p, sent)
	l.change()
	l.mu.Unlock()
	l.pay(sent - p.bytes)
	l.trim()
}

// trim removes spool files whose records are all stored.
func (l *lane) trim() {
	quiet := l.taking.TryLock()
	if quiet {
		defer l.taking.Unlock()
	}
	l.mu.Lock()
	sp, stored := l.sp, l.stored
	l.mu.Unlock()
	if sp == nil {
		return
	}
	if err := sp.discard(stored, quiet); err != nil {
		l.log.Warn("tidy the spool", "err", err)
	}
}
