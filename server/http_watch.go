package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// pingEvery keeps a quiet watch alive through proxies, and is how often its credential is looked at again.
const pingEvery = 15 * time.Second

// watch answers with server-sent events: "put" with each resource as it is, "sync" once everything that was there has
// been told, "put" and "delete" from then on. States may be skipped; the last one never is.
func (s *Server) watch(c *call) error {
	ctx := c.r.Context()
	name := c.r.URL.Query().Get("name")
	sub, err := s.hub.subscribe(ctx, func(r api.Ref) bool {
		return r.Kind == c.kind.Kind && (c.tenant == api.AllTenants || r.Tenant == c.tenant) && (name == "" || r.Name == name)
	})
	if err != nil {
		return err
	}
	defer sub.close()
	c.w.Header().Set("Content-Type", "text/event-stream")
	c.w.Header().Set("Cache-Control", "no-store")
	out := &eventStream{w: c.w, flush: http.NewResponseController(c.w)}
	if err := out.tell(sub.take()); err != nil {
		return nil // the client has gone
	}
	if out.event("sync", struct{}{}) != nil || out.flush.Flush() != nil {
		return nil
	}
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.stopping:
			return nil
		case <-sub.wake:
			err = out.tell(sub.take())
		case <-ping.C:
			if now, err := s.authority.who(c.r); err == nil && !now.sees(c.tenant) || asUnauthenticated(err) {
				return nil
			}
			_, err = fmt.Fprint(out.w, ": ping\n\n")
		}
		if err != nil || out.flush.Flush() != nil {
			return nil
		}
	}
}

func asUnauthenticated(err error) bool {
	return err != nil && asError(err).Code == api.CodeUnauthenticated
}

type eventStream struct {
	w     http.ResponseWriter
	flush *http.ResponseController
}

func (e *eventStream) tell(ds []delivery) error {
	var objs []api.Object
	for _, d := range ds {
		if d.gone {
			h := api.Header{APIVersion: api.Version, Kind: d.ref.Kind, Metadata: api.Metadata{Name: d.ref.Name, Tenant: d.ref.Tenant}}
			if err := e.event("delete", h); err != nil {
				return err
			}
			continue
		}
		objs = append(objs, d.object)
	}
	sortObjects(objs)
	for o := range slices.Values(objs) {
		if err := e.event("put", o); err != nil {
			return err
		}
	}
	return nil
}

func (e *eventStream) event(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.w, "event: %s\ndata: %s\n\n", name, b)
	return err
}
