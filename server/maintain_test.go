package server

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/store"
	"github.com/understudy-ha/understudy/store/memory"
)

// TestTheNewestJobIsKept, however old: without it nothing is put right any more, and no move can be committed.
func TestTheNewestJobIsKept(t *testing.T) {
	st := memory.New()
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	s := &Server{store: st, now: func() time.Time { return now }}
	s.cfg.Retention.Jobs, s.cfg.Retention.Events = api.Duration(time.Hour), api.Duration(time.Hour)
	put := func(key string, v any) {
		b, err := json.Marshal(v)
		if err == nil {
			_, err = st.Txn(t.Context(), nil, []store.Op{{Key: key, Value: b}})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	ref := func(name string) api.Ref { return api.Ref{Kind: api.KindJob, Tenant: "default", Name: name} }
	for _, name := range []string{"web-1m", "web-2m"} {
		put(api.ObjectKey(ref(name)), api.Job{Status: api.JobStatus{Phase: api.Succeeded, Ended: now.Add(-48 * time.Hour)}})
	}
	put(api.AssignKey(api.Ref{Kind: api.KindProtectedMachine, Tenant: "default", Name: "web"}), api.Assignment{Job: "web-2m"})
	if n, err := s.collectOnce(t.Context()); err != nil || n != 1 {
		t.Fatalf("%d removed, %v, want 1", n, err)
	}
	if _, err := st.Get(t.Context(), api.ObjectKey(ref("web-1m"))); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the old job stays: %v", err)
	}
	if _, err := st.Get(t.Context(), api.ObjectKey(ref("web-2m"))); err != nil {
		t.Errorf("the newest job: %v", err)
	}
}
