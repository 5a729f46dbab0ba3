package site

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/engines"
	"github.com/understudy-ha/understudy/volume"
)

// markRun is the run whose files lie in the home, or whose changes the old primary's disks have.
const markRun = "run"

// hydrated is the mark that says that the files are the whole disks.
const hydrated = "hydrated"

// runOf is what files belong to: one run from one point. It is kept as JSON, and never holds a secret.
func runOf(p *api.SiteConfig) api.SiteConfig {
	return api.SiteConfig{Instance: p.Instance, Vault: p.Vault, Stream: p.Stream, Seq: p.Seq, InPlace: p.InPlace, Disks: p.Disks}
}

func same(a, b api.SiteConfig) bool {
	return a.Instance == b.Instance && a.Stream == b.Stream && a.Seq == b.Seq && a.InPlace == b.InPlace
}

// lying tells whose files lie here; false: nobody's.
func (e *engine) lying() (was api.SiteConfig, ok bool, err error) {
	text := e.marks.Get(markRun)
	if text == "" {
		return was, false, nil
	}
	if err := json.Unmarshal([]byte(text), &was); err != nil {
		return was, false, fmt.Errorf("mark %s: %w", markRun, err)
	}
	return was, true, nil
}

// runs tells whether the files are those of p's run.
func (e *engine) runs(p *api.SiteConfig) bool {
	was, ok, err := e.lying()
	return err == nil && ok && same(was, runOf(p))
}

// replace makes room for c's run where another's files lie: the node may not have heard that that one is over. Nothing of the
// other is taken for this one's. A disk that was used in place keeps what the other run made of it.
func (e *engine) replace(ctx context.Context, c engines.Config) error {
	p := c.Section.Site
	was, ok, err := e.lying()
	if err != nil || ok && same(was, runOf(p)) {
		return err
	}
	if ok && !was.InPlace {
		if err := e.discard(was.Disks, false); err != nil {
			return err
		}
	}
	if ok && was.InPlace {
		if p.InPlace && was.Stream == p.Stream {
			return fmt.Errorf("the disks were brought to %s@%d in place and written since; they cannot be brought to %s@%d", was.Stream, was.Seq, p.Stream, p.Seq)
		}
		if err := e.finish(ctx, c, was); err != nil {
			return fmt.Errorf("finish run %s on the same disks: %w", was.Instance, err)
		}
	}
	next, err := json.Marshal(runOf(p))
	if err != nil {
		return err
	}
	return e.marks.Set(markRun, string(next), hydrated, "")
}

// finish makes the disks of an earlier run in place whole, so that nothing but they is needed any more.
func (e *engine) finish(ctx context.Context, c engines.Config, was api.SiteConfig) error {
	if e.marks.Get(hydrated) == "" {
		view, err := openView(ctx, c, was.Vault, was.Stream, was.Seq)
		if err != nil {
			return err
		}
		defer view.Close()
		volumes, err := openVolumes(ctx, view.View, &was, e.path)
		for _, v := range volumes {
			if err == nil {
				err = v.Hydrate(ctx, 0, nil)
			}
			if err == nil && !v.Complete() {
				err = volume.ErrNoBase
			}
			err = errors.Join(err, v.Close())
		}
		if err == nil {
			err = e.marks.Set(hydrated, "yes")
		}
		if err != nil {
			return err
		}
	}
	for _, d := range was.Disks {
		if err := os.Remove(e.path(d) + ".map"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// discard takes a run's files away. Disks used in place are the old primary's: they stay, whole, and only then it is forgotten what was
// known of them. Whoever says so goes by what lies here.
func (e *engine) discard(disks []api.MachineDisk, inPlace bool) error {
	if inPlace {
		was, ok, err := e.lying()
		switch {
		case err != nil:
			return err
		case ok && was.InPlace:
			e.mu.Lock()
			c := e.cfg
			e.mu.Unlock()
			if err := e.finish(e.ctx, c, was); err != nil {
				return fmt.Errorf("make the disks of run %s whole: %w", was.Instance, err)
			}
		case ok:
			disks, inPlace = was.Disks, false
		}
	}
	if !inPlace {
		if err := e.marks.Set(hydrated, ""); err != nil { // before the files go: what comes next starts from its own point
			return err
		}
		for _, d := range disks {
			path := e.path(d)
			if _, err := os.Stat(path + ".map"); errors.Is(err, os.ErrNotExist) {
				continue // none of ours
			}
			if err := volume.Remove(path); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(os.RemoveAll(e.home.Data()), os.MkdirAll(e.home.Data(), 0o700)); err != nil {
		return err
	}
	return e.marks.Set(markRun, "", hydrated, "")
}
