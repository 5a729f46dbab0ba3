package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
)

// cloudPoll is the driver's pause between looks.
const cloudPoll = 2 * time.Second

// cloudPatience is how many refusals one step waits out.
const cloudPatience = 60

// call is one run of the driver for a step, in one process: read, compare, write, wait, read again.
type call struct {
	c     *cloudModel
	m     *machine
	from  place
	r     *resource
	step  api.Step
	tag   mark
	tries int
	wrote int
	done  func(outcome string, err error)
}

// run carries out a routes, detach or attach step as cloud/azure does.
func (c *cloudModel) run(m *machine, from place, token api.Token, step api.Step, done func(string, error)) {
	d := &call{c: c, m: m, from: from, step: step, done: done}
	if step.Routes != nil {
		d.r = c.find(step.Routes.Table)
		for _, r := range step.Routes.Routes {
			d.tag.scope += " " + r.Prefix
		}
	} else {
		d.r = c.find(step.NIC.NIC)
		for _, a := range step.NIC.Addresses {
			d.tag.scope += " " + a.ID
		}
	}
	d.tag.token = token
	d.look()
}

// ask carries a request to the cloud and what it answers back to the process.
func (d *call) ask(serve func() func()) {
	w, life := d.c.w, d.m.life
	if w.net.lost(d.from, d.c.at) || w.net.lost(d.c.at, d.from) {
		w.after(5*time.Second, func() { d.m.do(life, func(bool) { d.retry(errCloudGone) }) })
		return
	}
	w.after(w.net.latency(d.from, d.c.at)+20*time.Millisecond, func() {
		then := serve()
		w.after(w.net.latency(d.c.at, d.from)+20*time.Millisecond, func() { d.m.do(life, func(bool) { then() }) })
	})
}

func (d *call) retry(err error) {
	if d.tries++; d.tries > cloudPatience {
		if err == errCloudUse {
			err = fmt.Errorf("%w: %w", cloud.ErrPermanent, err) // a new plan detaches first
		}
		d.done("", err)
		return
	}
	d.m.after(cloudPoll, func(bool) { d.look() })
}

// look reads the resource and goes on from what it says.
func (d *call) look() {
	d.ask(func() func() {
		what, tag, etag, busy, failed := slices.Clone(d.r.what), d.r.tag, d.r.etag, d.r.op != nil, d.r.failed
		return func() {
			switch want, changed := d.apply(what); {
			case busy:
				d.m.after(cloudPoll, func(bool) { d.look() })
			case tag.newer(d.tag):
				d.done("", fmt.Errorf("%w: %d/%d", cloud.ErrStale, tag.token.Epoch, tag.token.Generation))
			case !changed && !failed:
				d.done("as wanted", nil)
			case d.wrote == 5:
				d.done("", errCloudFailed)
			default:
				d.write(want, etag)
			}
		}
	})
}

func (d *call) write(want []pair, etag int) {
	d.ask(func() func() {
		op, err := d.c.put(d.r, want, d.tag, etag, d.m.name)
		return func() {
			if err != nil {
				d.retry(err)
				return
			}
			d.wrote++
			d.await(op)
		}
	})
}

// await looks at the resource until the write has ended.
func (d *call) await(op *operation) {
	d.m.after(cloudPoll, func(bool) {
		d.ask(func() func() {
			running := d.r.op == op
			return func() {
				switch {
				case running:
					d.await(op)
				case op.fail:
					d.done("", errCloudFailed)
				default:
					d.look()
				}
			}
		})
	})
}

// apply gives the document as the step wants it.
func (d *call) apply(what []pair) (want []pair, changed bool) {
	switch d.step.Kind {
	case api.StepRoutes:
		for _, r := range d.step.Routes.Routes {
			changed = changed || lookup(what, r.Prefix) != r.NextHop
			what = set(what, r.Prefix, r.NextHop)
		}
	case api.StepDetach:
		for _, a := range d.step.NIC.Addresses {
			for i := range what {
				if strings.EqualFold(what[i].value, a.ID) {
					what[i].value, changed = "", true
				}
			}
		}
	case api.StepAttach:
		for _, a := range d.step.NIC.Addresses {
			at := configuration(a.IPConfiguration)
			changed = changed || !strings.EqualFold(lookup(what, at), a.ID)
			what = set(what, at, a.ID)
		}
	}
	return what, changed
}
