package engines_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/engines"
	"github.com/understudy-ha/understudy/engines/processserver"
	"github.com/understudy-ha/understudy/engines/protect"
	"github.com/understudy-ha/understudy/vault"
)

// A point that was asked for is spooled and not stored when the spool is lost. It lies in the gap then, and is made again: a failover
// that waits for it must not find an older one.
func TestAPointThatAGapTookIsMadeAgain(t *testing.T) {
	w := newWorld(t)
	at := w.vault("vr", false)
	path := filepath.Join(w.dir, "disk.raw")
	w.ok(os.WriteFile(path, nil, 0o600))
	w.ok(os.Truncate(path, diskSize))
	listen := w.port()
	ps := api.ProcessServerConfig{Name: "ps", Listen: listen, Streams: []api.AcceptedStream{
		{Machine: "default/db", UID: "u1", Stream: "u1-1", Epoch: 1, Node: "default/src", Vault: at, Base: "none"}}}
	psSection := func() api.Section {
		c := ps
		return api.Section{Engine: api.EngineProcessServer, Owner: "o", Generation: 1, ProcessServer: &c}
	}
	server := w.start("ps", "ps", processserver.New, psSection())
	pc := api.ProtectConfig{Machine: "default/db", UID: "u1", Stream: "u1-1", Mode: "writable", ProcessServers: []string{listen},
		Disks: []api.MachineDisk{{Name: "root", Path: path}}}
	section := func() api.Section {
		c := pc
		return api.Section{Engine: api.EngineProtect, Owner: "o", Generation: 1, Protect: &c}
	}
	src := w.start("src", "src", protect.New, section())
	src.until("protected", func(s api.EngineState) bool { return s.Phase == "protected" })
	ps.Bandwidth = []api.BandwidthWindow{{From: "00:00", To: "00:00", Kbps: 0}} // it spools, and stores nothing
	server.set(psSection())
	g := src.guest()
	w.write(g, 1, 50)
	pc.PointNow = "last"
	src.set(section())
	spool := filepath.Join(string(server.home), "data", "spool")
	first := src.until("made", func(s api.EngineState) bool { return s.Done == "last" && s.LastPointSeq != 0 }).LastPointSeq
	for deadline := time.Now().Add(30 * time.Second); dirBytes(t, spool) < 300<<10; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the spool holds %d bytes", dirBytes(t, spool))
		}
	}
	time.Sleep(200 * time.Millisecond) // and the sender knows

	w.ok(server.e.Close(t.Context()))
	w.ok(os.RemoveAll(spool))
	ps.Bandwidth = nil
	w.start("ps", "ps", processserver.New, psSection())
	src.until("stored", func(s api.EngineState) bool {
		return s.Phase == "protected" && s.Done == "last" && s.LastPointSeq != 0 && s.Stored >= s.LastPointSeq && s.Changes.Dirty == 0
	})
	v, err := engines.Config{}.OpenVault(t.Context(), at, "")
	w.ok(err)
	defer v.Close()
	points, err := v.Points(t.Context(), "u1-1")
	w.ok(err)
	i := slices.IndexFunc(points, func(p vault.PointInfo) bool { return p.Tag == "last" })
	if i < 0 {
		t.Fatalf("the point that was asked for, first made at %d, is not offered: %+v", first, points)
	}
	w.same("the vault at the point", w.image(at, "u1-1", points[i].Seq), w.read(g))
}

func dirBytes(t *testing.T, dir string) (n int64) {
	t.Helper()
	_ = filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			n += info.Size()
		}
		return nil
	})
	return n
}
