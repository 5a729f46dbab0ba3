package oracle

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/understudy-ha/understudy/journal"
)

// times says how many times as much the soak writes.
func times(t *testing.T) int {
	t.Helper()
	text := os.Getenv("ORACLE_TIMES")
	if text == "" {
		return 1
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("ORACLE_TIMES=%s: want a number of at least 1", text)
	}
	return n
}

func TestExt4(t *testing.T) {
	tool(t, "e2fsck")
	s := newStack(t, 64<<20)
	log := s.fileSystem(t, []string{"mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0"}, stress(4, 400*times(t)))
	recs := s.records(t)
	agree(t, log, recs, s.size, Overlapped)
	if _, err := prefixes(t, recs, s.size, s.made, 70, CheckExt4); err != nil {
		t.Error(err)
	}
	if !spoiltIsDamaged(t, recs, s.size, CheckExt4) {
		t.Error("one record in 40 was left out in 20 ways, and the file system is good in the end each time")
	}
}

// spoiltIsDamaged plays streams in which one change in 40 is left out, others each time, until the file system is damaged in
// the end. One way alone may leave out what was written again later, or what no checker looks at.
func spoiltIsDamaged(t *testing.T, recs []journal.Record, size int64, check func(ctx context.Context, image string) error) bool {
	t.Helper()
	for way := range 20 {
		image, err := os.Create(filepath.Join(t.TempDir(), "spoilt"))
		if err != nil {
			t.Fatal(err)
		}
		defer image.Close()
		if err := image.Truncate(size); err != nil {
			t.Fatal(err)
		}
		changes := 0
		for e := range FromRecords(slices.Values(recs), 0) {
			if !e.Flush {
				changes++
			}
			if e.Flush || changes%40 == 2*way {
				continue
			}
			if err := e.Apply(image); err != nil {
				t.Fatal(err)
			}
		}
		if err := check(t.Context(), image.Name()); errors.Is(err, ErrDamaged) {
			t.Logf("damaged in the way %d of leaving out one in 40", way+1)
			return true
		}
	}
	return false
}

func TestXFS(t *testing.T) {
	tool(t, "xfs_repair")
	s := newStack(t, 304<<20) // the smallest that mkfs.xfs makes
	log := s.fileSystem(t, []string{"mkfs.xfs", "-q"}, stress(4, 300*times(t)))
	recs := s.records(t)
	agree(t, log, recs, s.size, Overlapped)
	if _, err := prefixes(t, recs, s.size, s.made, 30, CheckXFS); err != nil {
		t.Error(err)
	}
}
