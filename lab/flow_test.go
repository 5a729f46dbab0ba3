package lab

import (
	"testing"
	"time"
)

func TestFrameGoesThereAndBack(t *testing.T) {
	for _, f := range siteFlows(time.Millisecond) {
		b := packet(f, 70_000, time.Unix(3, 4))
		got, err := readFrame(b[len(header(f.Kind, 0, 0)):])
		if want := (frame{f.ID, 70_000, 3_000_000_004}); err != nil || got != want {
			t.Errorf("%s: read %+v, error %v; want %+v", f.Name, got, err, want)
		}
	}
}

func TestEchoRequestHasAChecksum(t *testing.T) {
	b := packet(Flow{ID: 9, Kind: FlowICMP}, 3, time.Unix(1, 0))
	if sum := internetChecksum(b); sum != 0 {
		t.Errorf("the sum over the packet with its checksum is %#x, want 0", sum)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("ULAB"))
	f.Add(packet(Flow{ID: 1, Kind: FlowUDP}, 5, time.Unix(1, 0)))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := readFrame(b)
		if err != nil {
			return
		}
		again := make([]byte, frameSize)
		got.put(again)
		if string(again[:6]) != string(b[:6]) || string(again[8:]) != string(b[8:frameSize]) {
			t.Errorf("%x reads as %+v, which is written %x", b, got, again)
		}
	})
}

func TestArrived(t *testing.T) {
	ms := func(n int64) int64 { return n * int64(time.Millisecond) }
	var a arrived
	// number, sent, arrived: 2 to 4 are lost, 6 left late, 7 was held up under way.
	for _, p := range [][3]int64{{0, 100, 100}, {1, 110, 110}, {1, 110, 111}, {5, 150, 151}, {6, 250, 251}, {7, 260, 301}} {
		a.add(frame{number: p[0], sent: ms(p[1])}, ms(p[2]))
	}
	if a.duplicates != 1 {
		t.Errorf("duplicates = %d, want 1", a.duplicates)
	}
	if n := a.count(0, 8); n != 5 {
		t.Errorf("count = %d of 8, want 5: a duplicate does not count", n)
	}
	for _, c := range []struct {
		name                       string
		from, to, first, end, want int64
	}{
		{"three lost", 100, 160, 0, 6, 31},
		{"the sender was late", 145, 255, 5, 7, 0},
		{"one was held up", 245, 305, 6, 8, 40},
		{"nothing sent before the first", 0, 110, 0, 1, 0},
		{"the first two lost", 0, 110, -2, 1, 90},
		{"the last lost", 300, 1301, 7, 9, 990},
		{"nothing sent after the last", 300, 1301, 7, 8, 0},
		{"all lost", 160, 240, 6, 14, 70},
	} {
		if got := a.outage(ms(c.from), ms(c.to), c.first, c.end, 10*time.Millisecond); got != time.Duration(ms(c.want)) {
			t.Errorf("%s: outage in [%d, %d] ms = %s, want %d ms", c.name, c.from, c.to, got, c.want)
		}
	}
}

func TestSentBetween(t *testing.T) {
	var s sent
	for ms := range 10 {
		s.add(time.UnixMilli(int64(ms)))
	}
	s.addBreak(time.UnixMilli(4))
	first, end, broke := s.between(time.UnixMilli(3).UnixNano(), time.UnixMilli(6).UnixNano())
	if first != 3 || end != 6 || broke != 1 {
		t.Errorf("between 3 and 6 ms = [%d, %d), %d broke; want [3, 6), 1 broke", first, end, broke)
	}
}
