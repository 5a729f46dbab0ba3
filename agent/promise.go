package agent

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/understudy-ha/understudy/pki"
	"github.com/understudy-ha/understudy/steward"
	"github.com/understudy-ha/understudy/wire"
)

// peers asks other candidates for promises. Only its connections are kept, not their answers.
type peers struct {
	id  *identity
	ctx context.Context
	end context.CancelFunc
	wg  sync.WaitGroup

	mu    sync.Mutex
	conns map[string]*grpc.ClientConn // by candidate and address
}

func newPeers(id *identity) *peers {
	p := &peers{id: id, conns: map[string]*grpc.ClientConn{}}
	p.ctx, p.end = context.WithCancel(context.Background())
	return p
}

// ask asks one candidate and posts what it says. No answer in time is no promise.
func (p *peers) ask(a steward.Ask, limit time.Duration, post func(steward.Event)) {
	p.wg.Go(func() {
		ctx, cancel := context.WithTimeout(p.ctx, limit)
		defer cancel()
		conn, err := p.conn(a.Candidate, a.Address)
		if err != nil {
			return
		}
		r, err := wire.NewCandidateClient(conn).Promise(ctx, &wire.PromiseRequest{Owner: a.Owner, Node: p.id.Node})
		if err == nil && p.ctx.Err() == nil {
			post(steward.Answered{Round: a.Round, Owner: a.Owner, Candidate: a.Candidate, Promised: r.Promised})
		}
	})
}

// conn gives the connection to a candidate, which must show the certificate of that very node.
func (p *peers) conn(candidate, address string) (*grpc.ClientConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := candidate + " " + address
	if c := p.conns[key]; c != nil {
		c.ResetConnectBackoff()
		return c, nil
	}
	conf := pki.ClientTLS(p.id.ca, p.id.cert, pki.RoleNode)
	check, want := conf.VerifyConnection, pki.Node(p.id.Tenant, candidate)
	conf.VerifyConnection = func(s tls.ConnectionState) error {
		if err := check(s); err != nil {
			return err
		}
		if id, err := pki.PeerIdentity(s); err != nil || id != want {
			return fmt.Errorf("%s answers at %s, want %s", id, address, want)
		}
		return nil
	}
	c, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(conf)))
	if err == nil {
		p.conns[key] = c
	}
	return c, err
}

func (p *peers) close() {
	p.end()
	p.wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
}

// candidate answers other candidates.
type candidate struct {
	wire.UnimplementedCandidateServer
	l *loop
}

// servePromises answers until ctx ends.
func (l *loop) servePromises(ctx context.Context, ln net.Listener) error {
	conf := pki.ServerTLS(pki.ServerOptions{CA: l.id.ca, Cert: l.id.cert, RequireClient: true, NextProtos: []string{"h2"}})
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(conf)), grpc.MaxRecvMsgSize(64<<10), grpc.ConnectionTimeout(5*time.Second))
	wire.RegisterCandidateServer(g, &candidate{l: l})
	stop := context.AfterFunc(ctx, g.Stop)
	defer stop()
	if err := g.Serve(ln); err != nil {
		return fmt.Errorf("peer endpoint: %w", err)
	}
	return nil
}

// Promise answers a node of the same tenant about an owner of that tenant.
func (c *candidate) Promise(ctx context.Context, q *wire.PromiseRequest) (*wire.PromiseReply, error) {
	id, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	if id != pki.Node(c.l.id.Tenant, q.Node) || !strings.Contains(q.Owner, "/"+c.l.id.Tenant+"/") {
		return nil, status.Errorf(codes.PermissionDenied, "%s asks for %s about %s: want a node of tenant %s asking for itself about its own", id, q.Node, q.Owner, c.l.id.Tenant)
	}
	a, err := c.l.promise(ctx, q.Owner, id.String())
	return &wire.PromiseReply{Promised: a.Promised, Reason: a.Reason}, err
}

func callerOf(ctx context.Context) (pki.Identity, error) {
	if p, ok := peer.FromContext(ctx); ok {
		if t, ok := p.AuthInfo.(credentials.TLSInfo); ok {
			return pki.PeerIdentity(t.State)
		}
	}
	return pki.Identity{}, status.Error(codes.Unauthenticated, "no certificate was shown")
}

// promise has the steward decide.
func (l *loop) promise(ctx context.Context, owner, node string) (steward.Answer, error) {
	ch := make(chan steward.Answer, 1)
	l.mu.Lock()
	l.lastID++
	id := l.lastID
	l.asked[id] = ch
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.asked, id)
		l.mu.Unlock()
	}()
	l.post(steward.Asked{ID: id, Owner: owner, Node: node})
	select {
	case a := <-ch:
		return a, nil
	case <-l.done:
		return steward.Answer{Reason: "this agent is stopping"}, nil
	case <-ctx.Done():
		return steward.Answer{}, ctx.Err()
	}
}

func (l *loop) answer(a steward.Answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ch := l.asked[a.ID]; ch != nil {
		ch <- a
	}
}
