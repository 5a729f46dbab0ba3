package sim

import (
	"errors"
	"fmt"

	"github.com/understudy-ha/understudy/api"
)

// runKey names a run whose files lie in a home, or whose changes the old primary's disks have.
func runKey(c *api.SiteConfig) string {
	return fmt.Sprintf("%s %s %d %v %s", c.Instance, c.Stream, c.Seq, c.InPlace, c.Vault.Name)
}

type lying struct {
	instance, stream string
	seq              uint64
	inPlace          bool
	vault            string
}

func parseRun(text string) (l lying, ok bool) {
	n, _ := fmt.Sscanf(text, "%s %s %d %t %s", &l.instance, &l.stream, &l.seq, &l.inPlace, &l.vault)
	return l, n == 5
}

func (p *process) runs(c *api.SiteConfig) bool { return p.c.home.marks["run"] == runKey(c) }

func (p *process) takeSite(c *api.SiteConfig, done func(error)) {
	if c.Mode == "off" || c.Mode == "discard" {
		if want := map[string]string{"off": "stopped", "discard": "discarded"}[c.Mode]; want != p.ended {
			p.ended = ""
		}
		p.stopVM(c.StopTimeout.D(), func() {
			p.close()
			p.finishRun(c, func(err error) {
				if err == nil {
					p.ended = "stopped"
					if c.Mode == "discard" {
						p.discard()
						p.ended = "discarded"
					}
				}
				done(err)
			})
		})
		return
	}
	if c.Mode == "readonly" && !p.runs(c) {
		p.rest(c, done)
		return
	}
	p.ended = ""
	s := p.siteSpec(c)
	fits := p.live != nil && p.live.spec.stream == s.stream
	if p.live != nil && (!p.runs(c) || !fits) && !p.cfg.confirmed && !c.Drill && s.access != readOnly && p.live.access == writable {
		done(errUnconfirmed)
		return
	}
	if p.live != nil && !p.runs(c) {
		p.stopVM(c.StopTimeout.D(), func() {
			p.close()
			p.openSite(c, s, done)
		})
		return
	}
	if p.live != nil && !fits {
		p.close()
	}
	p.openSite(c, s, done)
}

// rest is for a run that is over and never began here: nothing lies here of it, and nobody knows what the disks hold.
func (p *process) rest(c *api.SiteConfig, done func(error)) {
	how := map[bool]string{true: "yielded", false: "stopped"}[c.Yield != nil]
	if how != p.ended {
		p.ended = ""
	}
	p.stopVM(c.StopTimeout.D(), func() {
		p.close()
		if c.Yield == nil || p.c.home.marks["yield"] == c.Yield.Branch {
			p.ended = how
			done(nil)
			return
		}
		e, n := p.c.h.n.w.estate, p.c.h.n
		into := e.vaults[c.Yield.Into.Name]
		into.ask(n, func(err error) {
			if p.gone {
				return
			}
			if err == nil {
				into.mail[blocksMail(c.Yield.For)] = &letter{where: everything(), has: map[int]int{}}
				p.c.home.marks["yield"] = c.Yield.Branch
				e.unbegun[c.Yield.Branch] = true
				e.w.note(n.m.name, "yields", p.c.key, c.Yield.Branch)
				p.ended = how
			}
			done(err)
		})
	})
}

// openSite opens the disks of a run, if they are not, and makes the machine live as s wants it.
func (p *process) openSite(c *api.SiteConfig, s liveSpec, done func(error)) {
	if p.live == nil {
		p.openRun(c, func(disk *image, err error) {
			if err != nil {
				done(err)
				return
			}
			p.open(s, disk, false)
			p.settleSite(c, s, done)
		})
		return
	}
	p.settleSite(c, s, done)
}

func (p *process) settleSite(c *api.SiteConfig, s liveSpec, done func(error)) {
	p.live.set(s)
	p.hydrate(c)
	p.answer(c)
	p.shipTurn(c)
	done(nil)
}

func (p *process) siteSpec(c *api.SiteConfig) liveSpec {
	s := liveSpec{stream: c.Capture, epoch: p.cfg.section.Generation, vm: c.VM != nil, run: c.Run, grace: c.StopTimeout.D(), yield: c.Yield}
	if s.stream == "" {
		s.stream = c.Instance
	}
	switch {
	case c.Mode == "readonly":
		s.access = readOnly
	case c.Drill || p.cfg.confirmed:
		s.access = writable
	}
	if c.Ship != nil && p.c.home.marks["ship"] == c.Capture {
		s.servers, s.crashEvery, s.pointNow = c.Ship.ProcessServers, c.Ship.CrashEvery.D(), c.Ship.PointNow
	}
	return s
}

var errDiskTaken = errors.New("another engine of this node has the disk open")

// taken tells whether a process has the disk open.
func (h *house) taken(d *image) bool {
	for _, c := range h.kids {
		if c.proc != nil && c.proc.live != nil && c.proc.live.disk == d {
			return true
		}
	}
	return false
}

var errInPlace = errors.New("the disks were brought to another point of the stream in place")
