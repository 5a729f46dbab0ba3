package armbench

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestCriticalPath measures the published latencies in a bubble, where seconds are exact and cost nothing.
func TestCriticalPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rows, err := CompareOrders(t.Context(), Options{Scale: 1, InProcess: true})
		if err != nil {
			t.Fatal(err)
		}
		check(t, rows)
		want := map[string]struct{ path, serial float64 }{"7s": {14, 63}, "60s": {120, 540}, "480s": {540, 801}}
		for _, r := range rows {
			w := want[r.Case]
			if r.CriticalPath != w.path {
				t.Errorf("case %s: critical path %v s, want %v", r.Case, r.CriticalPath, w.path)
			}
			if r.Serial < w.serial || r.Serial > w.serial+10 || r.SerialWrites != 9 {
				t.Errorf("case %s: the original's order takes %v s in %d writes, want about %v in 9", r.Case, r.Serial, r.SerialWrites, w.serial)
			}
		}
	})
}

// TestOverHTTP measures the shortest case over sockets.
func TestOverHTTP(t *testing.T) {
	rows, err := CompareOrders(t.Context(), Options{Cases: Cases()[:1], Scale: 5})
	if err != nil {
		t.Fatal(err)
	}
	r := rows[0]
	t.Logf("total %.1f s, critical path %.1f s, routes %.1f s", r.Total, r.CriticalPath, r.RoutesDone)
	// TestCriticalPath has the bound, on a clock that nothing disturbs. Here it is the real clock of a machine that may be busy.
	if r.Total < r.CriticalPath || r.Total > r.Serial || r.RoutesDone > r.CriticalPath {
		t.Errorf("total %v s, routes %v s; want at least the critical path of %v s and less than the original's %v s", r.Total, r.RoutesDone, r.CriticalPath, r.Serial)
	}
}

func check(t *testing.T, rows []Row) {
	t.Helper()
	var b strings.Builder
	if err := Print(&b, rows); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + b.String())
	for _, r := range rows {
		if r.Total < r.CriticalPath || r.RoutesDone < r.SlowestTable {
			t.Errorf("case %s: %v s is faster than the critical path of %v s: the measurement is wrong", r.Case, r.Total, r.CriticalPath)
		}
		if r.Total > r.CriticalPath+Tolerance.Seconds() {
			t.Errorf("case %s: took %v s, want at most %v s and %v", r.Case, r.Total, r.CriticalPath, Tolerance)
		}
		if r.RoutesDone > r.SlowestTable+Tolerance.Seconds() {
			t.Errorf("case %s: routes done after %v s, want at most %v s and %v", r.Case, r.RoutesDone, r.SlowestTable, Tolerance)
		}
		if !r.OK {
			t.Errorf("case %s: not OK: %+v", r.Case, r)
		}
	}
}

// TestTooSlowIsSeen: a driver that reads every 3 s must not pass.
func TestTooSlowIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rows, err := CompareOrders(t.Context(), Options{Cases: Cases()[:1], Scale: 1, InProcess: true, Poll: 3 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if rows[0].OK {
			t.Errorf("a slow driver passes: %+v", rows[0])
		}
	})
}
