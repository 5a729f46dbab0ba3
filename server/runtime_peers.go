package server

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"

	"github.com/understudy-ha/understudy/health"
	"github.com/understudy-ha/understudy/pki"
	"github.com/understudy-ha/understudy/wire"
)

const (
	// peerQueue is how many messages wait for another controller. When it is full the oldest go: the next
	// full message makes them good.
	peerQueue = 32
	// peerTimeout is how long data may stay unacknowledged before the connection counts as dead, so that what was said
	// before a partition does not arrive after it.
	peerTimeout = 2 * time.Second
)

// peers are the links on which this controller tells the others what it observes.
type peers struct {
	s     *Server
	links map[string]*peerLink
	mu    sync.Mutex
	heard map[string]time.Time
}

type peerLink struct {
	name, addr string
	out        chan *wire.Opinions
}

func newPeers(s *Server) *peers {
	p := &peers{s: s, links: map[string]*peerLink{}, heard: map[string]time.Time{}}
	for name, addr := range s.cfg.Peers {
		if name != s.name {
			p.links[name] = &peerLink{name: name, addr: addr, out: make(chan *wire.Opinions, peerQueue)}
		}
	}
	return p
}

// tell is called by the loop only, and does not wait.
func (p *peers) tell(told []health.Opinion, full bool) {
	if len(p.links) == 0 {
		return
	}
	opinions, err := json.Marshal(told)
	if err != nil {
		slog.Error("encode opinions", "err", err)
		return
	}
	m := &wire.Opinions{Observer: p.s.name, Opinions: opinions, Full: full}
	for _, l := range p.links {
		for sent := false; !sent; {
			select {
			case l.out <- m:
				sent = true
			default:
				select {
				case <-l.out:
					p.s.metrics.dropped.WithLabelValues("opinions").Inc()
				default:
				}
			}
		}
	}
}

// noteHeard takes note that a controller's observations arrive.
func (p *peers) noteHeard(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard[name] = time.Now()
}

func (p *peers) lately(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Since(p.heard[name]) < 5*time.Second
}

func (p *peers) run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, l := range p.links {
		wg.Go(func() { l.run(ctx, p.s) })
	}
	wg.Wait()
}

func (l *peerLink) run(ctx context.Context, s *Server) {
	dialer := &net.Dialer{Timeout: peerTimeout, Control: userTimeout}
	conn, err := grpc.NewClient("passthrough:///"+l.addr,
		grpc.WithTransportCredentials(credentials.NewTLS(pki.ClientTLS(s.id.ca.Cert, s.id.cert, pki.RoleController))),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", addr) }),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: peerTimeout,
			Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2, MaxDelay: time.Second}}))
	if err != nil {
		slog.Error("dial controller", "peer", l.name, "err", err)
		return
	}
	defer conn.Close()
	for ctx.Err() == nil {
		err := l.stream(ctx, wire.NewPeerClient(conn))
		slog.Debug("link to controller broke", "peer", l.name, "err", err)
		if sleep(ctx, 200*time.Millisecond) != nil {
			return
		}
	}
}

func (l *peerLink) stream(ctx context.Context, c wire.PeerClient) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	st, err := c.Observe(ctx, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-st.Context().Done():
			return st.Context().Err()
		case m := <-l.out:
			if err := st.Send(m); err != nil {
				return err
			}
		}
	}
}

// userTimeout makes the kernel give a connection up when its data stays unacknowledged.
func userTimeout(_, _ string, c syscall.RawConn) error {
	var serr error
	err := c.Control(func(fd uintptr) {
		serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(peerTimeout.Milliseconds()))
	})
	if err != nil {
		return err
	}
	return serr
}
