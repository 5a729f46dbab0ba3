package sim

import (
	"strings"
	"time"
)

// box is an appliance: a virtual machine that forwards, or does not.
type box struct {
	w     *world
	name  string
	probe place // where it is probed
	ip    string
	on    bool
	hung  bool
	agent *node         // nil: somebody else's appliance
	was   bool          // up, at since
	since time.Duration // when that changed
}

// up is the truth that probes look for.
func (b *box) up() bool {
	return b.on && !b.hung && (b.agent == nil || b.agent.m.power != suspended)
}

// kill switches the machine off. What its kernel held is gone.
func (b *box) kill() {
	if !b.on {
		return
	}
	b.on = false
	b.w.note(b.name, "killed")
	if a := b.agent; a != nil {
		a.crash()
		a.kernel = kernel{boot: a.kernel.boot + 1}
	}
	b.truth()
}

// boot switches it on again.
func (b *box) boot() {
	if b.on {
		return
	}
	b.on = true
	b.w.note(b.name, "booted")
	if b.agent != nil && b.agent.m.power == off {
		b.agent.start()
	}
	b.truth()
}

func (b *box) hang(hung bool) {
	if b.hung != hung {
		b.hung = hung
		if hung {
			b.w.note(b.name, "hangs")
		} else {
			b.w.note(b.name, "answers again")
		}
		b.truth()
	}
}

// boxAt finds the appliance that is probed at an address.
func (w *world) boxAt(address string) *box {
	ip, _, _ := strings.Cut(address, ":")
	for _, b := range w.boxes {
		if b.ip == ip {
			return b
		}
	}
	return nil
}

// truth notes when the box went up or down.
func (b *box) truth() {
	if up := b.up(); up != b.was {
		b.was, b.since = up, b.w.now
	}
}
