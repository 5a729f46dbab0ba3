package site

import (
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/engines"
	"github.com/understudy-ha/understudy/engines/live"
	"github.com/understudy-ha/understudy/volume"
)

// State implements engines.Engine.
func (e *engine) State() api.EngineState {
	e.mu.Lock()
	p, m, volumes, ended, failed, failing, shipNo := e.cfg.Section.Site, e.machine, e.volumes, e.ended, e.failed, e.failing, e.shipNo
	e.mu.Unlock()
	s := api.EngineState{Phase: "opening"}
	if p != nil {
		s.Instance = p.Instance
	}
	switch {
	case m != nil && p != nil && !ending(p) && e.runs(p): // the machine of an earlier run says nothing of this one
		m.Describe(&s)
		e.describe(&s, p, m, volumes)
	case p != nil && ending(p) && ended == "":
		s.Phase = "stopping"
	case ended != "":
		if s.Phase = ended; ended == "yielded" {
			s.Done = e.marks.Get("yield")
		}
	case failed != nil && time.Since(failing) > engines.FailedAfter:
		s.Phase = "failed"
	}
	if failed != nil {
		s.Conditions = append(s.Conditions, engines.NotTakenUp(failed))
	}
	if shipNo != nil {
		s.Conditions = append(s.Conditions, api.Condition{Code: "NotShippingYet", Severity: api.Warning, Message: shipNo.Error(), Impacts: "the machine is not protected"})
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.Phase != e.phase {
		e.phase, e.since = s.Phase, time.Now().UTC()
	}
	s.Since = e.since
	return s
}

// ending tells whether nothing is to be left of the machine here.
func ending(p *api.SiteConfig) bool { return p.Mode == "off" || p.Mode == "discard" }

// describe tells of the volumes and the service.
func (e *engine) describe(s *api.EngineState, p *api.SiteConfig, m *live.Machine, volumes []*volume.Volume) {
	var size, present int64
	waiting := ""
	for _, v := range volumes {
		st := v.Status()
		size, present = size+st.SizeBytes, present+st.PresentBytes
		if st.Waiting != "" {
			waiting = st.Waiting
		}
	}
	s.Hydrated = 100
	if size > 0 && e.marks.Get(hydrated) == "" {
		s.Hydrated = min(99.9, 100*float64(present)/float64(size)) // 100 is said once it is noted: then nothing else is needed any more
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
	case p.VM != nil && !p.Run && m.VM().Running(e.ctx):
		s.Phase = "stopping"
	case p.VM != nil && !p.Run:
		s.Phase = "stopped"
	case answered > 0:
		s.Phase = "answering"
	case p.Check != nil || p.VM != nil && !m.VM().Running(e.ctx):
		s.Phase = "booting"
	default:
		s.Phase = "running"
	}
	if late && failed != nil {
		s.Conditions = append(s.Conditions, api.Condition{Code: "ServiceDoesNotAnswer", Severity: api.Critical, Message: failed.Error(), Impacts: "the machine is up, its service is not"})
	}
}
