package controller

import (
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// A machine that came home, and whose next failover was taken back, goes on with its stream after it was disabled: the stream does not stand
// on itself, and the keeper keeps its points.
func TestAStreamDoesNotStandOnItself(t *testing.T) {
	e := protected(t)
	for _, o := range roundTrip {
		e.do(o)
	}
	was := *e.site("host1").Ship
	e.has["default/host1"]["site|"+web.String()].State.Hydrated = 100
	e.push(AgentReport{Node: "default/host1", Session: e.core.agents["default/host1"].session, Sections: e.sectionsOf("default/host1")})
	e.pass(2 * time.Second)
	e.do(api.Operation{Operation: api.OpDisable})
	e.do(api.Operation{Operation: api.OpReEnable})
	if s := e.site("host1"); s.Ship == nil || s.Ship.BaseStream != was.BaseStream || s.Ship.BaseSeq != was.BaseSeq || s.Ship.BaseStream == s.Capture {
		t.Errorf("host1 ships %s: %+v, before it was disabled %+v", s.Capture, s.Ship, was)
	}
	for _, k := range e.keeper("host2", "v").Streams {
		if k.Stream == e.intent().Machine.Stream && k.Only != 0 {
			t.Errorf("of the stream that is shipped the keeper keeps %d alone", k.Only)
		}
	}
}
