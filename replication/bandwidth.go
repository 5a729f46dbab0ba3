package replication

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Stop as a window's Kbps: nothing is sent.
const Stop = -1

// Window limits the rate towards the vault at some times of the week.
type Window struct {
	// Days on which the window begins; none means every day.
	Days []time.Weekday
	// From and To count from midnight, local time; 0 ≤ From, To ≤ 24h. From = To: the whole day. From after To: past midnight.
	From, To time.Duration
	// Kbps is 1000 bits a second; 0: unlimited; Stop: nothing.
	Kbps int64
}

// ParseWindow makes a window of "Mon" … "Sun" and "15:04".
func ParseWindow(days []string, from, to string, kbps int64) (Window, error) {
	w := Window{Kbps: kbps}
	for _, d := range days {
		i := slices.IndexFunc([]time.Weekday{0, 1, 2, 3, 4, 5, 6}, func(w time.Weekday) bool { return strings.EqualFold(w.String()[:3], d) })
		if i < 0 {
			return w, fmt.Errorf("bandwidth window: day %q; want Mon, Tue, Wed, Thu, Fri, Sat or Sun", d)
		}
		w.Days = append(w.Days, time.Weekday(i))
	}
	var err error
	if w.From, err = parseClock(from); err == nil {
		w.To, err = parseClock(to)
	}
	if err == nil && kbps < Stop {
		err = fmt.Errorf("bandwidth window: %d Kbps; want a rate, 0 for no limit or %d for nothing", kbps, Stop)
	}
	return w, err
}

func parseClock(s string) (time.Duration, error) {
	if s == "24:00" {
		return 24 * time.Hour, nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fmt.Errorf(`bandwidth window: time %q; want "00:00" to "24:00"`, s)
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, nil
}

// holds tells whether the window is open.
func (w *Window) holds(now time.Time) bool {
	at := time.Duration(now.Hour())*time.Hour + time.Duration(now.Minute())*time.Minute + time.Duration(now.Second())*time.Second
	on := func(d time.Weekday) bool { return len(w.Days) == 0 || slices.Contains(w.Days, d) }
	today := now.Weekday()
	if w.From < w.To {
		return on(today) && w.From <= at && at < w.To
	}
	return on(today) && at >= w.From || on((today+6)%7) && at < w.To
}

// rateAt gives the bytes a second that the windows allow: the least of those that are open; limited is false for no limit.
func rateAt(windows []Window, now time.Time) (bytesPerSecond float64, limited bool) {
	for i := range windows {
		w := &windows[i]
		if w.Kbps == 0 || !w.holds(now) {
			continue
		}
		rate := float64(max(w.Kbps, 0)) * 1000 / 8
		if !limited || rate < bytesPerSecond {
			bytesPerSecond, limited = rate, true
		}
	}
	return bytesPerSecond, limited
}

// bucket is a token bucket with debt: what was sent is paid for before the next may go, since sizes are known afterwards
// only. It holds one second's worth.
type bucket struct {
	mu      sync.Mutex
	windows []Window
	tokens  float64 // bytes; less than 0: debt
	at      time.Time
}

func (b *bucket) set(windows []Window) {
	b.mu.Lock()
	b.windows = slices.Clone(windows)
	b.mu.Unlock()
}

// delay tells how long the next must wait; 0: it may go. It looks again at least once a second, because windows open and close.
func (b *bucket) delay(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill(now)
	rate, limited := rateAt(b.windows, now)
	switch {
	case !limited || b.tokens > 0 && rate > 0:
		return 0
	case rate == 0:
		return time.Second
	}
	return min(time.Duration((-b.tokens/rate)*float64(time.Second))+time.Millisecond, time.Second)
}

func (b *bucket) refill(now time.Time) {
	rate, limited := rateAt(b.windows, now)
	if !limited {
		b.tokens = 0
	} else if passed := now.Sub(b.at).Seconds(); passed > 0 {
		b.tokens = min(b.tokens+rate*passed, rate)
	}
	b.at = now
}

// pay counts bytes that were sent.
func (b *bucket) pay(now time.Time, n int64) {
	b.mu.Lock()
	b.refill(now)
	if _, limited := rateAt(b.windows, now); limited {
		b.tokens -= float64(n)
	}
	b.mu.Unlock()
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
