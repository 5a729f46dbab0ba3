package replication

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/understudy-ha/understudy/wire"
)

// saying is a process server that says what it likes.
type saying struct {
	wire.Replication_ShipClient
	answers []*wire.FromProcessServer
}

func (s *saying) Recv() (*wire.FromProcessServer, error) {
	if len(s.answers) == 0 {
		return nil, io.EOF
	}
	m := s.answers[0]
	s.answers = s.answers[1:]
	return m, nil
}

func TestAnAnswerForWhatWasNotSentReleasesNothing(t *testing.T) {
	for what, m := range map[string]*wire.FromProcessServer{
		"spooled": {M: &wire.FromProcessServer_Spooled{Spooled: &wire.ShipSpooled{Seq: 8}}},
		"stored":  {M: &wire.FromProcessServer_Stored{Stored: &wire.ShipStored{Seq: 8}}},
		"left":    {M: &wire.FromProcessServer_Left{Left: &wire.ShipLeft{Stored: 8}}},
	} {
		src := newFakeSource(64, 1000)
		for i := range 10 {
			src.write(i)
		}
		c := &connection{s: &Sender{cfg: SenderConfig{Source: src, Log: quietLog()}}, stream: &saying{answers: []*wire.FromProcessServer{m}}}
		c.begin(&wire.ShipOpened{Spooled: 7, Stored: 0})
		if err := c.listen(); err == nil || errors.Is(err, io.EOF) || errors.Is(err, errMoved) {
			t.Errorf("%s: %v", what, err)
		}
		if recs, err := src.Next(t.Context()); err != nil || recs[0].Seq != 8 {
			t.Errorf("%s: what comes next is %+v, %v", what, recs, err)
		}
		if src.stored > 7 {
			t.Errorf("%s: %d is taken for stored", what, src.stored)
		}
	}
}

// TestASpoolThatCannotBeReadCostsItsOwnStreamOnly: another program's spool, or one on a failing part of a disk, does not keep the process
// server from starting, and its own stream goes on once the source asks.
func TestASpoolThatCannotBeReadCostsItsOwnStreamOnly(t *testing.T) {
	s := newSite(t)
	dir := fastDir(t)
	must(t, os.Mkdir(filepath.Join(dir, s.info.Stream), 0o700))
	newer := exampleFile(t)
	newer[4] = 99
	path := filepath.Join(dir, s.info.Stream, fileName(1))
	must(t, os.WriteFile(path, newer, 0o600))
	ps, at, _ := serve(t, s.serverConfig(dir), "")
	other := s.info
	other.Stream, other.UID = "u2-1", "u2"
	src := newFakeSource(64, 1000)
	c := s.senderConfig(src, at)
	c.Stream = other
	send(t, c)
	src.write(1)
	eventually(t, "another stream is stored", src.quiet)
	if _, err := os.Stat(path); err != nil {
		t.Errorf("what cannot be read is gone before anybody asked: %v", err)
	}
	mine := newFakeSource(64, 1000)
	send(t, s.senderConfig(mine, at))
	mine.write(1)
	eventually(t, "its own stream is stored", mine.quiet)
	s.vault.check(t, s.info.Stream, mine)
	if used := ps.Status().SpoolUsed; used < 0 || used > 1<<20 {
		t.Errorf("%d bytes of the spool are used", used)
	}
}

func TestASpoolOnAFailingDiskIsSentAgain(t *testing.T) {
	dir := filepath.Join(fastDir(t), "u-1")
	sp, err := createSpool(dir, newBudget(filepath.Dir(dir), 1<<20, 0), 1<<20, exampleInfo, 0)
	must(t, err)
	fill(t, sp, 2)
	cur := sp.reader()
	must(t, sp.newest().f.Close()) // reading fails from here on
	if _, err := cur.next(); !errors.Is(err, errTorn) {
		t.Errorf("a spool that cannot be read back: %v", err)
	}
}
