package replication

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/understudy-ha/understudy/pki"
	"github.com/understudy-ha/understudy/wire"
)

// openTimeout is how long a sender waits for the vault's position.
const openTimeout = 10 * time.Second

// service is what senders dial.
type service struct {
	wire.UnimplementedReplicationServer
	ps *ProcessServer
}

// session is one sender's connection to its lane.
type session struct {
	stream wire.Replication_ShipServer
	cancel context.CancelCauseFunc
}

// end ends the session; the first reason counts.
func (s *session) end(why *Refusal) { s.cancel(why) }

// Ship runs one stream.
func (v *service) Ship(stream wire.Replication_ShipServer) error {
	err := v.ship(stream)
	var r *Refusal
	if !errors.As(err, &r) {
		return err
	}
	_ = stream.Send(&wire.FromProcessServer{M: &wire.FromProcessServer_Refused{Refused: &wire.ShipRefused{Code: r.Code, Detail: r.Detail}}})
	return status.Error(codes.FailedPrecondition, r.Error())
}

func (v *service) ship(stream wire.Replication_ShipServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	o := first.GetOpen()
	if o == nil {
		return refuse(Malformed, "the first message is no open")
	}
	info, err := v.identify(stream.Context(), o)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	s := &session{stream: stream, cancel: cancel}
	l, err := v.ps.attach(ctx, s, info)
	if err != nil {
		return err
	}
	defer l.detach(s)
	l.beat(o.Beat)
	v.ps.wg.Go(func() { cancel(s.receive(ctx, l)) })
	return s.answer(ctx, l, v.ps.cfg.Version)
}

// identify makes a stream's description of what a sender says, and of what its certificate says.
func (v *service) identify(ctx context.Context, o *wire.ShipOpen) (StreamInfo, error) {
	info := StreamInfo{Machine: o.Machine, UID: o.MachineUid, Stream: o.Stream, Epoch: o.Epoch}
	for _, d := range o.Disks {
		info.Disks = append(info.Disks, Disk{d.GetId(), d.GetSize()})
	}
	if err := info.Validate(); err != nil {
		return info, refuse(Malformed, "%v", err)
	}
	id, err := peerIdentity(ctx)
	if err != nil {
		return info, refuse(NotAccepted, "%v", err)
	}
	if id.Role != pki.RoleNode {
		return info, refuse(NotAccepted, "%s sends; only a node does", id)
	}
	info.Node = id.Tenant + "/" + id.Name
	if err := v.ps.cfg.Accept(info); err != nil {
		return info, refuse(NotAccepted, "stream %s from node %s: %v", info.Stream, info.Node, err)
	}
	return info, nil
}

func peerIdentity(ctx context.Context) (pki.Identity, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return pki.Identity{}, pki.ErrNoCertificate
	}
	t, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return pki.Identity{}, pki.ErrNoCertificate
	}
	return pki.PeerIdentity(t.State)
}

// attach gives a session its lane, which it takes from whoever had it.
func (ps *ProcessServer) attach(ctx context.Context, s *session, info StreamInfo) (*lane, error) {
	l, err := ps.laneFor(info)
	if err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	err = l.until(wait, func() bool { return l.ready || l.ended != nil || l.failing != nil })
	l.taking.Lock()
	defer l.taking.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.ended != nil:
		return nil, l.ended
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case !l.ready && l.failing != nil:
		return nil, refuse(Unavailable, "%v", l.failing)
	case err != nil || !l.ready:
		return nil, refuse(Unavailable, "the vault has not answered in %s", openTimeout)
	}
	if l.session != nil {
		l.session.end(refuse(Replaced, "node %s opened stream %s again", info.Node, info.Stream))
	}
	l.session, l.leaving = s, false
	l.figures.sessions++
	l.change()
	return l, nil
}

func (l *lane) detach(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session == s {
		l.session = nil
		l.figures.paused = false
		l.change()
	}
}

// laneFor finds or makes the lane of a stream. One of an older epoch, or of other disks, ends first.
func (ps *ProcessServer) laneFor(info StreamInfo) (*lane, error) {
	ps.mu.Lock()
	lock := ps.opening[info.Stream]
	if lock == nil {
		lock = &sync.Mutex{}
		ps.opening[info.Stream] = lock
	}
	ps.mu.Unlock()
	lock.Lock()
	defer lock.Unlock()
	ps.mu.Lock()
	l := ps.lanes[info.Stream]
	ps.mu.Unlock()
	if l != nil {
		switch {
		case info.Epoch < l.info.Epoch:
			return nil, refuse(OldEpoch, "stream %s is written in epoch %d, not %d", info.Stream, l.info.Epoch, info.Epoch)
		case info.UID != l.info.UID || info.Epoch == l.info.Epoch && info.Node != l.info.Node:
			return nil, refuse(NotAccepted, "stream %s is written in epoch %d by machine %s at node %s", info.Stream, l.info.Epoch, l.info.UID, l.info.Node)
		case info.Epoch == l.info.Epoch && sameDisks(info.Disks, l.info.Disks) && !l.isEnded():
			return l, nil
		}
		// What the old one has spooled may be another past than the one that the new one goes on from.
		l.end(refuse(Replaced, "stream %s is opened in epoch %d by node %s", info.Stream, info.Epoch, info.Node), true)
		<-l.done
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.closed {
		return nil, refuse(Stopping, "the process server ends")
	}
	l = ps.newLane(info, nil)
	ps.start(l)
	return l, nil
}

func sameDisks(a, b []Disk) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func (l *lane) isEnded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended != nil
}

// receive reads what the sender says until the session ends. It reads no more while the spool is full.
func (s *session) receive(ctx context.Context, l *lane) error {
	for {
		m, err := s.stream.Recv()
		if err != nil {
			return err
		}
		switch m := m.M.(type) {
		case *wire.ToProcessServer_Batch:
			b, err := checkBatch(m.Batch.Records, l.info.Disks)
			if err != nil {
				return err
			}
			if m.Batch.First != b.recs[0].Seq || m.Batch.Last != b.last() {
				return refuse(Malformed, "a batch that says %d to %d holds %d to %d", m.Batch.First, m.Batch.Last, b.recs[0].Seq, b.last())
			}
			if err := l.take(ctx, s, b); err != nil {
				return err
			}
		case *wire.ToProcessServer_Beat:
			l.beat(m.Beat)
		case *wire.ToProcessServer_Leave:
			l.leave(s)
		case *wire.ToProcessServer_Open:
			return refuse(Malformed, "the stream is open already")
		}
	}
}

// beat notes how the source does.
func (l *lane) beat(b *wire.ShipBeat) {
	if b == nil {
		return
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	f := &l.figures
	f.beatAt, f.queueAge, f.queueBytes = now, max(time.Duration(b.QueueAgeNs), 0), b.QueueBytes
	f.captured, f.inGap, f.skew = b.Captured, b.InGap, time.Unix(0, b.SentUnixNs).Sub(now)
	if ok := f.skew.Abs() <= maxSkew; ok {
		f.skewedAt = time.Time{}
	} else if f.skewedAt.IsZero() {
		f.skewedAt = now
	}
}

// leave has the lane end when everything is stored.
func (l *lane) leave(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session == s {
		l.leaving = true
		l.change()
	}
}

// answer sends what the lane has come to, on change and once a second.
func (s *session) answer(ctx context.Context, l *lane, version string) error {
	// What a former session wrote last may still be on its way to the disk: the sender goes on behind it.
	if l.until(ctx, func() bool { return l.spooled == l.received || l.ended != nil }) != nil {
		return context.Cause(ctx)
	}
	l.mu.Lock()
	spooled, stored := l.spooled, l.stored
	l.mu.Unlock()
	opened := &wire.ShipOpened{Spooled: spooled, Stored: stored, NowUnixNs: time.Now().UnixNano(), Version: version}
	if err := s.stream.Send(&wire.FromProcessServer{M: &wire.FromProcessServer_Opened{Opened: opened}}); err != nil {
		return err
	}
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	paused := false
	for beat := true; ; {
		l.mu.Lock()
		now, changed := l.answers(), l.changed
		l.mu.Unlock()
		if ctx.Err() != nil {
			return s.why(ctx, now)
		}
		var out []*wire.FromProcessServer
		if now.spooled > spooled {
			spooled = now.spooled
			out = append(out, &wire.FromProcessServer{M: &wire.FromProcessServer_Spooled{Spooled: &wire.ShipSpooled{Seq: spooled}}})
		}
		if now.stored > stored || beat {
			stored, beat = now.stored, false
			out = append(out, &wire.FromProcessServer{M: &wire.FromProcessServer_Stored{Stored: now.message()}})
		}
		if now.paused != paused {
			paused = now.paused
			out = append(out, &wire.FromProcessServer{M: &wire.FromProcessServer_Throttle{Throttle: throttle(paused)}})
		}
		for _, m := range out {
			if err := s.stream.Send(m); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-tick.C:
			beat = true
		}
	}
}

// why tells the end's reason. A sender that left hears that everything is stored.
func (s *session) why(ctx context.Context, now answers) error {
	err := context.Cause(ctx)
	var r *Refusal
	if errors.As(err, &r) && r.Code == Stopping && now.left {
		return s.stream.Send(&wire.FromProcessServer{M: &wire.FromProcessServer_Left{Left: &wire.ShipLeft{Stored: now.stored}}})
	}
	return err
}

func throttle(paused bool) *wire.ShipThrottle {
	if !paused {
		return &wire.ShipThrottle{}
	}
	return &wire.ShipThrottle{Code: SpoolFull, Detail: "the spool is full; batches are taken when there is room"}
}

// answers is what a session is told.
type answers struct {
	spooled, stored uint64
	paused, left    bool
	rpo             RPO
}

// answers copies what a session is told. The caller has mu.
func (l *lane) answers() answers {
	return answers{l.spooled, l.stored, l.figures.paused, l.leaving && l.stored >= l.received, l.figures.rpo.rpo}
}

func (a *answers) message() *wire.ShipStored {
	return &wire.ShipStored{Seq: a.stored, RpoNs: int64(a.rpo.Now), RpoP50Ns: int64(a.rpo.P50), RpoP99Ns: int64(a.rpo.P99), NowUnixNs: time.Now().UnixNano()}
}
