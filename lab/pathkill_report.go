package lab

import (
	"fmt"
	"strings"
	"time"
)

// report makes the result. What ended the run early is a check that failed.
func (k *pathRun) report(began time.Time, ended error) error {
	l, w, r := k.load, k.watch, k.r
	for _, f := range k.deck {
		r.figure(Figure{Name: "kills", Value: float64(k.kills[f.name]), Unit: "count", Fault: f.name})
	}
	total := 0
	for _, n := range k.kills {
		total += n
	}
	resync := w.resyncBytes()
	writes := k.h.writes()
	l.mu.Lock()
	defer l.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	count := func(name string, n int) { r.figure(Figure{Name: name, Value: float64(n), Unit: "count"}) }
	r.figure(Figure{Name: "kills", Value: float64(total), Unit: "count"})
	count("kills_at_head", k.atHead)
	count("writes", writes)
	count("flushes", l.flushes)
	count("mismatches", len(k.wrong)+l.failed)
	r.figure(Figure{Name: "write_max", Value: milliseconds(l.overall), Unit: "ms"})
	r.figure(Figure{Name: "away_max", Value: milliseconds(l.away), Unit: "ms"})
	r.figure(Figure{Name: "in_gap", Value: float64(w.gap.Round(100*time.Millisecond)) / float64(time.Second), Unit: "s"})
	r.figure(Figure{Name: "resync_bytes", Value: float64(resync), Unit: "count"})
	count("samples", w.samples)
	count("compared", k.compared)
	count("points_opened", k.opened)
	count("layers", w.layers)
	r.figure(Figure{Name: "duration", Value: float64(time.Since(began).Round(100*time.Millisecond)) / float64(time.Second), Unit: "s"})

	r.check("the path heals by itself", ended == nil, "%d kills in %d rounds: %s", total, k.survived, orWell(ended))
	r.check("what is answered is there", len(k.wrong) == 0, "%d writes, %d flushes; source and vault compared %d times byte for byte, and the protected disk after each of its kills: %s",
		writes, l.flushes, k.compared, orNone(k.wrong))
	r.check("every point is a prefix", len(k.wrong) == 0 && k.opened > 0, "%d points opened of at most %d that were offered at a time", k.opened, w.offered)
	r.check("no point is offered in a gap", len(w.inGap) == 0 && w.looks > 0, "%d looks at the vault: %s", w.looks, orNone(w.inGap))
	r.check("captured = stored + dirty", len(w.broken) == 0 && w.samples > 0, "%d samples: %s", w.samples, orNone(w.broken))
	r.check("the source sees no error", l.failed == 0, "%d reads compared: %s", l.reads, orNone(l.errs))
	r.check("the source is never stalled", l.overall < writeLimit, "the slowest request took %v; %v at most while there was no capture process", l.overall.Round(time.Millisecond), l.away.Round(time.Millisecond))
	return nil
}

func orWell(err error) string {
	if err == nil {
		return "well each time"
	}
	return err.Error()
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "nothing wrong"
	}
	return fmt.Sprintf("%d wrong, the first: %s", len(list), strings.Join(list[:min(3, len(list))], "; "))
}
