package controller

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// A failover to a point that is not there stops nothing: the source goes on until it is known what takes its place, and the job says what is
// wrong.
func TestASourceGoesOnUntilAPointIsFound(t *testing.T) {
	e := protected(t)
	e.execErr["choose"] = errors.New("the vault has 4 points, none of them fits")
	e.ask(api.Operation{Operation: api.OpFailover, Point: &api.PointChoice{Kind: api.PointLatestAppConsistent}})
	e.pass(10 * time.Second)
	if p := e.protect(); p.Mode != "writable" || !p.Run {
		t.Errorf("after 10 s host1 has %+v", p)
	}
	first := e.intent().Job
	e.pass(6 * time.Minute)
	if j := e.job(first); j.Status.Phase != api.Blocked || !strings.Contains(j.Status.Message, "none of them fits") {
		t.Errorf("job %s is %s: %s", first, j.Status.Phase, j.Status.Message)
	}
	if p := e.protect(); p.Mode != "writable" {
		t.Errorf("after 6 min host1 has %+v", p)
	}
	delete(e.execErr, "choose")
	e.pass(time.Minute)
	if p, s := e.protect(), e.site("host2"); p.Mode != "readonly" || s.Mode != "writable" {
		t.Errorf("with a point host1 has %+v, host2 %+v", p, s)
	}
}

// A machine whose point is not found has nothing to be shut down: its disks would be opened at position 0.
func TestNothingIsShutDownBeforeItsPointIsFound(t *testing.T) {
	e := protected(t)
	e.execErr["choose"] = errors.New("none of them fits")
	e.ask(api.Operation{Operation: api.OpFailover})
	e.pass(5 * time.Second)
	e.put(api.RequestKey(web), api.Request{Kind: api.RequestCancel, By: "ann", ID: "c", To: e.intent().Job})
	e.pass(5 * time.Second)
	if j := e.job(e.intent().Job); j.Status.Phase != api.Cancelled {
		t.Fatalf("job %s is %s", j.Metadata.Name, j.Status.Phase)
	}
	e.allows(api.OpChangePoint, api.OpCancelFailover)
}
