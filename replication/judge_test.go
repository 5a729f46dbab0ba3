package replication

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/wire"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC) // a Wednesday

func say(conditions []api.Condition) string {
	var out []string
	for _, c := range conditions {
		out = append(out, fmt.Sprintf("%s %s %s", c.Code, c.Severity, c.Since.Format("15:04:05")))
	}
	return strings.Join(out, "; ")
}

func TestHealthByTheFieldsThresholds(t *testing.T) {
	fine := Sample{CPU: 0.2, Mem: 0.3, SpoolFree: 0.9}
	// each gives sample i of one every 10 s, the last one at noon; 91 of them are 15 minutes.
	for _, c := range []struct {
		name string
		n    int
		each func(i int, s *Sample)
		want string
	}{
		{"fine", 91, func(int, *Sample) {}, ""},
		{"nothing known yet", 0, func(int, *Sample) {}, ""},
		{"CPU at 80 %", 91, func(_ int, s *Sample) { s.CPU = 0.80 }, ""},
		{"CPU above 80 %", 91, func(_ int, s *Sample) { s.CPU = 0.81 }, "ProcessServerCPU Warning 11:45:00"},
		{"CPU above 80 % for less than 15 minutes", 90, func(_ int, s *Sample) { s.CPU = 0.81 }, ""},
		{"CPU above 80 % but for one sample", 91, func(i int, s *Sample) {
			if s.CPU = 0.99; i == 40 {
				s.CPU = 0.5
			}
		}, ""},
		{"CPU at 95 %", 91, func(_ int, s *Sample) { s.CPU = 0.95 }, "ProcessServerCPU Warning 11:45:00"},
		{"CPU above 95 %", 91, func(_ int, s *Sample) { s.CPU = 0.951 }, "ProcessServerCPU Critical 11:45:00"},
		{"CPU above 95 % of late", 91, func(i int, s *Sample) {
			if s.CPU = 0.96; i < 10 {
				s.CPU = 0.9
			}
		}, "ProcessServerCPU Warning 11:45:00"},
		{"CPU not known", 91, func(_ int, s *Sample) { s.CPU, s.Mem = -1, -1 }, ""},
		{"memory above 80 %", 91, func(_ int, s *Sample) { s.Mem = 0.9 }, "ProcessServerMemory Warning 11:45:00"},
		{"memory above 95 %", 91, func(_ int, s *Sample) { s.Mem = 0.99 }, "ProcessServerMemory Critical 11:45:00"},
		{"spool below 30 % free", 91, func(_ int, s *Sample) { s.SpoolFree = 0.29 }, "ProcessServerSpoolLow Warning 11:45:00"},
		{"spool at 30 % free", 91, func(_ int, s *Sample) { s.SpoolFree = 0.30 }, ""},
		{"spool below 25 % free", 91, func(_ int, s *Sample) { s.SpoolFree = 0.24 }, "ProcessServerSpoolLow Critical 11:45:00"},
		{"upload of 30 minutes", 1, func(_ int, s *Sample) { s.UploadETA = 30 * time.Minute }, ""},
		{"upload of more than 30 minutes", 9, func(i int, s *Sample) { s.UploadETA = time.Duration(29+i) * time.Minute }, "ProcessServerUploadSlow Warning 11:59:00"},
		{"upload of more than 45 minutes", 7, func(_ int, s *Sample) { s.UploadETA = 46 * time.Minute }, "ProcessServerUploadSlow Critical 11:59:00"},
		{"upload of more than 45 minutes of late", 9, func(i int, s *Sample) { s.UploadETA = time.Duration(40+i) * time.Minute }, "ProcessServerUploadSlow Warning 11:58:40"},
		{"upload stands", 7, func(_ int, s *Sample) { s.UploadETA = Never }, "ProcessServerUploadSlow Critical 11:59:00"},
		{"something has just arrived", 6, func(_ int, s *Sample) { s.UploadETA = Never }, ""},
		{"services down", 2, func(_ int, s *Sample) { s.Down = []string{"time"} }, "ProcessServerServices Warning 11:59:50"},
		{"several", 91, func(_ int, s *Sample) { s.CPU, s.UploadETA = 0.9, Never }, "ProcessServerCPU Warning 11:45:00; ProcessServerUploadSlow Critical 11:45:00"},
	} {
		var samples []Sample
		for i := range c.n {
			s := fine
			s.At = noon.Add(time.Duration(i-c.n+1) * 10 * time.Second)
			c.each(i, &s)
			samples = append(samples, s)
		}
		got := JudgeHealth(noon, samples)
		if say(got) != c.want {
			t.Errorf("%s: %q, want %q", c.name, say(got), c.want)
		}
		for _, x := range got {
			if x.Message == "" || x.Impacts == "" || strings.Contains(x.Message, "%!") {
				t.Errorf("%s: %+v", c.name, x)
			}
		}
		if want := strings.Contains(c.want, "Critical"); (Overall(got) == api.Critical) != want || (len(got) == 0) != (Overall(got) == api.Info) {
			t.Errorf("%s: overall %s", c.name, Overall(got))
		}
		if silent := JudgeHealth(noon.Add(15*time.Minute), samples); c.n > 0 && say(silent) != "ProcessServerSilent Critical 12:00:00" {
			t.Errorf("%s, 15 minutes on: %q", c.name, say(silent))
		}
	}
}

func TestConditionsOfAStream(t *testing.T) {
	ok := streamView{machine: "m", beat: noon}
	for _, c := range []struct {
		name   string
		change func(*streamView)
		want   string
	}{
		{"fine", func(*streamView) {}, ""},
		{"14 minutes silent", func(v *streamView) { v.beat = noon.Add(-14 * time.Minute) }, ""},
		{"15 minutes silent", func(v *streamView) { v.beat = noon.Add(-15 * time.Minute) }, "SourceSilent Warning 11:45:00"},
		{"not read by us", func(v *streamView) { v.beat, v.paused, v.pausedAt = noon.Add(-time.Hour), true, noon.Add(-time.Hour) }, "SpoolFull Critical 11:00:00"},
		{"5 s ahead", func(v *streamView) { v.skew = 5 * time.Second }, ""},
		{"more than 5 s ahead", func(v *streamView) { v.skew, v.skewed = 6*time.Second, noon }, "ClockSkew Warning 12:00:00"},
		{"more than 5 s behind", func(v *streamView) { v.skew, v.skewed = -6*time.Second, noon }, "ClockSkew Warning 12:00:00"},
		{"vault away", func(v *streamView) { v.failing, v.failingSince = errors.New("x"), noon }, "VaultUnreachable Warning 12:00:00"},
	} {
		v := ok
		c.change(&v)
		if got := say(judgeStream(noon, v, 15*time.Minute)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestReceivedRPO(t *testing.T) {
	ago := func(d time.Duration) time.Time { return noon.Add(-d) }
	for _, c := range []struct {
		name string
		l    lateness
		want time.Duration
	}{
		{"nothing waits anywhere", lateness{beat: ago(time.Second)}, 0},
		{"a record waits here", lateness{beat: ago(time.Second), oldest: ago(2 * time.Second)}, 2 * time.Second},
		{"and others at the source", lateness{beat: ago(time.Second), oldest: ago(2 * time.Second), queueAge: 3 * time.Second}, 5 * time.Second},
		{"a silent source", lateness{beat: ago(time.Minute), queueAge: time.Second}, 61 * time.Second},
		{"in a gap", lateness{beat: ago(0), gap: ago(time.Hour)}, time.Hour},
		{"a clock that went back", lateness{beat: ago(0), oldest: ago(-time.Second)}, 0},
	} {
		if got := c.l.rpo(noon); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	var s rpoSeries
	for i := range 1000 {
		s.add(time.Duration(i) * time.Millisecond)
	}
	if r := s.rpo; r.Samples != 600 || r.Now != 999*time.Millisecond || r.P50 != 699*time.Millisecond || r.P99 != 993*time.Millisecond || r.Buckets[0] != 101 {
		t.Errorf("%+v", r)
	}
}

func TestArrivalsNeverMakeARecordYounger(t *testing.T) {
	var a arrivals
	at := noon
	when := map[uint64]time.Time{}
	for seq := uint64(1); seq <= 20000; seq++ {
		at = at.Add(time.Duration(seq%7) * 5 * time.Millisecond)
		when[seq] = at
		a.add(at, seq, 10)
		if stored := seq / 2; seq%100 == 0 {
			a.stored(stored)
			if o := a.oldest(); o.After(when[stored+1]) || when[stored+1].Sub(o) > time.Second {
				t.Fatalf("record %d came at %s, taken for %s", stored+1, when[stored+1], o)
			}
		}
	}
	if a.stored(20000); a.bytes != 0 || !a.oldest().IsZero() {
		t.Errorf("%+v", a)
	}
}

func TestAGapBehindAGapStays(t *testing.T) {
	var g gaps
	g.begin(10, noon)
	g.begin(15, noon.Add(time.Minute)) // in it
	if g.end(20); !g.since.IsZero() {
		t.Errorf("since %s after its end", g.since)
	}
	g.begin(30, noon)
	g.begin(50, noon.Add(time.Hour)) // received before the end of the first, at 40, is stored
	if g.end(40); g.since != noon.Add(time.Hour) {
		t.Errorf("since %s", g.since)
	}
}

func TestBandwidthWindows(t *testing.T) {
	office, err := ParseWindow([]string{"mon", "Wed"}, "08:00", "18:00", 800)
	must(t, err)
	night, err := ParseWindow([]string{"Tue"}, "22:00", "06:00", 80)
	must(t, err)
	day, err := ParseWindow(nil, "00:00", "24:00", 8000)
	must(t, err)
	at := func(day, h, m int) time.Time { return time.Date(2026, 3, day, h, m, 0, 0, time.UTC) }
	for _, c := range []struct {
		at   time.Time
		w    []Window
		want string
	}{
		{at(4, 12, 0), []Window{office}, "100000"}, {at(4, 18, 0), []Window{office}, "none"}, {at(5, 12, 0), []Window{office}, "none"},
		{at(3, 23, 0), []Window{night}, "10000"}, {at(4, 5, 59), []Window{night}, "10000"}, {at(4, 6, 0), []Window{night}, "none"}, {at(3, 5, 0), []Window{night}, "none"},
		{at(4, 12, 0), []Window{day, office}, "100000"}, {at(4, 20, 0), []Window{day, office}, "1000000"},
		{at(4, 12, 0), []Window{{Kbps: Stop}}, "0"}, {at(4, 12, 0), []Window{{Kbps: 0}}, "none"}, {at(4, 12, 0), nil, "none"},
	} {
		got := "none"
		if rate, limited := rateAt(c.w, c.at); limited {
			got = fmt.Sprint(int(rate))
		}
		if got != c.want {
			t.Errorf("%s with %+v: %s, want %s", c.at.Format("Mon 15:04"), c.w, got, c.want)
		}
	}
	for want, f := range map[string]func() (Window, error){
		`day "Monday"`: func() (Window, error) { return ParseWindow([]string{"Monday"}, "08:00", "09:00", 1) },
		`time "8"`:     func() (Window, error) { return ParseWindow(nil, "8", "09:00", 1) },
		`-2 Kbps`:      func() (Window, error) { return ParseWindow(nil, "08:00", "09:00", -2) },
	} {
		if _, err := f(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestTheBucketHoldsTheRate(t *testing.T) {
	b := &bucket{}
	b.set([]Window{{Kbps: 800}}) // 100,000 bytes a second
	now, sent := noon, 0
	for now.Before(noon.Add(100 * time.Second)) {
		if d := b.delay(now); d > 0 {
			now = now.Add(d)
			continue
		}
		b.pay(now, 250000)
		sent += 250000
	}
	if sent < 9_500_000 || sent > 10_500_000 {
		t.Errorf("%d bytes in 100 s at 100,000 a second", sent)
	}
	b.set(nil)
	if d := b.delay(now); d != 0 {
		t.Errorf("waits %s without a limit", d)
	}
	b.set([]Window{{Kbps: Stop}})
	if d := b.delay(now.Add(time.Hour)); d != time.Second {
		t.Errorf("waits %s while stopped", d)
	}
}

// TestALaneByTheClock runs a lane without a network, in a bubble: packs are no older than SegmentAge, attempts back off, and the RPO follows.
func TestALaneByTheClock(t *testing.T) {
	s := newSite(t)
	dir := fastDir(t)
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		s.vault.fail = func() (error, bool) {
			if away.Load() {
				return errors.New("away"), false
			}
			return nil, false
		}
		ps, err := StartServer(ServerConfig{Dir: dir, Accept: func(StreamInfo) error { return nil }, OpenStream: s.vault.open, Log: quietLog()})
		must(t, err)
		defer ps.Close()
		l, err := ps.laneFor(s.info)
		must(t, err)
		synctest.Wait()
		me := &session{cancel: func(error) {}}
		l.mu.Lock()
		l.session = me
		l.mu.Unlock()
		take := func(seq uint64) {
			b, err := checkBatch(flushes(t, seq, 1), s.info.Disks)
			must(t, err)
			must(t, l.take(t.Context(), me, b))
			synctest.Wait()
		}
		position := func() (spooled, stored uint64) {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.spooled, l.stored
		}
		take(1)
		time.Sleep(300 * time.Millisecond)
		take(2)
		if sp, st := position(); sp != 2 || st != 0 {
			t.Errorf("after 300 ms: spooled %d, stored %d", sp, st)
		}
		time.Sleep(201 * time.Millisecond)
		synctest.Wait()
		if _, st := position(); st != 2 || s.vault.appends.Load() != 1 {
			t.Errorf("after 501 ms: stored %d in %d appends", st, s.vault.appends.Load())
		}
		away.Store(true)
		take(3)
		for range 60 {
			time.Sleep(time.Second)
			l.beat(&wire.ShipBeat{SentUnixNs: time.Now().Add(7 * time.Second).UnixNano(), Captured: 3})
		}
		m := ps.Status().Machines[0]
		if m.RPO.Now < 58*time.Second || m.RPO.Now > 60*time.Second || m.Counters.Retries < 8 || m.Counters.Retries > 12 {
			t.Errorf("after a minute: RPO %s, %d retries", m.RPO.Now, m.Counters.Retries)
		}
		if got := say(m.Conditions); !strings.HasPrefix(got, "ClockSkew Warning") || !strings.Contains(got, "VaultUnreachable Warning") {
			t.Errorf("conditions %s", got)
		}
		away.Store(false)
		time.Sleep(31 * time.Second)
		if _, st := position(); st != 3 {
			t.Errorf("stored %d after the vault came back", st)
		}
		time.Sleep(15 * time.Minute)
		m = ps.Status().Machines[0]
		if got := say(m.Conditions); !strings.Contains(got, "SourceSilent Warning") || m.RPO.Now < 15*time.Minute {
			t.Errorf("conditions %s, RPO %s", got, m.RPO.Now)
		}
		if r := m.RPO; r.P50 < 5*time.Minute || r.P99 < r.P50 || r.Samples != 600 {
			t.Errorf("%+v", r)
		}
	})
	if got := len(s.vault.records(t, s.info.Stream)); got != 3 {
		t.Errorf("%d records", got)
	}
}

func TestReadingTheHost(t *testing.T) {
	cpu, err := readCPU("/proc/stat")
	if err != nil || cpu.all == 0 || cpu.busy > cpu.all {
		t.Errorf("%+v, %v", cpu, err)
	}
	if got := (cpuTimes{busy: 150, all: 300}).since(cpuTimes{busy: 100, all: 200}); got != 0.5 {
		t.Errorf("busy %v", got)
	}
	if m, err := readMemory("/proc/meminfo"); err != nil || m <= 0 || m >= 1 {
		t.Errorf("%v, %v", m, err)
	}
	if _, err := readMemory("/proc/version"); err == nil {
		t.Error("another file was taken for memory's")
	}
}

func TestChurnLeavesResyncOut(t *testing.T) {
	var f figures
	for i := range 120 {
		f.came([]journal.Record{{Seq: uint64(2*i + 1), Kind: journal.Write, Len: 1000}, {Seq: uint64(2*i + 2), Kind: journal.Write, Flags: journal.Resync, Len: 5000}}, 6100, noon)
		f.beatAt = noon
		f.sample(noon)
	}
	if f.churn.perSecond() != 1000 || f.churn.peak != 1000 || f.churned != 120000 {
		t.Errorf("%d a second, peak %d, %d", f.churn.perSecond(), f.churn.peak, f.churned)
	}
}
