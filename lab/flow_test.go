package lab

import (
	"testing"
	"time"
)

func TestFrameGoesThereAndBack(t *testing.T) {
	for _, f := range siteFlows(time.Millisecond) {
		b := packet(f, 70_000)
		flow, number, err := readFrame(b[len(header(f.Kind, 0, 0)):])
		if err != nil || flow != f.ID || number != 70_000 {
			t.Errorf("%s: read flow %d number %d, error %v; want flow %d number 70000", f.Name, flow, number, err, f.ID)
		}
	}
}

func TestEchoRequestHasAChecksum(t *testing.T) {
	b := packet(Flow{ID: 9, Kind: FlowICMP}, 3)
	if sum := internetChecksum(b); sum != 0 {
		t.Errorf("the sum over the packet with its checksum is %#x, want 0", sum)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("ULAB"))
	f.Add(packet(Flow{ID: 1, Kind: FlowUDP}, 5))
	f.Fuzz(func(t *testing.T, b []byte) {
		flow, number, err := readFrame(b)
		if err != nil {
			return
		}
		again := make([]byte, frameSize)
		putFrame(again, flow, number)
		if string(again[:6]) != string(b[:6]) || string(again[8:]) != string(b[8:frameSize]) {
			t.Errorf("%x reads as flow %d number %d, which is written %x", b, flow, number, again)
		}
	})
}

func TestArrived(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	var a arrived
	for _, p := range []struct {
		number int64
		ms     int
	}{{0, 100}, {1, 110}, {1, 111}, {70, 200}, {3, 205}, {maxNumber, 206}} {
		a.add(p.number, at(p.ms))
	}
	if a.duplicates != 1 {
		t.Errorf("duplicates = %d, want 1", a.duplicates)
	}
	if n := a.count(0, 71); n != 4 {
		t.Errorf("count = %d of 71, want 4: a duplicate and a stray number do not count", n)
	}
	for _, c := range []struct {
		from, to int
		gap      time.Duration
	}{
		{100, 205, 90 * time.Millisecond},
		{0, 205, 100 * time.Millisecond},     // before the first
		{200, 1205, 1000 * time.Millisecond}, // after the last
		{120, 130, 10 * time.Millisecond},    // nothing at all
	} {
		if gap := a.longestGap(at(c.from).UnixNano(), at(c.to).UnixNano()); gap != c.gap {
			t.Errorf("longest gap in [%d, %d] ms = %s, want %s", c.from, c.to, gap, c.gap)
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
