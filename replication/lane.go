package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// lane is one stream at the process server, with or without a sender. Its parts:
//
//	session ─► take ─► spool ─► syncLoop (spooled) ─► pack ─► append (stored)
//
// It lives from the first Open (or from a start that finds its spool) until its sender leaves, a newer epoch or another
// writer takes the stream, or the process server ends.
type lane struct {
	cfg  *ServerConfig
	room *budget
	info StreamInfo
	log  *slog.Logger
	// pace of this stream and of the whole process server.
	pace, allPace *bucket

	// replayed: an earlier life left its spool, and nobody has asked yet whether the stream is still taken.
	replayed bool

	cancel context.CancelFunc
	done   chan struct{} // closed when run has returned

	// taking is held while a batch is taken in, syncing while the spool is synced; both while the spool is replaced. Locked in
	// the order taking, syncing, mu.
	taking, syncing sync.Mutex

	mu       sync.Mutex
	changed  chan struct{} // closed on every change of what follows
	sp       *spool
	ready    bool // positions are those of the vault and the spool
	received uint64
	spooled  uint64
	stored   uint64
	session  *session
	leaving  bool
	ended    *Refusal // why it ended
	discards bool     // the spool goes when it ends
	// failing is why appends fail just now, and since when.
	failing      error
	failingSince time.Time
	sentBefore   int64 // what the Appender had uploaded at the last commit
	figures      figures
}

// newLane makes a lane, with the spool that an earlier life left, or none.
func (ps *ProcessServer) newLane(info StreamInfo, sp *spool) *lane {
	l := &lane{cfg: &ps.cfg, room: ps.room, info: info, pace: &bucket{}, allPace: ps.pace,
		log: ps.cfg.Log.With("stream", info.Stream, "machine", info.Machine, "epoch", info.Epoch),
		sp:  sp, done: make(chan struct{}), changed: make(chan struct{})}
	l.figures.beatAt = time.Now()
	if sp != nil {
		_, l.received = sp.span()
		l.spooled = l.received
	}
	return l
}

func (l *lane) dir() string { return filepath.Join(l.cfg.Dir, l.info.Stream) }

// change wakes everybody who waits for a change. The caller has mu.
func (l *lane) change() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// until waits for a condition on the lane, which is asked with mu held.
func (l *lane) until(ctx context.Context, ok func() bool) error {
	for {
		l.mu.Lock()
		yes, changed := ok(), l.changed
		l.mu.Unlock()
		if yes {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// run keeps an Appender open and ships to it until the lane ends.
func (l *lane) run(ctx context.Context) {
	defer close(l.done)
	if l.replayed {
		if err := l.cfg.Accept(l.info); err != nil { // what is not stored is still dirty at its source
			l.end(refuse(Stopping, "%v", err), true)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { l.syncLoop(ctx) })
	wait := l.cfg.RetryMin
	for ctx.Err() == nil {
		began := time.Now()
		err := l.life(ctx)
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > l.cfg.RetryMax {
			wait = l.cfg.RetryMin
		}
		l.fail(err)
		_ = sleep(ctx, wait)
		wait = min(2*wait, l.cfg.RetryMax)
	}
	wg.Wait()
	l.end(refuse(Stopping, "the process server stops taking stream %s", l.info.Stream), false)
	l.finish()
}

// end has the lane end, for the first reason that is given. With discard its spool goes too.
func (l *lane) end(why *Refusal, discard bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended == nil {
		l.log.Info("the stream ends here", "code", why.Code, "detail", why.Detail)
		l.ended, l.discards = why, discard
	}
	if l.session != nil {
		l.session.end(l.ended)
	}
	l.cancel()
	l.change()
}

// finish puts the spool away when everything else has ended.
func (l *lane) finish() {
	l.taking.Lock()
	defer l.taking.Unlock()
	l.mu.Lock()
	sp := l.sp
	l.mu.Unlock()
	var err error
	switch {
	case l.discards:
		err = l.forget()
	case sp != nil:
		err = sp.close()
	}
	l.mu.Lock()
	l.sp, l.ready = nil, false
	l.mu.Unlock()
	if err != nil {
		l.log.Error("put the spool away", "err", err)
	}
}

// life opens the vault's writer and ships until something fails.
func (l *lane) life(ctx context.Context) error {
	app, err := l.cfg.OpenStream(ctx, l.info)
	if isFenced(err) {
		l.end(refuse(OldEpoch, "epoch %d of stream %s: %v", l.info.Epoch, l.info.Stream, err), true)
		return err
	}
	if err != nil {
		return fmt.Errorf("open the stream: %w", err)
	}
	defer func() {
		if err := app.Close(); err != nil {
			l.log.Warn("close the stream's writer", "err", err)
		}
	}()
	if err := l.reconcile(app.Position()); err != nil {
		return err
	}
	err = l.ship(ctx, app)
	switch {
	case errors.Is(err, errLeft):
		l.end(refuse(Stopping, "the sender left"), true)
	case isFenced(err):
		l.end(refuse(Fenced, "stream %s: %v", l.info.Stream, err), true)
	case isPermanent(err), errors.Is(err, errTorn):
		l.log.Error("what is spooled cannot be stored; the source sends it again", "err", err)
		return errors.Join(err, l.restart(app.Position(), err))
	}
	return err
}

// reconcile brings the spool to the vault's position.
func (l *lane) reconcile(pos uint64) error {
	l.mu.Lock()
	fits := l.sp != nil
	if fits {
		base, last := l.sp.span()
		fits = base <= pos && pos <= last
	}
	if !fits {
		l.mu.Unlock()
		return l.restart(pos, fmt.Errorf("the vault is at position %d", pos))
	}
	l.stored, l.ready, l.failing, l.sentBefore = pos, true, nil, 0
	l.figures.arrived.stored(pos)
	l.change()
	l.mu.Unlock()
	return l.sp.discard(pos, false)
}

// restart begins an empty spool behind a stored position. A session that is open ends: its sender must go on from there.
func (l *lane) restart(pos uint64, why error) error {
	l.taking.Lock()
	defer l.taking.Unlock()
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	if l.session != nil && l.ready {
		l.session.end(refuse(Unavailable, "the stream goes on after position %d: %v", pos, why))
		l.session = nil
	}
	l.mu.Unlock()
	if err := l.forget(); err != nil {
		return err
	}
	sp, err := createSpool(l.dir(), l.room, l.cfg.RotateBytes, l.info, pos)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sp, l.received, l.spooled, l.stored, l.ready, l.failing = sp, pos, pos, pos, true, nil
	l.sentBefore = 0
	l.figures.arrived, l.figures.gap = arrivals{}, gaps{}
	l.change()
	return nil
}

// forget deletes the spool. The caller has taking and syncing, or is alone.
func (l *lane) forget() error {
	l.mu.Lock()
	sp := l.sp
	l.sp, l.ready = nil, false
	l.mu.Unlock()
	var err error
	if sp != nil {
		err = sp.remove()
	}
	return errors.Join(err, os.RemoveAll(l.dir()))
}

// fail notes that appends fail.
func (l *lane) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failing == nil {
		l.failingSince = time.Now()
		l.log.Warn("the stream cannot be stored; tried again", "err", err)
	}
	l.failing = err
	l.figures.retries++
	l.change()
}
