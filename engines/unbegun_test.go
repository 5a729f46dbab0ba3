package engines_test

import (
	"os"
	"slices"
	"testing"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/capture"
	"github.com/understudy-ha/understudy/engines"
	"github.com/understudy-ha/understudy/engines/site"
	"github.com/understudy-ha/understudy/vault"
)

// unbegun is a run in place whose point cannot be read.
func unbegun(w *world) (*run, api.SiteConfig) {
	v := w.vault("v", true)
	w.stream(v, "s2", vault.Base{Kind: "disk"}, 2, 2)
	c := api.SiteConfig{Machine: "default/db", UID: "u1", Instance: "r1", Vault: v, Stream: "s2", Seq: 77,
		Disks: []api.MachineDisk{{Name: "root", Path: w.disk(9)}}, InPlace: true, Mode: "off", Capture: "s3"}
	r := w.start("home", "src", site.New, siteSection(c))
	c.Mode = "writable"
	r.cfg.Section = siteSection(c)
	if err := r.e.Set(w.t.Context(), r.cfg); err == nil {
		w.t.Fatal("a position that is not there was opened")
	}
	return r, c
}

// TestARunThatNeverBeganIsInNobodysWay: another point of the same stream can be begun from, in place.
func TestARunThatNeverBeganIsInNobodysWay(t *testing.T) {
	w := newWorld(t)
	r, c := unbegun(w)
	c.Instance, c.Seq = "r2", 3
	r.set(siteSection(c))
	r.begins(2, 2, 9)
}

// TestARunThatMayHaveBegunIsNotForgotten: where the mark of what lies here cannot be read, nobody says that there is nothing to hand over.
func TestARunThatMayHaveBegunIsNotForgotten(t *testing.T) {
	w := newWorld(t)
	r, c := unbegun(w)
	w.ok(r.e.Close(t.Context()))
	marks, err := r.home.OpenMarks()
	w.ok(err)
	w.ok(marks.Set("run", "{"))
	r.e, err = site.New(t.Context(), r.home)
	w.ok(err)
	c.Mode = "readonly"
	r.cfg.Section = siteSection(c)
	if err := r.e.Set(t.Context(), r.cfg); err == nil || r.e.State().Phase == "stopped" {
		t.Errorf("its mark cannot be read: %v, and it is %s", err, r.e.State().Phase)
	}
}

// TestARunThatNeverBeganComesToRest: it is taken back, and asked for its past. It has none; the disks may differ everywhere, and are as they were.
func TestARunThatNeverBeganComesToRest(t *testing.T) {
	w := newWorld(t)
	r, c := unbegun(w)
	c.Mode = "readonly"
	r.set(siteSection(c))
	r.until("rest", func(s api.EngineState) bool { return s.Phase == "stopped" })
	back := w.vault("back", true)
	c.Yield = &api.YieldConfig{Branch: "u1-b4", Home: c.Vault, Into: back, For: "s4"}
	r.set(siteSection(c))
	r.until("handed over", func(s api.EngineState) bool { return s.Phase == "yielded" && s.Done == "u1-b4" })
	o, err := r.cfg.OpenVault(t.Context(), back, "")
	w.ok(err)
	defer o.Close()
	b, err := o.GetMail(t.Context(), "s4", engines.MailBlocks)
	w.ok(err)
	l, err := engines.DecodeLetter(b, "u1")
	w.ok(err)
	if want := []capture.Range{{Len: diskSize}}; !slices.Equal(l.Ranges, want) || len(l.Hashes) > 0 {
		t.Errorf("the letter says %+v with %d hashes, want %+v with none", l.Ranges, len(l.Hashes), want)
	}
	c.Mode, c.Yield, c.Instance = "discard", nil, "r1"
	r.set(siteSection(c))
	r.until("discarded", func(s api.EngineState) bool { return s.Phase == "discarded" })
	disk, err := os.ReadFile(c.Disks[0].Path)
	w.ok(err)
	w.same("the disk", disk, slices.Repeat([]byte{9}, diskSize))
	marks, err := r.home.OpenMarks()
	w.ok(err)
	if run := marks.Get("run"); run != "" {
		t.Errorf("it counts as a run that lies here: %s", run)
	}
}
