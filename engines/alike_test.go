package engines_test

import (
	"slices"
	"testing"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/engines/processserver"
	"github.com/understudy-ha/understudy/engines/protect"
	"github.com/understudy-ha/understudy/engines/site"
	"github.com/understudy-ha/understudy/vault"
)

// TestWhatWasAlikeIsShippedAgain: a block in which both sides wrote the same after the point is not sent on the way back, since the old
// primary has it. The recovery site's vault has not: once home, the machine ships it.
func TestWhatWasAlikeIsShippedAgain(t *testing.T) {
	w := newWorld(t)
	atR, atP := w.vault("vr", false), w.vault("vp", false)
	point := w.stream(atR, "u1-1", vault.Base{}, 1, 1, 1)
	w.stream(atR, "u1-1", vault.Base{}, 7) // after the point
	path := w.disk(0)
	disks := []api.MachineDisk{{Name: "root", Path: path}}
	serve := func(name, sender, listen string, s api.AcceptedStream) {
		s.Machine, s.UID, s.Node = "default/db", "u1", "default/"+sender
		w.start(name, name, processserver.New, api.Section{Engine: api.EngineProcessServer, Owner: "o", Generation: 1,
			ProcessServer: &api.ProcessServerConfig{Name: name, Listen: listen, Streams: []api.AcceptedStream{s}}})
	}
	// The old primary, as it was left: all of its disk counts as changed here.
	pc := api.ProtectConfig{Machine: "default/db", UID: "u1", Stream: "u1-1", Mode: "writable", Disks: disks}
	section := func(generation int64) api.Section {
		c := pc
		return api.Section{Engine: api.EngineProtect, Owner: "o", Generation: generation, Protect: &c}
	}
	src := w.start("src", "src", protect.New, section(1))
	g := src.guest()
	for i, b := range []byte{7, 1, 1} {
		w.ok(g.WriteAt(t.Context(), slices.Repeat([]byte{b}, block), int64(i)*block, false))
	}
	// The recovered machine writes the same to the first block, and something else to the second.
	over := api.SiteConfig{Machine: "default/db", UID: "u1", Instance: "r1", Vault: w.vault("vr", true), Stream: "u1-1", Seq: point,
		Disks: []api.MachineDisk{{Name: "root"}}, Mode: "writable", Capture: "u1-2", Hydrate: true}
	rec := w.start("rec", "rec", site.New, siteSection(over))
	rg := rec.guest()
	for i, b := range []byte{7, 9} {
		w.ok(rg.WriteAt(t.Context(), slices.Repeat([]byte{b}, block), int64(i)*block, false))
	}
	pc.Mode, pc.Yield = "readonly", &api.YieldConfig{Branch: "u1-b1", Home: atR, Into: atP, For: "u1-2"}
	src.set(section(2))
	p2 := w.port()
	serve("psr", "rec", p2, api.AcceptedStream{Stream: "u1-2", Epoch: 2, Base: "disk", Vault: atP})
	over.Ship = &api.ShipConfig{ProcessServers: []string{p2}, Into: atP, Base: "disk", PointNow: "home"}
	rec.set(siteSection(over))
	st := rec.until("point", func(s api.EngineState) bool { return s.Done == "home" && s.Stored >= s.LastPointSeq })
	if st.ResyncBytes == st.DifferingBytes {
		t.Fatalf("nothing was alike: %+v", st)
	}
	// Home again, and protected again on what the first vault has.
	over.Mode, over.Ship = "readonly", nil
	rec.set(siteSection(over))
	pc.Mode, pc.Yield = "off", nil
	src.set(section(3))
	p3 := w.port()
	base := api.AcceptedStream{Stream: "u1-3", Epoch: 2, Base: "stream", BaseStream: "u1-1", BaseSeq: point, Vault: atR}
	serve("psp", "src", p3, base)
	back := api.SiteConfig{Machine: "default/db", UID: "u1", Instance: "p2", Vault: w.vault("vp", true), Stream: "u1-2", Seq: st.LastPointSeq,
		Disks: disks, InPlace: true, Mode: "writable", Capture: "u1-3", Hydrate: true,
		Ship: &api.ShipConfig{ProcessServers: []string{p3}, Into: atR, Base: "stream", BaseStream: "u1-1", BaseSeq: point, PointNow: "again"}}
	home := w.start("home", "src", site.New, siteSection(back))
	home.begins(7, 9, 1)
	st = home.until("point", func(s api.EngineState) bool { return s.Done == "again" && s.Stored >= s.LastPointSeq })
	w.same("protected again", w.image(atR, "u1-3", st.LastPointSeq), w.read(home.guest()))
}
