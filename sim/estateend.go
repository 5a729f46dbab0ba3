package sim

import (
	"fmt"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/recovery"
)

// astray says what of a machine is not where its assignment has it, by the truth: it runs at the active side alone.
func (e *estate) astray(g *guest, a *api.Assignment) string {
	m := a.Machine
	h, engine := e.source.house, api.EngineProtect
	if m.Location == api.Recovery {
		h = e.target.house
	}
	if m.Run != nil {
		engine = api.EngineSite
	}
	key := lead.SectionKey(engine, g.ref.String())
	active := false
	for _, s := range e.spots(g) {
		if s.c.h != h || s.c.key != key {
			return fmt.Sprintf("%s runs at %s, and is assigned to %s", g.ref, s.c.where(), m.Location)
		}
		active = true
		if s.generation != m.Epoch {
			return fmt.Sprintf("%s runs at %s under generation %d, want %d", g.ref, s.c.where(), s.generation, m.Epoch)
		}
		if s.c.guest.spec.Spec.VM != nil && s.runs == m.Stopped {
			return fmt.Sprintf("%s runs at %s: %v", g.ref, s.c.where(), s.runs)
		}
	}
	j := e.w.check.jobs[a.Job]
	if j.Status.Phase == api.Blocked {
		return fmt.Sprintf("job %s of %s is Blocked: %s", a.Job, g.ref, j.Status.Message)
	}
	if !active {
		return fmt.Sprintf("%s is assigned to %s and its disks are not served there", g.ref, m.Location)
	}
	return ""
}

// pointless tells that there is no point to be found, or that the one that was found went before the keeper knew of it.
func (e *estate) pointless(a *api.Assignment) bool {
	r := a.Machine.Run
	if r == nil {
		return false
	}
	v := e.vaults[r.Vault]
	if r.Point != nil {
		_, err := v.view(r.Point.Stream, r.Point.Seq)
		return err != nil
	}
	points, err := v.points(r.Stream)
	if err == nil {
		_, err = recovery.Choose(points, r.Choice)
	}
	return err != nil
}
