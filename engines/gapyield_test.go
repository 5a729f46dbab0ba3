package engines_test

import (
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/engines"
	"github.com/understudy-ha/understudy/engines/processserver"
	"github.com/understudy-ha/understudy/engines/protect"
	"github.com/understudy-ha/understudy/engines/site"
)

// TestLostWhileAGapCloses: what the source had shipped of a gap that never closed is in no recovery point, and not dirty at the source any
// more. The two sides compare it all the same, and the branch has it.
func TestLostWhileAGapCloses(t *testing.T) {
	w := newWorld(t)
	atR, atP := w.vault("vr", false), w.vault("vp", false)
	path := w.disk(0)
	disks := []api.MachineDisk{{Name: "root", Path: path}}
	ps := func(name, node, sender, listen string, kbps int64, s api.AcceptedStream) *run {
		s.Machine, s.UID, s.Node = "default/db", "u1", "default/"+sender
		c := &api.ProcessServerConfig{Name: name, Listen: listen, Streams: []api.AcceptedStream{s}}
		if kbps > 0 {
			c.Bandwidth = []api.BandwidthWindow{{From: "00:00", To: "24:00", Kbps: kbps}}
		}
		return w.start(name, node, processserver.New, api.Section{Engine: api.EngineProcessServer, Owner: "o", Generation: 1, ProcessServer: c})
	}
	p1 := w.port()
	forward := api.AcceptedStream{Stream: "u1-1", Epoch: 1, Base: "none", Vault: atR}
	psP := ps("psp", "psp", "src", p1, 0, forward)
	pc := api.ProtectConfig{Machine: "default/db", UID: "u1", Stream: "u1-1", Mode: "writable", Disks: disks, ProcessServers: []string{p1}}
	section := func(generation int64) api.Section {
		c := pc
		return api.Section{Engine: api.EngineProtect, Owner: "o", Generation: generation, Protect: &c}
	}
	src := w.start("src", "src", protect.New, section(1))
	g := src.guest()
	w.write(g, 1, 100)
	src.until("protected", func(s api.EngineState) bool { return s.Phase == "protected" })
	pc.PointNow = "first"
	src.set(section(1))
	point := src.until("point", func(s api.EngineState) bool { return s.Done == "first" && s.Stored >= s.LastPointSeq }).LastPointSeq

	// The link is cut, the capture dies, and the gap that this leaves is closed slowly until the site is lost.
	w.ok(psP.e.Close(t.Context()))
	w.write(g, 2, 250)
	w.ok(g.Close())
	w.ok(src.e.Close(t.Context()))
	src = w.start("src", "src", protect.New, section(1))
	lost := w.read(src.guest())
	psP = ps("psp", "psp", "src", p1, 4000, forward)
	o, err := engines.Config{}.OpenVault(t.Context(), atR, "")
	w.ok(err)
	defer o.Close()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		info, err := o.Stream(t.Context(), "u1-1")
		w.ok(err)
		if info.InGap() && info.Seq > info.Gaps[len(info.Gaps)-1].From+2 && src.e.State().Stored >= info.Seq {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing of the gap is shipped: %+v, %+v", info, src.e.State())
		}
	}
	w.ok(psP.e.Close(t.Context()))
	if info, err := o.Stream(t.Context(), "u1-1"); err != nil || !info.InGap() {
		t.Fatalf("the gap is closed already: %+v, %v", info, err)
	}

	over := api.SiteConfig{Machine: "default/db", UID: "u1", Instance: "r1", Vault: w.vault("vr", true), Stream: "u1-1", Seq: point,
		Disks: []api.MachineDisk{{Name: "root"}}, Mode: "writable", Capture: "u1-2", Hydrate: true}
	rec := w.start("rec", "rec", site.New, siteSection(over))
	rg := rec.guest()
	w.write(rg, 3, 5)
	pc.Mode, pc.PointNow, pc.ProcessServers = "readonly", "", nil
	pc.Yield = &api.YieldConfig{Branch: "u1-b1", Home: atR, Into: atP, For: "u1-2"}
	src.set(section(2))
	p2 := w.port()
	ps("psr", "psr", "rec", p2, 0, api.AcceptedStream{Stream: "u1-2", Epoch: 2, Base: "disk", Vault: atP})
	over.Ship = &api.ShipConfig{ProcessServers: []string{p2}, Into: atP, Base: "disk", PointNow: "home"}
	rec.set(siteSection(over))
	src.until("handed over", func(s api.EngineState) bool { return s.Done == "u1-b1" })
	w.same("the branch", w.image(atR, "u1-b1", w.end(atR, "u1-b1")), lost)
	st := rec.until("point", func(s api.EngineState) bool { return s.Done == "home" && s.Stored >= s.LastPointSeq })
	want := w.read(rg)

	over.Mode, over.Ship = "readonly", nil
	rec.set(siteSection(over))
	pc.Mode, pc.Yield = "off", nil
	src.set(section(3))
	home := w.start("home", "src", site.New, siteSection(api.SiteConfig{Machine: "default/db", UID: "u1", Instance: "p2", Vault: w.vault("vp", true), Stream: "u1-2",
		Seq: st.LastPointSeq, Disks: disks, InPlace: true, Mode: "writable", Capture: "u1-3", Hydrate: true}))
	w.same("home", w.read(home.guest()), want)
}
