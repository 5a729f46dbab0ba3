package engines_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/engines"
	"github.com/understudy-ha/understudy/engines/protect"
	"github.com/understudy-ha/understudy/engines/site"
	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/vault"
)

const block = 64 << 10

// stream writes blocks full of one byte, and a point after them, whose position it gives.
func (w *world) stream(v api.VaultAccess, id string, base vault.Base, blocks ...byte) uint64 {
	w.t.Helper()
	v.KeyRef = ""
	o, err := engines.Config{}.OpenVault(w.t.Context(), v, "")
	w.ok(err)
	defer o.Close()
	wr, err := o.Writer(w.t.Context(), vault.StreamSpec{ID: id, Epoch: 1, Machine: vault.Machine{UID: "u1", Name: "default/db"},
		Disks: []vault.Disk{{ID: "root", Size: diskSize}}, Base: base})
	w.ok(err)
	defer wr.Close()
	var recs []journal.Record
	seq := wr.Position()
	now := time.Now()
	for i, b := range blocks {
		if b == 0 {
			continue
		}
		seq++
		recs = append(recs, journal.Record{Seq: seq, Kind: journal.Write, Off: int64(i) * block, Len: block, Data: slices.Repeat([]byte{b}, block), Time: now.UnixNano()})
	}
	seq++
	recs = append(recs, journal.Record{Seq: seq, Kind: journal.Point, Time: now.UnixNano(), Point: &journal.PointInfo{ID: id, At: now, Consistency: journal.Crash}})
	_, err = wr.Append(w.t.Context(), recs)
	w.ok(err)
	return seq
}

func (r *run) begins(with ...byte) {
	r.w.t.Helper()
	disk := r.w.read(r.guest())
	for i, b := range with {
		if disk[i*block] != b {
			r.w.t.Errorf("block %d: %d, want %d", i, disk[i*block], b)
		}
	}
}

func (w *world) disk(fill byte) string {
	path := filepath.Join(w.dir, "disk.raw")
	w.ok(os.WriteFile(path, slices.Repeat([]byte{fill}, diskSize), 0o600))
	return path
}

func siteSection(c api.SiteConfig) api.Section {
	return api.Section{Engine: api.EngineSite, Owner: "o", Generation: 2, Site: &c}
}

// TestAnotherRun: a node that never heard that a run is over does not take its files for those of the next one.
func TestAnotherRun(t *testing.T) {
	w := newWorld(t)
	v := w.vault("v", true)
	first, second := w.stream(v, "s1", vault.Base{}, 1, 1), w.stream(v, "s3", vault.Base{}, 3, 0, 3)
	c := api.SiteConfig{Machine: "default/db", UID: "u1", Instance: "r1", Vault: v, Stream: "s1", Seq: first, Disks: []api.MachineDisk{{Name: "root"}},
		Mode: "writable", Capture: "s2", Hydrate: true}
	r := w.start("rec", "rec", site.New, siteSection(c))
	r.begins(1, 1, 0)
	r.until("hydrated", func(s api.EngineState) bool { return s.Hydrated == 100 })
	c.Instance, c.Stream, c.Seq, c.Capture = "r2", "s3", second, "s4"
	r.set(siteSection(c))
	r.begins(3, 0, 3)
	r.until("hydrated", func(s api.EngineState) bool { return s.Hydrated == 100 && s.Instance == "r2" })
	w.ok(r.e.Close(t.Context()))
	r = w.start("rec", "rec", site.New, siteSection(c)) // and a new process finds the second run's
	r.begins(3, 0, 3)
}

// TestAnotherRunInPlace: the second time that a machine comes home, its disk has what it had at the first time and what changed since.
func TestAnotherRunInPlace(t *testing.T) {
	for _, hydrate := range []bool{true, false} { // with the first run whole, and not
		w := newWorld(t)
		v := w.vault("v", true)
		path := w.disk(9)
		first, second := w.stream(v, "s2", vault.Base{Kind: "disk"}, 2, 2), w.stream(v, "s4", vault.Base{Kind: "disk"}, 0, 4)
		c := api.SiteConfig{Machine: "default/db", UID: "u1", Instance: "r1", Vault: v, Stream: "s2", Seq: first, Disks: []api.MachineDisk{{Name: "root", Path: path}},
			InPlace: true, Mode: "writable", Capture: "s3", Hydrate: hydrate}
		r := w.start("home", "src", site.New, siteSection(c))
		if hydrate {
			r.until("hydrated", func(s api.EngineState) bool { return s.Hydrated == 100 })
		} else {
			w.ok(r.e.Close(t.Context()))
			r = w.start("home", "src", site.New, siteSection(c))
		}
		c.Mode = "readonly"
		r.set(siteSection(c))
		c.Instance, c.Stream, c.Seq, c.Capture, c.Mode, c.Hydrate = "r2", "s4", second, "s5", "writable", true
		r.set(siteSection(c))
		r.begins(2, 4, 9)
		c.Instance, c.Seq = "r3", 1
		r.cfg.Section = siteSection(c)
		if err := r.e.Set(t.Context(), r.cfg); err == nil || !strings.Contains(err.Error(), "cannot be brought to s4@1") {
			t.Errorf("another point of the same stream in place: %v", err)
		}
	}
}

// TestDiscardTakesOwnFilesAlone: a disk's path that was somebody else's file all along stays.
func TestDiscardTakesOwnFilesAlone(t *testing.T) {
	w := newWorld(t)
	v := w.vault("v", true)
	path := w.disk(9)
	c := api.SiteConfig{Machine: "default/db", UID: "u1", Instance: "r1", Vault: v, Stream: "s1", Seq: w.stream(v, "s1", vault.Base{}, 1),
		Disks: []api.MachineDisk{{Name: "root", Path: path}}, Mode: "discard"}
	w.start("rec", "rec", site.New, siteSection(c))
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file is gone: %v", err)
	}
}

// TestSiteSpeaksWhileItOpens: a vault that does not answer does not keep the engine from saying so.
func TestSiteSpeaksWhileItOpens(t *testing.T) {
	w := newWorld(t)
	v := w.vault("v", true)
	fifo := filepath.Join(w.dir, "v", "vault.json") // reading it waits for a writer
	w.ok(syscall.Mkfifo(fifo, 0o600))
	home := engines.Home(filepath.Join(w.dir, "rec"))
	w.ok(os.MkdirAll(home.Data(), 0o700))
	e, err := site.New(t.Context(), home)
	w.ok(err)
	set := make(chan error, 1)
	go func() {
		set <- e.Set(t.Context(), engines.Config{Confirmed: true, Secrets: map[string]map[string]string{"v": {"identity": w.key["v"].String()}},
			Section: siteSection(api.SiteConfig{Machine: "default/db", UID: "u1", Instance: "r1", Vault: v, Stream: "s1", Seq: 1, Mode: "writable",
				Disks: []api.MachineDisk{{Name: "root"}}})})
	}()
	time.Sleep(50 * time.Millisecond)
	said := make(chan api.EngineState, 1)
	go func() { said <- e.State() }()
	select {
	case s := <-said:
		if s.Phase != "opening" {
			t.Errorf("while it opens: %+v", s)
		}
	case <-time.After(5 * time.Second):
		t.Error("it does not say how it is")
	}
	f, err := os.OpenFile(fifo, os.O_RDWR, 0)
	w.ok(err)
	os.Remove(fifo)
	f.Close()
	if err := <-set; err == nil {
		t.Error("a vault that holds nothing is opened")
	}
	w.ok(e.Close(context.Background()))
}

// TestBranchCutShort: what an attempt at a branch wrote before it ended does not stand in for what the next has to write.
func TestBranchCutShort(t *testing.T) {
	w := newWorld(t)
	v, into := w.vault("v", false), w.vault("p", false)
	pc := api.ProtectConfig{Machine: "default/db", UID: "u1", Stream: "u1-1", Mode: "writable", Disks: []api.MachineDisk{{Name: "root", Path: w.disk(0)}}}
	section := func() api.Section {
		c := pc
		return api.Section{Engine: api.EngineProtect, Owner: "o", Generation: 1, Protect: &c}
	}
	r := w.start("src", "src", protect.New, section())
	g := r.guest()
	w.ok(g.WriteAt(t.Context(), slices.Repeat([]byte{7}, block), 0, false))
	w.write(g, 1, 100)
	want := w.read(g)
	o, err := engines.Config{}.OpenVault(t.Context(), v, "")
	w.ok(err)
	wr, err := o.Writer(t.Context(), vault.StreamSpec{ID: "u1-b1", Epoch: 1, Machine: vault.Machine{UID: "u1", Name: "default/db"}, Disks: []vault.Disk{{ID: "root", Size: diskSize}}})
	w.ok(err)
	_, err = wr.Append(t.Context(), []journal.Record{{Seq: 1, Kind: journal.Write, Off: 5 * block, Len: block, Data: want[5*block : 6*block], Time: 1}})
	w.ok(err)
	w.ok(wr.Close())
	w.ok(o.Close())
	pc.Mode, pc.Yield = "readonly", &api.YieldConfig{Branch: "u1-b1", Home: v, Into: into, For: "u1-2"}
	r.set(section())
	r.until("the branch is written", func(s api.EngineState) bool {
		return slices.ContainsFunc(s.Conditions, func(c api.Condition) bool { return strings.Contains(c.Message, "the other side's letter") })
	})
	w.same("the branch", w.image(v, "u1-b1", w.end(v, "u1-b1")), want)
}

// TestRestartIsNotForgotten: a full resynchronisation that could not be begun is still to be done.
func TestRestartIsNotForgotten(t *testing.T) {
	w := newWorld(t)
	pc := api.ProtectConfig{Machine: "default/db", UID: "u1", Stream: "u1-1", Mode: "writable", Disks: []api.MachineDisk{{Name: "root", Path: w.disk(0)}}}
	s := api.Section{Engine: api.EngineProtect, Owner: "o", Generation: 1, Protect: &pc}
	r := w.start("src", "src", protect.New, s)
	capture := filepath.Join(r.home.Data(), "capture") // moved in one step, as it is being written: no bitmap can be made any more
	w.ok(os.Rename(capture, capture+".gone"))
	pc.Restart = "again"
	if err := r.e.Set(t.Context(), r.cfg); err == nil {
		t.Fatal("it is begun all the same")
	}
	marks, err := r.home.OpenMarks()
	w.ok(err)
	if done := marks.Get("restart"); done != "" {
		t.Errorf("it counts as done: %q", done)
	}
}

// TestOtherDisks: a machine whose disks changed is refused, and not silently: it does not go on as if nothing were.
func TestOtherDisks(t *testing.T) {
	w := newWorld(t)
	disks := []api.MachineDisk{{Name: "root", Path: w.disk(0)}}
	pc := api.ProtectConfig{Machine: "default/db", UID: "u1", Stream: "u1-1", Mode: "writable", Disks: disks}
	r := w.start("src", "src", protect.New, api.Section{Engine: api.EngineProtect, Owner: "o", Generation: 1, Protect: &pc})
	more := filepath.Join(w.dir, "more.raw")
	w.ok(os.WriteFile(more, make([]byte, diskSize), 0o600))
	pc.Disks, pc.ProcessServers = append(slices.Clone(disks), api.MachineDisk{Name: "more", Path: more}), []string{"127.0.0.1:1"}
	if err := r.e.Set(t.Context(), r.cfg); err == nil || !strings.Contains(err.Error(), "disks") {
		t.Fatalf("a disk more: %v", err)
	}
	if s := r.e.State(); len(s.Conditions) == 0 || s.Conditions[0].Code != "ConfigNotTakenUp" {
		t.Errorf("it says nothing: %+v", s)
	}
	pc.Disks, pc.ProcessServers = disks, nil
	r.set(r.cfg.Section)
	r.begins(0)
}

// TestNoReopeningWithoutAWord: a machine that is written stays so when an agent, new in its life, has other wishes and no leader's word yet.
func TestNoReopeningWithoutAWord(t *testing.T) {
	w := newWorld(t)
	pc := api.ProtectConfig{Machine: "default/db", UID: "u1", Stream: "u1-1", Mode: "writable", Disks: []api.MachineDisk{{Name: "root", Path: w.disk(0)}}}
	r := w.start("src", "src", protect.New, api.Section{Engine: api.EngineProtect, Owner: "o", Generation: 1, Protect: &pc})
	g := r.guest()
	pc.QueueBytes, r.cfg.Confirmed = 64<<20, false
	if err := r.e.Set(t.Context(), r.cfg); err == nil {
		t.Error("it is opened anew")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := g.WriteAt(ctx, make([]byte, 512), 0, false); err != nil {
		t.Errorf("its guest waits: %v", err)
	}
	r.cfg.Confirmed = true
	r.set(r.cfg.Section)
}

// TestHydrationIsTakenUp: a run that was opened to rest, and goes on, becomes whole.
func TestHydrationIsTakenUp(t *testing.T) {
	w := newWorld(t)
	v := w.vault("v", true)
	c := api.SiteConfig{Machine: "default/db", UID: "u1", Instance: "r1", Vault: v, Stream: "s1", Seq: w.stream(v, "s1", vault.Base{}, 1, 1),
		Disks: []api.MachineDisk{{Name: "root"}}, Mode: "readonly", Capture: "s2"}
	r := w.start("rec", "rec", site.New, siteSection(c))
	c.Mode, c.Hydrate = "writable", true
	r.set(siteSection(c))
	r.until("hydrated", func(s api.EngineState) bool { return s.Hydrated == 100 })
}
