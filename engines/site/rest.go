package site

import (
	"context"
	"fmt"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/capture"
	"github.com/understudy-ha/understudy/engines"
	"github.com/understudy-ha/understudy/nbd"
)

// rest is for a run that is over and never began here: its point was gone, or the vault out of reach, until somebody took it back. Nothing lies
// here of it and it wrote nothing, so there is nothing to open, and no branch to leave. Its disks are as an earlier run left them, and nobody
// knows any more what the other side has of that: the letter says that they may differ everywhere, and no hashes.
func (e *engine) rest(ctx context.Context, c engines.Config) error {
	p := c.Section.Site
	if _, _, err := e.lying(); err != nil { // then it may have begun, and written
		return err
	}
	how := "stopped"
	if p.Yield != nil {
		how = "yielded"
	}
	if how != e.ended {
		e.setEnded("")
	}
	if err := e.letGo(ctx, p); err != nil {
		return err
	}
	if y := p.Yield; y != nil && e.marks.Get("yield") != y.Branch {
		if err := e.writeLetter(ctx, c, *y); err != nil {
			return fmt.Errorf("hand over: %w", err)
		}
		if err := e.marks.Set("yield", y.Branch); err != nil {
			return err
		}
	}
	e.setEnded(how)
	return nil
}

// writeLetter says of all disks that nothing is known.
func (e *engine) writeLetter(ctx context.Context, c engines.Config, y api.YieldConfig) error {
	l := engines.Letter{Machine: c.Section.Site.UID, Granule: granule}
	for i, d := range c.Section.Site.Disks {
		f, err := nbd.OpenFile(e.path(d), nbd.FileOptions{ReadOnly: true})
		if err != nil {
			return fmt.Errorf("disk %s: %w", d.Name, err)
		}
		l.Ranges = append(l.Ranges, capture.Range{Disk: uint16(i), Len: f.Size()})
		if err := f.Close(); err != nil {
			return fmt.Errorf("disk %s: %w", d.Name, err)
		}
	}
	b, err := l.Encode()
	if err != nil {
		return err
	}
	into, err := c.OpenVault(ctx, y.Into, "")
	if err != nil {
		return err
	}
	defer into.Close()
	return into.PutMail(ctx, y.For, engines.MailBlocks, b)
}
