package engines_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/engines"
	"github.com/understudy-ha/understudy/engines/processserver"
	"github.com/understudy-ha/understudy/engines/protect"
	"github.com/understudy-ha/understudy/engines/site"
	"github.com/understudy-ha/understudy/freeport"
	"github.com/understudy-ha/understudy/nbd"
	"github.com/understudy-ha/understudy/pki"
)

// world is two sites with their engines in one process: a machine's whole journey without a control plane.
type world struct {
	t   *testing.T
	dir string
	ca  *pki.CA
	key map[string]*age.X25519Identity // by vault
}

const diskSize = 24 << 20

func newWorld(t *testing.T) *world {
	dir, err := os.MkdirTemp("", "us") // short: sockets live in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ca, err := pki.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &world{t: t, dir: dir, ca: ca, key: map[string]*age.X25519Identity{}}
}

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// identity enrols a node.
func (w *world) identity(node string) string {
	key, err := pki.NewKey()
	w.ok(err)
	cert, err := w.ca.Issue(time.Now(), pki.Request{CN: pki.Node("default", node).String(), Public: &key.PublicKey, Server: true, Life: time.Hour})
	w.ok(err)
	text, err := pki.EncodeKey(key)
	w.ok(err)
	b, err := json.Marshal(map[string]string{"node": node, "tenant": "default", "ca": string(w.ca.CertPEM()), "cert": string(pki.EncodeCert(cert.Raw)), "key": string(text)})
	w.ok(err)
	path := filepath.Join(w.dir, node+".json")
	w.ok(os.WriteFile(path, b, 0o600))
	return path
}

func (w *world) vault(name string, reads bool) api.VaultAccess {
	if w.key[name] == nil {
		id, err := age.GenerateX25519Identity()
		w.ok(err)
		w.key[name] = id
		w.ok(os.Mkdir(filepath.Join(w.dir, name), 0o700))
	}
	v := api.VaultAccess{Name: name, URL: "file://" + filepath.Join(w.dir, name), Recipient: w.key[name].Recipient().String()}
	if reads {
		v.KeyRef = name
	}
	return v
}

// run is one engine with its present config.
type run struct {
	w    *world
	e    engines.Engine
	home engines.Home
	cfg  engines.Config
}

func (w *world) start(name, node string, make engines.Maker, s api.Section) *run {
	w.t.Helper()
	r := &run{w: w, home: engines.Home(filepath.Join(w.dir, name))}
	w.ok(os.MkdirAll(r.home.Data(), 0o700))
	e, err := make(w.t.Context(), r.home)
	w.ok(err)
	r.e = e
	r.cfg = engines.Config{Confirmed: true, IdentityFile: w.identity(node), HooksDir: w.dir, Secrets: map[string]map[string]string{}}
	w.t.Cleanup(func() { _ = r.e.Close(context.Background()) })
	r.set(s)
	return r
}

func (r *run) set(s api.Section) {
	r.w.t.Helper()
	r.cfg.Section = s
	for name, id := range r.w.key {
		r.cfg.Secrets[name] = map[string]string{"identity": id.String()}
	}
	r.w.ok(r.e.Set(r.w.t.Context(), r.cfg))
}

// until waits for a state.
func (r *run) until(what string, ok func(api.EngineState) bool) api.EngineState {
	r.w.t.Helper()
	var s api.EngineState
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if s = r.e.State(); !s.Changes.Hold() {
			r.w.t.Fatalf("%s: captured = stored + dirty does not hold: %+v", what, s.Changes)
		}
		if ok(s) {
			return s
		}
	}
	r.w.t.Fatalf("%s: still %+v", what, s)
	return s
}

func (w *world) port() string {
	at, err := freeport.Address()
	w.ok(err)
	return at
}

// guest is somebody who uses a machine's disk.
func (r *run) guest() *nbd.Client {
	r.w.t.Helper()
	c, err := nbd.Dial(r.w.t.Context(), "unix", filepath.Join(string(r.home), "disk.sock"), "root", nbd.DialOptions{})
	r.w.ok(err)
	r.w.t.Cleanup(func() { c.Close() })
	return c
}

func (w *world) write(c *nbd.Client, seed uint64, n int) {
	w.t.Helper()
	rng := rand.New(rand.NewPCG(seed, 7))
	for range n {
		p := make([]byte, 512*(1+rng.IntN(64)))
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		off := rng.Int64N((diskSize-int64(len(p)))/512) * 512
		if rng.IntN(8) == 0 {
			w.ok(c.Zero(w.t.Context(), off, int64(len(p)), true, false))
		} else {
			w.ok(c.WriteAt(w.t.Context(), p, off, false))
		}
	}
	w.ok(c.Flush(w.t.Context()))
}

func (w *world) read(c *nbd.Client) []byte {
	w.t.Helper()
	all := make([]byte, diskSize)
	const step = 1 << 20
	for off := int64(0); off < diskSize; off += step {
		w.ok(c.ReadAt(w.t.Context(), all[off:off+step], off))
	}
	return all
}

func (w *world) same(what string, got, want []byte) {
	w.t.Helper()
	if !bytes.Equal(got, want) {
		for i := range got {
			if got[i] != want[i] {
				w.t.Fatalf("%s: differs at %d, sector %d", what, i, i/512)
			}
		}
	}
}

func (w *world) image(v api.VaultAccess, stream string, seq uint64) []byte {
	w.t.Helper()
	c := engines.Config{Secrets: map[string]map[string]string{v.Name: {"identity": w.key[v.Name].String()}}}
	v.KeyRef = v.Name
	o, err := c.OpenVault(w.t.Context(), v, "")
	w.ok(err)
	defer o.Close()
	view, err := o.View(w.t.Context(), stream, seq)
	w.ok(err)
	defer view.Close()
	all := make([]byte, view.Disk(0).Size())
	_, err = view.Disk(0).ReadAt(w.t.Context(), all, 0)
	if err != io.EOF {
		w.ok(err)
	}
	return all
}

func (w *world) end(v api.VaultAccess, stream string) uint64 {
	w.t.Helper()
	o, err := engines.Config{}.OpenVault(w.t.Context(), v, "")
	w.ok(err)
	defer o.Close()
	info, err := o.Stream(w.t.Context(), stream)
	w.ok(err)
	return info.Seq
}

// A machine is protected, rehearsed, failed over to an older point while its newest writes were never shipped, protected the
// other way round, and brought home: every block is compared at every station.
func TestJourney(t *testing.T) {
	w := newWorld(t)
	atR, atP := w.vault("vr", false), w.vault("vp", false)
	path := filepath.Join(w.dir, "disk.raw")
	w.ok(os.WriteFile(path, nil, 0o600))
	w.ok(os.Truncate(path, diskSize))
	disks := []api.MachineDisk{{Name: "root", Path: path}}
	here := []api.MachineDisk{{Name: "root"}}
	ps := func(name, node, sender, listen string, v api.VaultAccess, streams ...api.AcceptedStream) *run {
		for i := range streams {
			streams[i].Machine, streams[i].UID, streams[i].Node, streams[i].Vault = "default/db", "u1", "default/"+sender, v
		}
		return w.start(name, node, processserver.New, api.Section{Engine: api.EngineProcessServer, Owner: "o", Generation: 1,
			ProcessServer: &api.ProcessServerConfig{Name: name, Listen: listen, Streams: streams}})
	}
	p1 := w.port()
	psP := ps("psp", "psp", "src", p1, atR, api.AcceptedStream{Stream: "u1-1", Epoch: 1, Base: "none"})

	// Protected.
	pc := api.ProtectConfig{Machine: "default/db", UID: "u1", Stream: "u1-1", Mode: "writable", Disks: disks, ProcessServers: []string{p1}}
	section := func(generation int64) api.Section {
		c := pc
		return api.Section{Engine: api.EngineProtect, Owner: "o", Generation: generation, Protect: &c}
	}
	src := w.start("src", "src", protect.New, section(1))
	g := src.guest()
	w.write(g, 1, 300)
	src.until("protected", func(s api.EngineState) bool { return s.Phase == "protected" })
	pc.PointNow = "first"
	src.set(section(1))
	point := src.until("point", func(s api.EngineState) bool { return s.Done == "first" && s.Stored >= s.LastPointSeq }).LastPointSeq
	atPoint := w.read(g)
	w.same("the vault at the point", w.image(atR, "u1-1", point), atPoint)

	if n := src.e.State().Changes.Captured; n != 300 {
		t.Errorf("300 changes were made, %d captured", n)
	}

	// Rehearsed while it goes on.
	drill := api.SiteConfig{Machine: "default/db", UID: "u1", Instance: "drill", Drill: true, Vault: w.vault("vr", true), Stream: "u1-1", Seq: point, Disks: here, Mode: "writable"}
	dr := w.start("drill", "rec", site.New, api.Section{Engine: api.EngineSite, Owner: "d", Generation: 1, Site: &drill})
	w.write(g, 2, 100)
	dg := dr.guest()
	w.same("the drill", w.read(dg), atPoint)
	w.write(dg, 3, 50)
	gone := drill
	gone.Mode = "discard"
	dr.set(api.Section{Engine: api.EngineSite, Owner: "d", Generation: 1, Site: &gone})
	if s := dr.e.State(); s.Phase != "discarded" {
		t.Fatalf("the drill's end: %+v", s)
	}

	// More arrives, then the link is cut under writes that are never shipped.
	src.until("stored", func(s api.EngineState) bool { return s.Dirty == 0 && s.Stored > 0 })
	w.ok(psP.e.Close(t.Context()))
	w.write(g, 4, 200)
	lost := w.read(g)

	// Failed over to the older point.
	over := api.SiteConfig{Machine: "default/db", UID: "u1", Instance: "r1", Vault: w.vault("vr", true), Stream: "u1-1", Seq: point, Disks: here,
		Mode: "writable", Capture: "u1-2", Hydrate: true}
	siteSection := func(generation int64) api.Section {
		c := over
		return api.Section{Engine: api.EngineSite, Owner: "o", Generation: generation, Site: &c}
	}
	rec := w.start("rec", "rec", site.New, siteSection(2))
	rg := rec.guest()
	w.same("after failover", w.read(rg), atPoint)
	w.write(rg, 5, 150)

	// The process server comes back; what it still gets from the old primary goes nowhere.
	before := w.end(atR, "u1-1")
	old := ps("psp", "psp", "src", p1, atR, api.AcceptedStream{Stream: "u1-1", Epoch: 1, Base: "none"})
	src.until("refused", func(s api.EngineState) bool {
		return slices.ContainsFunc(s.Conditions, func(c api.Condition) bool {
			return c.Code == "ProcessServerRefuses" && strings.Contains(c.Message, "fenced")
		})
	})
	if end := w.end(atR, "u1-1"); end != before {
		t.Fatalf("the old stream went on from %d to %d", before, end)
	}
	w.ok(old.e.Close(t.Context()))

	// The old primary learns of it, and is read-only.
	pc.Mode, pc.PointNow, pc.ProcessServers = "readonly", "", nil
	pc.Yield = &api.YieldConfig{Branch: "u1-b1", Home: atR, Into: atP, For: "u1-2"}
	src.set(section(2))
	og := src.guest()
	if err := og.WriteAt(t.Context(), make([]byte, 512), 0, false); err == nil || !og.ReadOnly() {
		t.Fatalf("the old primary's disk takes writes: %v", err)
	}

	// Protected the other way round: only what differs is sent.
	p2 := w.port()
	ps("psr", "psr", "rec", p2, atP, api.AcceptedStream{Stream: "u1-2", Epoch: 2, Base: "disk"})
	over.Ship = &api.ShipConfig{ProcessServers: []string{p2}, Into: atP, Base: "disk"}
	rec.set(siteSection(2))
	src.until("handed over", func(s api.EngineState) bool { return s.Done == "u1-b1" })
	w.same("the branch", w.image(atR, "u1-b1", w.end(atR, "u1-b1")), lost)
	w.write(rg, 6, 50)
	rec.until("protected", func(s api.EngineState) bool { return s.Protection == "protected" })
	over.Ship.PointNow = "home"
	rec.set(siteSection(2))
	st := rec.until("point", func(s api.EngineState) bool { return s.Done == "home" && s.Stored >= s.LastPointSeq })
	if st.DifferingBytes > st.ResyncBytes || st.DifferingBytes == 0 || st.DifferingBytes > diskSize*9/10 {
		t.Errorf("compared %d bytes, sent %d of a disk of %d", st.ResyncBytes, st.DifferingBytes, diskSize)
	}
	want := w.read(rg)

	// Home, in place on the old disk.
	over.Mode, over.Ship = "readonly", nil
	rec.set(siteSection(3))
	pc.Mode, pc.Yield = "off", nil
	src.set(section(3))
	back := api.SiteConfig{Machine: "default/db", UID: "u1", Instance: "p2", Vault: w.vault("vp", true), Stream: "u1-2", Seq: st.LastPointSeq,
		Disks: disks, InPlace: true, Mode: "writable", Capture: "u1-3", Hydrate: true}
	home := w.start("home", "src", site.New, api.Section{Engine: api.EngineSite, Owner: "o", Generation: 3, Site: &back})
	hg := home.guest()
	w.same("home", w.read(hg), want)
	w.write(hg, 7, 100)
	now := w.read(hg)
	home.until("hydrated", func(s api.EngineState) bool { return s.Hydrated == 100 })

	// And protected again, on what the first vault has of it.
	p3 := w.port()
	ps("psp2", "psp", "src", p3, atR, api.AcceptedStream{Stream: "u1-3", Epoch: 3, Base: "stream", BaseStream: "u1-1", BaseSeq: point})
	back.Ship = &api.ShipConfig{ProcessServers: []string{p3}, Into: atR, Base: "stream", BaseStream: "u1-1", BaseSeq: point, PointNow: "again"}
	home.set(api.Section{Engine: api.EngineSite, Owner: "o", Generation: 3, Site: &back})
	st = home.until("point", func(s api.EngineState) bool { return s.Done == "again" && s.Stored >= s.LastPointSeq })
	w.same("protected again", w.image(atR, "u1-3", st.LastPointSeq), now)
	w.ok(home.e.Close(t.Context()))
	raw, err := os.ReadFile(path)
	w.ok(err)
	w.same("the file at home", raw, now)
}
