package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/controller"
	"github.com/understudy-ha/understudy/recovery"
	"github.com/understudy-ha/understudy/wire"
)

// sessionQueue is how many messages wait for an agent. One that does not take them loses its session: it comes back and
// starts afresh.
const sessionQueue = 64

// session is one agent's connection.
type session struct {
	node   string // tenant/name
	id     uint64
	out    chan *wire.ToAgent
	cancel context.CancelFunc
	opened time.Time

	// telling orders what the loop hears of the session: nothing comes after its end.
	telling sync.Mutex
	ended   bool

	mu     sync.Mutex
	status api.NodeStatus // as the agent says
}

// sessions are the agents connected to this controller, the newest session of each.
type sessions struct {
	rt *runtime

	mu     sync.Mutex
	byNode map[string]*session
	lastID uint64
}

func newSessions(rt *runtime) *sessions { return &sessions{rt: rt, byNode: map[string]*session{}} }

// open makes a session and ends the node's older one.
func (ss *sessions) open(ctx context.Context, node string) (*session, context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.lastID++
	s := &session{node: node, id: ss.lastID, out: make(chan *wire.ToAgent, sessionQueue), cancel: cancel, opened: time.Now()}
	if old := ss.byNode[node]; old != nil {
		old.cancel()
	}
	ss.byNode[node] = s
	ss.rt.s.metrics.sessions.Set(float64(len(ss.byNode)))
	return s, ctx
}

// close ends a session and tells the loop so, as the last thing it hears of it.
func (ss *sessions) close(s *session) {
	s.cancel()
	s.telling.Lock()
	s.ended = true
	ss.rt.loop.post(controller.AgentGone{Node: s.node, Session: s.id})
	s.telling.Unlock()
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.byNode[s.node] == s {
		delete(ss.byNode, s.node)
	}
	ss.rt.s.metrics.sessions.Set(float64(len(ss.byNode)))
}

// send gives a session a message, if it is still the one meant.
func (ss *sessions) send(node string, id uint64, m *wire.ToAgent) {
	ss.mu.Lock()
	s := ss.byNode[node]
	ss.mu.Unlock()
	if s == nil || s.id != id {
		return
	}
	select {
	case s.out <- m:
	default:
		slog.Warn("agent does not take its messages; its session ends", "node", node)
		ss.rt.s.metrics.dropped.WithLabelValues("agent session").Inc()
		s.cancel()
	}
}

// effect delivers an Echo or a Push; it is called by the loop and does not wait.
func (ss *sessions) effect(_ string, _ uint64, e controller.Effect) {
	switch e := e.(type) {
	case controller.Echo:
		ss.echo(e)
	case controller.Push:
		ss.push(e)
	}
}

func (ss *sessions) echo(e controller.Echo) {
	ss.send(e.Node, e.Session, &wire.ToAgent{M: &wire.ToAgent_Echo{Echo: &wire.Echo{Seq: e.Seq, Life: e.Life,
		ClusterId: ss.rt.s.cluster.ClusterID, Epoch: e.Epoch, Renews: e.Renews}}})
}

func (ss *sessions) push(e controller.Push) {
	sections, err := json.Marshal(e.Sections)
	if err != nil {
		slog.Error("encode sections", "node", e.Node, "err", err)
		return
	}
	secrets, err := ss.rt.secretsFor(e)
	if err != nil {
		slog.Error("a push waits for its secrets", "node", e.Node, "err", err) // it is sent again
		return
	}
	ss.send(e.Node, e.Session, &wire.ToAgent{M: &wire.ToAgent_Push{Push: &wire.Push{Id: e.ID, Life: e.Life, Tick: e.Tick, Sections: sections, Secrets: secrets,
		Token: &wire.Token{ClusterId: e.Token.ClusterID, Epoch: e.Token.Epoch, Generation: e.Token.Generation}}}})
}

// secretsFor gives what the secrets hold that a push's sections name, as the watch last told of them: it must not wait.
func (rt *runtime) secretsFor(e controller.Push) ([]byte, error) {
	names := recovery.Secrets(e.Sections)
	if len(names) == 0 {
		return nil, nil
	}
	tenant, _, _ := cut(e.Node)
	data := map[string]map[string]string{}
	for _, name := range names {
		ref := api.Ref{Kind: api.KindSecret, Tenant: tenant, Name: name}
		entry := rt.s.hub.entry(api.ObjectKey(ref))
		if entry.Rev == 0 {
			return nil, fmt.Errorf("%s is not there", ref)
		}
		values, err := rt.s.resources.unseal(ref, entry.Value)
		if err != nil {
			return nil, err
		}
		data[name] = values
	}
	return json.Marshal(data)
}

// nodes lists the connected nodes.
func (ss *sessions) nodes() []string {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	out := make([]string, 0, len(ss.byNode))
	for n := range ss.byNode {
		out = append(out, n)
	}
	return out
}

// status of a node as its session has it.
func (ss *sessions) status(node string) api.NodeStatus {
	ss.mu.Lock()
	s := ss.byNode[node]
	ss.mu.Unlock()
	if s == nil {
		return api.NodeStatus{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

var errSessionEnded = errors.New("the session has ended")

// handle turns one message of an agent into an event. The node is the one of its certificate.
func (ss *sessions) handle(s *session, hello *wire.Hello, m *wire.FromAgent) error {
	rt := ss.rt
	s.telling.Lock()
	defer s.telling.Unlock()
	if s.ended {
		return errSessionEnded
	}
	switch m := m.M.(type) {
	case *wire.FromAgent_Tick:
		if hello != nil { // the life that a hello belongs to is known with the first tick
			ev, err := asHello(s, hello, m.Tick.Life)
			if err != nil {
				return err
			}
			rt.loop.post(ev)
		}
		rt.loop.post(controller.AgentTick{Node: s.node, Session: s.id, Life: m.Tick.Life, Seq: m.Tick.Seq})
	case *wire.FromAgent_Applied:
		rt.loop.post(controller.AgentApplied{Node: s.node, Session: s.id, Push: m.Applied.Push, Code: m.Applied.Code, Detail: m.Applied.Detail})
		ss.auditRefusal(s, m.Applied)
	case *wire.FromAgent_Report:
		sections, err := sectionsOf(m.Report)
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.status.Sections = sections
		s.mu.Unlock()
		rt.loop.post(controller.AgentReport{Node: s.node, Session: s.id, Sections: sections, Holds: m.Report.Holds})
	case *wire.FromAgent_Hello:
		return fmt.Errorf("a second hello in one session")
	}
	return nil
}

// refusalCodes are the answers to pushes that show somebody acting who may not any more.
var refusalCodes = map[string]bool{"old-epoch": true, "old-cluster": true, "old-generation": true, "stale-tick": true, "unproven": true}

// auditRefusal writes down a push that an agent refused.
func (ss *sessions) auditRefusal(s *session, a *wire.Applied) {
	if refusalCodes[a.Code] {
		tenant, _, _ := cut(s.node)
		ss.rt.s.auditWrite(api.AuditEntry{Actor: "controller:" + ss.rt.s.name, Verb: "push", Object: "Node/" + s.node, Tenant: tenant, Outcome: a.Code, Detail: a.Detail})
	}
}

func sectionsOf(r *wire.Report) ([]api.SectionStatus, error) {
	var out []api.SectionStatus
	if r == nil || len(r.Sections) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(r.Sections, &out); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	return out, nil
}

func asHello(s *session, h *wire.Hello, life string) (controller.AgentHello, error) {
	sections, err := sectionsOf(h.Report)
	if err != nil {
		return controller.AgentHello{}, err
	}
	s.mu.Lock()
	s.status = api.NodeStatus{Connected: true, Version: h.Version, Drivers: h.Drivers, Sections: sections, Since: time.Now().UTC()}
	s.mu.Unlock()
	return controller.AgentHello{Node: s.node, Session: s.id, Life: life, Version: h.Version, PeerAddress: h.PeerAddress, Drivers: h.Drivers,
		Sections: sections, Holds: h.GetReport().GetHolds()}, nil
}
