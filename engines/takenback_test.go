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

// TestAFailbackTakenBack: the machine ran at home for a while, then goes on at the recovery site with what it had there; protected again, and home
// again, it has what it wrote there, and so has the first vault once it ships on what that has.
func TestAFailbackTakenBack(t *testing.T) {
	w := newWorld(t)
	atR, atP := w.vault("vr", false), w.vault("vp", false)
	point := w.stream(atR, "u1-1", vault.Base{}, 1, 1, 1, 1)
	disks := []api.MachineDisk{{Name: "root", Path: w.disk(0)}}
	serve := func(name, sender string, s api.AcceptedStream) string {
		at := w.port()
		s.Machine, s.UID, s.Node, s.Epoch = "default/db", "u1", "default/"+sender, 2
		w.start(name, name, processserver.New, api.Section{Engine: api.EngineProcessServer, Owner: "o", Generation: 1,
			ProcessServer: &api.ProcessServerConfig{Name: name, Listen: at, Streams: []api.AcceptedStream{s}}})
		return at
	}
	fill := func(r *run, blocks ...byte) {
		g := r.guest()
		for i, b := range blocks {
			if b != 0 {
				w.ok(g.WriteAt(t.Context(), slices.Repeat([]byte{b}, block), int64(i)*block, false))
			}
		}
		w.ok(g.Close())
	}
	shipped := func(s api.EngineState) bool { return s.Done != "" && s.Stored >= s.LastPointSeq && s.LastPointSeq > 0 }

	// The old primary; the recovered machine, which ships back.
	pc := api.ProtectConfig{Machine: "default/db", UID: "u1", Stream: "u1-1", Mode: "writable", Disks: disks}
	protected := func(generation int64) api.Section {
		c := pc
		return api.Section{Engine: api.EngineProtect, Owner: "o", Generation: generation, Protect: &c}
	}
	src := w.start("src", "src", protect.New, protected(1))
	fill(src, 1, 1, 1, 1)
	over := api.SiteConfig{Machine: "default/db", UID: "u1", Instance: "r1", Vault: w.vault("vr", true), Stream: "u1-1", Seq: point,
		Disks: []api.MachineDisk{{Name: "root"}}, Mode: "writable", Capture: "u1-2", Hydrate: true}
	rec := w.start("rec", "rec", site.New, siteSection(over))
	fill(rec, 2, 2) // before the failback
	pc.Mode, pc.Yield = "readonly", &api.YieldConfig{Branch: "u1-b2", Home: atR, Into: atP, For: "u1-2"}
	src.set(protected(2))
	over.Ship = &api.ShipConfig{ProcessServers: []string{serve("ps2", "rec", api.AcceptedStream{Stream: "u1-2", Base: "disk", Vault: atP})}, Into: atP, Base: "disk", PointNow: "one"}
	rec.set(siteSection(over))
	first := rec.until("point", shipped).LastPointSeq

	// Home, where it writes; and taken back.
	over.Mode, over.Ship = "readonly", nil
	rec.set(siteSection(over))
	pc.Mode, pc.Yield = "off", nil
	src.set(protected(3))
	back := api.SiteConfig{Machine: "default/db", UID: "u1", Instance: "p3", Vault: w.vault("vp", true), Stream: "u1-2", Seq: first, Disks: disks,
		InPlace: true, Mode: "writable", Capture: "u1-3", Hydrate: true}
	home := w.start("home", "src", site.New, siteSection(back))
	home.begins(2, 2, 1, 1)
	fill(home, 0, 7, 7)
	back.Mode, back.Hydrate = "readonly", false
	home.set(siteSection(back))
	over.Mode, over.Capture = "writable", "u1-4"
	rec.set(siteSection(over))
	rec.begins(2, 2, 1, 1)
	fill(rec, 0, 0, 0, 5)

	// Protected the other way round once more, and home once more.
	back.Yield = &api.YieldConfig{Branch: "u1-b4", Home: atR, Into: atP, For: "u1-4"}
	home.set(siteSection(back))
	over.Ship = &api.ShipConfig{ProcessServers: []string{serve("ps4", "rec", api.AcceptedStream{Stream: "u1-4", Base: "disk", Vault: atP})}, Into: atP, Base: "disk", PointNow: "two"}
	rec.set(siteSection(over))
	second := rec.until("point", shipped).LastPointSeq
	over.Mode, over.Ship = "readonly", nil
	rec.set(siteSection(over))
	again := back
	again.Instance, again.Stream, again.Seq, again.Capture, again.Mode, again.Hydrate, again.Yield = "p5", "u1-4", second, "u1-5", "writable", true, nil
	home.set(siteSection(again))
	home.begins(2, 2, 1, 5)
	again.Ship = &api.ShipConfig{ProcessServers: []string{serve("ps5", "src", api.AcceptedStream{Stream: "u1-5", Base: "stream", BaseStream: "u1-1", BaseSeq: point, Vault: atR})},
		Into: atR, Base: "stream", BaseStream: "u1-1", BaseSeq: point, PointNow: "three"}
	home.set(siteSection(again))
	third := home.until("point", shipped).LastPointSeq
	w.same("the first vault", w.image(atR, "u1-5", third), w.read(home.guest()))
}
