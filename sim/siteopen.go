package sim

import (
	"fmt"
	"time"

	"github.com/understudy-ha/understudy/api"
)

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
