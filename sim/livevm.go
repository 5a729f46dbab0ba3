package sim

import (
	"strconv"
	"time"
)

// tryVM carries out the newest wish.
func (l *live) tryVM() {
	wish := l.wish
	if wish == l.done {
		return
	}
	c, up := l.p.c, l.wantUp
	d := l.w().between(500*time.Millisecond, 3*time.Second)
	if up == c.vm {
		d = 0
	} else if !up {
		d = l.p.downTime(l.spec.grace, l.spec.access == readOnly)
	}
	l.after(d, func() {
		if wish != l.wish || l.done == wish {
			return
		}
		l.done = wish
		c.power(up)
	})
}

// vmTurn tries again now and then.
func (l *live) vmTurn() {
	l.after(5*time.Second, func() {
		l.tryVM()
		l.vmTurn()
	})
}

// power brings the virtual machine up or down.
func (c *child) power(up bool) {
	if c.vm == up {
		return
	}
	c.vm = up
	c.h.n.w.note(c.h.n.m.name, "vm", c.key, strconv.FormatBool(up))
	if c.proc != nil {
		c.proc.answers = answering{}
	}
	c.changed()
}

// stopVM brings the virtual machine down, and then runs f. It may run although this process did not start it.
func (p *process) stopVM(grace time.Duration, f func()) {
	if p.live != nil {
		p.live.wish++
		p.live.wantUp = false
		p.live.done = p.live.wish
	}
	if !p.c.vm {
		f()
		return
	}
	p.after(p.downTime(grace, p.live != nil && p.live.access == readOnly), func() {
		p.c.power(false)
		f()
	})
}

// downTime is how long a guest takes to go down: one whose disks refuse to be written has its power cut.
func (p *process) downTime(grace time.Duration, cut bool) time.Duration {
	w := p.c.h.n.w
	if cut || grace < 200*time.Millisecond {
		return w.between(50*time.Millisecond, 200*time.Millisecond)
	}
	return w.between(200*time.Millisecond, grace)
}

// runs tells whether something may write to the disks now: the virtual machine, or whatever else there is.
func (l *live) runs() bool {
	return l.access == writable && (!l.spec.vm || l.p.c.vm)
}

// guestTurn writes something now and then.
func (l *live) guestTurn() {
	l.after(l.w().between(time.Second, 6*time.Second), func() {
		if l.runs() {
			l.write(l.w().rng.IntN(blocks), l.w().rng.IntN(values))
		}
		l.guestTurn()
	})
}

func (l *live) write(b, v int) {
	l.disk[b] = v
	l.p.c.home.wrote[b] = true
	l.capture.write(b, v, l.shipping)
	l.send()
}
