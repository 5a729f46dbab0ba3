package replication

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/pki"
	"github.com/understudy-ha/understudy/wire"
)

// rawSender speaks the protocol by hand.
type rawSender struct {
	t      testing.TB
	stream wire.Replication_ShipClient
}

func dial(t testing.TB, address string, ca *pki.CA, h *pki.Holder) wire.ReplicationClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(pki.ClientTLS(ca.Cert, h, pki.RoleNode))))
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return wire.NewReplicationClient(conn)
}

func (s *site) raw(address string, id pki.Identity) *rawSender {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	s.t.Cleanup(cancel)
	stream, err := dial(s.t, address, s.ca, s.holder(id)).Ship(ctx)
	must(s.t, err)
	return &rawSender{s.t, stream}
}

func (r *rawSender) open(i StreamInfo) *rawSender {
	o := &wire.ShipOpen{Machine: i.Machine, MachineUid: i.UID, Stream: i.Stream, Epoch: i.Epoch}
	for _, d := range i.Disks {
		o.Disks = append(o.Disks, &wire.ShipDisk{Id: d.ID, Size: d.Size})
	}
	_ = r.stream.Send(&wire.ToProcessServer{M: &wire.ToProcessServer_Open{Open: o}})
	return r
}

func (r *rawSender) batch(first, last uint64, b []byte) *rawSender {
	_ = r.stream.Send(&wire.ToProcessServer{M: &wire.ToProcessServer_Batch{Batch: &wire.ShipBatch{First: first, Last: last, Records: b}}})
	return r
}

// until gives the first message that ok likes; a refusal is an error.
func (r *rawSender) until(ok func(*wire.FromProcessServer) bool) error {
	for {
		m, err := r.stream.Recv()
		if err != nil {
			return err
		}
		if x := m.GetRefused(); x != nil {
			return &Refusal{x.Code, x.Detail}
		}
		if ok(m) {
			return nil
		}
	}
}

func storedTo(seq uint64) func(*wire.FromProcessServer) bool {
	return func(m *wire.FromProcessServer) bool { return m.GetStored().GetSeq() >= seq }
}

func isOpened(m *wire.FromProcessServer) bool { return m.GetOpened() != nil }
func never(*wire.FromProcessServer) bool      { return false }

func (s *site) refused(what string, err error, code, text string) {
	s.t.Helper()
	var r *Refusal
	if !errors.As(err, &r) || r.Code != code || !strings.Contains(r.Detail, text) {
		s.t.Errorf("%s: %v; want %s … %q", what, err, code, text)
	}
}

func writeBatch(t testing.TB, seq uint64, disk uint16, off int64, n int) []byte {
	t.Helper()
	b, err := journal.AppendBatch(nil, []journal.Record{{Seq: seq, Kind: journal.Write, Disk: disk, Off: off, Len: int64(n), Data: make([]byte, n)}})
	must(t, err)
	return b
}

func TestHostileBatchesAreRefusedAndChangeNothing(t *testing.T) {
	s := newSite(t)
	ps, at, _ := serve(t, s.serverConfig(fastDir(t)), "")
	host := pki.Node("default", "host1")
	good := flushes(t, 1, 3)
	r := s.raw(at, host).open(s.info).batch(1, 3, good)
	must(t, r.until(storedTo(3)))
	broken := flushes(t, 4, 1)
	broken[40] ^= 1
	gap, err := journal.AppendBatch(nil, []journal.Record{{Seq: 9, Kind: journal.GapBegin, From: 6}})
	must(t, err)
	for _, c := range []struct {
		what, code, text string
		first, last      uint64
		b                []byte
	}{
		{"again", OutOfOrder, "record 1 (flush) came after record 3", 1, 3, good},
		{"overlapping", OutOfOrder, "record 3", 3, 4, flushes(t, 3, 2)},
		{"a hole", OutOfOrder, "record 5", 5, 5, flushes(t, 5, 1)},
		{"a gap that admits too little", OutOfOrder, "record 9 (gap-begin)", 9, 9, gap},
		{"another span", Malformed, "says 4 to 9 holds 4 to 4", 4, 9, flushes(t, 4, 1)},
		{"a broken checksum", Malformed, "checksum", 4, 4, broken},
		{"cut short", Malformed, "cut short", 4, 4, good[:50]},
		{"nothing", Malformed, "", 4, 4, nil},
		{"another disk", Malformed, "disk 1", 4, 4, writeBatch(t, 4, 1, 0, 512)},
		{"behind the disk's end", Malformed, "root, which has 1073741824 bytes", 4, 4, writeBatch(t, 4, 0, 1<<30, 512)},
	} {
		r := s.raw(at, host).open(s.info)
		must(t, r.until(isOpened))
		s.refused(c.what, r.batch(c.first, c.last, c.b).until(never), c.code, c.text)
	}
	giant := s.raw(at, host).open(s.info)
	must(t, giant.until(isOpened))
	if err := giant.batch(4, 4, make([]byte, maxMessage+1)).until(never); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a giant: %v", err)
	}
	twice := s.raw(at, host).open(s.info)
	must(t, twice.until(isOpened))
	s.refused("opened twice", twice.open(s.info).until(never), Malformed, "open already")
	s.refused("no open", s.raw(at, host).batch(1, 1, good).until(never), Malformed, "no open")
	must(t, s.raw(at, host).open(s.info).batch(4, 4, writeBatch(t, 4, 0, 1<<30-journal.MaxWrite, journal.MaxWrite)).until(storedTo(4)))
	if got := len(s.vault.records(t, s.info.Stream)); got != 4 {
		t.Errorf("%d records are stored, want 4", got)
	}
	if m := ps.Status().Machines[0]; m.Received != 4 || m.Stored != 4 {
		t.Errorf("%+v", m)
	}
}

func TestWhoMaySend(t *testing.T) {
	s := newSite(t)
	cfg := s.serverConfig(fastDir(t))
	cfg.Accept = func(i StreamInfo) error {
		if i.Node != "default/host1" && i.Epoch < 9 {
			return fmt.Errorf("machine %s is at node default/host1", i.Machine)
		}
		return nil
	}
	ps, at, _ := serve(t, cfg, "")
	host := pki.Node("default", "host1")
	open := func(id pki.Identity, change func(*StreamInfo)) (*rawSender, error) {
		i := s.info
		i.Disks = append([]Disk(nil), i.Disks...)
		change(&i)
		r := s.raw(at, id).open(i)
		return r, r.until(isOpened)
	}
	same := func(*StreamInfo) {}
	for _, c := range []struct {
		what, code, text string
		id               pki.Identity
		change           func(*StreamInfo)
	}{
		{"another node", NotAccepted, "from node default/host2", pki.Node("default", "host2"), same},
		{"another tenant", NotAccepted, "from node other/host1", pki.Node("other", "host1"), same},
		{"a user", NotAccepted, "user:ann sends; only a node does", pki.User("ann"), same},
		{"a path for a stream", Malformed, `stream is "../x"`, host, func(i *StreamInfo) { i.Stream = "../x" }},
		{"no disks", Malformed, "0 disks", host, func(i *StreamInfo) { i.Disks = nil }},
	} {
		_, err := open(c.id, c.change)
		s.refused(c.what, err, c.code, c.text)
	}
	a, err := open(host, func(i *StreamInfo) { i.Epoch = 5 })
	must(t, err)
	must(t, a.batch(1, 2, flushes(t, 1, 2)).until(storedTo(2)))
	_, err = open(host, func(i *StreamInfo) { i.Epoch = 4 })
	s.refused("an older epoch", err, OldEpoch, "is written in epoch 5, not 4")
	_, err = open(host, func(i *StreamInfo) { i.Epoch, i.UID = 5, "u2" })
	s.refused("another machine", err, NotAccepted, "u1")
	b, err := open(host, func(i *StreamInfo) { i.Epoch = 5 })
	must(t, err)
	s.refused("the first of two senders", a.batch(3, 3, flushes(t, 3, 1)).until(never), Replaced, "opened stream u1-1 again")
	must(t, b.batch(3, 3, flushes(t, 3, 1)).until(storedTo(3)))
	c, err := open(pki.Node("default", "host2"), func(i *StreamInfo) { i.Epoch = 9 })
	must(t, err)
	s.refused("the older epoch's sender", b.batch(4, 4, flushes(t, 4, 1)).until(never), Replaced, "epoch 9")
	must(t, c.batch(4, 4, flushes(t, 4, 1)).until(storedTo(4)))
	// A writer elsewhere takes the stream over at the vault.
	other := s.info
	other.Epoch = 10
	if _, err := s.vault.open(context.Background(), other); err != nil {
		t.Fatal(err)
	}
	s.refused("fenced at the vault", c.batch(5, 5, flushes(t, 5, 1)).until(never), Fenced, "fenced")
	eventually(t, "forgotten", func() bool { return len(ps.Status().Machines) == 0 })
	_, err = open(pki.Node("default", "host2"), func(i *StreamInfo) { i.Epoch = 9 })
	s.refused("stale at the vault", err, OldEpoch, "epoch 10 stands")
	if used := ps.Status().SpoolUsed; used != 0 {
		t.Errorf("%d bytes of spool are left", used)
	}
}

func TestCertificatesOfOthersAreRefused(t *testing.T) {
	s := newSite(t)
	_, at, _ := serve(t, s.serverConfig(fastDir(t)), "")
	stranger, err := pki.NewCA(time.Now())
	must(t, err)
	for what, h := range map[string]*pki.Holder{"of another CA": holder(t, stranger, pki.Node("default", "host1")), "none": nil} {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if _, err := dial(t, at, s.ca, h).Health(ctx, &wire.HealthRequest{}); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", what, err)
		}
	}
	h, err := dial(t, at, s.ca, s.holder(pki.User("ann"))).Health(context.Background(), &wire.HealthRequest{})
	if err != nil || h.Overall != "Info" || h.SpoolLimitBytes != 10<<30 {
		t.Errorf("health %v, %v", h, err)
	}
	// And the sender refuses a server with another name.
	src := newFakeSource(8, 100)
	cfg := s.senderConfig(src, at)
	cfg.Targets[0].Node = "default/other"
	snd := send(t, cfg)
	eventually(t, "refused", func() bool { return strings.Contains(snd.Status().LastError, "node:default/ps answers") })
}

func TestAMachineMovesToAnotherProcessServer(t *testing.T) {
	s := newSite(t)
	one, at1, stop1 := serve(t, s.serverConfig(fastDir(t)), "")
	two, at2, _ := serve(t, s.serverConfig(fastDir(t)), "")
	s.vault.delay = 20 * time.Millisecond
	src := newFakeSource(64, 100000)
	snd := send(t, s.senderConfig(src, at1))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	loaded := make(chan struct{})
	go func() { load(ctx, src, 100*time.Microsecond); close(loaded) }()
	eventually(t, "some are stored", func() bool { return snd.Status().Stored > 100 })
	snd.Set([]Target{{Address: at2}})
	eventually(t, "moved", func() bool { st := snd.Status(); return st.Connected && st.Target == at2 })
	eventually(t, "forgotten by the first", func() bool { st := one.Status(); return len(st.Machines) == 0 && st.SpoolUsed == 0 })
	if src.gaps != 0 || snd.Status().Rewinds != 0 {
		t.Errorf("a clean hand-over cost %d gaps", src.gaps)
	}
	snd.Set([]Target{{Address: at1}, {Address: at2}}) // at2 is still one of them: nothing moves
	time.Sleep(50 * time.Millisecond)
	if len(two.Status().Machines) != 1 {
		t.Error("it left a target that is still wanted")
	}
	snd.Set([]Target{{Address: at1}})
	eventually(t, "back", func() bool { return snd.Status().Target == at1 })
	stop1() // dies without a word; the next one is tried
	snd.Set([]Target{{Address: at1}, {Address: at2}})
	eventually(t, "at the second", func() bool { return snd.Status().Target == at2 })
	cancel()
	<-loaded
	eventually(t, "quiet", src.quiet)
	s.vault.check(t, s.info.Stream, src)
}

// FuzzBatch hands any bytes to the check of what senders ship.
func FuzzBatch(f *testing.F) {
	f.Add(flushes(f, 1, 3))
	f.Add(writeBatch(f, 7, 0, 512, 1024))
	disks := []Disk{{ID: "a", Size: 1 << 20}}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := checkBatch(b, disks)
		var r *Refusal
		if err != nil {
			if !errors.As(err, &r) || r.Code != Malformed {
				t.Fatal(err)
			}
			return
		}
		for i := range got.recs {
			if x := &got.recs[i]; x.Len > 0 && (x.Disk != 0 || x.End() > 1<<20) {
				t.Fatalf("%+v passed", x)
			}
		}
	})
}
