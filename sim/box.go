package sim

import "strings"

// box is an appliance: a virtual machine that forwards, or does not.
type box struct {
	w     *world
	name  string
	probe place // where it is probed
	ip    string
	on    bool
	hung  bool
	agent *node // nil: somebody else's appliance
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
	b.w.check.truth(b)
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
	b.w.check.truth(b)
}

func (b *box) hang(hung bool) {
	if b.hung != hung {
		b.hung = hung
		if hung {
			b.w.note(b.name, "hangs")
		} else {
			b.w.note(b.name, "answers again")
		}
		b.w.check.truth(b)
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
