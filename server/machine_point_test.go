package server_test

import (
	"slices"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/objstore/open"
	"github.com/understudy-ha/understudy/vault"
)

// TestAPointThatIsNotThereIsRefused at once, and not by a job that has begun to move the machine.
func TestAPointThatIsNotThereIsRefused(t *testing.T) {
	s := newSite(t)
	url := "file://" + t.TempDir()
	objs := ground(s)
	for _, o := range objs {
		if v, ok := o.(*api.Vault); ok && v.Metadata.Name == "v" {
			v.Spec.URL = url
		}
	}
	s.apply(s.admin, objs...)
	s.apply(s.admin, web())
	m := s.untilMachine("busy", func(m *api.ProtectedMachine) bool { return m.Status.CurrentScenario != nil })
	if err := s.admin.Call(t.Context(), "POST", "/v1/jobs/"+m.Status.CurrentScenario.Job+"/cancel", nil, "", nil, nil); err != nil {
		t.Fatal(err)
	}
	m = s.untilMachine("cancelled", func(m *api.ProtectedMachine) bool { return slices.Contains(m.Status.AllowedOperations, api.OpFailover) })
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	st, err := open.Store(t.Context(), url, nil)
	ok(err)
	defer st.Close()
	v, err := vault.Create(t.Context(), st, recipient, vault.Options{})
	ok(err)
	w, err := v.Writer(t.Context(), vault.StreamSpec{ID: m.Spec.UID + "-1", Epoch: 1, Machine: vault.Machine{UID: m.Spec.UID}, Disks: []vault.Disk{{ID: "root", Size: 1 << 20}}})
	ok(err)
	at := time.Now().UTC()
	_, err = w.Append(t.Context(), []journal.Record{{Seq: 1, Kind: journal.Point, Time: at.UnixNano(), Point: &journal.PointInfo{ID: "first", At: at, Consistency: journal.Crash}}})
	ok(err)
	ok(w.Close())
	post := func(p api.PointChoice) error {
		return s.admin.Call(t.Context(), "POST", "/v1/protectedmachines/web/operations", nil, "", api.Operation{Operation: api.OpFailover, Point: &p}, nil)
	}
	wantCode(t, post(api.PointChoice{Kind: api.PointCustom, ID: "frist"}), api.CodeInvalid, `point: "frist": want one that vault v offers of stream `+m.Spec.UID+"-1")
	wantCode(t, post(api.PointChoice{Kind: api.PointCustom, At: at.Add(-time.Hour)}), api.CodeInvalid, "the vault has 1 points")
	wantCode(t, post(api.PointChoice{Kind: api.PointLatestAppConsistent}), api.CodeInvalid, `"latestAppConsistent"`)
	ok(post(api.PointChoice{Kind: api.PointCustom, ID: "first"}))
	s.untilMachine("moving", func(m *api.ProtectedMachine) bool { return m.Status.ActiveLocation == api.Recovery })
}
