package sim

import (
	"strconv"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/store"
)

// operate does what an operator does now and then. The API's own admission is not part of the simulation: what is
// written here is what it lets through.
func (w *world) operate() {
	if w.now >= w.calm {
		return
	}
	w.after(time.Duration(w.rng.ExpFloat64()*float64(3*time.Minute)), w.operate)
	g := w.groups[w.rng.IntN(len(w.groups))]
	s := &g.spec.Spec
	a := w.assignment(g.ref)
	switch w.rng.IntN(7) {
	case 0, 1:
		to := ""
		if w.chance(0.7) {
			to = s.Members[w.rng.IntN(len(s.Members))].Name
		}
		w.request(g, api.Request{Kind: api.RequestFailover, To: to})
	case 2:
		if a != nil {
			w.request(g, api.Request{Kind: api.RequestCancel, To: a.Job})
			w.after(w.between(5*time.Second, time.Minute), func() { w.retry(g) })
		}
	case 3:
		w.retry(g)
	case 4:
		s.Paused = true
		w.edit(g)
		w.after(w.between(5*time.Second, 40*time.Second), func() {
			if g.spec.Spec.Paused {
				g.spec.Spec.Paused = false
				w.edit(g)
			}
		})
	case 5:
		s.Failback.Policy = api.Policy([]api.Policy{api.Automatic, api.Manual}[w.rng.IntN(2)])
		w.edit(g)
	case 6:
		s.Members[0], s.Members[1] = s.Members[1], s.Members[0]
		w.edit(g)
	}
}

// retry asks for another attempt at the group's latest job.
func (w *world) retry(g *group) {
	if a := w.assignment(g.ref); a != nil {
		w.request(g, api.Request{Kind: api.RequestRetry, To: a.Job})
	}
}

// request stores what an operator asks, unless something asked before is not answered yet.
func (w *world) request(g *group, r api.Request) {
	if w.store.get(api.RequestKey(g.ref)).Rev != 0 {
		return
	}
	r.By, r.ID = "operator", strconv.FormatInt(int64(w.store.rev), 10)
	w.note("operator", "asks", string(r.Kind), r.To, g.ref.Name)
	w.write(api.RequestKey(g.ref), r)
}

// edit stores a group's spec in its next generation.
func (w *world) edit(g *group) {
	g.spec.Metadata.Generation++
	w.note("operator", "edits", g.ref.Name, strconv.FormatInt(g.spec.Metadata.Generation, 10))
	w.put(g.spec)
}

// resumeGroups ends every pause.
func (w *world) resumeGroups() {
	for _, g := range w.groups {
		if g.spec.Spec.Paused {
			g.spec.Spec.Paused = false
			w.edit(g)
		}
	}
}

// keptJobs is how many ended jobs stay in the store; older ones are taken away, as they are after some months.
const keptJobs = 8

func (w *world) retain(ended string) {
	w.oldJobs = append(w.oldJobs, ended)
	if len(w.oldJobs) <= keptJobs {
		return
	}
	name := w.oldJobs[0]
	w.oldJobs = w.oldJobs[1:]
	for _, ref := range w.subjects() {
		if a := w.assignment(ref); a != nil && a.Job == name {
			w.oldJobs = append(w.oldJobs, name)
			return
		}
	}
	ref := api.Ref{Kind: api.KindJob, Tenant: "default", Name: name}
	w.after(time.Second, func() {
		if _, err := w.store.commit(nil, []store.Op{{Key: api.ObjectKey(ref), Delete: true}}); err != nil {
			w.violate(0, err.Error())
		}
	})
}
