package server

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/store"
)

// requestWait is how long a request waits for an earlier one to be taken by the leader.
const requestWait = 3 * time.Second

// FailoverRequest is the body of POST …/failover.
type FailoverRequest struct {
	// To names the member; "" lets the leader choose.
	To string `json:"to,omitempty"`
}

func (s *Server) group(ctx context.Context, ref api.Ref) (*api.ApplianceGroup, store.Rev, error) {
	o, rev, err := s.resources.get(ctx, ref)
	if err != nil {
		return nil, 0, err
	}
	return o.(*api.ApplianceGroup), rev, nil
}

func (s *Server) postFailover(c *call) error {
	var q FailoverRequest
	if err := c.decode(&q); err != nil {
		return err
	}
	c.kind, _ = api.LookupKind(string(api.KindApplianceGroup))
	c.object = c.ref().String()
	g, rev, err := s.group(c.r.Context(), c.ref())
	if err != nil {
		return err
	}
	if q.To != "" && !slices.ContainsFunc(g.Spec.Members, func(m api.Member) bool { return m.Name == q.To }) {
		return invalid("to", fmt.Sprintf("%q", q.To), "a member of "+g.Metadata.Name+": "+memberNames(g))
	}
	if a := g.Status.Assignment; a != nil && a.Active == q.To {
		return api.Errorf(api.CodeConflict, "%s is active already", q.To)
	}
	c.detail = "to " + q.To
	return s.request(c, store.Cond{Key: api.ObjectKey(c.ref()), Rev: rev}, api.Request{Kind: api.RequestFailover, To: q.To})
}

func memberNames(g *api.ApplianceGroup) string {
	out := ""
	for i, m := range g.Spec.Members {
		if i > 0 {
			out += ", "
		}
		out += m.Name
	}
	return out
}

// decode reads a small body strictly; an empty one is an empty object.
func (c *call) decode(v any) error {
	b, err := c.body()
	if err != nil || len(b) == 0 {
		return err
	}
	return strict(b, v)
}

// request leaves what an operator asked beside the group c.ref() and answers 202.
func (s *Server) request(c *call, exists store.Cond, q api.Request) error {
	q.By, q.At, q.ID = c.who.name, s.now().UTC(), rand.Text()
	if c.dry() {
		writeJSON(c.w, http.StatusAccepted, q)
		return nil
	}
	value, err := json.Marshal(q)
	if err != nil {
		return err
	}
	key := api.RequestKey(c.ref())
	for deadline := s.now().Add(requestWait); ; {
		_, err := s.store.Txn(c.r.Context(), []store.Cond{exists, {Key: key}}, []store.Op{{Key: key, Value: value}})
		if err == nil {
			writeJSON(c.w, http.StatusAccepted, q)
			return nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
		if s.now().After(deadline) {
			return api.Errorf(api.CodeConflict, "%s has a request that no leader has taken yet; see understudy status, then try again", c.ref())
		}
		if err := sleep(c.r.Context(), 50*time.Millisecond); err != nil {
			return err
		}
		if e, err := s.store.Get(c.r.Context(), exists.Key); err != nil {
			return err
		} else if e.Rev != exists.Rev {
			exists.Rev = e.Rev
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func (s *Server) postPause(c *call) error  { return s.setPaused(c, true) }
func (s *Server) postResume(c *call) error { return s.setPaused(c, false) }

// setPaused changes one field, whatever else changes at the same time.
func (s *Server) setPaused(c *call, paused bool) error {
	c.kind, _ = api.LookupKind(string(api.KindApplianceGroup))
	c.object = c.ref().String()
	for {
		g, rev, err := s.group(c.r.Context(), c.ref())
		if err != nil {
			return err
		}
		g.Spec.Paused = paused
		o, _, err := s.resources.put(c.r.Context(), g, match{etag: etag(rev)}, c.dry())
		if e := (*api.Error)(nil); errors.As(err, &e) && e.Code == api.CodePreconditionFailed {
			continue
		}
		if err != nil {
			return err
		}
		return answer(c, http.StatusOK, o)
	}
}

func (s *Server) postCancel(c *call) error { return s.jobRequest(c, api.RequestCancel) }
func (s *Server) postRetry(c *call) error  { return s.jobRequest(c, api.RequestRetry) }

func (s *Server) jobRequest(c *call, kind api.RequestKind) error {
	ctx := c.r.Context()
	o, _, err := s.resources.get(ctx, api.Ref{Kind: api.KindJob, Tenant: c.tenant, Name: c.name})
	if err != nil {
		return err
	}
	j := o.(*api.Job)
	switch p := j.Status.Phase; {
	case kind == api.RequestCancel && p.Ended():
		return api.Errorf(api.CodeConflict, "job %s has ended: %s", c.name, p)
	case kind == api.RequestRetry && p != api.Blocked && p != api.Cancelled:
		return api.Errorf(api.CodeConflict, "job %s is %s: only a job that is Blocked or Cancelled is tried again", c.name, p)
	}
	job := c.name
	c.kind, _ = api.LookupKind(string(j.Spec.Subject.Kind))
	c.name, c.detail = j.Spec.Subject.Name, "job "+job
	_, rev, err := s.resources.get(ctx, c.ref())
	if err != nil {
		return err
	}
	return s.request(c, store.Cond{Key: api.ObjectKey(c.ref()), Rev: rev}, api.Request{Kind: kind, To: job})
}

func (s *Server) getTokens(c *call) error {
	tenant := c.tenant
	if !c.r.URL.Query().Has("tenant") {
		tenant = c.who.tenant
	}
	list, err := s.tokens.list(c.r.Context(), tenant)
	if err != nil {
		return err
	}
	writeJSON(c.w, http.StatusOK, map[string]any{"items": list})
	return nil
}

func (s *Server) postToken(c *call) error {
	var q api.TokenRequest
	if err := c.decode(&q); err != nil {
		return err
	}
	if q.Tenant == "" {
		q.Tenant = c.tenant
	}
	if err := checkTokenRequest(&q); err != nil {
		return err
	}
	if !c.who.sees(q.Tenant) {
		c.detail = otherTenant
		return api.Errorf(api.CodeForbidden, "%s is admin of tenant %s alone", c.who.name, c.who.tenant)
	}
	c.object, c.tenant = "token of "+q.Node+q.User, q.Tenant
	c.detail = string(q.Role)
	if c.dry() {
		return api.Errorf(api.CodeConflict, "a token is made or not made; there is no dry run")
	}
	reply, err := s.tokens.create(c.r.Context(), c.who.name, q)
	if err != nil {
		return err
	}
	writeJSON(c.w, http.StatusCreated, reply)
	return nil
}

func (s *Server) deleteToken(c *call) error {
	doc, err := s.tokens.revoke(c.r.Context(), c.who, c.name)
	if err != nil {
		return err
	}
	c.object, c.tenant = "token "+doc.ID+" of "+doc.Node+doc.User, doc.Tenant
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// maxAuditAnswer is how many entries one answer carries: the newest.
const maxAuditAnswer = 1000

func (s *Server) getAudit(c *call) error {
	tenant := c.tenant
	if !c.r.URL.Query().Has("tenant") {
		tenant = c.who.tenant
	}
	out, err := s.audit.Newest(maxAuditAnswer, func(e api.AuditEntry) bool { return tenant == api.AllTenants || e.Tenant == tenant })
	if err != nil {
		return err
	}
	writeJSON(c.w, http.StatusOK, map[string]any{"controller": s.name, "items": append([]api.AuditEntry{}, out...)})
	return nil
}
