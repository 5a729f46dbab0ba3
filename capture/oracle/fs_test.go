package oracle

import (
	"errors"
	"testing"
)

func TestExt4(t *testing.T) {
	tool(t, "e2fsck")
	s := newStack(t, 64<<20)
	log := s.fileSystem(t, []string{"mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0"}, stress(4, 400))
	recs := s.records(t)
	agree(t, log, recs, s.size, Overlapped)
	if _, err := prefixes(t, recs, s.size, s.made, 70, CheckExt4); err != nil {
		t.Error(err)
	}
	if n, err := prefixes(t, oneIn40Missing(recs), s.size, s.made, 6, CheckExt4); n == 0 || !errors.Is(err, ErrDamaged) {
		t.Errorf("one record in 40 was left out, and every prefix is good: %v", err)
	}
}

func TestXFS(t *testing.T) {
	tool(t, "xfs_repair")
	s := newStack(t, 304<<20) // the smallest that mkfs.xfs makes
	log := s.fileSystem(t, []string{"mkfs.xfs", "-q"}, stress(4, 300))
	recs := s.records(t)
	agree(t, log, recs, s.size, Overlapped)
	if _, err := prefixes(t, recs, s.size, s.made, 30, CheckXFS); err != nil {
		t.Error(err)
	}
}
