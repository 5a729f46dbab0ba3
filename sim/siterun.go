package sim

import (
	"errors"
	"fmt"
	"time"

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

// openRun makes room for the run, reads the point, and gives the disk that it begins with.
func (p *process) openRun(c *api.SiteConfig, then func(*image, error)) {
	h, n := p.c.home, p.c.h.n
	was, ok := parseRun(h.marks["run"])
	same := ok && p.runs(c)
	if c.InPlace && p.c.h.taken(p.c.h.disks[c.UID]) {
		then(nil, errDiskTaken)
		return
	}
	if same && h.marks["hydrated"] != "" {
		then(p.diskOf(c), nil)
		return
	}
	v := n.w.estate.vaults[c.Vault.Name]
	v.ask(n, func(err error) {
		if p.gone {
			return
		}
		if err == nil && !same && ok && was.inPlace {
			err = p.finish(c, was)
		}
		var point view
		if err == nil {
			if !c.Drill {
				err = v.fence(c.Stream, p.cfg.section.Generation)
			}
			if err == nil {
				point, err = v.view(c.Stream, c.Seq)
			}
		}
		if err == nil && c.InPlace && p.c.h.taken(p.c.h.disks[c.UID]) {
			err = errDiskTaken
		}
		if err != nil {
			then(nil, err)
			return
		}
		v.pins[p.c.pinKey()] = streamBase{"", c.Stream, c.Seq}
		if !same {
			if ok {
				p.discard()
			}
			p.beginRun(c, point)
		}
		then(p.diskOf(c), nil)
	})
}

// finish makes the disks of an earlier run in place whole, so that nothing but they is needed any more.
func (p *process) finish(c *api.SiteConfig, was lying) error {
	switch h := p.c.home; {
	case c.InPlace && was.stream == c.Stream:
		return errInPlace
	case h.marks["hydrated"] == "":
		if _, err := p.c.h.n.w.estate.vaults[was.vault].view(was.stream, was.seq); err != nil {
			return fmt.Errorf("finish run %s: %w", was.instance, err)
		}
		h.marks["hydrated"] = "yes"
	}
	return nil
}

// pinKey names the reader of a point.
func (c *child) pinKey() string { return c.h.n.m.name + " " + c.key }

// finishRun makes disks in place whole before it is forgotten what they were made from.
func (p *process) finishRun(c *api.SiteConfig, then func(error)) {
	h, n := p.c.home, p.c.h.n
	was, ok := parseRun(h.marks["run"])
	if c.Mode != "discard" || !ok || !was.inPlace || h.marks["hydrated"] != "" {
		then(nil)
		return
	}
	v := n.w.estate.vaults[was.vault]
	v.ask(n, func(err error) {
		if p.gone {
			return
		}
		if err == nil {
			_, err = v.view(was.stream, was.seq)
		}
		then(err)
	})
}

// beginRun puts the point's content under the run: over the old primary's disk, or into files of its own.
func (p *process) beginRun(c *api.SiteConfig, point view) {
	h := p.c.home
	h.marks["run"], h.marks["hydrated"] = runKey(c), ""
	h.wrote, h.cap = [blocks]bool{}, nil
	disk := p.diskOf(c)
	if !c.InPlace {
		*disk = image{}
	}
	for b, cell := range point {
		if cell.has {
			disk[b] = cell.value
		}
	}
	p.c.h.n.w.estate.begun(p, c, *disk)
}

func (p *process) diskOf(c *api.SiteConfig) *image {
	if c.InPlace {
		return p.c.h.disks[c.UID]
	}
	return &p.c.home.disk
}

// discard takes a run's files away. Disks used in place are whole, and stay.
func (p *process) discard() {
	h := p.c.home
	h.cap, h.wrote, h.disk = nil, [blocks]bool{}, image{}
	delete(h.marks, "run")
	delete(h.marks, "hydrated")
}

// hydrate makes the files whole in a while; until then the point must be readable.
func (p *process) hydrate(c *api.SiteConfig) {
	h, n := p.c.home, p.c.h.n
	if !c.Hydrate || h.marks["hydrated"] != "" {
		return
	}
	run := h.marks["run"]
	p.after(n.w.between(5*time.Second, time.Minute), func() {
		if p.live == nil || h.marks["run"] != run || h.marks["hydrated"] != "" {
			return
		}
		v := n.w.estate.vaults[c.Vault.Name]
		v.ask(n, func(err error) {
			if p.gone || h.marks["run"] != run {
				return
			}
			if err != nil {
				p.hydrate(c)
				return
			}
			h.marks["hydrated"] = "yes"
			delete(v.pins, p.c.pinKey())
			n.w.note(n.m.name, "whole", p.c.key, c.Instance)
		})
	})
}

// answering is how the machine's service is.
type answering struct {
	asked bool
	yes   bool
}

// answer waits for the service: it comes up some time after the virtual machine.
func (p *process) answer(c *api.SiteConfig) {
	if c.Mode != "writable" || c.VM != nil && !c.Run {
		p.answers = answering{}
		return
	}
	if c.Check == nil || p.answers.asked {
		return
	}
	p.answers.asked = true
	w := p.c.h.n.w
	d := w.between(time.Second, 15*time.Second)
	if w.chance(w.faulty(0.1)) {
		d = w.between(time.Minute, 6*time.Minute) // it recovers first
	}
	p.after(d, func() {
		if p.answers.asked = false; p.live == nil {
			return
		}
		if p.live.runs() {
			p.answers.yes = true
			p.c.changed()
			return
		}
		if cur := p.cfg.section.Site; cur != nil {
			p.answer(cur)
		}
	})
}

func (p *process) siteState(c *api.SiteConfig, s *api.EngineState) {
	s.Phase, s.Instance = "opening", c.Instance
	ending := c.Mode == "off" || c.Mode == "discard"
	switch {
	case p.live != nil && !ending && p.runs(c):
		p.live.describe(s)
		if s.Hydrated = 50; p.c.home.marks["hydrated"] != "" {
			s.Hydrated = 100
		}
		p.sitePhase(c, s)
	case ending && p.ended == "":
		s.Phase = "stopping"
	case p.ended != "":
		s.Phase = p.ended
	case p.failing():
		s.Phase = "failed"
	}
}

func (p *process) sitePhase(c *api.SiteConfig, s *api.EngineState) {
	if s.Phase == "readonly" || s.Phase == "yielded" || s.Phase == "waiting" {
		return
	}
	switch {
	case c.VM == nil && !p.answers.yes:
		s.Phase = "running"
	case c.VM != nil && !c.Run && p.c.vm:
		s.Phase = "stopping"
	case c.VM != nil && !c.Run:
		s.Phase = "stopped"
	case p.answers.yes:
		s.Phase = "answering"
	case c.Check != nil || c.VM != nil && !p.c.vm:
		s.Phase = "booting"
	default:
		s.Phase = "running"
	}
	if s.Phase == "answering" || s.Phase == "running" && (c.VM == nil || p.c.vm) {
		p.c.h.n.w.estate.cameUp(p.c, c.Instance)
	}
}
