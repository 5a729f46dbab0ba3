package server

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/pki"
	"github.com/understudy-ha/understudy/store"
)

// maintainEvery is how often certificates and retention are looked at.
const maintainEvery = 10 * time.Minute

// renewCertificates replaces this controller's certificate in time.
func (s *Server) renewCertificates(ctx context.Context) error {
	for sleep(ctx, maintainEvery) == nil {
		if s.now().Before(pki.RenewAt(s.id.cert.Leaf())) {
			continue
		}
		cert, key, err := issueController(s.id.ca, s.cfg, s.now())
		if err == nil {
			err = saveCert(s.opt.Dir, cert, key)
		}
		if err != nil {
			slog.Error("renew the controller's certificate", "err", err)
			continue
		}
		s.id.cert.Set(cert, key)
		slog.Info("renewed the controller's certificate", "until", cert.NotAfter)
	}
	return nil
}

// collect removes, on the leader, events and finished jobs that are past their retention, and tokens that have expired.
func (s *Server) collect(ctx context.Context) error {
	for first := true; first || sleep(ctx, maintainEvery) == nil; first = false {
		if ctx.Err() != nil {
			return nil
		}
		if leading, _ := s.runtime.leading(); !leading {
			continue
		}
		n, err := s.collectOnce(ctx)
		if err != nil {
			slog.Warn("remove what is past its retention", "err", err)
		}
		if n > 0 {
			slog.Info("removed what is past its retention", "objects", n)
		}
	}
	return nil
}

func (s *Server) collectOnce(ctx context.Context) (int, error) {
	var old []store.Entry
	named, err := s.assignedJobs(ctx)
	if err != nil {
		return 0, err
	}
	for prefix, expired := range map[string]func([]byte) bool{
		api.ObjectPrefix(api.KindEvent): s.oldEvent,
		api.ObjectPrefix(api.KindJob):   s.oldJob,
		tokenPrefix:                     s.oldToken,
	} {
		es, err := s.store.List(ctx, prefix)
		if err != nil {
			return 0, err
		}
		for _, e := range es {
			if !named[e.Key] && expired(e.Value) {
				old = append(old, e)
			}
		}
	}
	for i := 0; i < len(old); i += store.MaxTxnKeys {
		var w writing
		for _, e := range old[i:min(i+store.MaxTxnKeys, len(old))] {
			w.cond(e)
			w.delete(e.Key)
		}
		if _, err := s.store.Txn(ctx, w.conds, w.ops); err != nil {
			return i, err
		}
	}
	return len(old), nil
}

// assignedJobs are the keys of the jobs that assignments name, however long ago those ended: what is to be done next depends on how they did.
func (s *Server) assignedJobs(ctx context.Context) (map[string]bool, error) {
	es, err := s.store.List(ctx, "assign/")
	if err != nil {
		return nil, err
	}
	named := map[string]bool{}
	for _, e := range es {
		var a api.Assignment
		ref, ok := api.ParseRef(strings.TrimPrefix(e.Key, "assign/"))
		if ok && json.Unmarshal(e.Value, &a) == nil && a.Job != "" {
			named[api.ObjectKey(api.Ref{Kind: api.KindJob, Tenant: ref.Tenant, Name: a.Job})] = true
		}
	}
	return named, nil
}

func (s *Server) oldEvent(b []byte) bool {
	var e api.Event
	return json.Unmarshal(b, &e) == nil && s.now().Sub(e.Metadata.Created) > s.cfg.Retention.Events.D()
}

func (s *Server) oldJob(b []byte) bool {
	var j api.Job
	return json.Unmarshal(b, &j) == nil && j.Status.Phase.Ended() && s.now().Sub(j.Status.Ended) > s.cfg.Retention.Jobs.D()
}

func (s *Server) oldToken(b []byte) bool {
	var t tokenDoc
	return json.Unmarshal(b, &t) == nil && s.now().After(t.Expires)
}
