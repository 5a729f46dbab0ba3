package oracle

import (
	"testing"

	"github.com/understudy-ha/understudy/journal"
)

// mounted gives the stream's records from when the file system was whole: mkfs ends with a flush.
func mounted(recs []journal.Record, flushes int) int {
	for i, r := range recs {
		if r.Kind == journal.Flush {
			if flushes--; flushes == 0 {
				return i
			}
		}
	}
	return len(recs)
}

func TestExt4(t *testing.T) {
	tool(t, "e2fsck")
	s := newStack(t, 64<<20)
	log := s.fileSystem(t, []string{"mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0"}, stress(4, 400))
	recs := s.records(t)
	agree(t, log, recs, s.size, Overlapped)
	t.Logf("%d records, the file system is whole from %d on", len(recs), mounted(recs, 1))
	prefixes(t, recs, s.size, mounted(recs, 1), 25, CheckExt4)
}

func TestXFS(t *testing.T) {
	tool(t, "xfs_repair")
	s := newStack(t, 304<<20) // the smallest that mkfs.xfs makes
	log := s.fileSystem(t, []string{"mkfs.xfs", "-q"}, stress(4, 300))
	recs := s.records(t)
	agree(t, log, recs, s.size, Overlapped)
	prefixes(t, recs, s.size, mounted(recs, 2), 8, CheckXFS)
}
