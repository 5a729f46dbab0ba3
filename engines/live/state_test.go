package live

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/capture/disk"
	"github.com/understudy-ha/understudy/engines"
	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/nbd"
)

// opened gives a machine with one empty disk, whose stream somebody would take.
func opened(t *testing.T) *Machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "us") // short: sockets live in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	home := engines.Home(dir)
	path := filepath.Join(dir, "disk.raw")
	for _, err := range []error{os.MkdirAll(home.Data(), 0o700), os.WriteFile(path, make([]byte, 1<<20), 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	marks, err := home.OpenMarks()
	if err != nil {
		t.Fatal(err)
	}
	lower, err := nbd.OpenFile(path, nbd.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lower.Close() })
	s := Spec{Machine: "default/db", UID: "u1", Stream: "u1-1", Epoch: 1, Disks: []api.MachineDisk{{Name: "root", Path: path}}, ZeroBase: true, Access: disk.Writable}
	m, err := Open(t.Context(), home, marks, []nbd.Backend{lower}, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	m.capture.SetShipping(true)
	return m
}

// TestHandedOverInSpiteOfALostPoint: a point that was asked for and that a gap took before the machine was left is never made again. That the
// past was handed over must show all the same: a reprotect waits for it.
func TestHandedOverInSpiteOfALostPoint(t *testing.T) {
	m := opened(t)
	var err error
	seq := uint64(0)
	for deadline := time.Now().Add(10 * time.Second); seq == 0; time.Sleep(5 * time.Millisecond) {
		if seq, err = m.capture.Point(t.Context(), journal.PointInfo{ID: "p1", Consistency: journal.Crash}); err != nil && time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	m.mu.Lock()
	m.points.asked = seq
	m.mu.Unlock()
	for last := uint64(0); last < seq; { // it is sent, and the process server loses it
		recs, err := m.capture.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		last = recs[len(recs)-1].Seq
		m.capture.Release(last)
	}
	m.capture.Rewind(1)
	if !m.capture.PointLost(seq) {
		t.Fatal("the point is not lost")
	}
	m.capture.SetAccess(disk.ReadOnly)
	if err := m.marks.Set("point", "op-2", "yield", "u1-b1"); err != nil {
		t.Fatal(err)
	}
	var st api.EngineState
	if m.Describe(&st); st.Phase != "yielded" || st.Done != "u1-b1" {
		t.Errorf("phase %q, done %q", st.Phase, st.Done)
	}
}

// TestDoneComesWithItsPosition: who reads that a point is done goes by its position in the same breath. An older one would be stored already.
func TestDoneComesWithItsPosition(t *testing.T) {
	m := opened(t)
	for deadline := time.Now().Add(10 * time.Second); m.capture.Position().InGap; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the gap stays open")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		recs, err := m.capture.Next(ctx)
		cancel()
		if err == nil {
			m.capture.Release(recs[len(recs)-1].Seq)
			m.capture.Stored(recs[len(recs)-1].Seq)
		}
	}
	const points = 300
	said := make(chan map[string]uint64)
	over := make(chan struct{})
	go func() {
		least := map[string]uint64{}
		for {
			select {
			case <-over:
				said <- least
				return
			default:
			}
			var st api.EngineState
			m.Describe(&st)
			if was, ok := least[st.Done]; !ok || st.LastPointSeq < was {
				least[st.Done] = st.LastPointSeq
			}
		}
	}()
	at := map[string]uint64{}
	for i := range points {
		tag := fmt.Sprint("op-", i)
		if err := m.askedPoint(Spec{PointNow: tag}); err != nil {
			t.Fatal(err)
		}
		m.mu.Lock()
		at[tag] = m.points.seq
		m.mu.Unlock()
	}
	close(over)
	seen := 0
	for tag, seq := range <-said {
		if tag == "" {
			continue
		}
		if seen++; seq < at[tag] {
			t.Errorf("%s is said to be done at %d, it is at %d", tag, seq, at[tag])
		}
	}
	if seen < points/10 {
		t.Errorf("%d of %d points were seen to be done", seen, points)
	}
}
