package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/health"
	"github.com/understudy-ha/understudy/pki"
	"github.com/understudy-ha/understudy/wire"
)

// clusterService serves agents and controllers. A client without a certificate gets to enrol and nothing else.
type clusterService struct {
	wire.UnimplementedControllerServer
	wire.UnimplementedEnrolmentServer
	wire.UnimplementedPeerServer
	s *Server
}

func (s *Server) serveCluster(ctx context.Context) error {
	conf := pki.ServerTLS(pki.ServerOptions{CA: s.id.ca.Cert, Cert: s.id.cert, NextProtos: []string{"h2"}, Refused: s.certRefused("cluster")})
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(conf)), grpc.MaxRecvMsgSize(1<<20), grpc.ConnectionTimeout(10*time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}))
	svc := &clusterService{s: s}
	wire.RegisterControllerServer(g, svc)
	wire.RegisterEnrolmentServer(g, svc)
	wire.RegisterPeerServer(g, svc)
	failed := make(chan error, 1)
	go func() { failed <- g.Serve(s.clusterListener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	g.Stop()
	<-failed
	return nil
}

// caller is who calls, by certificate, and from where.
func caller(ctx context.Context) (id pki.Identity, from string, err error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return id, "", pki.ErrNoCertificate
	}
	from = p.Addr.String()
	if host, _, err := net.SplitHostPort(from); err == nil {
		from = host
	}
	t, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return id, from, pki.ErrNoCertificate
	}
	id, err = pki.PeerIdentity(t.State)
	return id, from, err
}

// refuse writes a refusal down and gives it to the caller.
func (c *clusterService) refuse(actor, from, verb, object, tenant string, code codes.Code, why string) error {
	if actor == "" {
		actor = "unknown"
	}
	c.s.auditWrite(api.AuditEntry{Actor: actor, From: from, Verb: verb, Object: object, Tenant: tenant, Outcome: code.String(), Detail: why})
	return status.Error(code, why)
}

// Authority shows the CA's certificate, which is no secret: whoever has a token compares it with the fingerprint in it.
func (c *clusterService) Authority(context.Context, *wire.AuthorityRequest) (*wire.AuthorityReply, error) {
	return &wire.AuthorityReply{Ca: c.s.id.ca.Cert.Raw}, nil
}

// Enrol gives a certificate for a one-time token, or renews that of a node which calls with its own.
func (c *clusterService) Enrol(ctx context.Context, q *wire.EnrolRequest) (*wire.EnrolReply, error) {
	id, from, certErr := caller(ctx)
	if q.Token == "" && certErr == nil && id.Role == pki.RoleNode {
		return c.renew(ctx, id, from, q.Csr)
	}
	doc, cert, err := c.s.tokens.enrol(ctx, c.s.authority, q.Token, q.Csr)
	if err != nil {
		e := asError(err)
		code := codes.Unavailable
		switch e.Code {
		case api.CodeUnauthenticated:
			code = codes.Unauthenticated
		case api.CodeInvalid:
			code = codes.InvalidArgument
		case api.CodeConflict:
			code, e.Message = codes.Unauthenticated, errUnknownToken.Message // somebody used it at the same moment
		}
		return nil, c.refuse(doc.Node, from, "enrol", "Node/"+doc.Tenant+"/"+doc.Node, doc.Tenant, code, e.Message)
	}
	c.s.auditWrite(api.AuditEntry{Actor: "node:" + doc.Tenant + "/" + doc.Node, From: from, Verb: "enrol", Object: "Node/" + doc.Tenant + "/" + doc.Node,
		Tenant: doc.Tenant, Outcome: "ok", Detail: "token " + doc.ID + " of " + doc.By})
	return c.reply(doc.Tenant, doc.Node, cert.Raw), nil
}

func (c *clusterService) renew(ctx context.Context, id pki.Identity, from string, csr []byte) (*wire.EnrolReply, error) {
	if err := c.known(ctx, id, from, "renew"); err != nil {
		return nil, err
	}
	cert, err := c.s.tokens.nodeCert(id.Tenant, id.Name, csr)
	if err != nil {
		return nil, c.refuse(id.String(), from, "renew", "Node/"+id.Tenant+"/"+id.Name, id.Tenant, codes.InvalidArgument, err.Error())
	}
	c.s.auditWrite(api.AuditEntry{Actor: id.String(), From: from, Verb: "renew", Object: "Node/" + id.Tenant + "/" + id.Name, Tenant: id.Tenant, Outcome: "ok"})
	return c.reply(id.Tenant, id.Name, cert.Raw), nil
}

func (c *clusterService) reply(tenant, node string, cert []byte) *wire.EnrolReply {
	t := c.s.cfg.Timing()
	return &wire.EnrolReply{Certificate: cert, Ca: c.s.id.ca.Cert.Raw, Node: node, Tenant: tenant, Controllers: c.s.cfg.PeerAddresses(),
		TtlMs: t.TTL.Milliseconds(), MarginMs: t.Margin.Milliseconds(), ClusterId: c.s.cluster.ClusterID, ClusterProof: c.s.cluster.Proof}
}

// known refuses a node that was deleted: its certificate is good for nothing then. While the store is away, what
// was last seen of it counts.
func (c *clusterService) known(ctx context.Context, id pki.Identity, from, verb string) error {
	ref := api.Ref{Kind: api.KindNode, Tenant: id.Tenant, Name: id.Name}
	bounded, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err := c.s.store.Get(bounded, api.ObjectKey(ref))
	if err != nil && !isStoreNotFound(err) && c.s.hub.entry(api.ObjectKey(ref)).Rev != 0 {
		return nil
	}
	if isStoreNotFound(err) {
		return c.refuse(id.String(), from, verb, ref.String(), id.Tenant, codes.PermissionDenied, ref.String()+" is not there: it was deleted; enrol it anew with a token")
	}
	if err != nil {
		return status.Error(codes.Unavailable, "the store does not answer")
	}
	return nil
}

// Session serves one agent for as long as it is connected.
func (c *clusterService) Session(st wire.Controller_SessionServer) error {
	id, from, err := caller(st.Context())
	if err != nil || id.Role != pki.RoleNode {
		return c.refuse(who(id, err), from, "session", "", "", codes.PermissionDenied, "only nodes open sessions; enrol first")
	}
	if err := c.known(st.Context(), id, from, "session"); err != nil {
		return err
	}
	first, err := st.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if hello == nil || hello.Node != id.Name || hello.Tenant != id.Tenant {
		return c.refuse(id.String(), from, "session", "Node/"+hello.GetTenant()+"/"+hello.GetNode(), id.Tenant, codes.PermissionDenied,
			"the first message must be a hello of "+id.Tenant+"/"+id.Name+", as the certificate says")
	}
	return c.s.runtime.sessions.serve(st, id.Tenant+"/"+id.Name, hello)
}

func who(id pki.Identity, err error) string {
	if err != nil {
		return "unknown"
	}
	return id.String()
}

// serve runs a session: welcome, then messages both ways. An agent that does not tick for two leases is gone.
func (ss *sessions) serve(st wire.Controller_SessionServer, node string, hello *wire.Hello) error {
	srv := ss.rt.s
	s, ctx := ss.open(st.Context(), node)
	defer func() {
		ss.close(s)
		slog.Info("agent disconnected", "node", node)
	}()
	slog.Info("agent connected", "node", node, "version", hello.Version)
	if err := st.Send(&wire.ToAgent{M: &wire.ToAgent_Welcome{Welcome: &wire.Welcome{Controller: srv.name, Version: srv.opt.Version,
		ClusterId: srv.cluster.ClusterID, ClusterProof: srv.cluster.Proof}}}); err != nil {
		return err
	}
	silent := time.AfterFunc(2*srv.cfg.Timing().TTL, s.cancel)
	defer silent.Stop()
	received := make(chan error, 1)
	go func() {
		for {
			m, err := st.Recv()
			if err == nil {
				silent.Reset(2 * srv.cfg.Timing().TTL)
				err = ss.handle(s, hello, m)
			}
			if m.GetTick() != nil {
				hello = nil // told
			}
			if err != nil {
				received <- err
				return
			}
		}
	}()
	err := ss.sendLoop(ctx, st, s, received)
	s.cancel()
	return err
}

// sendLoop sends until the session ends. Returning ends the stream, and with it the receiving goroutine.
func (ss *sessions) sendLoop(ctx context.Context, st wire.Controller_SessionServer, s *session, received <-chan error) error {
	for {
		select {
		case <-ctx.Done():
			return status.Error(codes.Aborted, "another session, silence or a full queue ended this one")
		case err := <-received:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case m := <-s.out:
			if err := st.Send(m); err != nil {
				return err
			}
		}
	}
}

// Observe takes another controller's opinions.
func (c *clusterService) Observe(st wire.Peer_ObserveServer) error {
	id, from, err := caller(st.Context())
	if err != nil || id.Role != pki.RoleController || !slices.Contains(c.s.cfg.ControllerNames(), id.Name) {
		return c.refuse(who(id, err), from, "observe", "", "", codes.PermissionDenied, "only this cluster's controllers tell what they observe")
	}
	for {
		m, err := st.Recv()
		if errors.Is(err, io.EOF) {
			return st.SendAndClose(&wire.Ack{})
		}
		if err != nil {
			return err
		}
		var opinions []health.Opinion
		if m.Observer != id.Name || json.Unmarshal(m.Opinions, &opinions) != nil {
			return c.refuse(id.String(), from, "observe", m.Observer, "", codes.InvalidArgument, "opinions of the caller itself are wanted, as JSON")
		}
		c.s.runtime.heard(id.Name, opinions, m.Full)
	}
}
