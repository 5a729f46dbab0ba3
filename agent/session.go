package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/pki"
	"github.com/understudy-ha/understudy/steward"
	"github.com/understudy-ha/understudy/wire"
)

const (
	// sessionQueue is how many messages wait for a controller. One that does not take them loses the session.
	sessionQueue = 64
	// Between attempts to connect.
	firstWait = 100 * time.Millisecond
	maxWait   = 2 * time.Second
)

// session is one stream to one controller.
type session struct {
	id     uint64
	out    chan *wire.FromAgent
	cancel context.CancelFunc
}

// keepSession keeps a stream to one controller until ctx ends.
func (l *loop) keepSession(ctx context.Context, address string) error {
	timing := l.id.timing()
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(credentials.NewTLS(pki.ClientTLS(l.id.ca, l.id.cert, pki.RoleController))),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: maxWait,
			Backoff: backoff.Config{BaseDelay: firstWait, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxWait}}),
		// Ticks that nobody acknowledges for so long end the connection (TCP_USER_TIMEOUT).
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: max(2*timing.TTL, time.Second)}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(4<<20)))
	if err != nil {
		return fmt.Errorf("controller %s: %w", address, err)
	}
	defer conn.Close()
	wait, silent := firstWait, false
	for ctx.Err() == nil {
		began := time.Now()
		name, err := l.session(ctx, wire.NewControllerClient(conn))
		if ctx.Err() != nil {
			return nil
		}
		if name != "" || !silent {
			l.log.Info("no session with controller", "address", address, "name", name, "err", err)
		}
		if silent = true; name != "" {
			wait, silent = firstWait, false
		}
		sleep(ctx, wait-min(wait, time.Since(began))+rand.N(firstWait))
		wait = min(maxWait, wait*2)
		conn.ResetConnectBackoff() // this loop's pace alone counts
	}
	return nil
}

// session runs one stream to its end. It gives the controller's name if there was a welcome.
func (l *loop) session(ctx context.Context, client wire.ControllerClient) (name string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Session(ctx)
	if err != nil {
		return "", err
	}
	s := l.open(cancel)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		defer cancel()
		s.sendLoop(ctx, stream)
	}()
	defer func() {
		cancel()
		<-sent
		l.close(s)
	}()
	l.post(steward.Opened{Session: s.id})
	for {
		m, err := stream.Recv()
		if err != nil {
			return name, err
		}
		if w := m.GetWelcome(); w != nil {
			name = w.Controller
			l.log.Info("session with controller", "name", name, "version", w.Version, "cluster", w.ClusterId)
		} else if name == "" {
			return "", errors.New("the first message was no welcome")
		}
		if ev := l.event(s.id, m); ev != nil {
			l.post(ev)
		}
	}
}

func (s *session) sendLoop(ctx context.Context, stream wire.Controller_SessionClient) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-s.out:
			if stream.Send(m) != nil {
				return // Recv says why
			}
		}
	}
}

func (l *loop) open(cancel context.CancelFunc) *session {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastID++
	s := &session{id: l.lastID, out: make(chan *wire.FromAgent, sessionQueue), cancel: cancel}
	l.sessions[s.id] = s
	return s
}

func (l *loop) close(s *session) {
	l.mu.Lock()
	delete(l.sessions, s.id)
	l.mu.Unlock()
	l.post(steward.Closed{Session: s.id})
}

// event turns a message into an event; nil for messages of a later version.
func (l *loop) event(id uint64, m *wire.ToAgent) steward.Event {
	switch m := m.M.(type) {
	case *wire.ToAgent_Welcome:
		w := m.Welcome
		proven := pki.VerifyCluster(l.id.ca, w.ClusterId, w.ClusterProof) == nil
		return steward.Welcomed{Session: id, Cluster: w.ClusterId, Proven: proven}
	case *wire.ToAgent_Echo:
		e := m.Echo
		return steward.Echoed{Session: id, Life: e.Life, Seq: e.Seq, Cluster: e.ClusterId, Epoch: e.Epoch, Renews: e.Renews}
	case *wire.ToAgent_Push:
		p := m.Push
		ev := steward.Pushed{Session: id, ID: p.Id, Life: p.Life, Tick: p.Tick,
			Token: api.Token{ClusterID: p.Token.GetClusterId(), Epoch: p.Token.GetEpoch(), Generation: p.Token.GetGeneration()}}
		if err := json.Unmarshal(p.Sections, &ev.Sections); err != nil {
			ev.Sections, ev.Malformed = nil, "sections: "+err.Error()
		}
		if len(p.Secrets) > 0 {
			if err := json.Unmarshal(p.Secrets, &ev.Secrets); err != nil {
				ev.Sections, ev.Malformed = nil, "secrets: they cannot be read" // an error would quote them
			}
		}
		return ev
	}
	return nil
}

// send puts a message of the steward into its session's queue, if the session is still there.
func (l *loop) send(e steward.Effect) {
	id, m := l.message(e)
	l.mu.Lock()
	s := l.sessions[id]
	l.mu.Unlock()
	if s == nil {
		return
	}
	select {
	case s.out <- m:
	default:
		s.cancel()
	}
}

func (l *loop) message(e steward.Effect) (session uint64, m *wire.FromAgent) {
	switch e := e.(type) {
	case steward.SendHello:
		return e.Session, &wire.FromAgent{M: &wire.FromAgent_Hello{Hello: &wire.Hello{Node: l.id.Node, Tenant: l.id.Tenant, Version: l.cfg.Version,
			Drivers: l.engines.drivers(), PeerAddress: l.peerAddress(), Report: report(e.Report)}}}
	case steward.SendTick:
		return e.Session, &wire.FromAgent{M: &wire.FromAgent_Tick{Tick: &wire.Tick{Seq: e.Seq, Life: l.life}}}
	case steward.SendApplied:
		return e.Session, &wire.FromAgent{M: &wire.FromAgent_Applied{Applied: &wire.Applied{Push: e.Push, Code: e.Code, Detail: e.Detail}}}
	case steward.SendReport:
		return e.Session, &wire.FromAgent{M: &wire.FromAgent_Report{Report: report(e.Report)}}
	}
	return 0, nil
}

func report(r steward.Report) *wire.Report {
	b, err := json.Marshal(r.Sections)
	if err != nil {
		panic("agent: " + err.Error()) // plain structs of strings and numbers always marshal
	}
	return &wire.Report{Sections: b, Holds: r.Holds}
}

func (l *loop) peerAddress() string {
	if l.cfg.PeerAddress != "" {
		return l.cfg.PeerAddress
	}
	return l.cfg.PeerListen
}
