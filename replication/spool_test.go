package replication

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/journal"
)

var exampleInfo = StreamInfo{Machine: "default/web", UID: "u", Stream: "u-1", Epoch: 3, Disks: []Disk{{ID: "root", Size: 4096}}, Node: "default/h"}

// exampleFile is what the format's page shows.
func exampleFile(t testing.TB) []byte {
	h := fileHeader{number: 1, base: 6, created: time.Unix(1_800_000_000, 0), info: exampleInfo}
	b, err := h.encode()
	must(t, err)
	batch, err := journal.AppendBatch(nil, []journal.Record{{Seq: 7, Kind: journal.Flush, Time: 1_800_000_000_000_000_001}})
	must(t, err)
	head := encodeFrameHead(len(batch), time.Unix(1_800_000_000, 7))
	return append(append(b, head[:]...), batch...)
}

func TestTheDocumentedSpoolIsWhatWeWrite(t *testing.T) {
	doc, err := os.ReadFile("../docs/formats/spool.md")
	must(t, err)
	_, rest, _ := strings.Cut(string(doc), "```spool\n")
	text, _, ok := strings.Cut(rest, "```")
	want, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	if got := exampleFile(t); err != nil || !ok || !bytes.Equal(got, want) {
		t.Fatalf("wrote\n%x\nthe page shows\n%x (%v)", got, want, err)
	}
	dir := filepath.Join(fastDir(t), "u-1")
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.WriteFile(filepath.Join(dir, fileName(1)), want, 0o600))
	var frames []*frame
	sp, err := openSpool(dir, newBudget(dir, 1<<20, 0), 1<<20, func(f *frame) { frames = append(frames, f) })
	must(t, err)
	defer sp.close()
	if base, last := sp.span(); base != 6 || last != 7 || len(frames) != 1 || frames[0].recs[0].Kind != journal.Flush || frames[0].arrived.UnixNano() != 1_800_000_000_000_000_007 {
		t.Errorf("read %d to %d, %+v", base, last, frames)
	}
	if sp.info.Stream != "u-1" || sp.info.Disks[0] != exampleInfo.Disks[0] || sp.info.Epoch != 3 {
		t.Errorf("read %+v", sp.info)
	}
}

func flushes(t testing.TB, first, n uint64) []byte {
	t.Helper()
	var recs []journal.Record
	for i := range n {
		recs = append(recs, journal.Record{Seq: first + i, Kind: journal.Flush})
	}
	b, err := journal.AppendBatch(nil, recs)
	must(t, err)
	return b
}

// fill appends n batches of two records each behind position 0.
func fill(t testing.TB, sp *spool, n int) {
	t.Helper()
	for i := range n {
		b := flushes(t, uint64(2*i+1), 2)
		if !sp.room.take(int64(frameHead + len(b))) {
			t.Fatal("no room")
		}
		must(t, sp.append(b, uint64(2*i+2), time.Unix(int64(i), 0)))
	}
	must(t, sp.sync())
}

func TestASpoolCutAnywhereIsABeginningOfItself(t *testing.T) {
	dir := filepath.Join(fastDir(t), "u-1")
	room := newBudget(fastDir(t), 1<<20, 0)
	sp, err := createSpool(dir, room, 700, exampleInfo, 0)
	must(t, err)
	fill(t, sp, 9)
	var whole [][]byte
	for _, f := range sp.files {
		b, err := os.ReadFile(f.f.Name())
		must(t, err)
		whole = append(whole, b)
	}
	if len(whole) < 3 {
		t.Fatalf("%d files", len(whole))
	}
	must(t, sp.close())
	if used, _ := room.room(); used != 0 {
		t.Errorf("%d bytes are still taken", used)
	}
	for n := range whole {
		for cut := range len(whole[n]) {
			if cut != 5 && cut < len(whole[n])-3 && cut%41 != 0 {
				continue
			}
			for _, damage := range []bool{false, true} {
				again := filepath.Join(fastDir(t), "u-1")
				must(t, os.Mkdir(again, 0o700))
				for i, b := range whole {
					if i == n && damage {
						b = bytes.Clone(b)
						b[cut] ^= 0x40
					} else if i == n {
						b = b[:cut]
					}
					must(t, os.WriteFile(filepath.Join(again, fileName(uint64(i+1))), b, 0o600))
				}
				reopened(t, again, n, cut, damage)
			}
		}
	}
}

// reopened opens a spool that was cut or damaged in file n, uses it, and opens it again.
func reopened(t *testing.T, dir string, n, cut int, damage bool) {
	t.Helper()
	room := newBudget(filepath.Dir(dir), 1<<20, 0)
	last := uint64(0)
	see := func(f *frame) {
		if f.first != last+1 {
			t.Fatalf("file %d, byte %d: %d after %d", n, cut, f.first, last)
		}
		last = f.last
	}
	sp, err := openSpool(dir, room, 700, see)
	if damage && cut >= 4 && cut < 6 && err != nil {
		return // another version is not ours to cut
	}
	must(t, err)
	if sp == nil {
		if n != 0 {
			t.Fatalf("file %d, byte %d: nothing is left", n, cut)
		}
		return
	}
	b := flushes(t, last+1, 2) // as long as what was cut off: nothing behind it may come back
	room.take(int64(frameHead + len(b)))
	must(t, sp.append(b, last+2, time.Now()))
	must(t, errors.Join(sp.sync(), sp.close()))
	want := last + 2
	last = 0
	sp, err = openSpool(dir, room, 700, see)
	must(t, err)
	if last != want {
		t.Fatalf("file %d, byte %d: %d records, then %d", n, cut, want, last)
	}
	must(t, sp.remove())
	if used, _ := room.room(); used != 0 {
		t.Errorf("%d bytes are still taken", used)
	}
}

func TestStoredFilesGo(t *testing.T) {
	dir := filepath.Join(fastDir(t), "u-1")
	sp, err := createSpool(dir, newBudget(fastDir(t), 1<<20, 0), 700, exampleInfo, 0)
	must(t, err)
	fill(t, sp, 9)
	c := sp.reader()
	for want := uint64(1); want < 19; want += 2 {
		fr, err := c.next()
		must(t, err)
		if fr.first != want {
			t.Fatalf("read %d, want %d", fr.first, want)
		}
		must(t, sp.discard(fr.last, true))
	}
	if base, last := sp.span(); base < 16 || last != 18 || len(sp.files) != 1 {
		t.Errorf("%d files from %d to %d", len(sp.files), base, last)
	}
	b := flushes(t, 19, 1)
	sp.room.take(int64(frameHead + len(b)))
	must(t, sp.append(b, 19, time.Now()))
	if fr, err := c.next(); err != nil || fr.first != 19 {
		t.Errorf("read %v, %v", fr, err)
	}
	must(t, sp.close())
}

// FuzzSpoolFile opens any bytes as a spool's only file. What is kept must be whole, and stay what it is.
func FuzzSpoolFile(f *testing.F) {
	f.Add(exampleFile(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := filepath.Join(fastDir(t), "u-1")
		must(t, os.Mkdir(dir, 0o700))
		path := filepath.Join(dir, fileName(1))
		must(t, os.WriteFile(path, b, 0o600))
		last := uint64(0)
		sp, err := openSpool(dir, newBudget(dir, 1<<20, 0), 1<<20, func(f *frame) {
			if last != 0 && !journal.Follows(last, &f.recs[0]) {
				t.Fatalf("%d after %d", f.first, last)
			}
			last = f.last
		})
		if err != nil || sp == nil {
			return
		}
		defer sp.close()
		if kept, err := os.ReadFile(path); err != nil || !bytes.HasPrefix(b, kept) {
			t.Fatalf("%d bytes became %d others (%v)", len(b), len(kept), err)
		}
	})
}

// TestAPowerCutKeepsWhatWasAnswered opens what a power cut would leave: files as long as they were when they were synced last.
func TestAPowerCutKeepsWhatWasAnswered(t *testing.T) {
	dir := fastDir(t)
	var mu sync.Mutex
	durable := map[string]int64{}
	fsync = func(f *os.File) error {
		info, err := f.Stat()
		err = errors.Join(err, f.Sync())
		if err == nil && !info.IsDir() && strings.HasPrefix(f.Name(), dir) {
			mu.Lock()
			durable[f.Name()] = max(durable[f.Name()], info.Size())
			mu.Unlock()
		}
		return err
	}
	t.Cleanup(func() { fsync = (*os.File).Sync })
	s := newSite(t)
	var away atomic.Bool
	s.vault.fail = func() (error, bool) {
		if away.Load() {
			return errors.New("away"), false
		}
		return nil, false
	}
	cfg := s.serverConfig(dir)
	cfg.RotateBytes = 8 << 10
	_, at, stop := serve(t, cfg, "")
	src := newFakeSource(64, 10000)
	snd := send(t, s.senderConfig(src, at))
	src.write(1)
	eventually(t, "quiet", src.quiet)
	away.Store(true)
	last := uint64(0)
	for range 60 {
		for range 20 {
			src.write(1)
		}
		time.Sleep(rand.N(3 * time.Millisecond))
		answered := snd.Status().Spooled
		clone := filepath.Join(fastDir(t), s.info.Stream)
		must(t, os.Mkdir(clone, 0o700))
		mu.Lock()
		for name, size := range durable {
			b, err := os.ReadFile(name)
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			must(t, err)
			must(t, os.WriteFile(filepath.Join(clone, filepath.Base(name)), b[:size], 0o600))
		}
		mu.Unlock()
		sp, err := openSpool(clone, newBudget(clone, 1<<30, 0), 8<<10, func(*frame) {})
		must(t, err)
		if _, last = sp.span(); last < answered {
			t.Fatalf("%d was answered, the spool ends at %d", answered, last)
		}
		must(t, sp.close())
	}
	if last < 100 {
		t.Errorf("only %d records were spooled", last)
	}
	must(t, snd.Close())
	stop() // nothing syncs any more
}
