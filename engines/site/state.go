package site

import (
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/engines"
)

// State implements engines.Engine.
func (e *engine) State() api.EngineState {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := api.EngineState{Phase: "opening"}
	if p := e.cfg.Section.Site; p != nil {
		s.Instance = p.Instance
	}
	if e.machine != nil {
		e.machine.Describe(&s)
		e.describe(&s)
	} else if e.ended != "" {
		s.Phase = e.ended
	}
	if e.failed != nil {
		s.Conditions = append(s.Conditions, engines.NotTakenUp(e.failed))
		if e.machine == nil {
			s.Phase = "failed"
		}
	}
	if e.shipNo != nil {
		s.Conditions = append(s.Conditions, api.Condition{Code: "NotShippingYet", Severity: api.Warning, Message: e.shipNo.Error(), Impacts: "the machine is not protected"})
	}
	if s.Phase != e.phase {
		e.phase, e.since = s.Phase, time.Now().UTC()
	}
	s.Since = e.since
	return s
}

// describe tells of the volumes and the service.
func (e *engine) describe(s *api.EngineState) {
	p := e.cfg.Section.Site
	var size, present int64
	waiting := ""
	for _, v := range e.volumes {
		st := v.Status()
		size, present = size+st.SizeBytes, present+st.PresentBytes
		if st.Waiting != "" {
			waiting = st.Waiting
		}
	}
	s.Hydrated = 100
	if size > 0 && e.marks.Get(hydrated) == "" {
		s.Hydrated = 100 * float64(present) / float64(size)
	}
	if s.Phase == "readonly" || s.Phase == "yielded" || s.Phase == "waiting" {
		return
	}
	e.check.mu.Lock()
	answered, late, failed, shot := e.check.answered, e.check.late, e.check.failed, e.check.shot
	e.check.mu.Unlock()
	s.AnswersAfter, s.Screenshot = api.Duration(answered), shot
	switch {
	case waiting != "":
		s.Phase = "paused"
		s.Conditions = append(s.Conditions, api.Condition{Code: "DiskFull", Severity: api.Critical, Message: "writes wait: " + waiting +
			"; raise the quota or make room, and the machine goes on", Impacts: "the machine stands still"})
	case p.VM == nil && answered == 0:
		s.Phase = "running" // its disks are served; somebody else boots it
	case p.VM != nil && !p.Run && e.machine.VM().Running(e.ctx):
		s.Phase = "stopping"
	case p.VM != nil && !p.Run:
		s.Phase = "stopped"
	case answered > 0:
		s.Phase = "answering"
	case p.Check != nil:
		s.Phase = "booting"
	default:
		s.Phase = "running"
	}
	if late && failed != nil {
		s.Conditions = append(s.Conditions, api.Condition{Code: "ServiceDoesNotAnswer", Severity: api.Critical, Message: failed.Error(), Impacts: "the machine is up, its service is not"})
	}
}
