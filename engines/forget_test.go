package engines_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/engines"
	"github.com/understudy-ha/understudy/engines/protect"
	"github.com/understudy-ha/understudy/engines/site"
	"github.com/understudy-ha/understudy/vault"
)

// TestAnotherMachineOfTheName: a machine that was deleted and is protected anew, with a disk more, begins anew; and one that is deleted leaves
// nothing but its disks.
func TestAnotherMachineOfTheName(t *testing.T) {
	w := newWorld(t)
	path, more := w.disk(0), filepath.Join(w.dir, "more.raw")
	w.ok(os.WriteFile(more, make([]byte, diskSize), 0o600))
	pc := api.ProtectConfig{Machine: "default/db", UID: "u1", Stream: "u1-1", Mode: "writable", Disks: []api.MachineDisk{{Name: "root", Path: path}}}
	section := func(generation int64) api.Section {
		c := pc
		return api.Section{Engine: api.EngineProtect, Owner: "o", Generation: generation, Protect: &c}
	}
	r := w.start("src", "src", protect.New, section(4))
	g := r.guest()
	w.write(g, 1, 20)
	want := w.read(g)
	w.ok(g.Close())
	pc.UID, pc.Stream = "u2", "u2-1"
	pc.Disks = append(pc.Disks, api.MachineDisk{Name: "more", Path: more})
	r.cfg.Confirmed = false
	r.cfg.Section = section(6)
	if err := r.e.Set(t.Context(), r.cfg); err == nil {
		t.Error("the other machine's disks are taken without a leader's word")
	}
	r.cfg.Confirmed = true
	r.set(section(6))
	w.same("the disk", w.read(r.guest()), want)
	if s := r.e.State(); s.Stream != "u2-1" || s.Captured != 0 {
		t.Errorf("it goes on as %+v", s)
	}
	pc = api.ProtectConfig{Machine: "default/db", UID: "u2", Mode: "discard", VM: &api.VirtualMachine{}}
	r.set(section(6))
	if s := r.e.State(); s.Phase != "discarded" {
		t.Errorf("after it was deleted: %+v", s)
	}
	left, err := os.ReadDir(r.home.Data())
	w.ok(err)
	if len(left) > 0 {
		t.Errorf("%s is left", left[0].Name())
	}
	raw, err := os.ReadFile(path)
	w.ok(err)
	w.same("the file", raw, want)
}

// TestOneEngineADisk: what runs in place at home and what protects a machine of that name never have a disk open together; what ran in
// place leaves a whole disk.
func TestOneEngineADisk(t *testing.T) {
	w := newWorld(t)
	v := w.vault("v", true)
	path := w.disk(9)
	disks := []api.MachineDisk{{Name: "root", Path: path}}
	c := api.SiteConfig{Machine: "default/db", UID: "u1", Instance: "r1", Vault: v, Stream: "s2", Seq: w.stream(v, "s2", vault.Base{Kind: "disk"}, 0, 4),
		Disks: disks, InPlace: true, Mode: "writable", Capture: "s3", Hydrate: true}
	r := w.start("home", "src", site.New, siteSection(c))
	r.until("hydrated", func(s api.EngineState) bool { return s.Hydrated == 100 })
	pc := api.ProtectConfig{Machine: "default/db", UID: "u2", Stream: "u2-1", Mode: "writable", Disks: disks}
	home := engines.Home(filepath.Join(w.dir, "src"))
	w.ok(os.MkdirAll(home.Data(), 0o700))
	e, err := protect.New(t.Context(), home)
	w.ok(err)
	defer e.Close(t.Context())
	cfg := engines.Config{Confirmed: true, Section: api.Section{Engine: api.EngineProtect, Owner: "o", Generation: 5, Protect: &pc}}
	if err := e.Set(t.Context(), cfg); !errors.Is(err, engines.ErrDiskTaken) || !strings.Contains(err.Error(), path) {
		t.Fatalf("a disk that another engine has: %v", err)
	}
	c = api.SiteConfig{Machine: "default/db", UID: "u1", Mode: "discard", InPlace: true, VM: &api.VirtualMachine{}}
	r.cfg.Secrets = map[string]map[string]string{}
	r.cfg.Section = siteSection(c)
	w.ok(r.e.Set(t.Context(), r.cfg))
	if s := r.e.State(); s.Phase != "discarded" {
		t.Errorf("what ran in place: %+v", s)
	}
	if _, err := os.Stat(path + ".map"); err == nil {
		t.Error("its map stays")
	}
	w.ok(e.Set(t.Context(), cfg))
	(&run{w: w, e: e, home: home}).begins(9, 4, 9)
}

// TestDisksThatAreNotWholeStay: what ran in place, and lacks its vault, is not let go of.
func TestDisksThatAreNotWholeStay(t *testing.T) {
	w := newWorld(t)
	v := w.vault("v", true)
	c := api.SiteConfig{Machine: "default/db", UID: "u1", Instance: "r1", Vault: v, Stream: "s2", Seq: w.stream(v, "s2", vault.Base{Kind: "disk"}, 0, 4),
		Disks: []api.MachineDisk{{Name: "root", Path: w.disk(9)}}, InPlace: true, Mode: "writable", Capture: "s3"}
	r := w.start("home", "src", site.New, siteSection(c))
	r.cfg.Secrets = map[string]map[string]string{}
	r.cfg.Section = siteSection(api.SiteConfig{Machine: "default/db", UID: "u1", Mode: "discard", InPlace: true})
	if err := r.e.Set(t.Context(), r.cfg); err == nil || !strings.Contains(err.Error(), "whole") {
		t.Errorf("they are let go of: %v", err)
	}
	r.set(siteSection(c))
	r.begins(9, 4, 9)
}
