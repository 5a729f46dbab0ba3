package replication

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/pki"
	"github.com/understudy-ha/understudy/wire"
)

// Codes of a sender's conditions, besides ClockSkew.
const (
	ProcessServerUnreachable = "ProcessServerUnreachable"
	ProcessServerRefuses     = "ProcessServerRefuses"
	ProcessServerFull        = "ProcessServerFull"
)

const (
	// Between attempts to connect, and after a refusal that will not pass by itself.
	firstWait   = 100 * time.Millisecond
	maxWait     = 2 * time.Second
	refusedWait = 10 * time.Second
	// helloTimeout is how long a process server may take to say where the stream stands.
	helloTimeout = openTimeout + 5*time.Second
)

// Target is one process server.
type Target struct {
	// Address is host:port; the default port is 9443.
	Address string
	// Node, if not empty, is the <tenant>/<name> that its certificate must have.
	Node string
}

// SenderConfig of one machine's sender.
type SenderConfig struct {
	Source Source
	// Lag tells how far the source is behind. Called once a second.
	Lag    func() Lag
	Stream StreamInfo
	// Targets in order of preference; none: nothing is sent.
	Targets []Target
	CA      *x509.Certificate
	Cert    *pki.Holder
	Version string
	// BatchBytes and Linger: a batch holds at most so many bytes of records (one bigger record goes alone), and waits at most so
	// long for more while others are on their way. Defaults 1 MiB, 5 ms.
	BatchBytes int
	Linger     time.Duration
	// WindowBytes may be on their way and not spooled. Default 16 MiB.
	WindowBytes int
	// LeaveTimeout is how long a process server that the machine moves away from may take to store what it has. Default 30 s.
	LeaveTimeout time.Duration
	Log          *slog.Logger
}

func (c *SenderConfig) defaults() error {
	if c.Source == nil || c.Lag == nil || c.CA == nil || c.Cert == nil {
		return errors.New("sender: Source, Lag, CA and Cert are needed")
	}
	if err := c.Stream.Validate(); err != nil {
		return fmt.Errorf("sender: %w", err)
	}
	set(&c.BatchBytes, 1<<20)
	set(&c.Linger, 5*time.Millisecond)
	set(&c.WindowBytes, 16<<20)
	set(&c.LeaveTimeout, 30*time.Second)
	if c.Log == nil {
		c.Log = slog.Default()
	}
	c.Log = c.Log.With("stream", c.Stream.Stream)
	return nil
}

// Sender ships one stream to one process server at a time.
//
//	connect ─► Open ─► Opened: Rewind ─► batches ⇄ Spooled, Stored ─┐
//	   ▲           └ Refused                                        │ broken, refused: the next target
//	   └──────────────────────── back off ◄─────────────────────────┴ moved: Leave, wait for Left
type Sender struct {
	cfg    SenderConfig
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	targets []Target
	moved   chan struct{} // closed when targets change
	status  SenderStatus
}

// SenderStatus is how a sender does.
type SenderStatus struct {
	// Target is where the stream goes now; "" if nowhere.
	Target string
	// Connected: a process server has opened the stream.
	Connected       bool
	Since           time.Time // of Connected's last change
	Sent            uint64    // last position sent in this connection
	Spooled, Stored uint64
	InFlightBytes   int64
	// RPO as the process server measures it, and when it said so.
	RPO, RPOp50, RPOp99 time.Duration
	RPOAt               time.Time
	Skew                time.Duration // the process server's clock minus ours
	// Fenced: the last refusal said that another writer has the stream.
	Fenced bool
	// LastError is why the last connection ended.
	LastError string
	// Batches, Records and SentBytes count since the start, Connections those that were opened, Rewinds those that a gap opened for.
	Batches, Records, SentBytes, Connections, Rewinds int64
	Conditions                                        []api.Condition
}

// StartSender starts to ship. Close ends it.
func StartSender(cfg SenderConfig) (*Sender, error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Sender{cfg: cfg, cancel: cancel, done: make(chan struct{}), targets: slices.Clone(cfg.Targets), moved: make(chan struct{})}
	s.status.Since = time.Now()
	go func() {
		defer close(s.done)
		s.run(ctx)
	}()
	return s, nil
}

// Set replaces the targets. If the present one is not among them, the stream is handed over: what it has spooled is stored
// first, for at most LeaveTimeout. The same targets again change nothing.
func (s *Sender) Set(targets []Target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Equal(s.targets, targets) {
		return
	}
	s.targets = slices.Clone(targets)
	close(s.moved)
	s.moved = make(chan struct{})
}

// Close ends the connection and waits. What was not spooled stays with the source.
func (s *Sender) Close() error {
	s.cancel()
	<-s.done
	return nil
}

// Status may be called at any time.
func (s *Sender) Status() SenderStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.status
	out.Conditions = slices.Clone(s.status.Conditions)
	if out.Skew > maxSkew || out.Skew < -maxSkew {
		out.Conditions = append(out.Conditions, api.Condition{Code: ClockSkew, Severity: api.Warning, Since: out.RPOAt,
			Message: fmt.Sprintf("the process server's clock is %s off ours: synchronise clocks", out.Skew.Round(time.Second)), Impacts: "times of recovery points"})
	}
	return out
}

// run goes through the targets until ctx ends.
func (s *Sender) run(ctx context.Context) {
	wait := firstWait
	for n := 0; ctx.Err() == nil; {
		t, moved := s.target(n)
		if t == nil {
			select {
			case <-ctx.Done():
			case <-moved:
			}
			continue
		}
		began := time.Now()
		opened, err := s.connect(ctx, *t)
		if ctx.Err() != nil {
			return
		}
		pause := s.note(*t, opened, err, wait)
		if opened {
			n, wait = 0, firstWait // the preferred one first
		} else {
			n, wait = n+1, min(2*wait, maxWait)
		}
		pause = max(pause-time.Since(began), 0) + rand.N(firstWait)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-moved:
			n, wait = 0, firstWait
		case <-timer.C:
		}
		timer.Stop()
	}
}

// target picks the nth target, around; nil if there are none. moved is closed when they change.
func (s *Sender) target(n int) (t *Target, moved <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.targets) > 0 {
		t = &s.targets[n%len(s.targets)]
	}
	return t, s.moved
}

// wanted tells whether a target is still among those that are set.
func (s *Sender) wanted(t Target) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.targets, t)
}

// note puts down why a connection ended, and gives how long to wait since it began.
func (s *Sender) note(t Target, opened bool, err error, wait time.Duration) time.Duration {
	if errors.Is(err, errMoved) {
		s.cfg.Log.Info("the stream has left a process server", "address", t.Address)
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if text := err.Error(); opened || text != s.status.LastError {
		s.cfg.Log.Info("no connection to a process server", "address", t.Address, "err", err)
		s.status.LastError = text
	}
	var r *Refusal
	refused := errors.As(err, &r)
	s.status.Fenced = refused && r.Is(ErrFenced)
	code, message := ProcessServerUnreachable, fmt.Sprintf("process server %s cannot be reached: %v", t.Address, err)
	if refused {
		code, message = ProcessServerRefuses, fmt.Sprintf("process server %s refuses the stream: %v", t.Address, err)
	}
	s.setCondition(&api.Condition{Code: code, Severity: api.Warning, Message: message, Impacts: "writes are remembered, not shipped", Since: time.Now()})
	if refused && slices.Contains([]string{NotAccepted, OldEpoch, Fenced, Replaced, Malformed}, r.Code) && len(s.targets) == 1 {
		return refusedWait
	}
	return wait
}

// setCondition replaces the sender's condition; nil for none. One that holds on keeps its beginning. The caller has mu.
func (s *Sender) setCondition(c *api.Condition) {
	if c == nil {
		s.status.Conditions = nil
		return
	}
	if len(s.status.Conditions) == 1 && s.status.Conditions[0].Code == c.Code {
		c.Since = s.status.Conditions[0].Since
	}
	s.status.Conditions = []api.Condition{*c}
}

// connect runs one connection to its end. opened tells whether the process server took the stream.
func (s *Sender) connect(ctx context.Context, t Target) (opened bool, err error) {
	conn, err := grpc.NewClient("passthrough:///"+withPort(t.Address),
		grpc.WithTransportCredentials(credentials.NewTLS(s.tls(t))),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: maxWait, Backoff: backoff.Config{BaseDelay: maxWait, Multiplier: 1, MaxDelay: maxWait}}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithWriteBufferSize(256<<10))
	if err != nil {
		return false, fmt.Errorf("process server %s: %w", t.Address, err)
	}
	defer conn.Close()
	c := &connection{s: s, t: t}
	err = c.run(ctx, wire.NewReplicationClient(conn))
	s.mu.Lock()
	if s.status.Connected {
		s.status.Connected, s.status.Since, s.status.InFlightBytes = false, time.Now(), 0
	}
	s.status.Target = ""
	s.mu.Unlock()
	return c.opened, err
}

// tls expects a node to answer, and the target's node if it has one.
func (s *Sender) tls(t Target) *tls.Config {
	c := pki.ClientTLS(s.cfg.CA, s.cfg.Cert, pki.RoleNode)
	verify := c.VerifyConnection
	c.VerifyConnection = func(state tls.ConnectionState) error {
		if err := verify(state); err != nil {
			return err
		}
		id, err := pki.PeerIdentity(state)
		if err == nil && t.Node != "" && id.Tenant+"/"+id.Name != t.Node {
			err = fmt.Errorf("%s answers at %s, want node:%s", id, t.Address, t.Node)
		}
		return err
	}
	return c
}
